"""What a request asks: a parsed body in, the chat, the model and the guard's mode out. Images are fetched and decoded here, in a pool, as
is what takes long to read.

Knows no engine and calls none; it knows their names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from llava.chat import Chat
from llava.serve.gateway import schema
from llava.serve.gateway.content import Limits, addresses, check_length, has_images, judged, sampling, to_chat
from llava.serve.gateway.decide import Mode
from llava.serve.gateway.failures import no_such_model
from llava.serve.gateway.metrics import Metrics
from llava.serve.gateway.remote import Fetcher, Remote
from llava.serve.refusal import Refusal

S = TypeVar("S")
T = TypeVar("T")
DIRECT = ":direct"  # after a model's name: the model without the guard


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the operator lets requests ask for; see `service.Config`."""

    mode: Mode
    override: bool
    limits: Limits
    remote: Remote | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A chat request: the engine's name, the guard's mode, the fields of `Sampling` that it sets; `small` as in `limits.is_small`."""

    request: schema.ChatRequest
    name: str
    mode: Mode
    sampling: dict[str, Any]
    small: bool

    @property
    def live(self) -> bool:
        """Whether its answer goes out as the model says it: where nothing is checked, nothing need be held."""
        request = self.request
        return bool(request.stream) and self.mode == "off" and (request.n or 1) == 1 and not request.logprobs


class Reader:
    """Reads requests to the models called `names`; every method raises `Refusal` for what is not taken."""

    def __init__(self, allowed: Allowed, names: Collection[str], metrics: Metrics) -> None:
        self._allowed = allowed
        self._names = names
        self._metrics = metrics
        self._fetcher = Fetcher(allowed.remote) if allowed.remote else None
        self._pool = ThreadPoolExecutor(2, "llava-decode")

    async def ask(self, data: dict[str, Any], small: bool) -> Asked:
        """A chat request, but for its messages."""
        return await self._off_loop(lambda sent: self._ask(sent, small), data, small)

    async def check(self, data: dict[str, Any], small: bool) -> tuple[schema.CheckRequest, str]:
        """A candidate answer, and the model that judges it."""
        return await self._off_loop(self._check, data, small)

    async def moderation(self, data: dict[str, Any], small: bool) -> tuple[str, list[str], Sequence[schema.Message]]:
        """The model that judges, the texts, and the conversation in which they are answers."""
        return await self._off_loop(self._moderation, data, small)

    async def chat(self, messages: Sequence[schema.Message], small: bool) -> Chat:
        """The conversation, its images fetched and decoded."""
        limits = self._allowed.limits
        wanted = addresses(messages, limits)
        fetched = await self._fetcher.fetch(wanted) if self._fetcher and wanted else {}
        return await self._off_loop(lambda sent: to_chat(sent, limits, fetched), messages, small and not has_images(messages))

    def close(self) -> None:
        """Let go of the pool."""
        self._pool.shutdown(wait=False)

    def _ask(self, data: dict[str, Any], small: bool) -> Asked:
        request = self._read(data, schema.ChatRequest)
        name, mode = self._chosen(request)
        return Asked(request, name, mode, sampling(request, self._allowed.limits), small)

    def _check(self, data: dict[str, Any]) -> tuple[schema.CheckRequest, str]:
        request = self._read(data, schema.CheckRequest)
        name = self._name(request.model)
        check_length("answer", request.answer, self._allowed.limits)
        return request, name

    def _moderation(self, data: dict[str, Any]) -> tuple[str, list[str], Sequence[schema.Message]]:
        request = self._read(data, schema.ModerationRequest)
        name = self._name(request.model)
        return name, *judged(request, self._allowed.limits)

    def _read(self, data: dict[str, Any], kind: type[schema.M]) -> schema.M:
        try:
            return schema.read(data, kind)
        except Refusal as refusal:
            if refusal.code == schema.UNINSPECTED:
                self._metrics.uninspected.add()
            raise

    def _chosen(self, request: schema.ChatRequest) -> tuple[str, Mode]:
        """Model name and mode; raises `Refusal` for a model that is not there (404) and a mode that is not allowed (403)."""
        allowed, name, mode = self._allowed, request.model, request.guard.mode
        if allowed.override and name.endswith(DIRECT) and name not in self._names:
            if mode not in (None, "off"):  # whoever wrote the one may not have written the other
                said = f"The model's name asks for no guard, and 'guard.mode' for {mode}: ask for one of them."
                raise Refusal(400, said, code="invalid_value", param="guard.mode")
            name, mode = name.removesuffix(DIRECT), "off"
        name = self._name(name)
        if mode is not None and mode != allowed.mode and not allowed.override:
            said = "This gateway does not let a request choose its guard mode."
            raise Refusal(403, said, code="guard_override_not_allowed", param="guard.mode")
        return name, mode or allowed.mode

    def _name(self, name: str | None) -> str:
        if name is None:
            return next(iter(self._names))
        if name not in self._names:
            raise no_such_model()
        return name

    async def _off_loop(self, work: Callable[[S], T], data: S, small: bool) -> T:
        """In the pool, unless it is done before a thread of it would wake."""
        return work(data) if small else await asyncio.get_running_loop().run_in_executor(self._pool, work, data)


def wants_usage(request: schema.ChatRequest) -> bool:
    """Whether the last chunk of a stream is to tell the usage."""
    return bool(request.stream_options and request.stream_options.include_usage)
