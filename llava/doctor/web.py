"""Small questions over HTTP with a key, once it is known who answers. Redirects are not followed: the key would go along."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx2

from llava.cluster.dial import new_client
from llava.deadlines import Deadlines
from llava.doctor.address import Address
from llava.doctor.reach import ANSWER, CONNECT
from llava.doctor.report import Trouble

MOST = 4 * 2**20  # bytes of an answer


@dataclass(frozen=True, slots=True)
class Answer:
    """`json` is None where the body is no JSON; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    json: Any

    @property
    def fields(self) -> dict[str, Any]:
        """The JSON object, empty where the body is none."""
        return self.json if isinstance(self.json, dict) else {}

    @property
    def code(self) -> str:
        """An error's code in OpenAI's shape."""
        error = self.fields.get("error")
        return str(error.get("code")) if isinstance(error, dict) else ""

    @property
    def said(self) -> str:
        """An error's sentence, or the status."""
        error = self.fields.get("error")
        message = error.get("message") if isinstance(error, dict) else None
        return message[:300] if isinstance(message, str) and message else f"status {self.status}"


class Web:
    """Connections to one address, with one key. `seconds` is how long a model may take; `withheld`: there is a key, which is not shown."""

    def __init__(self, address: Address, key: str | None, seconds: float, *, withheld: bool = False) -> None:
        self.address = address
        self.key = key
        self.withheld = withheld
        self.seconds = seconds
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self.client = new_client(Deadlines(CONNECT, seconds, seconds, seconds), headers)

    async def __aenter__(self) -> Web:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.client.aclose()

    async def get(self, path: str) -> Answer:
        """GET; raises `Trouble` when the connection fails."""
        return await self._ask("GET", path, None, ANSWER)

    async def post(self, path: str, body: object, *, slow: bool = False) -> Answer:
        """POST JSON; raises `Trouble` when the connection fails, or `TimeoutError`. `slow`: a model answers."""
        return await self._ask("POST", path, body, self.seconds if slow else ANSWER)

    async def _ask(self, method: str, path: str, body: object, seconds: float) -> Answer:
        content, headers = None, {}
        if body is not None:
            content, headers = json.dumps(body).encode(), {"content-type": "application/json"}
        try:
            async with asyncio.timeout(seconds):
                url = f"{self.address.url}{path}"
                async with self.client.stream(method, url, content=content, headers=headers, timeout=seconds) as response:
                    data = bytearray()
                    async for part in response.aiter_raw():
                        data += part
                        if len(data) > MOST:
                            break
        except (httpx2.TimeoutException, TimeoutError):
            raise Trouble("silent", f"{self.address.place} does not answer {method} {path} within {seconds:g} s.") from None
        except httpx2.HTTPError as error:
            raise Trouble("unreachable", f"The connection to {self.address.place} broke ({type(error).__name__}).") from None
        return Answer(response.status_code, {name.lower(): value for name, value in response.headers.items()}, _json(bytes(data)))


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
