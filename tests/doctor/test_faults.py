"""Every fault, each in a world where it is the only one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

import llava.doctor.identify
import llava.doctor.reach
from llava.doctor import FAULTS, Report, examine
from llava.errors import Overloaded
from llava.serve.model_worker import loading_forms
from tests.doctor.scenes import KEY, SCENES, SECRET, WRONG, Build, at, broken, gateway, http, loading, plain, saying, whole

NOT_BUILT = {"version"}  # needs another version of llava


def report_on(build: Build) -> Report:
    """What the doctor says of a scene."""

    async def main() -> Report:
        async with AsyncExitStack() as stack:
            scene = await build(stack)
            return await examine(scene.url, credentials=scene.credentials, model=scene.model, seconds=scene.seconds)

    return asyncio.run(main())


def codes(report: Report) -> list[str]:
    return [finding.code for finding in report.wrong]


def test_every_fault_has_its_scene() -> None:
    assert set(SCENES) | NOT_BUILT == set(FAULTS)


@pytest.mark.parametrize("code", SCENES)
def test_a_fault_is_found_and_nothing_else_is_called_one(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if code == "silent":
        monkeypatch.setattr(llava.doctor.reach, "ANSWER", 0.3)
    report = report_on(SCENES[code])
    assert codes(report) == [code], report
    found = report.wrong[0]
    assert found.said.endswith((".", "first."))
    assert found.advice == FAULTS[code]
    assert not report.well
    for secret in (KEY, SECRET, WRONG):
        assert secret not in str(report.to_dict())


def test_another_version_is_found_at_each_kind_of_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llava.doctor.identify, "__version__", "9.9.9")
    assert codes(report_on(at(gateway))) == ["version"]
    assert codes(report_on(at(whole))) == ["version", "version"]


@asynccontextmanager
async def gateway_at_a_path() -> AsyncIterator[str]:
    async with gateway() as url:
        yield f"{url}/ready"


OTHER_WAYS = {
    "a gateway whose model has no room": ("queue_full", at(lambda: gateway(lambda _: Overloaded("full")))),
    "a worker whose model is not there yet": ("loading", at(lambda: loading(forms=loading_forms()))),
    "a path of a gateway": ("other_program", at(gateway_at_a_path)),
    "a gateway whose model fails": ("model_fails", at(lambda: gateway(broken("answer")))),
    "a server that wants TLS and says so": ("needs_tls", at(lambda: saying(http(400) + b"The plain HTTP request was sent to HTTPS port"))),
    "a server that closes at once": ("silent", at(lambda: saying(b""))),
    "a name with a label that is too long": ("unknown_host", plain(f"http://{'a' * 64}:80")),
    "an SSH server and https": ("not_http", at(lambda: saying(b"SSH-2.0-x\r\n"), scheme="https://")),
}


@pytest.mark.parametrize("way", OTHER_WAYS)
def test_the_same_fault_may_look_otherwise(way: str) -> None:
    code, build = OTHER_WAYS[way]
    assert codes(report_on(build)) == [code]
