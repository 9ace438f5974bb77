"""A chat becomes a prompt: words, image slots and control tokens, each of its own kind.

LLaVA's prompt is one string in which `<image>`, `</s>` or `[INST]` mean the same whoever wrote them. Here only a template's own words
can hold a control token and only a message's `images` make image slots; what people and models said is text, whatever it says.
For chats without such markers the token ids are exactly those of LLaVA's string. Knows no weights and no pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum

from llava.chat import Chat, Message
from llava.constants import DEFAULT_IM_END_TOKEN, DEFAULT_IM_START_TOKEN, DEFAULT_IMAGE_TOKEN, IMAGE_TOKEN_INDEX
from llava.conversation import Conversation
from llava.errors import UserError
from llava.model.tokenizer import Control, PlainText


class Slot(Enum):
    """A place that is filled with something other than text."""

    IMAGE = "image"


Piece = str | Control | Slot
Said = tuple[Piece, ...]


def render(chat: Chat, template: Conversation, parse: Callable[[str], Iterable[str | Control]], *, start_end: bool = False) -> list[Piece]:
    """The pieces of a chat's prompt, ready for an answer.

    `parse` reads control tokens in the template's own words (`PlainText.parse`); `start_end` puts each image between
    `<im_start>` and `<im_end>`, as checkpoints with `mm_use_im_start_end` want it. Raises `UserError` for a chat that the
    template cannot hold.
    """
    if template.offset:
        raise UserError("This template starts with example turns and takes no chat: use another one, for example vicuna_v1.")
    messages = list(chat.messages)
    system = _said(messages.pop(0)) if messages[0].role == "system" else None
    turns = [(template.roles[i % 2], said or None) for i, said in enumerate(_turns(messages, template, start_end))]
    pieces: list[Piece] = []
    for item in template.layout([*turns, (template.roles[1], None)], system):
        pieces.extend(parse(item) if isinstance(item, str) else item)
    return pieces


def token_ids(pieces: Sequence[Piece], plain: PlainText) -> list[int]:
    """Ids with BOS first and `IMAGE_TOKEN_INDEX` for each image; the text between images is encoded apart, as LLaVA does.

    Equal to `llava.mm_utils.tokenizer_image_token` of the joined string.
    """
    chunks: list[list[str | Control]] = [[]]
    for piece in pieces:
        if isinstance(piece, Slot):
            chunks.append([])
        else:
            chunks[-1].append(piece)
    ids = plain.bos + plain.ids(chunks[0])
    for chunk in chunks[1:]:
        ids += [IMAGE_TOKEN_INDEX, *plain.ids(chunk)]
    return ids


def inline_token_ids(pieces: Sequence[Piece], plain: PlainText, image_token: str) -> list[int]:
    """The same for Hugging Face-format checkpoints, whose tokenizer reads the image token as a control token within the text."""
    slot = Control(image_token)
    image_id = plain.tokenizer.convert_tokens_to_ids(image_token)
    ids = plain.bos + plain.ids([slot if isinstance(piece, Slot) else piece for piece in pieces])
    return [IMAGE_TOKEN_INDEX if i == image_id else i for i in ids]


def joined(pieces: Iterable[Piece]) -> str:
    """The pieces as one string, for people to read and for comparison with LLaVA's prompts."""
    names = {Slot.IMAGE: DEFAULT_IMAGE_TOKEN}
    return "".join(names[p] if isinstance(p, Slot) else p.token if isinstance(p, Control) else p for p in pieces)


def _turns(messages: Sequence[Message], template: Conversation, start_end: bool) -> Iterable[Said]:
    image: Said = (Control(DEFAULT_IM_START_TOKEN), Slot.IMAGE, Control(DEFAULT_IM_END_TOKEN)) if start_end else (Slot.IMAGE,)
    if template.tags_images and messages[0].images:
        yield tuple(piece for _ in messages[0].images for piece in ("<Image>", *image, "</Image>"))
        yield ("Received.",)
        messages = [Message("user", messages[0].text), *messages[1:]]
    for message in messages:
        yield (*(piece for _ in message.images for piece in (*image, "\n")), *_said(message))


def _said(message: Message) -> Said:
    return (message.text,) if message.text else ()
