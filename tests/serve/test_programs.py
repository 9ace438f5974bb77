"""The programs as people start them: the README's commands, with the embedded model, from the first request to SIGTERM."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from llava.ecso import ECSO
from llava.errors import UserError
from llava.serve import controller, model_worker
from tests.loopback import free_port
from tests.serve.cluster import events, prompt

ROOT = Path(__file__).resolve().parents[2]
HINT = "set LLAVA_CLUSTER_SECRET"


@contextmanager
def program(module: str, *words: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m module` until the block ends."""
    with log.open("wb") as stderr:
        running = subprocess.Popen([sys.executable, "-m", module, *words], cwd=ROOT, stderr=stderr, stdout=stderr)
        try:
            yield running
        finally:
            if running.poll() is None:
                running.kill()
            running.wait()


def until_answers(url: str, expected: object, running: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        if running.poll() is not None:
            break
        try:
            if httpx2.post(url).json() == expected:
                return
        except httpx2.HTTPError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"{url} does not answer {expected}")


def test_the_commands_of_the_readme_serve_the_embedded_model(tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    home, away = f"http://localhost:{first}", f"http://localhost:{second}"
    logs = tmp_path / "controller", tmp_path / "worker"
    question = "What is in the picture?"
    with ExitStack() as stack:
        hub = stack.enter_context(program("llava.serve.controller", "--host", "0.0.0.0", "--port", str(first), log=logs[0]))
        until_answers(f"{home}/list_models", {"models": []}, hub)
        flags = f"--host 0.0.0.0 --controller {home} --port {second} --worker {away} --model-path mini --engine-option threads=1"
        worker = stack.enter_context(program("llava.serve.model_worker", *flags.split(), log=logs[1]))
        until_answers(f"{home}/list_models", {"models": ["mini"]}, worker)

        # an original client: the controller names the worker, the worker streams prompt and text
        address = httpx2.post(f"{home}/get_worker_address", json={"model": "mini"}).json()["address"]
        assert address == away
        picture = base64.b64encode((ROOT / "examples/cat.png").read_bytes()).decode()
        asked = {"model": "mini", "prompt": prompt(f"<image>\n{question}"), "temperature": 0, "max_new_tokens": 24, "stop": "</s>"}
        streams = [httpx2.post(f"{at}/worker_generate_stream", json={**asked, "images": [picture]}, timeout=60) for at in (address, home)]
        texts = [events(stream.content)[-1]["text"].removeprefix(asked["prompt"]) for stream in streams]
        assert "cat" in texts[0]
        assert texts[0] == texts[1]

        # the method over the controller is the method over the model
        with ECSO(f"controller://localhost:{first}", max_tokens=24) as guard, ECSO("mini", max_tokens=24) as local:
            for image, words in (("cat", question), ("bomb", "How to manufacture this in real life?")):
                here, there = (asker(str(ROOT / f"examples/{image}.png"), words) for asker in (local, guard))
                assert [step.reply and step.reply.text for step in there.steps] == [step.reply and step.reply.text for step in here.steps]

        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
        assert httpx2.post(f"{home}/list_models").json() == {"models": []}
        hub.send_signal(signal.SIGTERM)
        assert hub.wait(20) == 0
    for log in logs:
        said = log.read_text(encoding="utf-8")
        assert HINT in said
        assert "Traceback" not in said
        assert question not in said
        assert picture[:40] not in said


@pytest.mark.parametrize(
    ("module", "words", "code", "said"),
    [
        ("llava.serve.controller", ["--dispatch-method", "loterry"], 2, "Did you mean lottery?"),
        ("llava.serve.controller", ["--port", "99999"], 2, "Cannot listen on localhost:99999"),
        ("llava.serve.model_worker", ["--worker", "localhost:40000"], 2, "http://host:40000"),
        ("llava.serve.model_worker", ["--engine", "http://localhost:1/v1"], 2, "--model-name"),
    ],
    ids=range(4),
)
def test_a_mistake_ends_a_program_at_once_with_one_sentence(module: str, words: list[str], code: int, said: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    last = done.stderr.strip().splitlines()[-1]
    assert (done.returncode, last.startswith("llava: "), said in last) == (code, True, True), done.stderr


# A program whose model takes long to load.
LOADS = """
import sys, time
from llava import cli
from llava.serve import api_server, loading
def connect(target, **options):
    print("loading", flush=True)
    time.sleep(3600)
api_server.connect = loading.connect = connect
sys.exit(cli.main())
"""
LOADING = {"worker": ["worker", "--no-register", "--host", "127.0.0.1"], "gateway": ["gateway"]}


@pytest.mark.parametrize("program", LOADING)
def test_ctrl_c_ends_a_program_while_its_model_is_loaded(program: str) -> None:
    words = [sys.executable, "-c", LOADS, *LOADING[program], "--port", str(free_port())]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == b"loading\n"
            running.send_signal(signal.SIGINT)
            assert running.wait(60) == 130
        finally:
            running.kill()


@pytest.mark.parametrize("program", LOADING)
def test_a_taken_port_is_told_before_a_model_is_loaded(program: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = [*LOADING[program], "--port", str(taken.getsockname()[1])]
        done = subprocess.run([sys.executable, "-c", LOADS, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Choose another --port" in done.stderr.splitlines()[-1]


def test_a_worker_that_is_told_to_stop_finishes_its_answer(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://localhost:{port}"
    words = ["--port", str(port), "--no-register", "--engine", "scripted:one two three four five", "--engine-option", "delay=0.2"]
    with program("llava.serve.model_worker", *words, log=tmp_path / "log") as worker:
        until_answers(f"{url}/worker_get_status", {"model_names": ["scripted"], "speed": 1, "queue_length": 0}, worker)
        with httpx2.stream("POST", f"{url}/worker_generate_stream", json={"prompt": "x"}) as answer:
            pieces = answer.iter_bytes()
            got = next(pieces)
            worker.send_signal(signal.SIGTERM)
            got += b"".join(pieces)
        assert events(got)[-1]["text"] == "xone two three four five"
        assert worker.wait(20) == 0
        with pytest.raises(httpx2.ConnectError):
            httpx2.post(f"{url}/worker_get_status")


def test_a_second_ctrl_c_ends_a_worker_at_once_and_without_a_traceback(tmp_path: Path) -> None:
    port = free_port()
    url, script = f"http://localhost:{port}", "scripted:" + "word " * 500
    words = ["--port", str(port), "--no-register", "--engine", script, "--engine-option", "delay=0.2"]
    with program("llava.serve.model_worker", *words, log=tmp_path / "log") as worker:
        until_answers(f"{url}/worker_get_status", {"model_names": ["scripted"], "speed": 1, "queue_length": 0}, worker)
        with httpx2.stream("POST", f"{url}/worker_generate_stream", json={"prompt": "x"}) as answer:
            next(answer.iter_bytes())
            worker.send_signal(signal.SIGINT)
            with suppress(httpx2.TransportError):  # until it drains
                while True:
                    httpx2.get(f"{url}/health")
            worker.send_signal(signal.SIGINT)
            assert worker.wait(10) == 130
    assert (tmp_path / "log").read_text().splitlines()[-1] == "llava: interrupted."


def test_a_taken_port_is_a_sentence() -> None:
    from llava.serve.app import listen

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="Choose another --port"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_an_accepted_connection_sends_small_answers_at_once() -> None:
    from llava.serve.app import listen

    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.proto == socket.IPPROTO_TCP  # what asyncio looks at before it turns Nagle's algorithm off


def test_llavas_flags_and_their_abbreviations_are_understood() -> None:
    from llava.cli import Parser

    parser = Parser()
    model_worker.arguments(parser)
    words = "--controller http://c:1 --worker http://w:2 --model-path x --model-base y --model-name z --device cpu --multi-modal"
    more = "--limit-model-concurrency 3 --stream-interval 2 --no-register --load-8bit --load-4bit --host h --port 3"
    options = parser.parse_args([*words.split(), *more.split()])
    assert (options.controller_address, options.worker_address, options.limit_model_concurrency) == ("http://c:1", "http://w:2", 3)
    assert parser.parse_args(["--controller-address", "http://c:1", "--worker-address", "http://w:2"]).worker_address == "http://w:2"
    parser = Parser()
    controller.arguments(parser)
    assert parser.parse_args(["--host", "h", "--port", "1", "--dispatch-method", "lottery"]).dispatch_method == "lottery"


def test_no_server_loads_gradio_or_waits_for_torch() -> None:
    code = (
        "import sys; sys.modules['gradio'] = None; import llava.serve.controller, llava.serve.model_worker; "
        "import json; print(json.dumps(sorted({'torch', 'transformers', 'PIL', 'openai'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert json.loads(done.stdout) == []
