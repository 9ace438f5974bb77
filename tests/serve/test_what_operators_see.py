"""What `llava doctor` asks of our servers: the controller's table, versions, what stands behind a gateway."""

from __future__ import annotations

import asyncio
import itertools
import json

from llava import __version__
from llava.cluster.wire import Status
from llava.engines import ScriptedEngine
from llava.serve.gateway.service import Config
from llava.serve.security import Keys, Right
from tests.loopback import free_port
from tests.serve.cluster import cluster
from tests.serve.gateway.running import BENIGN, gateway

USER, OPERATOR = "user-key-1", "operator-key-1"


def test_a_controller_tells_its_table_and_asking_changes_nothing() -> None:
    async def main() -> None:
        async with cluster(ScriptedEngine(["x"])) as found:
            nobody = f"http://127.0.0.1:{free_port()}"
            now = asyncio.get_running_loop().time()
            found.registry.register(nobody, Status(("tiny", "other")), now, beats=False)
            before = found.registry.workers(now)
            rows = {row["worker_name"]: row for row in (await found.post("/check_all_workers")).json()["workers"]}
            (address,) = found.workers
            assert (rows[address]["error"], rows[address]["model_names"], rows[address]["queue_length"]) == (None, ["tiny"], 0)
            assert rows[address]["age"] >= 0
            assert rows[nobody]["age"] is None
            assert "Nothing answers at" in rows[nobody]["error"]
            assert found.registry.workers(now) == before
            for url in (found.url, address):
                assert (await found.client.post(f"{url}/version", json={})).json() == {"version": __version__}

    asyncio.run(main())


def test_what_stands_behind_a_gateway_is_told_to_its_operators_only() -> None:
    keys = Keys([(USER, Right.INFERENCE), (OPERATOR, Right.ADMIN)])
    with gateway(BENIGN, Config(self_test=False, behind="controller://gpu-1:10000"), keys=keys) as running:
        asked = {key: running.ask("GET", "/engine", headers={"authorization": f"Bearer {key}"}) for key in (USER, OPERATOR)}
        assert asked[USER][0] == 403
        assert json.loads(asked[OPERATOR][2]) == {"engine": "controller://gpu-1:10000"}
        assert running.ask("GET", "/engine")[0] == 401
    with gateway(BENIGN) as running:
        assert json.loads(running.ask("GET", "/engine")[2]) == {"engine": None}


def test_head_is_answered_like_get_without_a_body_and_opens_nothing() -> None:
    told = (
        "/health",
        "/ready",
        "/version",
        "/v1/models",
        "/v1/models/tiny",
        "/v1/models/none",
        "/openapi.json",
        "/engine",
        "/none",
        "/v1/guard/check",
    )
    keys = Keys([(USER, Right.INFERENCE), (OPERATOR, Right.ADMIN)])
    passing = dict.fromkeys(("date", "x-request-id", "allow"), "")
    with gateway(BENIGN, keys=keys) as running:
        for path, key in itertools.product(told, ("nobody", USER, OPERATOR)):
            headers = {"authorization": f"Bearer {key}"}
            got, head = (running.ask(method, path, headers=headers) for method in ("GET", "HEAD"))
            assert (head[0], head[2]) == (got[0], b""), (path, key)
            assert head[1] | passing == got[1] | passing
        assert running.ask("HEAD", "/health")[0] == running.ask("HEAD", "/ready")[0] == 200
        assert running.ask("HEAD", "/metrics")[0] == 401
        assert running.ask("HEAD", "/v1/models", headers={"authorization": f"Bearer {USER}"})[0] == 200
        assert running.ask("HEAD", "/v1/chat/completions", headers={"authorization": f"Bearer {USER}"})[0] == 405


def test_head_is_answered_by_controllers_and_workers_too() -> None:
    async def main() -> None:
        async with cluster(ScriptedEngine(["x"])) as found:
            for url in (found.url, *found.workers):
                for path in ("/health", "/ready", "/health"):  # on one connection: none of them leaves a body behind
                    answer = await found.client.head(f"{url}{path}")
                    assert (answer.status_code, answer.content) == (200, b"")
                assert (await found.client.head(f"{url}/worker_get_status")).status_code == 405

    asyncio.run(main())
