"""A model worker's core: takes a request of the wire, asks the engine, gives the objects of a stream. Knows no HTTP.

Calls go through one bounded queue (`Admission`); images are decoded in a small pool of threads, under limits. A stream that waits for its
model repeats itself now and then, so that nobody takes the worker for dead.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from llava.chat import Call, Chat, Delta, Image, Sampling
from llava.cluster.wire import Status, call_of, chat_of, error_event, event, last_fields, last_logprobs
from llava.conversation import Conversation
from llava.engines.base import Engine, generate
from llava.errors import EngineError, ImageError, LlavaError, Unavailable, UserError
from llava.recent import Recent
from llava.serve.admission import Admission
from llava.serve.foreign import sampling_of, turns_of
from llava.serve.health import MOST, Health
from llava.serve.refusal import place
from llava.serve.streaming import beating

log = logging.getLogger(__name__)

SIGN_OF_LIFE = 2.0  # seconds; LLaVA's controller gives up a stream after 5 silent ones
GATHER = 0.5  # seconds for which text is held back whose reader waits for all of it: each piece costs both ends as much as a small step


CAPS = ("images", "pixels", "text", "patience")  # bounds of one request


@dataclass(frozen=True, slots=True)
class Bounds:
    """Most calls that run and that wait, seconds in the queue; of one request: images, their pixels together, characters. `kept`: bytes of
    the pictures' files that are known to be good, for the steps that follow."""

    running: int = 32
    waiting: int = 32
    patience: float = 30.0
    images: int = 8
    pixels: int = 50_000_000
    text: int = 512 * 1024  # the gateway takes half of that from its clients, and its steps add their own words
    decoders: int = 2
    kept: int = 64 * 2**20


class Worker:
    """An engine under the names of its models. `template` reads the prompt strings of foreign clients; `tested`: after a failure short
    self-tests find out whether the model has failed for good."""

    def __init__(
        self,
        engine: Engine,
        models: tuple[str, ...],
        template: Conversation,
        bounds: Bounds | None = None,
        *,
        stream_interval: int = 1,
        tested: bool = False,
    ) -> None:
        self._engine = engine
        self._models = models
        self._template = template
        self._bounds = bounds or Bounds()
        self._interval = max(stream_interval, 1)
        self._admission = Admission(self._bounds.running, self._bounds.waiting, self._bounds.patience)
        # The steps of one question bring the same picture in turn: it is known by its bytes, and decoded once.
        self._pictures: Recent[bytes, Image] = Recent(self._bounds.kept, lambda image: image.nbytes)
        self._decoders = ThreadPoolExecutor(self._bounds.decoders, "llava-decode")
        self.health = Health(self._self_test if tested else None, trusted=True, most=MOST)
        self.leaving = False

    def status(self) -> Status:
        """What it says of itself."""
        return Status(self._models, 1, self._admission.inside)

    def changes(self) -> int:
        """Grows with each call that comes or goes."""
        return self._admission.changes

    async def close(self) -> None:
        """Close the engine; what runs ends with `EngineClosed`."""
        self._decoders.shutdown(wait=False, cancel_futures=True)
        await self._engine.close()

    async def stream(self, body: Mapping[str, Any]) -> AsyncGenerator[bytes, None]:
        """The objects of the answer to one request. Raises `Overloaded` or `Unavailable` before the first; all other errors are objects."""
        if self.leaving:
            raise Unavailable("This worker is shutting down.")
        with self._admission.entry():
            try:
                form = (_Foreign if body.get("llava") is None else _Own)(body, self._interval)
                async with aclosing(beating(self._deltas(body), SIGN_OF_LIFE)) as deltas:
                    async for delta in deltas:
                        for item in form.events(delta):
                            yield item
                if not form.ended:
                    raise EngineError("The model ended its answer without a reply.")
            except Exception as error:  # noqa: BLE001 - whatever it is, the stream must not end as if the answer were complete
                self.health.failed(error)
                if not isinstance(error, LlavaError):
                    log.error("a call failed: %s at %s", type(error).__name__, place(error))
                yield error_event(error)

    async def _self_test(self) -> None:
        """A word; raises what the engine raises."""
        await generate(self._engine, Call("probe", Chat.ask("What is two and two?"), Sampling(max_tokens=1)))

    async def _deltas(self, body: Mapping[str, Any]) -> AsyncGenerator[Delta, None]:
        async with self._admission.place():
            call = await asyncio.get_running_loop().run_in_executor(self._decoders, self._call, body)
            async with aclosing(gathered(self._engine.stream(call), GATHER if call.whole else 0.0)) as deltas:
                async for delta in deltas:
                    if delta.reply is not None and delta.reply.finish_reason == "cancelled":
                        raise EngineError("The model's answer was broken off.")  # LLaVA's form has no word for it
                    yield delta

    def _call(self, body: Mapping[str, Any]) -> Call:
        """For a thread: decodes images, and takes prompt strings apart."""
        if _characters(body) > self._bounds.text:
            raise UserError(f"All texts together may have at most {self._bounds.text} characters.")
        images = self._images(body.get("images"))
        ours = body.get("llava")
        if ours is not None:
            if not isinstance(ours, dict):
                raise UserError("llava is an object.")
            return call_of(ours, images)
        prompt = body.get("prompt")
        if not isinstance(prompt, str):
            raise UserError("prompt is missing: send the text to answer.")
        return Call("answer", chat_of(turns_of(prompt, self._template), images), sampling_of(body))

    def _images(self, sent: object) -> list[Image]:
        if not isinstance(sent, list | None):
            raise ImageError("images is a list of base64 texts.")
        if len(sent or ()) > self._bounds.images:
            raise ImageError(f"At most {self._bounds.images} images are taken.")
        files = [_file(text) for text in sent or ()]
        if sum(width * height for width, height in map(Image.measure, files)) > self._bounds.pixels:  # before any is decoded
            raise ImageError(f"All images together may have at most {self._bounds.pixels / 1e6:g} megapixels.")
        return [self._pictures.get(_digest(file), partial(_picture, file)) for file in files]


async def gathered(source: AsyncGenerator[Delta, None], seconds: float) -> AsyncGenerator[Delta, None]:
    """The same text in fewer pieces: one for about so many seconds, and the reply as soon as it is there. Closes `source`."""
    held, due = list[str](), time.monotonic() + seconds
    async with aclosing(source) as deltas:
        async for delta in deltas:
            if delta.reply is None and time.monotonic() < due:
                held.append(delta.text)
                continue
            yield replace(delta, text="".join([*held, delta.text]))
            held.clear()
            due = time.monotonic() + seconds


class _Own:
    """Our own engine's form: new text only, and at the end all that a `Reply` has."""

    def __init__(self, _body: Mapping[str, Any], interval: int) -> None:
        self._interval = interval
        self._held: list[str] = []
        self.ended = False

    def events(self, delta: Delta | None) -> Iterator[bytes]:
        """The objects for one delta; for None, a sign of life."""
        if delta is None:
            yield event({"delta": "", "error_code": 0})
            return
        if delta.text:
            self._held.append(delta.text)
        if delta.reply is not None:
            self.ended = True
            yield event({"delta": "".join(self._held), "error_code": 0, **last_fields(delta.reply), **last_logprobs(delta.reply)})
        elif len(self._held) >= self._interval:
            yield event({"delta": "".join(self._held), "error_code": 0})
            self._held.clear()


class _Foreign:
    """LLaVA's form: the prompt and all text so far, again and again. FastChat's `echo` false leaves the prompt out."""

    def __init__(self, body: Mapping[str, Any], interval: int) -> None:
        prompt = body.get("prompt")
        self._prompt = prompt if isinstance(prompt, str) and body.get("echo") is not False else ""
        self._interval = interval
        self._text = ""
        self._count = 0
        self.ended = False

    def events(self, delta: Delta | None) -> Iterator[bytes]:
        """The objects for one delta; for None, the last one again."""
        if delta is not None:
            self._text += delta.text
            self._count += bool(delta.text)
            self.ended = delta.reply is not None
        if delta is None or self.ended or (delta.text and self._count % self._interval == 0):
            yield event({"text": self._prompt + self._text, "error_code": 0})


def _characters(body: Mapping[str, Any]) -> int:
    """Of the prompt string and of all messages, as far as they are what they should be."""
    ours = body.get("llava")
    messages = ours.get("messages") if isinstance(ours, dict) else None
    said = [message.get("text") for message in messages if isinstance(message, dict)] if isinstance(messages, list) else []
    return max(len(body["prompt"]) if isinstance(body.get("prompt"), str) else 0, sum(len(t) for t in said if isinstance(t, str)))


def _digest(file: bytes | str) -> bytes:
    return hashlib.sha256(file if isinstance(file, bytes) else file.encode("utf-8", "surrogatepass")).digest()


def _picture(file: bytes | str) -> Image:
    return Image.of_file(file) if isinstance(file, bytes) else Image.open(file)


def _file(text: object) -> bytes | str:
    """A picture's bytes from base64, or a data URL as it is; raises `ImageError`."""
    if not isinstance(text, str):
        raise ImageError("An image is a base64 text.")
    if text[:5].lower() == "data:":
        return text
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("An image is no valid base64.") from None
