"""LLaVA's conversation templates and the prompts that they render.

The templates are model inputs: every byte of them was in the training data, so they carry over from LLaVA (haotian-liu/LLaVA 1.2,
`llava/conversation.py`) and are pinned by golden prompts. `Conversation.layout` alone knows in which order a template's words and the
speakers' words stand; `get_prompt` and the safe rendering of a chat (`llava.model.prompt`) come from it. Knows no tokenizer and no model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, TypeVar

from llava.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

T = TypeVar("T")
Turns = Sequence[tuple[str, T | None]]


class SeparatorStyle(Enum):
    """How a template puts its turns together."""

    SINGLE = auto()  # one separator after everything
    TWO = auto()  # one after the system line and user turns, another after answers
    MPT = auto()  # role headers instead of "ROLE: "
    PLAIN = auto()  # no roles: what projectors are pre-trained with
    LLAMA_2 = auto()  # [INST] ... [/INST]


@dataclass
class Conversation:
    """A template and, once copied and filled, a conversation in it.

    `messages` holds `[role, text]` pairs; text None (or "") asks for that role's answer; in the web form text is a tuple
    (text, Pillow image, mode) with mode "Pad", "Crop", "Resize" or "Default". `offset` leading messages are examples.
    """

    system: str
    roles: Sequence[str]
    messages: Sequence[Any]
    offset: int
    sep_style: SeparatorStyle = SeparatorStyle.SINGLE
    sep: str = "###"
    sep2: str | None = None
    version: str = "Unknown"
    skip_next: bool = False
    system_header: str = field(default="", repr=False)  # the template's own words before the system text, part of `system`

    def layout(self, turns: Turns[T], system: T | str | None = None) -> Iterator[str | T]:
        """The prompt in order: strings are the template's own words, everything else is a turn's content as given. `turns` are (role,
        content) pairs, content None where the role is to speak; `system` replaces the system text."""
        return _LAYOUTS[self.sep_style](self, turns, [self.system] if system is None else [self.system_header, system])

    def get_prompt(self) -> str:
        """The prompt; `UserError` for turns that do not fit. Markers stay markers: for text that users wrote see `llava.model.prompt`."""
        return "".join(self.layout([(role, _text(message) or None) for role, message in self._shown_messages()]))

    @property
    def stop(self) -> str | None:
        """The string after which an answer ends, None where the template has none."""
        if self.sep_style is SeparatorStyle.PLAIN:
            return None
        return self.sep2 if self.sep_style in (SeparatorStyle.TWO, SeparatorStyle.LLAMA_2) else self.sep

    def append_message(self, role: str, message: Any) -> None:
        """Add a turn; None asks for the answer. Raises `UserError` for a template: whoever copied it later would have the turn too."""
        if isinstance(self.messages, tuple):
            raise UserError("This conversation is a template, from which others are copied: fill a copy of it, conversation.copy().")
        self.messages = [*self.messages, [role, message]]

    def copy(self) -> Conversation:
        """A conversation of one's own; templates themselves are never filled."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["messages"] = [[role, message] for role, message in self.messages]
        values["skip_next"] = False
        return Conversation(**values)

    def process_image(self, image: PILImage, mode: str, return_pil: bool = False, image_format: str = "PNG") -> PILImage | str:
        """A web image for a worker, Pillow image or base64 of an `image_format`: squared ("Pad"), 336 x 336 pixels ("Resize") or as it is
        ("Crop", "Default"), then at most 1344 x 672 if a side has more than 1344. Raises `UserError` for another `mode`."""
        return _web_image(image, mode, return_pil, image_format)

    def get_images(self, return_pil: bool = False) -> list[Any]:
        """The images of the user turns after the examples, as base64 PNG or Pillow images."""
        return [self.process_image(m[1], m[2], return_pil) for _, m in self.messages[self.offset :: 2] if isinstance(m, tuple)]

    def to_gradio_chatbot(self) -> list[list[Any]]:
        """Pairs [what the user said, what the model said]; an image is an `<img>` with a data URL before what was said."""
        pairs: list[list[Any]] = []
        for i, (_, message) in enumerate(self.messages[self.offset :]):
            if i % 2:
                pairs[-1][-1] = message
            elif isinstance(message, tuple):
                url = f"data:image/jpeg;base64,{self.process_image(message[1], 'Default', image_format='JPEG')}"
                pairs.append([f'<img src="{url}" alt="user upload image" />{_text(message).replace("<image>", "").strip()}', None])
            else:
                pairs.append([message, None])
        return pairs

    def dict(self) -> dict[str, Any]:
        """What goes into a log: no pixels."""
        plain = {name: getattr(self, name) for name in ("system", "roles", "offset", "sep", "sep2")}
        return {**plain, "messages": [[role, m[0] if isinstance(m, tuple) else m] for role, m in self.messages]}

    def _shown_messages(self) -> list[tuple[str, Any]]:
        """The messages with the image of a first web turn put where training had it: before the words."""
        messages = [(role, message) for role, message in self.messages]
        if not messages or not isinstance(messages[0][1], tuple):
            return messages
        role, words = messages[0][0], _text(messages[0][1]).replace("<image>", "").strip()
        if self.tags_images:
            return [(self.roles[0], "<Image><image></Image>"), (self.roles[1], "Received."), (role, words), *messages[1:]]
        return [(role, "<image>\n" + words), *messages[1:]]

    @property
    def tags_images(self) -> bool:
        """Whether the image has a tagged turn of its own, which the model has "received"."""
        return "mmtag" in self.version


def _text(message: Any) -> str:
    return (message[0] if isinstance(message, tuple) else message) or ""


def _named(conv: Conversation, turns: Turns[T], system: list[str | T]) -> Iterator[str | T]:
    yield from system
    yield conv.sep
    for i, (role, content) in enumerate(turns):
        yield f"{role}:"
        if content is not None:
            yield from (" ", content, _separator(conv, i))


def _mpt(conv: Conversation, turns: Turns[T], system: list[str | T]) -> Iterator[str | T]:
    yield from system
    yield conv.sep
    for role, content in turns:
        yield role
        if content is not None:
            yield from (content, conv.sep)


def _plain(conv: Conversation, turns: Turns[T], system: list[str | T]) -> Iterator[str | T]:
    yield from system
    for i, (_, content) in enumerate(turns):
        if content is not None:
            yield from (content, _separator(conv, i))


def _llama_2(conv: Conversation, turns: Turns[T], system: list[str | T]) -> Iterator[str | T]:
    if turns and (turns[0][1] is None or turns[0][0] != conv.roles[0]):
        raise UserError("In this template the first message must come from the user and must not be empty.")
    for i, (_, content) in enumerate(turns):
        if content is None:
            continue
        if i % 2:
            yield from (" ", content, " ", _separator(conv, i))
            continue
        yield conv.sep if i else ""  # the tokenizer puts the first <s>
        yield "[INST] "
        if i == 0 and any(system):
            yield from ("<<SYS>>\n", *system, "\n<</SYS>>\n\n")
        yield from (content, " [/INST]")


def _separator(conv: Conversation, turn: int) -> str:
    if turn % 2 == 0 or conv.sep_style is SeparatorStyle.SINGLE:
        return conv.sep
    if conv.sep2 is None:
        raise UserError("This template has no separator for answers: it takes a single user message.")
    return conv.sep2


_LAYOUTS: dict[SeparatorStyle, Callable[[Conversation, Turns[Any], list[Any]], Iterator[Any]]] = {
    SeparatorStyle.SINGLE: _named,
    SeparatorStyle.TWO: _named,
    SeparatorStyle.MPT: _mpt,
    SeparatorStyle.PLAIN: _plain,
    SeparatorStyle.LLAMA_2: _llama_2,
}


def _web_image(image: PILImage, mode: str, return_pil: bool, image_format: str) -> PILImage | str:
    import base64
    import io

    if mode not in ("Pad", "Crop", "Resize", "Default"):
        raise UserError(f"Unknown image mode {mode!r}: use Pad, Crop, Resize or Default.")
    if mode == "Pad" and image.width != image.height:
        side = max(image.size)
        square = image.resize((1, 1))  # a plain square without importing Pillow here
        square.putpixel((0, 0), (122, 116, 104))
        square = square.resize((side, side))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        image = square
    elif mode == "Resize":
        image = image.resize((336, 336))
    longer, shorter = max(image.size), min(image.size)
    if longer > 1344:
        short = int(min(1344 / (longer / shorter), 672, shorter))
        long = int(short * (longer / shorter))
        image = image.resize((short, long) if image.height > image.width else (long, short))
    if return_pil:
        return image
    buffer = io.BytesIO()
    image.save(buffer, image_format)
    return base64.b64encode(buffer.getvalue()).decode()


_CURIOUS = (
    "A chat between a curious {0} and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the {0}'s questions."
)
_CURIOUS_HUMAN, _CURIOUS_USER = _CURIOUS.format("human"), _CURIOUS.format("user")
_MMTAG = (  # no space before "The visual": so it was in training
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant is able to understand the visual content that the user provides, "
    "and assist the user with a variety of tasks using natural language."
    "The visual content will be provided with the following format: <Image>visual content</Image>."
)
_LLAMA_2_CHAT = (
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe.  "
    "Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal content. "
    "Please ensure that your responses are socially unbiased and positive in nature.\n\n"
    "If a question does not make any sense, or is not factually coherent, explain why instead of answering something not correct. "
    "If you don't know the answer to a question, please don't share false information."
)
_LLAVA_LLAMA_2 = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user provides, "
    "and assist the user with a variety of tasks using natural language."
)
_MPT_SYSTEM = "A conversation between a user and an LLM-based AI assistant. The assistant gives helpful and honest answers."
# Vicuna v0's example turn (lm-sys/FastChat); part of the prompt of the templates "v0" and "default".
_V0_ANSWER = (
    "Renewable energy sources are those that can be replenished naturally in a relatively short amount of time, such as solar, wind, "
    "hydro, geothermal, and biomass. Non-renewable energy sources, on the other hand, are finite and will eventually be depleted, "
    "such as coal, oil, and natural gas. Here are some key differences between renewable and non-renewable energy sources:\n"
    "1. Availability: Renewable energy sources are virtually inexhaustible, while non-renewable energy sources are finite and will "
    "eventually run out.\n"
    "2. Environmental impact: Renewable energy sources have a much lower environmental impact than non-renewable sources, which can "
    "lead to air and water pollution, greenhouse gas emissions, and other negative effects.\n"
    "3. Cost: Renewable energy sources can be more expensive to initially set up, but they typically have lower operational costs "
    "than non-renewable sources.\n"
    "4. Reliability: Renewable energy sources are often more reliable and can be used in more remote locations than non-renewable "
    "sources.\n"
    "5. Flexibility: Renewable energy sources are often more flexible and can be adapted to different situations and needs, while "
    "non-renewable sources are more rigid and inflexible.\n"
    "6. Sustainability: Renewable energy sources are more sustainable over the long term, while non-renewable sources are not, and "
    "their depletion can lead to economic and social instability.\n"
)
_V0_QUESTION = "What are the key differences between renewable and non-renewable energy sources?"
_V0_EXAMPLE = (("Human", _V0_QUESTION), ("Assistant", _V0_ANSWER))


def _two_style(system: str, version: str = "v1") -> Conversation:
    return Conversation(system, ("USER", "ASSISTANT"), (), 0, SeparatorStyle.TWO, " ", "</s>", version)


def _single_style(system: str, examples: Sequence[Any] = (), version: str = "Unknown") -> Conversation:
    return Conversation(system, ("Human", "Assistant"), examples, len(examples), SeparatorStyle.SINGLE, "###", None, version)


def _llama_style(system: str, sep: str = "<s>") -> Conversation:
    return Conversation(system, ("USER", "ASSISTANT"), (), 0, SeparatorStyle.LLAMA_2, sep, "</s>", "llama_v2")


def _chatml_style(system: str) -> Conversation:
    header, roles = "<|im_start|>system\n", ("<|im_start|>user\n", "<|im_start|>assistant\n")
    return Conversation(header + system, roles, (), 0, SeparatorStyle.MPT, "<|im_end|>", None, "mpt", system_header=header)


_PLAIN = Conversation("", ("", ""), (), 0, SeparatorStyle.PLAIN, "\n")
_V0 = _single_style(_CURIOUS_HUMAN, _V0_EXAMPLE)
_VICUNA_V1 = _two_style(_CURIOUS_USER)
_CHATML_DIRECT = _chatml_style("Answer the questions.")

default_conversation = _VICUNA_V1
conv_templates = {
    "default": _V0,  # LLaVA's own oddity: "default" is v0, while `default_conversation` is vicuna_v1
    "v0": _V0,
    "v1": _VICUNA_V1,
    "vicuna_v1": _VICUNA_V1,
    "llama_2": _llama_style(_LLAMA_2_CHAT),
    "mistral_instruct": _llama_style("", sep=""),
    "chatml_direct": _CHATML_DIRECT,
    "mistral_direct": _CHATML_DIRECT,
    "plain": _PLAIN,
    "v0_plain": _PLAIN,
    "llava_v0": _single_style(_CURIOUS_HUMAN),
    "v0_mmtag": _single_style(_MMTAG, version="v0_mmtag"),
    "llava_v1": _two_style(_CURIOUS_HUMAN),
    "v1_mmtag": _two_style(_MMTAG, version="v1_mmtag"),
    "llava_llama_2": _llama_style(_LLAVA_LLAMA_2),
    "mpt": _chatml_style(_MPT_SYSTEM),
}
