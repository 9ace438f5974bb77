"""A server's port while the model is not there yet: it answers, and hands over without a gap that anybody would have to know of."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import closing
from pathlib import Path

import httpx2
import openai
import pytest

from llava.errors import EngineError, UserError
from llava.serve import controller
from llava.serve.api_server import checked, serve_gateway
from llava.serve.app import listen, server
from llava.serve.opening import opened
from llava.serve.registry import Registry
from llava.serve.security import Keys, Right, Rules
from tests.loopback import free_port, on_loopback
from tests.openai_server import Behaviour, openai_server
from tests.serve.cluster import events
from tests.serve.gateway.running import chat, until
from tests.serve.processes import PATIENCE, client, module, process, until_ready
from tests.serve.test_api_server import parsed

KEY = "sk-a-good-key"


def test_it_says_at_once_that_it_lives_and_when_to_come_again() -> None:
    with listen("127.0.0.1", 0) as listener, opened(listener, Rules(Keys())), httpx2.Client(trust_env=False) as browser:
        port = listener.getsockname()[1]
        assert browser.get(f"http://127.0.0.1:{port}/health").status_code == 200
        for path in ("/ready", "/v1/models", "/metrics", "/nothing"):
            answer = browser.get(f"http://127.0.0.1:{port}{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_loading")
            assert (answer.headers["retry-after"], answer.headers["connection"]) == ("5", "close")
        with client(port) as asking, pytest.raises(openai.InternalServerError) as caught:
            asking.chat.completions.create(**chat())
        assert (caught.value.status_code, caught.value.code, caught.value.type) == (503, "model_loading", "overloaded_error")


def test_it_lets_in_whom_the_gateway_will_let_in() -> None:
    rules = Rules(Keys([(KEY, Right.INFERENCE)]))
    with listen("127.0.0.1", 0) as listener, opened(listener, rules), httpx2.Client(trust_env=False) as browser:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert [browser.get(f"{url}{path}").status_code for path in ("/health", "/ready", "/v1/models")] == [200, 503, 401]
        assert browser.get(f"{url}/v1/models", headers={"authorization": f"Bearer {KEY}"}).status_code == 503


@pytest.mark.parametrize("error", [UserError, EngineError, KeyboardInterrupt])
def test_what_ends_the_loading_is_passed_on_and_the_port_is_left_alone(error: type[BaseException]) -> None:
    with listen("127.0.0.1", 0) as listener:
        with pytest.raises(error, match="no such model"), opened(listener, Rules(Keys())):
            raise error("no such model")
        assert listener.fileno() != -1
        with opened(listener, Rules(Keys())):
            assert httpx2.get(f"http://127.0.0.1:{listener.getsockname()[1]}/health").status_code == 200


def test_the_gateway_follows_at_the_same_port_and_nobody_is_cut_off_between() -> None:
    async def main(behind: str, behaviour: Behaviour) -> None:
        options = parsed("--engine", behind, "--port", "0")
        ready = checked(options)
        url = f"http://127.0.0.1:{ready.listener.getsockname()[1]}"
        seen = set[tuple[int, str]]()

        def asked() -> bool:
            answer = httpx2.get(f"{url}/ready", timeout=PATIENCE, trust_env=False)  # a connection for each question
            seen.add((answer.status_code, answer.json()["error"]["code"] if answer.content else ""))
            return answer.status_code == 200

        async def several() -> list[bool]:
            return await asyncio.gather(*(asyncio.to_thread(asked) for _ in range(4)))

        with closing(ready):
            serving = asyncio.create_task(serve_gateway(options, ready))
            assert not any(await several())
            behaviour.models = ["tiny"]
            while not all(await several()):
                pass
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        assert {(503, "model_loading"), (200, "")} <= seen <= {(503, "model_loading"), (503, "unavailable"), (200, "")}

    with openai_server(Behaviour(models=[])) as server:
        asyncio.run(main(server.url, server.behaviour))


def test_ctrl_c_ends_the_loading_at_once(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    with process(module("serve.api_server", "--engine", "mini", "--port", str(port)), log) as running:
        until_ready(f"http://127.0.0.1:{port}/health", running)
        running.send_signal(signal.SIGINT)
        assert running.wait(PATIENCE) == 130
    assert "Traceback" not in log.read_text()
    assert log.read_text().endswith("llava: interrupted.\n")


def test_a_load_that_fails_ends_the_process_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    log = tmp_path / "log"
    with process(module("serve.api_server", "--engine", str(tmp_path), "--port", str(free_port())), log) as running:
        assert running.wait(PATIENCE) in (1, 2)
    assert log.read_text().splitlines()[-1].startswith("llava: ")
    assert "Traceback" not in log.read_text()


# A worker whose model is loaded when a file is there.
SLOW_WORKER = """
import pathlib, sys, time
from llava import cli
from llava.serve import loading
gate, connect = pathlib.Path(sys.argv.pop(1)), loading.connect
def slowly(target, **options):
    while not gate.exists():
        time.sleep(0.01)
    return connect(target, **options)
loading.connect = slowly
sys.exit(cli.main())
"""


def test_a_worker_that_loads_says_so_in_llavas_form_and_registers_when_it_can_work(tmp_path: Path) -> None:
    port, gate, registry = free_port(), tmp_path / "gate", Registry()
    url, asked = f"http://127.0.0.1:{port}", {"model": "scripted", "prompt": "USER: What? ASSISTANT:"}

    def models() -> list[str]:
        return httpx2.post(f"http://127.0.0.1:{hub}/list_models").json()["models"]  # type: ignore[no-any-return]

    with on_loopback(server(controller.create_app(registry, controller.Config()))) as hub:
        place = ["--host", "127.0.0.1", "--port", str(port), "--worker-address", url, "--controller-address", f"http://127.0.0.1:{hub}"]
        words = [sys.executable, "-c", SLOW_WORKER, str(gate), "worker", "--engine", "scripted:A cat.", *place]
        with process(words, tmp_path / "log") as running:
            until_ready(f"{url}/health", running)
            for answer in (httpx2.get(f"{url}/ready"), httpx2.post(f"{url}/worker_get_status")):
                assert (answer.status_code, answer.json()["error"]["code"], answer.headers["retry-after"]) == (503, "model_loading", "5")
            answer = httpx2.post(f"{url}/worker_generate_stream", json=asked)
            (told,) = events(answer.content)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert (told["error_code"], told["error"]["code"]) == (1, "unavailable")
            assert told["text"] == "The model is still being loaded: try again in a moment."
            assert models() == []

            gate.touch()
            until_ready(f"{url}/ready", running)
            assert events(httpx2.post(f"{url}/worker_generate_stream", json=asked).content)[-1]["text"].endswith("A cat.")
            until(lambda: models() == ["scripted"], PATIENCE)
