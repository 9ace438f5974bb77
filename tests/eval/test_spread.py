"""Workers of a Ray cluster as one engine: what can be said without a cluster."""

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from llava import cli
from llava.chat import Call, Chat
from llava.engines import ScriptedEngine, generate
from llava.errors import EngineClosed, EngineError, ModelLost, Unavailable, UserError
from llava.eval.spread import Spread, berths
from tests.eval.cluster import ActorDiedError, ActorUnavailableError, Cluster
from tests.eval.runs import plan, vlsafe


def node(name: str, cores: float = 0, cards: float = 0, alive: bool = True) -> dict[str, Any]:
    return {"NodeID": name, "NodeManagerHostname": f"host-{name}", "Alive": alive, "Resources": {"CPU": cores, "GPU": cards, "memory": 1e9}}


def test_every_gpu_has_a_worker() -> None:
    found = berths([node("head", 16), node("a", 32, 4), node("gone", 32, 4, alive=False), node("b", 8, 1)])
    assert [berth.node for berth in found] == ["a"] * 4 + ["b"]
    assert all(berth.resources["num_gpus"] == 1 for berth in found)


def test_without_gpus_every_node_has_a_worker_with_all_its_cores() -> None:
    found = berths([node("head"), node("a", 32), node("b", 2)])
    assert [(berth.node, berth.name, dict(berth.resources)) for berth in found] == [
        ("a", "host-a", {"num_cpus": 32}),
        ("b", "host-b", {"num_cpus": 2}),
    ]


def spread(address: str) -> Spread:
    return Spread(address, "mini", {}, None)


def test_without_ray_the_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with socket.create_server(("127.0.0.1", 0)) as there, pytest.raises(UserError, match=r"pip install 'llava\[ray\]'"):
        spread(f"127.0.0.1:{there.getsockname()[1]}")


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "127.0.0.1", ":6379", "localhost:", ""])
def test_an_address_that_is_none_is_a_sentence(address: str) -> None:
    with pytest.raises(UserError, match="host:port"):
        spread(address)


@pytest.mark.parametrize("port", [0, 99999])
def test_nobody_at_an_address_is_a_sentence(port: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(UserError, match=r"There is no Ray cluster at 127\.0\.0\.1:"):
            spread(f"127.0.0.1:{port or taken.getsockname()[1]}")


LINES = "scripted:" + "|".join(["Yes"] * 40)
CALL = Call("answer", Chat.ask("why?"))


def with_workers(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, work: Callable[[Spread], Awaitable[None]]) -> None:
    """Do some work when all workers of a cluster take part."""
    monkeypatch.setattr("llava.eval.spread._joined", lambda address: cluster)
    monkeypatch.setattr("llava.eval.spread.POLL_SECONDS", 0.001)

    async def main() -> None:
        engine = Spread("", LINES, {}, None)
        while not all(place.ready for place in engine._places):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        try:
            await work(engine)
        finally:
            await engine.close()

    asyncio.run(main())


def test_a_worker_out_of_reach_is_told_of_and_left_alone_until_it_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster(("a", "b"))

    async def work(engine: Spread) -> None:
        cluster.away["a"] = ActorUnavailableError()
        with pytest.raises(Unavailable, match="The worker on a was lost while it answered"):
            await generate(engine, CALL)
        for _ in range(3):
            assert (await generate(engine, CALL)).text == "Yes"
        assert "The worker on a is out of reach. Calls that it was answering, and that are asked again: 1." in caplog.messages
        del cluster.away["a"]
        while "The worker on a is back." not in caplog.messages:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    with_workers(cluster, monkeypatch, work)


@pytest.mark.parametrize("error", [ModelLost("The GPU takes no work any more."), EngineClosed("The engine is closed.")])
def test_a_worker_without_its_model_leaves_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch, error: EngineError) -> None:
    cluster = Cluster(("a", "b"))

    async def work(engine: Spread) -> None:
        cluster.workers["a"]._engine = ScriptedEngine([error])
        with pytest.raises(Unavailable, match="The worker on a lost its model"):
            await generate(engine, CALL)
        for _ in range(3):
            assert (await generate(engine, CALL)).text == "Yes"
        cluster.workers["b"]._engine = ScriptedEngine([error])
        with pytest.raises(Unavailable, match="The worker on b lost its model"):
            await generate(engine, CALL)
        with pytest.raises(EngineClosed, match=f"No worker is left .* The last one was on b: {error}"):
            await generate(engine, CALL)

    with_workers(cluster, monkeypatch, work)


def test_the_end_of_the_last_worker_is_the_end_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(("a",))

    async def work(engine: Spread) -> None:
        cluster.away["a"] = ActorDiedError("Its node is gone.\nMore about it.")
        with pytest.raises(Unavailable):
            await generate(engine, CALL)
        with pytest.raises(EngineClosed, match=r"No worker is left .* The last one was on a: Its node is gone\.$"):
            await generate(engine, CALL)

    with_workers(cluster, monkeypatch, work)


def test_a_server_is_not_spread(tmp_path: Path) -> None:
    for target in ("http://localhost:8000/v1", "scripted:A cat.|No"):
        with pytest.raises(UserError, match="--ray spreads a model's folder"):
            plan(tmp_path, tmp_path / "out", target, ray="auto")


def test_with_a_cluster_processes_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = vlsafe(tmp_path / "data")
    words = f"--model mini --tasks vlsafe --data {data} --out {tmp_path / 'out'} --ray auto --processes 2"
    assert cli.main(["eval", *words.split()]) == 2
    assert "leave --processes out" in capsys.readouterr().err
