"""A model that fails for good: its process leaves the controller and ends, so that it is started anew; other failures end nothing."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from subprocess import Popen

import httpx2
import pytest

from llava.chat import Call, Chat, Delta
from llava.engines import ScriptedEngine, connect, generate
from llava.errors import EngineError, LlavaError, ModelLost, Overloaded, UserError
from llava.serve import controller
from llava.serve.app import listen, server
from llava.serve.gateway.service import Config
from llava.serve.health import MOST, Health
from llava.serve.heart_beat import HeartBeat
from llava.serve.model_worker import Config as WorkerConfig
from llava.serve.model_worker import create_app, serve_worker
from llava.serve.registry import Registry
from llava.serve.worker import Worker
from tests.loopback import free_port, on_loopback
from tests.serve.asgi import ask
from tests.serve.cluster import VICUNA, listening, until
from tests.serve.gateway import running as gateways
from tests.serve.processes import PATIENCE, ROOT

QUESTION = Call("answer", Chat.ask("What is in the picture?"))


class Poisoned(ScriptedEngine):
    """Says a line until its device fails; what comes then waits for `shown`, if it is a self-test, and fails too."""

    def __init__(self) -> None:
        super().__init__(lambda _: "A cat.")
        self.broken = False
        self.shown = asyncio.Event()

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        if self.broken:
            if call.step == "probe":
                await self.shown.wait()
            raise EngineError("The model failed: AcceleratorError.")
        async for delta in super().stream(call):
            yield delta


def watched(outcomes: list[Exception | None]) -> tuple[bool, int]:
    """Whether the model is lost after these self-tests, and how many were made. Each that passes is followed by a failed request."""

    async def main() -> tuple[bool, int]:
        made = 0

        async def test() -> None:
            nonlocal made
            if made == len(outcomes):
                await asyncio.sleep(3600)
            made += 1
            if error := outcomes[made - 1]:
                raise error
            asyncio.get_running_loop().call_soon(health.failed, EngineError("again"))

        health = Health(test, pause=0, most=MOST)
        watching = asyncio.create_task(health.watch())
        await until(lambda: health.is_lost or made == len(outcomes))
        watching.cancel()
        return health.is_lost, made

    return asyncio.run(main())


def test_self_tests_that_fail_in_a_row_are_for_good_and_others_are_not() -> None:
    down = EngineError("down")
    assert watched([down, down, down, None]) == (True, 3)
    assert watched([down, down, None, down, down, None]) == (False, 6)
    assert watched([down, Overloaded("full"), UserError("odd"), RuntimeError("odd"), down, down, None]) == (True, 6)


@pytest.mark.parametrize("tested", [True, False])
@pytest.mark.parametrize("where", ["request", "self-test"])
def test_a_model_that_says_that_it_is_lost_is_not_tried_again(tested: bool, where: str) -> None:
    told, tries = ModelLost("The device takes no work."), 0

    async def main() -> None:
        async def test() -> None:
            nonlocal tries
            tries += 1
            raise told

        health = Health(test if tested else None, pause=3600, trusted=True)
        watching = asyncio.create_task(health.watch())
        health.failed(EngineError("broke") if tested and where == "self-test" else told)
        assert await asyncio.wait_for(health.lost(), 60) is told
        assert (health.is_lost, health.ready, tries) == (True, False, int(tested and where == "self-test"))
        watching.cancel()

    asyncio.run(main())


def test_a_worker_whose_model_has_failed_for_good_leaves_the_controller_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llava.serve.health.PAUSE", 0.01)

    async def main() -> Worker:
        engine, registry, listener = Poisoned(), Registry(), listen("127.0.0.1", 0)
        now, address = asyncio.get_running_loop().time, f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with listening(controller.create_app(registry, controller.Config())) as hub, httpx2.AsyncClient() as client:
            core = Worker(engine, ("tiny",), VICUNA, tested=True)
            config = WorkerConfig(heart_beat=HeartBeat(hub, address, core.status, interval=0.05))
            serving = asyncio.ensure_future(serve_worker(core, config, listener))
            await until(lambda: registry.models(now()) == ["tiny"])
            asker = connect(hub.replace("http", "controller", 1))
            assert (await generate(asker, QUESTION)).text == "A cat."
            assert engine.seen == [QUESTION]  # while all is well nothing is tried

            engine.broken = True
            with pytest.raises(EngineError):
                await generate(asker, QUESTION)
            assert [(await client.get(f"{address}/{path}")).status_code for path in ("health", "ready")] == [200, 503]
            engine.shown.set()
            with pytest.raises(EngineError, match="Start it again"):
                await serving
            assert registry.models(now()) == []
            await asker.close()
        return core

    core = asyncio.run(main())
    answer = ask(create_app(core, WorkerConfig()), "GET", "/health")
    assert (answer.status, answer.error["code"]) == (503, "unavailable")


def test_a_call_that_fails_alone_ends_no_worker() -> None:
    lines: list[str | LlavaError] = [EngineError("out of memory"), "No", "A cat."]

    async def main() -> None:
        core = Worker(ScriptedEngine(lines), ("tiny",), VICUNA, tested=True)
        async with listening(create_app(core, WorkerConfig())) as address, httpx2.AsyncClient() as client:
            asked = {"prompt": "x"}
            await client.post(f"{address}/worker_generate_stream", json=asked)
            await until(lambda: core.health.ready)
            assert (await client.get(f"{address}/ready")).status_code == 200
            assert (await client.post(f"{address}/worker_generate_stream", json=asked)).content.endswith(b'"xA cat.", "error_code": 0}\0')

    asyncio.run(main())


def test_a_worker_before_a_server_is_not_ended_by_what_that_server_does() -> None:
    async def main() -> None:
        core = Worker(ScriptedEngine(lambda _: EngineError("down")), ("tiny",), VICUNA)
        async with listening(create_app(core, WorkerConfig())) as address, httpx2.AsyncClient() as client:
            for _ in range(MOST + 1):
                await client.post(f"{address}/worker_generate_stream", json={"prompt": "x"})
            assert (await client.get(f"{address}/ready")).status_code == 200
            assert not core.health.is_lost

    asyncio.run(main())


def test_a_gateway_gives_up_a_model_of_its_own_process_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llava.serve.health.PAUSE", 0.01)
    for here in (True, False):
        with gateways.gateway(lambda _: EngineError("down"), Config(model_here=here)) as running:
            assert isinstance(running.engine, ScriptedEngine)
            seen, health = running.engine.seen, running.service.health
            gateways.until(lambda: len(seen) >= 4 * MOST or health.is_lost)  # noqa: B023 - asked in this round
            assert health.is_lost == here
            assert running.ask("GET", "/ready")[0] == 503


# What a GPU does after an illegal access, on a processor: every forward pass fails.
POISONED = """
import sys
from llava.engines.local.decoder import Decoder
from llava.serve import health
def failing(self, hidden, window, slots):
    raise RuntimeError("CUDA error: an illegal memory access was encountered")
vars(Decoder)["__call__"]  # it is what runs
health.PAUSE, Decoder.__call__ = 0.1, failing
from llava import cli
sys.exit(cli.main())
"""


def ended(words: list[str], log: Path, meanwhile: Callable[[Popen[bytes]], None]) -> list[str]:
    """What a program says whose every forward pass fails, after it has ended by itself."""
    with log.open("wb") as out, Popen([sys.executable, "-c", POISONED, *words], cwd=ROOT, stdout=out, stderr=out) as program:
        try:
            meanwhile(program)
            assert program.wait(PATIENCE) == 1
        finally:
            program.kill()
    return log.read_text(encoding="utf-8").splitlines()


def test_a_worker_ends_with_a_sentence_and_an_exit_code(tmp_path: Path) -> None:
    with on_loopback(server(controller.create_app(Registry(), controller.Config()), grace=1)) as hub:
        home, port = f"http://127.0.0.1:{hub}", free_port()
        away = f"http://127.0.0.1:{port}"

        def models() -> object:
            return httpx2.post(f"{home}/list_models").json()["models"]

        def asked(program: Popen[bytes]) -> None:
            gateways.until(lambda: program.poll() is not None or models() == ["mini"], PATIENCE)
            answer = httpx2.post(f"{away}/worker_generate_stream", json={"prompt": "zorb"}, timeout=PATIENCE)
            assert b'"engine_failed"' in answer.content

        words = ["worker", "--controller", home, "--port", str(port), "--worker", away, "--model-path", "mini"]
        said = ended(words, tmp_path / "log", asked)
        assert models() == []
    assert said[-1].startswith("llava: The model of this process fails at everything")
    assert "zorb" not in "".join(said)


def test_a_gateway_with_a_model_of_its_own_ends_like_that_too(tmp_path: Path) -> None:
    said = ended(["gateway", "--engine", "mini", "--port", str(free_port())], tmp_path / "log", lambda _: None)
    assert said[-1].startswith("llava: The model of this process fails at everything")
