"""Who gets to see which key: each its own kind of process, at an address that the operator gave, and nobody else."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from llava.cluster.secret import CLUSTER_SECRET
from llava.doctor import Credentials, Report, examine
from tests.doctor.scenes import KEY, KEYS, SECRET, gateway, hub, worker
from tests.doctor.test_walk import CHAIN, SOUND, looked_at, said
from tests.openai_server import Behaviour, openai_server
from tests.serve.cluster import listening

ALL = Credentials(KEY, SECRET, "sk-theirs")
ELSEWHERE = "2130706433"  # a name of this machine that is not known to be its own


def test_a_server_of_others_gets_its_own_key_and_no_other() -> None:
    with openai_server(Behaviour(key="sk-theirs", top_logprobs=SOUND)) as server:
        for given, code in ((None, "key_missing"), ("sk-wrong", "key_wrong")):
            report = looked_at(server.url, Credentials(key=KEY, secret=SECRET, foreign=given))
            assert [finding.code for finding in report.wrong] == [code]
        assert looked_at(server.url, Credentials(key=KEY, secret=SECRET, foreign="sk-theirs")).well
        assert {headers["authorization"] for headers in server.headers} == {"Bearer sk-theirs"}


def test_no_key_is_shown_to_a_stranger() -> None:
    seen: list[dict[bytes, bytes]] = []

    async def stranger(scope: Scope, _receive: Receive, send: Send) -> None:
        seen.append(dict(scope["headers"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def main() -> Report:
        async with listening(stranger) as url:
            return await examine(url, credentials=ALL)

    assert [finding.code for finding in asyncio.run(main()).wrong] == ["other_program"]
    assert len(seen) > 2
    assert all(b"authorization" not in headers for headers in seen)


def pretender(seen: list[bytes]) -> ASGIApp:
    """A server that says it is a process of ours with a secret, and keeps what it is shown."""

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        seen.extend(value for name, value in scope["headers"] if name == b"authorization")
        headers = [(b"x-request-id", b"req_" + b"0" * 24), (b"content-length", b"16")]
        await send({"type": "http.response.start", "status": 200 if scope["path"] == "/health" else 401, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"status": "ok"}'})

    return app


@pytest.mark.parametrize("given", [False, True], ids=["told by a gateway", "given by the operator"])
def test_the_secret_goes_to_no_address_that_only_a_gateway_names(given: bool) -> None:
    seen: list[bytes] = []

    async def main() -> Report:
        async with listening(pretender(seen)) as there:
            elsewhere = there.replace("127.0.0.1", ELSEWHERE)
            async with gateway(behind=elsewhere.replace("http", "controller")) as front:
                return await examine(front, *([elsewhere] if given else []), credentials=ALL)

    report = asyncio.run(main())
    if given:
        assert set(seen) == {f"Bearer {SECRET}".encode()}
        assert [finding.code for finding in report.wrong] == ["secret_wrong"]
    else:
        assert seen == []
        assert report.well, report
        told = said(report.sites[1], "note")["secret_missing"]
        assert f"give {report.sites[1].url} too. It is not examined from here." in told


@pytest.mark.parametrize("given", [False, True])
def test_workers_of_a_controller_that_was_given_are_shown_its_secret(given: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CLUSTER_SECRET, SECRET)

    async def main() -> Report:
        async with worker(keys=KEYS) as desk, hub(desk.replace("127.0.0.1", ELSEWHERE), keys=KEYS) as there:
            elsewhere = there.replace("127.0.0.1", ELSEWHERE)
            async with gateway(behind=elsewhere.replace("http", "controller")) as front:
                return await examine(front, *([elsewhere] if given else []), credentials=ALL)

    report = asyncio.run(main())
    assert report.well, report
    assert [site.what for site in report.sites] == (CHAIN if given else [CHAIN[0], "a controller or worker of llava"])


def test_a_server_that_only_a_gateway_names_gets_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-theirs")

    async def main(url: str) -> Report:
        async with gateway(behind=url.replace("127.0.0.1", ELSEWHERE)) as front:
            return await examine(front, credentials=ALL)

    for key in ("sk-theirs", None):
        with openai_server(Behaviour(key=key, top_logprobs=SOUND)) as server:
            report = asyncio.run(main(server.url))
            assert report.well, report
            assert "sk-theirs" not in str(server.headers)
    assert report.sites[1].what == "an OpenAI-compatible server"
    assert said(report.sites[1], "fine")["answers"] == "tiny answers."
