"""The way through worlds where nothing is wrong, or where it is none of the doctor's business."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

import llava.doctor.reach
from llava.doctor import Credentials, Report, Site, examine
from llava.doctor.address import Address
from llava.doctor.gateway import next_address
from llava.engines import ScriptedEngine, connect
from llava.errors import UserError
from llava.serve.gateway.service import Config
from tests.doctor.scenes import KEY, KEYS, SECRET, gateway, hub, sound, whole, worker
from tests.loopback import free_port
from tests.openai_server import Behaviour, openai_server
from tests.serve.cluster import cluster, listening

CHAIN = ["a llava gateway", "a llava controller", "a llava worker"]


def looked_at(url: str, credentials: Credentials | None = None, **options: Any) -> Report:
    return asyncio.run(examine(url, credentials=credentials, **options))


def said(site: Site, level: str) -> dict[str, str]:
    return {finding.code: finding.said for finding in site.findings if finding.level == level}


async def chain(stack: AsyncExitStack, behind: str | None = None, secured: bool = False) -> str:
    """A gateway, its controller, a worker; the gateway says that `behind` is behind it."""
    found = await stack.enter_async_context(cluster(ScriptedEngine(sound)))
    engine = connect(found.target, model="tiny")
    stack.push_async_callback(engine.close)
    config = Config(self_test=False, behind=behind or found.target)
    return await stack.enter_async_context(gateway(engine, config, KEYS if secured else None))


def test_a_sound_gateway_is_walked_through_to_its_workers() -> None:
    async def main() -> Report:
        async with AsyncExitStack() as stack:
            return await examine(await chain(stack))

    report = asyncio.run(main())
    assert report.well, report
    assert [site.what for site in report.sites] == CHAIN
    front, hub_, desk = report.sites
    assert set(said(front, "fine")) >= {"key", "version", "answers", "logprobs", "images", "guard"}
    assert set(said(hub_, "fine")) >= {"version", "worker", "passes_on"}
    assert said(desk, "fine")["images"] == "tiny sees images: a picture of 224 x 224 pixels is 576 tokens."


def test_what_stands_behind_is_told_to_keys_with_the_right_for_it_only() -> None:
    async def main(key: str) -> Report:
        async with AsyncExitStack() as stack:
            return await examine(await chain(stack, secured=True), credentials=Credentials(key=key))

    assert [site.what for site in asyncio.run(main(KEY)).sites] == CHAIN[:1]
    assert [site.what for site in asyncio.run(main(SECRET)).sites] == CHAIN


@pytest.mark.parametrize("behind", ["a closed door", "nobody", "mini", "controller://127.0.0.1"])
def test_a_gateway_that_works_is_not_blamed_for_what_the_doctor_cannot_reach(behind: str) -> None:
    async def main() -> Report:
        async with AsyncExitStack() as stack:
            target = behind
            if behind == "a closed door":
                target = (await stack.enter_async_context(hub(keys=KEYS))).replace("http", "controller")
            elif behind == "nobody":
                target = f"controller://127.0.0.1:{free_port()}"
            return await examine(await chain(stack, target))

    report = asyncio.run(main())
    assert report.well, report
    expected = {"a closed door": "secret_missing", "nobody": "refused"}.get(behind, "behind")
    assert expected in said(report.sites[-1], "note")


def test_another_machines_loopback_is_not_taken_for_ours() -> None:
    far, near = Address("http", "gpu-1", 8000), Address("http", "localhost", 8000)
    assert "run llava doctor there" in str(next_address("controller://localhost:10000", far))
    assert next_address("controller://localhost:10000", near) == Address("http", "localhost", 10000)
    assert next_address("controller://gpu-2:10000", far) == Address("http", "gpu-2", 10000)


def test_a_wrong_port_is_told_with_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> Report:
        async with worker() as url:
            monkeypatch.setattr(llava.doctor.reach, "NEIGHBOURS", (int(url.rpartition(":")[2]), free_port()))
            return await examine(f"http://127.0.0.1:{free_port()}")

    (site,) = asyncio.run(main()).sites
    assert list(said(site, "wrong")) == ["refused"]
    assert "Something of llava's answers at http://127.0.0.1:" in said(site, "note")["neighbours"]


SOUND = [("No", -0.1)]


def test_a_server_of_others_is_examined_as_our_engine_sees_it() -> None:
    with openai_server(Behaviour(top_logprobs=SOUND)) as server:
        report = looked_at(server.url)
        assert report.well, report
        assert report.sites[0].what == "an OpenAI-compatible server"
        server.behaviour.image_tokens = 1
        assert [finding.code for finding in looked_at(server.url).wrong] == ["images_unseen"]
        server.behaviour.counts = False
        assert "not known" in said(looked_at(server.url).sites[0], "note")["images"]


def test_many_models_are_not_all_asked_and_one_can_be_named() -> None:
    with openai_server(Behaviour(models=["tiny", *"abcdef"], top_logprobs=SOUND)) as server:
        report = looked_at(server.url)
        assert "It lists 7 models" in said(report.sites[0], "note")["models"]
        assert {request["model"] for request in server.requests} == {"tiny"}
        server.requests.clear()
        assert looked_at(server.url, model="f").well
        assert {request["model"] for request in server.requests} == {"f"}


def test_an_address_that_was_given_is_judged_as_strictly_behind_another_one() -> None:
    nobody = f"http://127.0.0.1:{free_port()}"

    async def main() -> Report:
        async with gateway(behind=nobody.replace("http", "controller")) as front:
            return await examine(front, nobody)

    assert [finding.code for finding in asyncio.run(main()).wrong] == ["refused"]


def original(answers: dict[str, Any], stream: bytes = b"") -> ASGIApp:
    """A process of the original LLaVA: JSON by path, and one stream."""

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        known = scope["path"] in answers or scope["path"] == "/worker_generate_stream"
        body = json.dumps(answers[scope["path"]]).encode() if scope["path"] in answers else stream
        await send({"type": "http.response.start", "status": 200 if known else 404, "headers": []})
        await send({"type": "http.response.body", "body": body if known else b'{"detail":"Not Found"}'})

    return app


def test_an_original_controller_and_worker_are_examined_as_far_as_they_tell() -> None:
    event = json.dumps({"text": "prompt and answer", "error_code": 0}).encode() + b"\0"
    status = {"model_names": ["tiny"], "speed": 1, "queue_length": 2}

    async def main() -> Report:
        async with listening(original({"/worker_get_status": status}, event)) as address:
            answers = {"/list_models": {"models": ["tiny"]}, "/get_worker_address": {"address": address}, "/worker_get_status": status}
            async with listening(original(answers, event)) as url:
                return await examine(url, accepted=["no_logprobs"])

    report = asyncio.run(main())
    assert report.well, report
    assert [site.what for site in report.sites] == ["a controller", "a model worker"]
    assert "It does not tell its table" in said(report.sites[0], "note")["workers"]
    assert said(report.sites[1], "note")["queue"] == "2 calls wait or run there now."
    assert "not known" in said(report.sites[1], "note")["images"]


def test_a_model_that_nobody_serves_is_told() -> None:
    async def main() -> list[str]:
        async with whole() as url:
            return [finding.code for finding in (await examine(url, model="large")).wrong]

    assert asyncio.run(main()) == ["no_models", "no_models"]

    async def before() -> Report:
        async with gateway() as url:
            return await examine(url, model="large")

    (fault,) = asyncio.run(before()).wrong
    assert (fault.code, fault.said) == ("no_models", "It does not serve large: it serves tiny.")


ADDRESSES = {
    "http://host:8000": Address("http", "host", 8000),
    "http://host:8000/v1/": Address("http", "host", 8000),
    "http://host:8000/v1/chat/completions": Address("http", "host", 8000),
    "https://host/api/v1": Address("https", "host", 443, "/api"),
    "host:8000": Address("http", "host", 8000),
    "controller://host:10000/model": Address("http", "host", 10000),
    "http://[::1]:8000": Address("http", "::1", 8000),
}


@pytest.mark.parametrize("text", ADDRESSES)
def test_addresses_are_read_as_people_write_them(text: str) -> None:
    assert Address.read(text) == ADDRESSES[text]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "ftp://host:1",
        "http://",
        "http://host:99999",
        "http://u:pass@host:1",
        "controller://host",
        "http://a b:1",
        "http://[::1",
    ],
)
def test_what_is_no_address_is_a_sentence(text: str) -> None:
    with pytest.raises(UserError, match="A server's address looks like") as caught:
        Address.read(text)
    assert "pass@" not in str(caught.value)
