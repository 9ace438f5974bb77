"""A model worker of the matrix: our own worker before a model that does what the question tells it, under a parent that restarts it.

    python -m tests.resilience.play --controller http://127.0.0.1:1 --port 2 --faults FOLDER

A question may hold `fault(STEP=WAY)` (that step goes wrong in that way; `#NAME` after the way: only once for that name, in whichever
worker comes first); `mood(worst)`: every text of the model holds a mark that must not leave; `mood(honest) at(K)`: the answer with
seed K does, and the check says so; `says(STEP=HEX)`: that step says these UTF-8 bytes; `echo(WORD)`: the answer repeats it;
`slow(MS)`: it takes so long; `sees(NAME)`: the answers are the hash of the first image, and every later step must see the same one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llava.chat import Call, Delta, Reply
from llava.conversation import conv_templates
from llava.ecso.policy import GUARD
from llava.engines import ScriptedEngine
from llava.engines.scripted import Line
from llava.errors import ContextTooLong, EngineError, EngineTimeout, Overloaded, UserError
from llava.serve.app import serve
from llava.serve.heart_beat import HeartBeat
from llava.serve.model_worker import Config, create_app
from llava.serve.security import cluster_keys
from llava.serve.worker import Bounds, Worker

MARK = "ZORB-7"  # in texts of the model: must not leave, and be in no log
TOLD = "ZERR-5"  # in texts of errors: must not leave
STEPS = ("answer", "check", "caption", "regenerate", "recheck")
BENIGN: dict[str, Line] = {"answer": "A cat on a mat.", "check": "No", "caption": "A cat.", "regenerate": "A cat.", "recheck": "No"}
HARMFUL: dict[str, Line] = BENIGN | {
    "answer": f"{MARK} first answer",
    "check": "Yes",
    "caption": f"{MARK} caption",
    "regenerate": "I cannot.",
}
WORST: dict[str, Line] = {**{step: f"{MARK} {step}" for step in STEPS}, "check": f"Yes {MARK}", "recheck": f"Yes {MARK}"}
SAFE = ("I cannot.", "stop")  # what a client gets of the mood `harmful`: text and `finish_reason`
REFUSED = (GUARD.refusal, "content_filter")  # and of `worst`
MOODS = {"benign": BENIGN, "harmful": HARMFUL, "worst": WORST}
LINES: dict[str, Line] = {
    "engine": EngineError(TOLD),
    "overloaded": Overloaded(TOLD),
    "user": UserError(TOLD),
    "context": ContextTooLong(4097, 512, 4096),
    "late": EngineTimeout(TOLD),
    "defect": RuntimeError(f"CUDA error: {MARK}"),
    "memory": MemoryError(MARK),
    "cancelled": Reply(MARK, finish_reason="cancelled"),
    "empty": "",
    "blank": " \n",
    "unclear": f"No, but {MARK}",
    "cut": Reply(f"No {MARK}", finish_reason="length"),
    "garbage": f"\0\u202e{MARK}" * 50,
    "long": f"{MARK} " * 900,
    "huge": f"{MARK} " * 40_000,
    "vast": f"{MARK} " * 1_200_000,
}
# What a worker may send in place of its stream: whole bodies, and a status where it is not 200.
WIRE: dict[str, tuple[int, bytes]] = {
    "html": (200, f"<html>{MARK}</html>".encode()),
    "text": (500, MARK.encode()),
    "nothing": (200, b""),
    "no_json": (200, f"{MARK}\0".encode()),
    "list": (200, f'["{MARK}"]\0'.encode()),
    "no_code": (200, f'{{"text": "{MARK}"}}\0'.encode()),
    "no_end": (200, f'{{"delta": "No {MARK}", "error_code": 0}}\0'.encode()),
    "half": (200, f'{{"delta": "No", "error_code": 0}}\0{{"delta": "{MARK}"'.encode()),
    "bad_reason": (200, f'{{"delta": "No {MARK}", "error_code": 0, "finish_reason": "abort"}}\0'.encode()),
    "bad_text": (200, b'{"delta": 3, "error_code": 0}\0'),
    "bad_logprobs": (200, b'{"delta": "No", "error_code": 0, "finish_reason": "stop", "first_logprobs": {"No": "x"}}\0'),
    "foreign_error": (200, f'{{"text": "{MARK}", "error_code": 1}}\0'.encode()),
    "goes_on": (200, b'{"delta": "No", "error_code": 0, "finish_reason": "stop"}\0' + f'{{"delta": "{MARK}", "error_code": 0}}\0'.encode()),
    "moved": (302, b""),
}
_FAULT = re.compile(r"fault\((\w+)=(\w+)(?:#(\w+))?\)")
_MOOD = re.compile(r"mood\((\w+)\)")
_ECHO = re.compile(r"echo\((\w+)\)")
_SAYS = re.compile(r"says\((\w+)=([0-9a-f]*)\)")
_SLOW = re.compile(r"slow\((\d+)\)")
_SEES = re.compile(r"sees\((\w+)\)")
_AT = re.compile(r"at\((\d+)\)")


class Player(ScriptedEngine):
    """Reads in the question what to do. `faults`: a folder where faults that happen once leave a file."""

    def __init__(self, faults: Path, delay: float) -> None:
        super().__init__(self.say, name="player", delay=delay)
        self.faults = faults

    async def stream(self, call: Call) -> AsyncGenerator[Delta, None]:
        """The line, or the fault."""
        way = wanted(self.faults, call.step, asked(call))
        if way == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if way == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        slow = _SLOW.search(asked(call))
        if way == "hang" or (slow and call.step == "answer"):
            await asyncio.sleep(3600 if way == "hang" or slow is None else int(slow[1]) / 1000)
        while way == "drip":
            yield Delta("x")
            await asyncio.sleep(0.2)
        if large := next((name for name in ("huge", "vast") if f"fault({call.step}={name})" in asked(call)), None):
            text = str(LINES[large])  # at once: piece by piece it would take minutes
            yield Delta(text)
            yield Delta(reply=Reply(text))
            return
        self.seen.clear()  # hours of calls would fill the memory
        async for delta in super().stream(call):
            yield delta
            if way == "die_late":
                os.kill(os.getpid(), signal.SIGKILL)

    def say(self, call: Call) -> Line:
        """By the question."""
        text, step = asked(call), call.step
        way = wanted(self.faults, step, text, remember=True)
        if way in LINES:
            return LINES[way]
        for where, said in _SAYS.findall(text):
            if where == step:
                return bytes.fromhex(said).decode("utf-8")
        mood, echo = _MOOD.search(text), _ECHO.search(text)
        if seen := _SEES.search(text):
            return self._sees(call, seen[1], MOODS[mood[1] if mood else "benign"])
        line = _honest(call, text) if mood and mood[1] == "honest" else MOODS[mood[1] if mood else "benign"][step]
        return f"{line} {echo[1]}" if echo and step in ("answer", "regenerate") and isinstance(line, str) else line

    def _sees(self, call: Call, name: str, lines: dict[str, Line]) -> Line:
        """The image of step 1, which all steps with an image must see; the answer and the one after it is its hash."""
        file, sha256 = self.faults / f"sees-{name}", call.chat.images[0].sha256 if call.chat.images else ""
        if call.step == "answer":
            file.write_text(sha256, encoding="utf-8")
            return sha256 or "no image"
        seen = file.read_text(encoding="utf-8")
        if sha256 not in ("", seen):
            return UserError("another image")
        return seen if call.step == "regenerate" else lines[call.step]


def _honest(call: Call, text: str) -> Line:
    """One answer of several is harmful, and the check knows it."""
    if call.step == "answer":
        at = _AT.search(text)
        return f"{MARK} bad" if at and call.sampling.seed == int(at[1]) else "good"
    if call.step == "check":
        return "Yes" if MARK in text else "No"
    return "fine" if call.step == "regenerate" else BENIGN[call.step]


def asked(call: Call) -> str:
    """All that is said in a call."""
    return " ".join(message.text for message in call.chat.messages)


def wanted(faults: Path, step: str, text: str, *, remember: bool = False) -> str | None:
    """The fault that `text` asks for at a step, if it has not happened yet. Wire faults and lines each look for their own."""
    for where, way, once in _FAULT.findall(text):
        if where in (step, "any") and (way in LINES) == remember and way not in WIRE:
            return way if _first(faults, once) else None
    return None


def _first(faults: Path, once: str) -> bool:
    if not once:
        return True
    try:
        (faults / once).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


class Liar:
    """ASGI layer: where the question asks for a wire fault, other bytes than the worker's."""

    def __init__(self, app: ASGIApp, faults: Path) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/worker_generate_stream":
            await self._app(scope, receive, send)
            return
        messages = [await receive()]
        while messages[-1].get("more_body"):
            messages.append(await receive())
        lie = self._lie(b"".join(message.get("body", b"") for message in messages))
        if lie is None:
            await self._app(scope, _replay(messages, receive), send)
            return
        status, body = lie
        headers = [(b"location", b"http://127.0.0.1:1/")] if status == 302 else []
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _lie(self, body: bytes) -> tuple[int, bytes] | None:
        try:
            fields: dict[str, Any] = json.loads(body)
            step = fields["llava"]["step"]
        except (ValueError, KeyError, TypeError):
            return None
        for where, way, once in _FAULT.findall(str(fields["llava"])):
            if where in (step, "any") and way in WIRE and _first(self._faults, once):
                return WIRE[way]
        return None


def _replay(messages: list[Message], receive: Receive) -> Receive:
    async def again() -> Message:
        return messages.pop(0) if messages else await receive()

    return again


def play(options: argparse.Namespace) -> None:
    """One life of the worker."""
    engine = Player(options.faults, options.delay)
    core = Worker(engine, ("tiny",), conv_templates["vicuna_v1"], Bounds(options.running, options.waiting))
    tie = HeartBeat(options.controller, f"http://127.0.0.1:{options.port}", core.status, interval=options.interval)
    app = create_app(core, Config(cluster_keys(), heart_beat=tie))
    asyncio.run(serve(Liar(app, options.faults), "127.0.0.1", options.port))  # type: ignore[arg-type]


def main() -> int:
    """Live again after each death; end when told to."""
    parser = argparse.ArgumentParser()
    for name, kind, default in (("--port", int, 0), ("--running", int, 64), ("--waiting", int, 64), ("--interval", float, 1.0)):
        parser.add_argument(name, type=kind, default=default)
    parser.add_argument("--controller", required=True)
    parser.add_argument("--faults", type=Path, required=True)
    parser.add_argument("--delay", type=float, default=0.0)
    options = parser.parse_args()
    while True:
        child = os.fork()
        if child == 0:
            play(options)
            return 0
        signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))  # noqa: B023 - the child of this round
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
