"""Row 13: the controller's table while everybody comes, goes, beats and falls silent at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from llava.constants import CONTROLLER_HEART_BEAT_EXPIRATION
from tests.resilience.matrix import row
from tests.resilience.stack import SECRET, Stack
from tests.resilience.talk import Answer, ask, bearer
from tests.resilience.tally import Tally, expect


@row(
    13,
    "workers register, beat, leave, fall silent and are asked for, all at once",
    "no 5xx; the table is as the last words say, and without who is silent for 30 s; it goes on",
)
async def races(stack: Stack, tally: Tally) -> None:
    hub = await stack.new_controller()

    async def call(path: str, body: dict[str, object]) -> Answer:
        return await ask(hub.port, "POST", path, body, bearer(SECRET))

    silence = asyncio.create_task(_silence(call, tally, stack.many(60, 5)))

    async def life(number: int) -> None:
        name = f"http://127.0.0.1:{20000 + number}"
        status = {"model_names": [f"m{number % 7}"], "speed": 1, "queue_length": 0}
        steps: tuple[tuple[str, dict[str, object]], ...] = (
            ("/register_worker", {"worker_name": name, "worker_status": status}),
            ("/receive_heart_beat", {"worker_name": name, "queue_length": number}),
            ("/get_worker_address", {"model": f"m{number % 7}"}),
            ("/list_models", {}),
            ("/worker_get_status", {}),
            ("/unregister_worker", {"worker_name": name}),
        )
        for path, body in steps:
            await asyncio.sleep(random.random() / 100)
            with tally.trial(path):
                answer = await call(path, body)
                expect(answer.status in (200, 429), f"status {answer.status}")  # 429: the table has a limit

    lives = iter(range(stack.many(1000, 40)))

    async def some() -> None:
        for number in lives:
            await life(number)

    await asyncio.gather(silence, *(some() for _ in range(64)))
    with tally.trial("the table at the end"):
        expect((await call("/list_models", {})).json() == {"models": []}, "workers are left over")
        expect((await call("/refresh_all_workers", {})).status == 200, "it cannot be refreshed")
    hub.kill()


async def _silence(call: Callable[[str, dict[str, object]], Awaitable[Answer]], tally: Tally, count: int) -> None:
    """Workers that beat no more are forgotten in time; who beats, or never promised to, is not. All of them leave in the end."""
    names = [f"{kind}{number}" for kind in ("silent", "beating", "still") for number in range(count)]
    addresses = {name: f"http://127.0.0.1:{40000 + at}" for at, name in enumerate(names)}
    for name, address in addresses.items():
        status = {"model_names": [name], "speed": 1, "queue_length": 0}
        await call("/register_worker", {"worker_name": address, "worker_status": status, "check_heart_beat": not name.startswith("still")})
    with tally.trial("all are there"):
        found = (await call("/list_models", {})).json()["models"]
        expect(set(names) <= set(found), "some are missing")
    for _ in range(4):
        await asyncio.sleep((CONTROLLER_HEART_BEAT_EXPIRATION + 2) / 4)
        for name in names:
            if name.startswith("beating"):
                await call("/receive_heart_beat", {"worker_name": addresses[name], "queue_length": 0})
    found = (await call("/list_models", {})).json()["models"]
    for name in names:
        with tally.trial(f"a worker of {name[:6]}"):
            given = (await call("/get_worker_address", {"model": name})).json()["address"]
            expect((name in found, given) == ((False, "") if name.startswith("silent") else (True, addresses[name])), "another table")
    for address in addresses.values():
        await call("/unregister_worker", {"worker_name": address})
