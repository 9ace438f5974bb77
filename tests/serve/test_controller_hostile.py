"""The controller among clients and workers that mean harm, or are broken."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from llava.cluster.wire import Status
from llava.deadlines import Deadlines
from llava.engines import ScriptedEngine
from llava.serve.controller import Config, create_app
from llava.serve.registry import Registry
from llava.serve.security import Keys, Right
from tests.serve.asgi import post
from tests.serve.cluster import cluster, listening, raw_server, through


@pytest.mark.parametrize(
    "name",
    [
        None,
        1,
        "",
        "localhost:40000",
        "ftp://localhost:1",
        "file:///etc/passwd",
        "http://",
        "http://user:pass@localhost:1",
        "http://localhost:1/path",
        "http://localhost:1?x=1",
        "http://localhost:1#x",
        "http://localhost:99999",
        "http://localhost:1\\@evil",
        "http://evil@localhost:1",
        "http://loc\nalhost:1",
        "http://lokälhost:1",
        "http://169.254.169.254",
        "http://2130706433:1",
        "http://[::ffff:10.0.0.1]:1",
        "http://127.0.0.1.evil.example:1",
    ],
    ids=range(20),
)
def test_what_is_no_workers_address_on_this_machine_is_never_called(name: object) -> None:
    answer = post(create_app(Registry(), Config()), "/register_worker", {"worker_name": name, "worker_status": None})
    assert answer.status == 400


def test_a_client_that_could_not_reach_a_worker_spares_others_the_attempt() -> None:
    async def main() -> None:
        async with cluster(ScriptedEngine(lambda _: "A cat.")) as found:
            dead = "http://127.0.0.1:9"
            found.prefer(dead)
            (alive,) = found.workers
            asked = {"model": "tiny", "avoid": [dead]}
            for more, suspect in (({}, False), ({"unreachable": "yes"}, False), ({"unreachable": True}, True)):
                assert (await found.post("/get_worker_address", asked | more)).json() == {"address": alive}
                assert [w.suspect for w in found.registry.workers(0) if w.name == dead] == [suspect]
            assert (await found.post("/get_worker_address", {"model": "tiny"})).json() == {"address": alive}

    asyncio.run(main())


@pytest.mark.parametrize(("key", "suspect"), [("a-clients-key", False), ("cluster-secret", True)])
def test_a_clients_key_steers_nobody_away_from_a_worker(key: str, suspect: bool) -> None:
    registry, url = Registry(), "http://127.0.0.1:9"
    registry.register(url, Status(("tiny",)), time.monotonic())
    app = create_app(registry, Config(Keys([("a-clients-key", Right.INFERENCE), ("cluster-secret", Right.ADMIN)])))
    asked = {"model": "tiny", "avoid": [url], "unreachable": True}
    assert post(app, "/get_worker_address", asked, [("authorization", f"Bearer {key}")]).status == 200
    assert [worker.suspect for worker in registry.workers(time.monotonic())] == [suspect]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/get_worker_address", {"model": "m", "affinity": "x" * 201}),
        ("/get_worker_address", {"model": "m", "affinity": 7}),
        ("/get_worker_address", {"model": "m", "avoid": ["x"] * 17}),
        ("/get_worker_address", {"model": "m", "avoid": "x"}),
        ("/register_worker", {"worker_name": "http://127.0.0.1:9", "worker_status": {"model_names": ["m"], "speed": 10**399}}),
        ("/register_worker", {"worker_name": "http://127.0.0.1:9", "worker_status": {"model_names": ["m"], "queue_length": 10**399}}),
        ("/receive_heart_beat", {"worker_name": "http://127.0.0.1:9", "queue_length": 10**399}),
    ],
    ids=range(7),
)
def test_what_is_too_large_to_be_meant_is_a_bad_request(path: str, said: dict[str, Any]) -> None:
    assert post(create_app(Registry(), Config()), path, said).status == 400


def test_a_worker_that_dribbles_for_ever_is_cut_off_at_the_total_deadline() -> None:
    async def main() -> None:
        config = Config(deadlines=Deadlines(total=1.0))  # more than a busy machine takes to connect
        objects = [b'{"text": "x", "error_code": 0}\0'] * 1000
        async with listening(raw_server(*objects, pause=0.02)) as drip, cluster(ScriptedEngine([]), config=config) as found:
            found.prefer(drip)
            got = await through(found)
            assert (got[0]["text"], got[-1]["error_code"], got[-1]["error"]["code"]) == ("x", 3, "timeout")

    asyncio.run(main())


def test_a_body_is_passed_on_byte_for_byte() -> None:
    seen: list[bytes] = []

    async def main() -> None:
        answer = raw_server(b'{"text": "x", "error_code": 0}\0', seen=seen)
        async with listening(answer) as other, cluster(ScriptedEngine([])) as found:
            found.prefer(other)
            sent = '{ "model":"tiny", "prompt": "é\\u00e9", "images": [] }'.encode()
            headers = {"content-type": "application/json"}
            await found.client.post(f"{found.url}/worker_generate_stream", content=sent, headers=headers)
            assert seen == [sent]

    asyncio.run(main())


def test_a_controller_that_is_its_own_worker_is_no_endless_loop() -> None:
    async def main() -> None:
        async with cluster() as found:
            found.registry.register(found.url, Status(("tiny",)), asyncio.get_running_loop().time())
            (event,) = await through(found)
            assert event["error_code"] == 3

    asyncio.run(main())
