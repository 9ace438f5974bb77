"""What `llava doctor` asks of our servers: the controller's table, versions, what stands behind a gateway."""

from __future__ import annotations

import asyncio
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
