"""Any server that speaks OpenAI's chat completions: vLLM, SGLang, llama.cpp, OpenAI itself, our own gateway.

Turns a `Call` into one streamed request and the server's failures into our errors. It knows no prompt template (the server has
one) and writes no request, answer or server message into a log or an error text; the server's own words stay on `__cause__`.

Texts are sent as they are. Whether `<image>` or `<|im_end|>` in a question stays text is up to the server and its template; only the
local engine promises it.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2

from llava.chat import Call, Chat, Delta, Reply, Sampling
from llava.engines.openai.request import explain, refused, to_request
from llava.engines.openai.server import Refused, Server
from llava.engines.openai.sight import Sight
from llava.engines.openai.wire import Answer
from llava.errors import EngineClosed, EngineError, EngineTimeout, LlavaError, Misconfigured, NoLogprobs, Overloaded, UserError


def open_server(base_url: str, *, check_images: bool = True, **options: Any) -> OpenAIEngine:
    """The engine for a server; `check_images` false: without finding out whether its model sees images. Options as in `OpenAIEngine`."""
    engine = OpenAIEngine(base_url, **options)
    if not check_images:
        engine.trust_images()
    return engine


# A status that says that the server fails -> the error, and what to say of it.
_FAILURES: Mapping[int, tuple[type[EngineError], str]] = {
    408: (EngineTimeout, "did not answer in time (408)."),
    429: (Overloaded, "is overloaded (429): try again later."),
    503: (Overloaded, "is overloaded (503): try again later."),
    504: (EngineTimeout, "did not answer in time (504)."),
}


class OpenAIEngine:
    """A model behind an OpenAI-compatible server at `base_url` (it usually ends in /v1).

    `model`: the served model's name; may be left out when the server lists exactly one. `api_key`: else OPENAI_API_KEY, else a
    dummy, which local servers accept. `timeout`: seconds without a byte before the call fails; `connect_timeout`: seconds to connect.
    `retries`: how often a request that no byte has answered yet is repeated, where that may help (server.py).
    Images go as PNG, or as JPEG of quality 95 where the PNG has more than 10 MiB; in both cases as the same bytes in every step.
    A server that refuses log-probabilities, usage in streams or the name `max_tokens` is asked without them from then on; redirects are
    not followed, for key and images would go along. Before the first call with images two short ones find out whether the model gets to
    see them; where it does not, `ImagesUnseen` is raised (sight.py).
    """

    def __init__(
        self,
        base_url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        timeout: float = 300.0,
        connect_timeout: float = 5.0,
        retries: int = 2,
    ) -> None:
        key = api_key or os.environ.get("OPENAI_API_KEY") or "none"
        self._server = Server(base_url, key=key, timeout=timeout, connect_timeout=connect_timeout, retries=retries)
        self._address = self._server.address
        self._model = model
        self._closed = False
        self._left_out: set[str] = set()  # parameters that this server does not take
        self._ignores_logprobs = False
        self._sight: Sight | None = Sight(self._prompt_tokens)

    @property
    def name(self) -> str:
        return f"{self._model} at {self._address}" if self._model else self._address

    def trust_images(self) -> None:
        """Do not find out whether the model sees images: for servers that count them in no way."""
        self._sight = None

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        """The server's answer as it comes; see `Engine.stream`."""
        start = time.monotonic()
        if self._closed:
            raise EngineClosed(f"The engine {self.name} is closed.")
        answer = Answer(call.sampling.logprobs is not None)
        if answer.logprobs and self._ignores_logprobs:
            raise NoLogprobs
        try:
            async with self._told(call.sampling):
                if call.chat.images and self._sight is not None:
                    await self._sight.check(self.name)
                async with aclosing(await self._open(call)) as response, aclosing(self._server.chunks(response)) as chunks:
                    async for chunk in chunks:
                        if piece := answer.add(chunk):
                            yield Delta(piece)
        except NoLogprobs:
            self._ignores_logprobs = answer.ignored
            raise
        if not answer.finished:
            raise EngineError(f"The server at {self._address} ended its answer early.")
        yield Delta(reply=_as_wanted(answer.reply(time.monotonic() - start), call))

    async def models(self) -> list[str]:
        """The names that the server lists; raises what `stream` raises."""
        async with self._told(Sampling()):
            return await self._server.models()

    async def close(self) -> None:
        """Close the connections; running calls fail with `EngineClosed`. May be called from any event loop."""
        self._closed = True
        await self._server.close()

    @asynccontextmanager
    async def _told(self, sampling: Sampling) -> AsyncGenerator[None]:
        """The server's no as an error of ours; and whatever fails in a call that closing overtakes, says so."""
        try:
            try:
                yield
            except Refused as no:
                raise await self._explained(no, sampling) from no  # it may ask on, and not come to the end of that
        except (LlavaError, RuntimeError) as error:  # RuntimeError: of a client that is closed
            if self._closed:
                raise EngineClosed(f"The engine {self.name} was closed during the call.") from error
            raise

    async def _prompt_tokens(self, chat: Chat) -> int | None:
        """How many tokens the server counts in a prompt; None when it does not tell."""
        answer = Answer()
        response = await self._open(Call("probe", chat, Sampling(max_tokens=1)))
        async with aclosing(response), aclosing(self._server.chunks(response)) as chunks:
            async for chunk in chunks:
                answer.add(chunk)
        return answer.reply(0.0).prompt_tokens

    async def _open(self, call: Call) -> httpx2.Response:
        if self._model is None:
            self._model = await self._only_model()
        left_out = set(self._left_out)
        while True:
            parts = self._model, call, left_out
            # Encoding a large image takes a while.
            request, body = await asyncio.to_thread(_encoded, *parts) if call.chat.images else _encoded(*parts)
            try:
                response = await self._server.chat(body)
            except Refused as no:
                needed = () if call.sampling.logprobs is None else ("logprobs",)
                more = refused(no, request, needed) - left_out if no.status_code in (400, 422) else set()
                if not more:
                    raise
                left_out |= more
            else:
                self._left_out |= left_out  # only now: it was these that the server disliked
                return response

    async def _only_model(self) -> str:
        served = await self._server.models()
        if len(served) != 1:
            raise Misconfigured(f"The server at {self._address} lists {_names(served)}: say which one with model=.")
        return served[0]

    async def _explained(self, no: Refused, sampling: Sampling) -> LlavaError:
        """A refusal as those who asked should know it."""
        server, status = f"The server at {self._address}", no.status_code
        if status in (401, 403):
            return Misconfigured(f"{server} does not accept the key ({status}): set OPENAI_API_KEY or give api_key=.")
        if status == 404:
            return await self._not_found()
        if status in (400, 413, 422):
            return explain(no, self.name, self._address, sampling)
        if status in range(300, 400):
            return Misconfigured(f"{server} redirects to another address ({status}), which is not followed: give that address.")
        kind, said = _FAILURES.get(status, (EngineError, f"failed with status {status}."))
        failure = kind(f"{server} {said}")
        failure.tried_again = no.repeated
        if isinstance(failure, Overloaded):
            failure.pause = no.pause
        return failure

    async def _not_found(self) -> UserError:
        try:
            served = await self._server.models()
        except (Refused, LlavaError):
            return Misconfigured(f"There is no OpenAI-compatible API at {self._address}: its address usually ends in /v1.")
        return Misconfigured(f"The server at {self._address} has no model {self._model!r}; it lists {_names(served)}.")


def _as_wanted(reply: Reply, call: Call) -> Reply:
    """A server is asked once, for alternatives of the first token and of all: of each, what the call wants."""
    first = reply.first_logprobs if call.top_logprobs else None
    if reply.tokens is None:
        return replace(reply, first_logprobs=first)
    tokens = (replace(token, top=token.top[: call.sampling.logprobs]) for token in reply.tokens)
    return replace(reply, first_logprobs=first, tokens=tuple(tokens))


def _encoded(model: str, call: Call, left_out: Collection[str]) -> tuple[Collection[str], bytes]:
    """A request: the names of its parts, and its bytes."""
    request = to_request(model, call, left_out)
    return request.keys(), json.dumps(request).encode()


def _names(served: list[str]) -> str:
    return ", ".join(served[:20]) + (", ..." if len(served) > 20 else "") if served else "no model"
