"""A controller and its workers, ours or LLaVA's own: who is registered, who can be reached from where, whose beats are late?"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from llava.chat import Call, Chat, Reply, Sampling
from llava.cluster.dial import dial, worker_address
from llava.cluster.wire import read_event, reply_of, request_of
from llava.constants import WORKER_HEART_BEAT_INTERVAL
from llava.deadlines import Deadlines, on_time
from llava.doctor.address import Address
from llava.doctor.identify import check_let_in, check_loaded, check_version
from llava.doctor.model import check_model, fault_of
from llava.doctor.reach import CONNECT
from llava.doctor.report import Site
from llava.doctor.web import Web
from llava.errors import EngineError, LlavaError, UserError
from llava.model.templates import template_for

LATE = 1.5 * WORKER_HEART_BEAT_INTERVAL  # seconds since a beat; two in a row did not come


@dataclass(frozen=True, slots=True)
class Member:
    """A worker, as its controller tells of it: seconds since its last beat, if it beats, and why it cannot be reached, if it cannot.

    `told`: whether the controller has tried just now.
    """

    address: str
    models: tuple[str, ...] = ()
    age: float | None = None
    error: str | None = None
    told: bool = False


async def is_controller(web: Web) -> bool:
    """Which of the two a process of ours is; raises `Trouble` when the secret does not fit."""
    found = await web.post("/list_models", {})
    check_let_in(found, web, "secret")
    return found.status == 200


async def look_at_controller(site: Site, web: Web, model: str | None) -> list[Member]:
    """Examine it; returns its workers. Raises `Trouble`."""
    listed = await web.post("/list_models", {})
    check_let_in(listed, web, "secret")
    await check_version(site, web)
    names = [name for name in listed.fields.get("models", []) if isinstance(name, str)]
    if not names:
        site.wrong("no_worker", "No worker is registered.")
        return []
    members = await _members(site, web, names)
    for member in members:
        _check_member(site, member, web.address)
    if model is not None and model not in names:
        site.wrong("no_models", f"No worker serves {model}; served are {', '.join(names[:20])}.")
    usable = {name for member in members if member.error is None for name in member.models}
    for name in [name for name in names if name in usable and model in (None, name)]:
        await _check_passing_on(site, web, name)
    return members


async def look_at_worker(site: Site, web: Web, model: str | None) -> None:
    """Examine it; raises `Trouble`."""
    found = await web.post("/worker_get_status", {})
    check_let_in(found, web, "secret")
    check_loaded(found)
    await check_version(site, web)
    names = [name for name in found.fields.get("model_names", []) if isinstance(name, str)]
    busy = found.fields.get("queue_length")
    if isinstance(busy, int) and busy > 0:
        site.note("queue", f"{busy} {'call waits or runs' if busy == 1 else 'calls wait or run'} there now.")
    if not names or (model is not None and model not in names):
        site.wrong("no_models", f"It serves {', '.join(names[:20]) or 'no model'}.")
        return

    async def ask(call: Call) -> Reply:
        return await ask_stream(web, model or names[0], call)

    await check_model(site, model or names[0], ask)


async def ask_stream(web: Web, model: str, call: Call) -> Reply:
    """One call of a worker, or of a worker through its controller; raises what the stream tells of."""
    body = await asyncio.to_thread(lambda: json.dumps(request_of(call, model, template_for(model))).encode())
    text, last = "", None
    deadlines = Deadlines(CONNECT, web.seconds, web.seconds, web.seconds)
    async with aclosing(on_time(dial(web.client, web.address.url, body), deadlines, bool)) as events:
        async for raw in events:
            last = read_event(raw)
            text += last["delta"] if isinstance(last.get("delta"), str) else ""
    if last is None or ("delta" in last and not last.get("finish_reason")):
        raise EngineError("The worker's answer ended early.")
    return reply_of(last, text) if "finish_reason" in last else Reply(str(last.get("text")))


async def _members(site: Site, web: Web, names: list[str]) -> list[Member]:
    found = await web.post("/check_all_workers", {}, slow=True)
    rows = found.fields.get("workers")
    if found.status == 200 and isinstance(rows, list):
        return [member for row in rows if isinstance(row, dict) and (member := _member(row)) is not None]
    site.note(
        "workers",
        "It does not tell its table (an original controller, or a key without the right admin): one worker of each model is visited.",
    )
    members: list[Member] = []
    for name in names:
        picked = (await web.post("/get_worker_address", {"model": name})).fields.get("address")
        if (member := _member({"worker_name": picked, "model_names": [name]})) is not None and member not in members:
            members.append(member)
    return members


def _member(row: dict[str, Any]) -> Member | None:
    try:
        address = worker_address(row.get("worker_name"))
    except UserError:
        return None
    models, age, error = row.get("model_names"), row.get("age"), row.get("error")
    return Member(
        address,
        tuple(name for name in models if isinstance(name, str)) if isinstance(models, list) else (),
        age if isinstance(age, int | float) else None,
        error if isinstance(error, str) else None,
        "error" in row,
    )


def _check_member(site: Site, member: Member, controller: Address) -> None:
    serves = f"{member.address} ({', '.join(member.models[:5])})"
    if member.error is not None:
        site.wrong("worker_unreachable", f"The worker {serves} is registered, and the controller cannot use it: {member.error}")
    else:
        site.fine("worker", f"The worker {serves} is registered.")
    if member.age is not None and member.age > LATE:
        site.wrong(
            "heart_beat_stale",
            f"The last heart-beat of {member.address} came {member.age:.0f} s ago; it should come every {WORKER_HEART_BEAT_INTERVAL} s.",
        )
    if Address.read(member.address).is_local and not controller.is_local:
        site.wrong(
            "worker_local_address",
            f"The worker {member.address} can be reached under that name from its own machine only; clients call workers themselves.",
        )


async def _check_passing_on(site: Site, web: Web, name: str) -> None:
    """One call that the controller passes on, as LLaVA's own clients ask it to."""
    try:
        await ask_stream(web, name, Call("probe", Chat.ask("What is two and two?"), Sampling(max_tokens=1)))
    except LlavaError as error:
        site.wrong(fault_of(error), f"A call for {name} that the controller passes on fails: {error}")
    else:
        site.fine("passes_on", f"It passes calls for {name} on.")
