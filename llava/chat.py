"""The words that everything here speaks: Image, Message, Chat, Sampling, Call, Token, Delta, Reply.

Plain frozen data, standard library only; Pillow is loaded when the first image is decoded. Nothing here knows a model, a prompt
template, a file format of ours or a network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from llava.errors import UserError
from llava.image import Image

__all__ = ["Call", "Chat", "Delta", "Image", "Message", "Reply", "Sampling", "Token"]

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "cancelled"]
MAX_TOP_LOGPROBS = 20  # the most that OpenAI's protocol gives
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. Images stand before the text, as in LLaVA.

    In the local engine no marker in `text` (`<image>`, `</s>`, `<|im_end|>`, ...) ever becomes an image slot or a control token.
    Other engines hand `text` on as it is: what a server's template makes of such a marker is up to the server.
    """

    role: Role
    text: str
    images: tuple[Image, ...] = ()

    def __post_init__(self) -> None:
        if self.role not in ("system", "user", "assistant"):
            raise UserError(f"Unknown role {self.role!r}: use system, user or assistant.")
        if not isinstance(self.text, str):
            raise UserError(f"A message's text is a string, not {type(self.text).__name__}.")
        said = "A message's images are Image objects in a list: [Image.open(...)]."
        object.__setattr__(self, "images", _several(self.images, Image, said))
        if self.images and self.role != "user":
            raise UserError(f"Only user messages carry images, not {self.role} messages.")


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation: optional system message, then user and assistant in turn, a user turn last."""

    messages: tuple[Message, ...]

    def __post_init__(self) -> None:
        said = 'A chat is made of Message objects in a list: Chat([Message("user", "...")]).'
        object.__setattr__(self, "messages", _several(self.messages, Message, said))
        turns = [m.role for m in self.messages]
        if turns and turns[0] == "system":
            turns = turns[1:]
        expected = ["user" if i % 2 == 0 else "assistant" for i in range(len(turns))]
        if not turns or turns != expected or turns[-1] != "user":
            raise UserError("A chat is user, assistant, user, ... and ends with a user turn (an optional system message comes first).")
        if not self.messages[-1].text.strip():
            raise UserError("The question is empty: say what you want to know.")

    @classmethod
    def ask(cls, question: str, images: Iterable[Image] = ()) -> Chat:
        """A single-turn chat."""
        return cls((Message("user", question, images),))  # type: ignore[arg-type]  # which makes a tuple of them

    @property
    def question(self) -> str:
        """Text of the last user turn."""
        return self.messages[-1].text

    @property
    def images(self) -> tuple[Image, ...]:
        """All images of all turns, in order."""
        return tuple(image for message in self.messages for image in message.images)

    def blind(self) -> Chat:
        """The same chat without any image of any turn."""
        return Chat(tuple(replace(m, images=()) for m in self.messages))

    def asking(self, question: str) -> Chat:
        """The same chat with another last text (its images stay)."""
        return Chat((*self.messages[:-1], replace(self.messages[-1], text=question)))


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to pick tokens. `temperature` 0 is greedy. `stop` strings end the text and are not part of it.

    `logprobs`: tell every token's log-probability, with so many (0 to 20) of the likeliest tokens in its place; None: do not. An engine
    that cannot raises `NoLogprobs`. Raises `UserError` for values of a wrong type or out of range.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    seed: int | None = None
    logprobs: int | None = None

    def __post_init__(self) -> None:
        # Values come from people's JSON too: types are checked, and True is no number.
        if not _is(self.temperature, int, float) or not 0.0 <= self.temperature <= 2.0:
            raise UserError(f"temperature is {self.temperature!r}: give a number from 0 (greedy) to 2.")
        if not _is(self.top_p, int, float) or not 0.0 < self.top_p <= 1.0:
            raise UserError(f"top_p is {self.top_p!r}: give a number above 0 and at most 1.")
        if not _is(self.max_tokens, int) or self.max_tokens < 1:
            raise UserError(f"max_tokens is {self.max_tokens!r}: give at least 1, a whole number.")
        if self.seed is not None and not _is(self.seed, int):
            raise UserError(f"seed is {self.seed!r}: give a whole number, or None.")
        if self.logprobs is not None and not (_is(self.logprobs, int) and 0 <= self.logprobs <= MAX_TOP_LOGPROBS):
            raise UserError(f"logprobs is {self.logprobs!r}: give a whole number from 0 to {MAX_TOP_LOGPROBS}, or None.")
        if not isinstance(self.stop, list | tuple) or not all(isinstance(s, str) for s in self.stop):
            raise UserError(f"stop is {self.stop!r}: give a tuple of strings.")
        object.__setattr__(self, "stop", tuple(self.stop))
        if any(not s for s in self.stop):
            raise UserError("A stop string is empty: leave it out.")


def _is(value: object, *types: type) -> bool:
    return isinstance(value, types) and not isinstance(value, bool)


def _several(values: object, kind: type[T], said: str) -> tuple[T, ...]:
    """`values` as a tuple; raises `UserError` with what is `said` where they are not several things of that kind."""
    found = tuple(values) if isinstance(values, Iterable) and not isinstance(values, str) else (None,)
    if not all(isinstance(value, kind) for value in found):
        raise UserError(said)
    return found


@dataclass(frozen=True, slots=True)
class Call:
    """One thing to ask a model. `step` names its place in the method ("answer", "check", "caption", "regenerate", ...).

    `top_logprobs`: how many first-token alternatives the caller would like (0: none); engines without them give None. `sought`: the only
    beginnings of a reply that matter to the caller (see `settled`; none: all of it does); engines may leave the rest of others unsaid.
    `whole`: the caller does nothing with pieces, so that engines may gather them: a wish about the way, and no part of what is asked.
    Raises `UserError` for values of a wrong type.
    """

    step: str
    chat: Chat
    sampling: Sampling = field(default_factory=Sampling)
    top_logprobs: int = 0
    sought: tuple[str, ...] = ()
    whole: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.step, str) or not self.step:
            raise UserError('A call names its step: Call("answer", chat).')
        if not isinstance(self.chat, Chat):
            raise UserError(f'A call asks a Chat, not {type(self.chat).__name__}: Chat.ask("What is this?", [image]) makes one.')
        if not isinstance(self.sampling, Sampling):
            raise UserError(f"A call's sampling is a Sampling, not {type(self.sampling).__name__}: Sampling(max_tokens=64) makes one.")
        if not _is(self.top_logprobs, int) or self.top_logprobs < 0:
            raise UserError(f"top_logprobs is {self.top_logprobs!r}: give a whole number, at least 0.")
        object.__setattr__(self, "sought", _several(self.sought, str, "What a call seeks are texts in a list."))

    def settled(self, text: str) -> bool:
        """Whether a reply that begins with `text` begins with nothing that is sought, however it goes on; case and white space before
        it do not count."""
        if not self.sought:  # asked after every token
            return False
        said = text.lstrip().casefold()
        return not any(said.startswith(word) or word.startswith(said) for word in map(str.casefold, self.sought))


@dataclass(frozen=True, slots=True)
class Token:
    """One token that was said, or could have been: its text, its natural-log probability, the bytes that it stands for (a character may
    be spread over several tokens; None where the engine does not tell), and the likeliest tokens in its place, likeliest first."""

    text: str
    logprob: float
    raw: bytes | None = None
    top: tuple[Token, ...] = ()

    def row(self) -> list[Any]:
        """As JSON; infinities are numbers there."""
        return [self.text, max(self.logprob, -1e9), None if self.raw is None else list(self.raw), [token.row() for token in self.top]]

    @classmethod
    def of_row(cls, row: Any) -> Token:
        """The token that `row` was made of; raises `UserError` for anything else."""
        try:
            text, logprob, raw, top = row
            if isinstance(text, str) and _is(logprob, int, float) and logprob == logprob and isinstance(raw, list | None):
                return cls(text, logprob, None if raw is None else bytes(raw), tuple(map(cls.of_row, top)))
        except (TypeError, ValueError, RecursionError):
            pass
        raise UserError("A token is a row of its text, log-probability, bytes and alternatives.")


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, `seconds` after it was asked. `first_logprobs` maps the text of first-token candidates to natural-log probabilities
    (summed over tokens that read the same), or is None where the engine has none or was not asked. `tokens` are all tokens in order, where
    `Sampling.logprobs` asked for them; they may begin with white space, and end with an end token or a stop string, that `text` lacks."""

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: FinishReason = "stop"
    first_logprobs: Mapping[str, float] | None = None
    seconds: float = 0.0
    tokens: tuple[Token, ...] | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed answer. The last one carries the whole `reply` (and possibly the last piece of text)."""

    text: str = ""
    reply: Reply | None = None
