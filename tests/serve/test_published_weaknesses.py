"""Every published weakness of LLaVA's and FastChat's servers, tried on ours: one test for each advisory.

LLaVA's serving code is a fork of FastChat's; ours speaks the same protocol. docs/security.md lists what each advisory was about.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.types import ASGIApp

from llava.engines import ScriptedEngine
from llava.serve import controller, model_worker
from llava.serve.controller import create_app
from llava.serve.gateway.routes import ADMIN
from llava.serve.gateway.routes import create_app as create_gateway
from llava.serve.gateway.service import Config, Service
from llava.serve.heart_beat import HeartBeat
from llava.serve.registry import Registry
from llava.serve.security import Keys, Right, Rules
from llava.serve.worker import Worker
from tests.serve.asgi import Answer, ask, post
from tests.serve.canary import SECRET_TEXT, Canary, canary
from tests.serve.cluster import VICUNA, Cluster, cluster, events, listening, prompt, raw_server
from tests.serve.gateway.running import chat, image_part

SECRET, USER = "the-cluster-secret", "a-users-api-key"
KEYS = Keys([(SECRET, Right.ADMIN), (USER, Right.INFERENCE)])
ROGUE: dict[str, Any] = {"check_heart_beat": True, "worker_status": {"model_names": ["tiny"], "speed": 1000, "queue_length": 0}}
BAD_KEYS: list[list[tuple[str, str]]] = [[], [("authorization", "Bearer wrong-secret")], [("authorization", f"Bearer {USER}")]]
PATHS = ["/file=", "/file/", "/gradio_api/file=", "/proxy=", "/queue/join?path=", "/upload?path=", "/component_server?path=", "/static/"]


@pytest.fixture
def trap() -> Iterator[Canary]:
    with canary() as found:
        yield found


def servers() -> list[ASGIApp]:
    """Controller, worker and gateway, without any key, so that nothing but the route itself can refuse."""
    worker = Worker(ScriptedEngine(lambda _: "A cat."), ("tiny",), VICUNA)
    service = Service({"tiny": ScriptedEngine(lambda call: "No" if call.step == "check" else "A cat.")}, Config(self_test=False))
    return [
        create_app(Registry(), controller.Config()),
        model_worker.create_app(worker, model_worker.Config()),
        create_gateway(service, Rules(Keys(), ADMIN)),
    ]


def asked(app: ASGIApp, method: str, path: str, body: object = None) -> Answer:
    return ask(app, method, path) if body is None else post(app, path, body)


def leaves(value: Any, planted: str) -> Iterator[Any]:
    """Copies of a body, each with one of its texts replaced."""
    if isinstance(value, str):
        yield planted
    elif isinstance(value, dict):
        for key in value:
            yield from (value | {key: other} for other in leaves(value[key], planted))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from ([*value[:at], other, *value[at + 1 :]] for other in leaves(item, planted))


async def try_to_register(hub: Cluster, address: str) -> None:
    """As somebody who has no secret, a wrong one, or only a user's key."""
    for headers in BAD_KEYS:
        for body in (ROGUE, {"check_heart_beat": False}):
            answer = await hub.post("/register_worker", body | {"worker_name": address}, headers=dict(headers))
            assert answer.status_code in (401, 403)


# LLaVA


def test_cve_2024_9309_a_controller_passes_nothing_on_to_a_worker_that_somebody_without_the_secret_registered(trap: Canary) -> None:
    async def main() -> None:
        async with cluster(config=controller.Config(KEYS)) as hub:
            await try_to_register(hub, trap.url)
            for headers in BAD_KEYS:
                answer = await hub.post("/worker_generate_stream", {"model": "tiny", "prompt": "x"}, headers=dict(headers))
                assert answer.status_code == 401 or events(answer.content)[0]["error"]["code"] == "model_not_found"

    asyncio.run(main())
    assert trap.hits == []


def test_cve_2024_12068_an_image_is_never_fetched_from_an_address(trap: Canary) -> None:
    _, worker, gateway = servers()
    for url in (
        f"{trap.url}/x.png",
        "http://169.254.169.254/latest/meta-data/",
        f"HTTP://{trap.url[7:]}",
        f"//{trap.url[7:]}",
        trap.url[:-2],
    ):
        body = chat({"role": "user", "content": [image_part(url), {"type": "text", "text": "?"}]})
        assert post(gateway, "/v1/chat/completions", body).error["code"] == "image_url_not_allowed"
        answer = post(worker, "/worker_generate_stream", {"model": "tiny", "prompt": prompt("<image>\n?"), "images": [url]})
        assert events(answer.content)[-1]["error"]["code"] == "invalid_image"
    assert trap.hits == []


def test_cve_2024_12065_no_file_of_the_server_is_read_for_a_client(tmp_path: Path) -> None:
    file = tmp_path / "secret.txt"
    file.write_text(SECRET_TEXT, encoding="utf-8")
    for app in servers():
        for path in (*(p + str(file) for p in PATHS), f"/..{file}", f"/%2e%2e{file}", str(file), f"/file={file.as_uri()}"):
            answer = ask(app, "GET", path)
            assert answer.status == 404
            assert SECRET_TEXT.encode() not in answer.content
    _, worker, gateway = servers()
    for name in (str(file), file.as_uri(), f"../../../../..{file}", base64.b64encode(str(file).encode()).decode()):
        body = chat({"role": "user", "content": [image_part(name), {"type": "text", "text": "?"}]})
        said = post(gateway, "/v1/chat/completions", body)
        also = post(worker, "/worker_generate_stream", {"model": "tiny", "prompt": prompt("<image>\n?"), "images": [name]})
        assert said.status == 400
        assert SECRET_TEXT.encode() not in said.content + also.content
        assert "invalid_image" in also.content.decode()


def test_cve_2024_9308_no_answer_sends_a_browser_elsewhere() -> None:
    no_redirect("/file=https://evil.example")


def test_cve_2024_9311_a_page_of_another_site_uploads_nothing_and_no_upload_is_shown_to_anybody() -> None:
    script = b'--b\r\ncontent-disposition: form-data; name="files"; filename="x.html"\r\n\r\n<script>alert(1)</script>\r\n--b--\r\n'
    simple = ("multipart/form-data; boundary=b", "text/plain", "application/x-www-form-urlencoded")  # what a page may send unasked
    for app in servers():
        for path, kind in itertools.product(("/upload", "/register_worker", "/worker_generate_stream", "/v1/chat/completions"), simple):
            for headers in ([], [("origin", "https://evil.example")], [("origin", "null")]):
                answer = ask(app, "POST", path, [("content-type", kind), ("content-length", str(len(script))), *headers], [script])
                assert (answer.status, answer.chunks_read) == (403 if headers else 415, 0)
                assert not [name for name in answer.headers if name.startswith("access-control")]
        assert ask(app, "GET", "/file=/tmp/gradio/x.html").status == 404


def test_cve_2024_11449_no_prediction_calls_an_address(trap: Canary) -> None:
    file = {"path": trap.url, "url": trap.url, "orig_name": "x.png", "meta": {"_type": "gradio.FileData"}}
    for app in servers():
        for path in ("/run/predict", "/run/predict/", "/api/predict", "/gradio_api/run/predict", "/queue/join"):
            body = {"data": [file, trap.url], "path": trap.url, "fn_index": 0, "session_hash": "x"}
            assert post(app, path, body).status == 404
    assert trap.hits == []


def test_cve_2024_10225_a_long_multipart_boundary_is_refused_unread() -> None:
    multipart_is_refused(f"multipart/form-data; boundary={'x' * 20_000}", b"-" * 1_000_000)


def test_cve_2024_12070_a_huge_file_name_of_an_upload_is_refused_unread() -> None:
    multipart_is_refused("multipart/form-data; boundary=b", b'--b\r\ncontent-disposition: form-data; filename="' + b"x" * 1_000_000)


# FastChat


def test_cve_2026_85695_a_rogue_worker_gets_no_prompt_and_forges_no_answer(trap: Canary) -> None:
    async def main() -> None:
        async with (
            cluster(config=controller.Config(KEYS)) as hub,
            listening(
                model_worker.create_app(Worker(ScriptedEngine(lambda _: "A cat."), ("tiny",), VICUNA), model_worker.Config(KEYS))
            ) as honest,
        ):
            cluster_member = {"authorization": f"Bearer {SECRET}"}
            said = {"worker_name": honest, "worker_status": {"model_names": ["tiny"], "speed": 1, "queue_length": 0}}
            assert (await hub.post("/register_worker", said, headers=cluster_member)).status_code == 200
            await try_to_register(hub, trap.url)
            for headers in BAD_KEYS:  # nor may a stranger send the honest one away, or make it look busy
                for path, body in (("unregister_worker", {}), ("receive_heart_beat", {"queue_length": 9}), ("refresh_all_workers", {})):
                    answer = await hub.post(f"/{path}", {"worker_name": honest, **body}, headers=dict(headers))
                    assert answer.status_code in (401, 403)
            user = {"authorization": f"Bearer {USER}"}
            for _ in range(20):
                assert (await hub.post("/get_worker_address", {"model": "tiny"}, headers=user)).json() == {"address": honest}

    asyncio.run(main())
    assert trap.hits == []


def test_cve_2024_10044_registering_a_worker_calls_no_address_that_a_stranger_chose(trap: Canary) -> None:
    async def main() -> None:
        async with cluster(config=controller.Config(KEYS)) as guarded, cluster() as open_to_this_machine:
            await try_to_register(guarded, trap.url)
            for address in ("http://169.254.169.254", "http://10.0.0.1:80", "http://[::ffff:10.0.0.1]:80", "http://127.0.0.1.evil.example"):
                answer = await open_to_this_machine.post("/register_worker", {"worker_name": address, "check_heart_beat": True})
                assert answer.status_code == 400
            for headers in ({"origin": "https://evil.example"}, {"host": "evil.example"}, {"x-forwarded-for": "10.0.0.1"}):
                answer = await open_to_this_machine.post("/register_worker", {"worker_name": trap.url}, headers=headers)
                assert answer.status_code == 403  # a page in this machine's browser is a stranger too

    asyncio.run(main())
    assert trap.hits == []


def test_cve_2024_11603_no_path_parameter_makes_a_server_call_an_address(trap: Canary) -> None:
    for app in servers():
        for path in PATHS:
            for method in ("GET", "POST"):
                assert ask(app, method, f"{path}{trap.url}", [("content-type", "application/json")]).status == 404
    assert trap.hits == []


def test_cve_2024_12376_no_text_of_a_request_makes_a_server_call_an_address(trap: Canary) -> None:
    hub, worker, gateway = servers()
    question = {"role": "user", "content": [image_part(), {"type": "text", "text": "?"}]}
    requests: list[tuple[ASGIApp, str, dict[str, Any]]] = [
        (gateway, "/v1/chat/completions", chat({"role": "system", "content": "s"}, question, user="u", metadata={"a": "b"}, stop=["x"])),
        (gateway, "/v1/guard/check", {"model": "tiny", "messages": [question], "answer": "a"}),
        (gateway, "/v1/moderations", {"model": "tiny", "input": ["a"], "messages": [question]}),
        (worker, "/worker_generate_stream", {"model": "tiny", "prompt": prompt("?"), "stop": "x", "images": ["x"]}),
        (hub, "/get_worker_address", {"model": "tiny", "affinity": "x", "avoid": ["x"]}),
        (hub, "/worker_generate_stream", {"model": "tiny", "prompt": "x", "images": ["x"]}),
        (hub, "/receive_heart_beat", {"worker_name": "x", "queue_length": 0}),
        (hub, "/unregister_worker", {"worker_name": "x"}),
    ]
    for app, path, body in requests:
        for changed in leaves(body, trap.url):
            assert post(app, path, changed).status < 500
        for name in ("x-request-id", "x-forwarded-host", "referer", "x-original-url"):
            assert post(app, path, body, [(name, trap.url)]).status < 500
    assert trap.hits == []


def test_cve_2024_10907_a_multipart_boundary_starts_no_endless_loop() -> None:
    for boundary in ("-" * 5000, "x" * 60, '"', ""):
        multipart_is_refused(f"multipart/form-data; boundary={boundary}", b"--" + boundary.encode() + b"\r" * 100_000)


def test_cve_2024_10908_an_open_redirect_is_not_there() -> None:
    no_redirect("/file=//evil.example/%2e%2e")


def test_cve_2024_10912_a_file_name_of_a_megabyte_costs_nothing() -> None:
    multipart_is_refused("multipart/form-data; boundary=b", b'--b\r\ncontent-disposition: form-data; name="' + b"\\" * 2_000_000)


def test_cve_2026_6607_a_worker_answers_others_while_its_model_and_its_controller_hang() -> None:
    async def main() -> None:
        worker = Worker(ScriptedEngine(lambda _: "A cat.", delay=3600), ("tiny",), VICUNA)
        async with listening(raw_server(b"never", pause=3600)) as silent, httpx2.AsyncClient(timeout=30) as client:
            tie = HeartBeat(silent, "http://localhost:1", worker.status, interval=0.01)
            async with listening(model_worker.create_app(worker, model_worker.Config(heart_beat=tie))) as url:
                body = {"model": "tiny", "prompt": prompt("?")}
                stuck = [asyncio.create_task(client.post(f"{url}/worker_generate_stream", json=body, timeout=None)) for _ in range(5)]
                for _ in range(20):
                    assert (await client.get(f"{url}/health")).json() == {"status": "ok"}
                assert not any(task.done() for task in stuck)
                for task in stuck:
                    task.cancel()
                await asyncio.gather(*stuck, return_exceptions=True)

    asyncio.run(main())


def multipart_is_refused(kind: str, body: bytes) -> None:
    """By every server, before it reads any of the body."""
    paths = ("/register_worker", "/worker_generate_stream", "/v1/chat/completions")
    for app, path in zip(servers(), paths, strict=True):
        for each in (path, "/upload", "/gradio_api/upload"):
            headers = [("content-type", kind), ("content-length", str(len(body)))]
            answer = ask(app, "POST", each, headers, [body])
            assert (answer.status, answer.chunks_read) == (415, 0)
            assert json.loads(answer.content)["error"]["type"] == "invalid_request_error"


def no_redirect(path: str) -> None:
    for app in servers():
        for each in (path, "//evil.example", "/\\evil.example", "/health/", "/v1/models/", "/?next=https://evil.example"):
            for method in ("GET", "HEAD", "POST"):
                answer = asked(app, method, each)
                assert answer.status in (404, 405)
                assert "location" not in answer.headers
                assert "refresh" not in answer.headers
