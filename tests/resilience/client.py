"""The official client, for rows that ask with it too: what it tells a program of an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import openai

from tests.resilience.stack import KEY

RAISES: dict[int, type[openai.APIStatusError]] = {
    400: openai.BadRequestError,
    404: openai.NotFoundError,
    429: openai.RateLimitError,
    502: openai.InternalServerError,
    503: openai.InternalServerError,
    504: openai.InternalServerError,
}


@dataclass
class Told:
    """Of an answer its text; of an exception of the client its class, status and code."""

    status: int
    text: str = ""
    code: str | None = None
    raised: type[Exception] | None = None

    @property
    def proper(self) -> bool:
        """Whether the exception's class is that of its status, and it has a code."""
        return self.raised is not None and self.raised is RAISES.get(self.status) and self.code is not None


@asynccontextmanager
async def official(port: int) -> AsyncIterator[openai.AsyncOpenAI]:
    """The client before a gateway. It asks once: what it would do again is ours to count."""
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY, max_retries=0, timeout=120) as client:
        yield client


async def told(client: openai.AsyncOpenAI, body: dict[str, Any]) -> Told:
    """Ask; errors other than those of a status are the caller's."""
    try:
        answer = await client.chat.completions.create(**body)
        if not body.get("stream"):
            return Told(200, answer.choices[0].message.content or "")
        return Told(200, "".join([part.delta.content or "" async for chunk in answer for part in chunk.choices]))
    except openai.APIStatusError as error:
        return Told(error.status_code, code=error.code, raised=type(error))
