"""Schema fuzz: requests that schemathesis draws from the gateway's own OpenAPI document, over a real socket.

    python -m tests.serve.gateway.fuzzing --cases 10000          # make fuzz

Half of the requests fit the document and half do not. With a model that works, none may get a 5xx; every answer must be one that the
document describes (status, media type, headers, form of the JSON), and what does not fit must be refused.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, cast

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from llava.chat import Call
from llava.engines.scripted import Line
from llava.errors import EngineError, EngineTimeout, Overloaded
from tests.serve.gateway.running import BENIGN, HARMFUL, data_url, gateway

AS_DESCRIBED = [status_code_conformance, content_type_conformance, response_headers_conformance, response_schema_conformance]
PICTURES = [data_url(kind=kind) for kind in ("PNG", "JPEG", "WEBP", "GIF")]
SHARE = {"POST /v1/chat/completions": 0.7, "POST /v1/guard/check": 0.15, "POST /v1/moderations": 0.15}  # of all cases
FAILURES: list[Line] = [EngineError("down"), EngineTimeout("late"), Overloaded("full"), RuntimeError("defect")]

Seen = Counter[tuple[str, str, int]]  # operation, "positive" or "negative", status -> how often


def healthy(call: Call) -> Line:
    """A model that works: harmless, answered anew or refused, by the question."""
    kind = zlib.crc32(call.chat.messages[0].text.encode("utf-8", "replace")) % 3
    return [BENIGN, HARMFUL, HARMFUL | {"recheck": "Yes"}][kind][call.step]


def failing(call: Call) -> Line:
    """A model that fails in each way, at each step."""
    return FAILURES[zlib.crc32(f"{call.step} {call.chat.question}".encode("utf-8", "replace")) % len(FAILURES)]


def fuzz(url: str, cases: int, number: int = 0, *, works: bool = True, key: str = "none") -> Seen:
    """Ask about `cases` times; raises schemathesis' `FailureGroup` for the first answer that is wrong. `works`: no 5xx is one of those."""
    document = schemathesis.openapi.from_url(f"{url}/openapi.json", config=_config(number), headers={"authorization": f"Bearer {key}"})
    checks = [*AS_DESCRIBED, negative_data_rejection, *([not_a_server_error] if works else [])]
    seen: Seen = Counter()
    with requests.Session() as session:
        session.trust_env = False
        session.headers["authorization"] = f"Bearer {key}"
        for result in document.get_all_operations():
            operation = cast(Any, result).ok()
            many = round(cases * SHARE.get(operation.label, 0)) // 2
            for mode in GenerationMode if many else [GenerationMode.POSITIVE]:
                _run(operation, mode, max(many, 1), (url, session, checks, seen, number))
    return seen


def apart(work: Callable[..., Seen], cases: int, number: int, *more: Any) -> Seen:
    """`work(cases, number, *more)` in a process for each core, with a part of the cases and a seed of its own: to draw a request costs
    more than to answer it. Raises `RuntimeError` that tells of what was wrong in one of them."""
    jobs = os.cpu_count() or 1
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        parts = [pool.submit(_told, work, -(-cases // jobs), number + at, *more) for at in range(jobs)]
    total: Seen = Counter()
    for part in parts:
        seen = part.result()
        if isinstance(seen, str):
            raise RuntimeError(seen)
        total += seen
    return total


def _told(work: Callable[..., Seen], *args: Any) -> Seen | str:
    logging.disable()  # of the model that fails
    try:
        return work(*args)
    except Exception as error:  # noqa: BLE001 - schemathesis' own exceptions do not survive the way to another process
        return "".join(traceback.format_exception_only(error))


def _config(number: int) -> SchemathesisConfig:
    """Keys are not drawn: a wrong one is refused before anything else is looked at."""
    generation = GenerationConfig(with_security_parameters=False)
    return SchemathesisConfig(seed=number, projects=ProjectsConfig(default=ProjectConfig(generation=generation)))


def _run(operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, many: int, with_: tuple[Any, ...]) -> None:
    url, session, checks, seen, number = with_
    only: dict[str, Any] = {"phases": [Phase.generate], "suppress_health_check": list(HealthCheck)}

    @seed(number)
    @settings(max_examples=many, deadline=None, database=None, derandomize=False, **only)
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        if mode is GenerationMode.POSITIVE:
            _mend(case.body)
        answer = case.call(base_url=url, session=session)
        seen[operation.label, mode.value, answer.status_code] += 1
        case.validate_response(answer, checks=checks)

    ask()


def _mend(body: object) -> None:
    """What the document cannot say: that pictures have pixels, and that user and assistant take turns."""
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        return
    for message in body["messages"]:
        for part in message["content"] if isinstance(message.get("content"), list) else ():
            if part.get("type") == "image_url":
                part["image_url"]["url"] = PICTURES[len(part["image_url"]["url"]) % len(PICTURES)]
    kept = [message for message in body["messages"][:1] if message["role"] in ("system", "developer")]
    turn = "user"
    for message in body["messages"][len(kept) :]:
        if message["role"] == turn:
            kept.append(message)
            turn = {"user": "assistant", "assistant": "user"}[turn]
    while kept and kept[-1]["role"] == "assistant":
        kept.pop()
    if kept and kept[-1]["role"] == "user":
        if isinstance(kept[-1]["content"], str):
            kept[-1]["content"] = kept[-1]["content"].strip() or "What is this?"
        else:
            kept[-1]["content"].append({"type": "text", "text": "What is this?"})
        body["messages"] = kept


def served(cases: int, number: int, works: bool) -> Seen:
    """Ask a gateway in this process, whose model works or fails."""
    with gateway(healthy if works else failing) as running:
        return fuzz(f"http://127.0.0.1:{running.port}", cases, number, works=works)


def main() -> int:
    """Run, print what came back, and say whether it was right."""
    parser = argparse.ArgumentParser(description="Schema fuzz of the gateway.")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    total = 0
    for works in (True, False):
        seen = apart(served, options.cases if works else options.cases // 10, options.seed, works)
        total += seen.total()
        print(f"with a model that {'works' if works else 'fails'}:")  # noqa: T201
        for (label, mode, status), count in sorted(seen.items()):
            print(f"  {label:28} {mode:9} {status} {count:7}")  # noqa: T201
    print(f"{total} cases, every answer as the document says, no 5xx from a model that works")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
