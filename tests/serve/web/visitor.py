"""A visitor of a page without a browser: speaks gradio's queue, keeps every byte that it was sent.

async with visitor(url) as one:
    await one.press("send", "click", question="What is this?")
    one.shown["past"]                                  # what the component with that elem_id shows now
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

PATIENCE = 600.0  # seconds; a busy machine is no failure


class Visitor:
    """One open page. `shown`: elem_id -> value; `live`: elem_id -> whether it can be used, where that was told; `received`: everything that
    came through the queue."""

    def __init__(self, client: httpx2.AsyncClient, config: dict[str, Any]) -> None:
        self.client = client
        self.config = config
        self.session = secrets.token_hex(8)
        self.received = ""
        self.problems: list[str] = []
        self._names = {part["id"]: part["props"].get("elem_id") or f"#{part['id']}" for part in config["components"]}
        self.rows = config["dependencies"]
        self.events = {(self._names.get(id), event): row for row in self.rows for id, event in row["targets"]}
        self.live: dict[str, bool] = {}
        self.shown: dict[str, Any] = {self._names[part["id"]]: part["props"].get("value") for part in config["components"]}

    def body(self, name: str | None, event: str, **values: Any) -> dict[str, Any]:
        """The request that a browser sends for an event."""
        self.shown.update(values)
        return self.request(self.events[(name, event)])

    def request(self, row: dict[str, Any]) -> dict[str, Any]:
        """The same for one of `rows`, the page's events."""
        data = [self.shown.get(self._names[id]) for id in row["inputs"]]
        return {"data": data, "event_data": None, "fn_index": row["id"], "trigger_id": None, "session_hash": self.session}

    async def load(self) -> None:
        """What a browser does when the page is there: the events of its loading."""
        for name, event in self.events:
            if event == "load":
                await self.press(name, event)

    async def press(self, name: str | None, event: str = "click", event_data: Any = None, **values: Any) -> None:
        """Trigger an event, and those that follow it, and wait for the end; what they changed is in `shown`."""
        self.shown.update(values)
        await self._run(self.events[(name, event)], event_data)

    async def send(self, name: str | None, event: str = "click", **values: Any) -> httpx2.Response:
        """Trigger an event and wait for nothing: its end comes to whoever reads the queue."""
        return await self.client.post("/gradio_api/queue/join", json=self.body(name, event, **values))

    async def _run(self, row: dict[str, Any], event_data: Any = None) -> None:
        """An event, and what follows on it: gradio's script does other things after one that failed, or was refused, than after others."""
        before = len(self.problems)
        joined = await self.client.post("/gradio_api/queue/join", json=self.request(row) | {"event_data": event_data})
        if joined.is_success:
            await self._until_done(joined.json()["event_id"], row)
        else:
            self.problems.append(joined.json()["detail"])
        failed = len(self.problems) > before
        following = [each for each in self.rows if each.get("trigger_after") == row["id"] and each["trigger_only_on_failure"] == failed]
        if not following:
            joined.raise_for_status()
        for each in following:
            await self._run(each)

    async def _until_done(self, event_id: str, row: dict[str, Any]) -> None:
        async with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            stream.raise_for_status()
            async for line in stream.aiter_lines():
                self.received += line
                if line.startswith("data: ") and self._take(json.loads(line[6:]), event_id, row):
                    return
        raise EOFError(f"event {row['id']} did not end")

    def _take(self, message: dict[str, Any], event_id: str, row: dict[str, Any]) -> bool:
        """Whether this was the end of the event."""
        if message["msg"] != "process_completed" or message.get("event_id") != event_id:
            return False
        if not message["success"]:
            self.problems.append(str(message["output"]))
            return True
        for id, value in zip(row["outputs"], message["output"]["data"], strict=True):
            if isinstance(value, dict) and value.get("__type__") == "update":
                if "interactive" in value:
                    self.live[self._names[id]] = value["interactive"]
                if "value" not in value:
                    continue
                value = value["value"]
            self.shown[self._names[id]] = value
        return True


@asynccontextmanager
async def visitor(url: str, **options: Any) -> AsyncIterator[Visitor]:
    """Open the page at `url`."""
    async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=PATIENCE, **options) as client:
        answer = await client.get("/")
        answer.raise_for_status()
        _, _, config = answer.text.partition("window.gradio_config = ")
        yield Visitor(client, json.JSONDecoder().raw_decode(config)[0])
