"""The guarding gateway: an OpenAI-compatible server in front of any vision-language model; also `llava gateway`.

    python -m llava.serve.api_server --engine http://localhost:8001/v1 --port 8000     # in front of vLLM, SGLang, ...
    python -m llava.serve.api_server --engine controller://localhost:10000             # in front of a LLaVA controller's workers
    python -m llava.serve.api_server --engine path/to/llava-v1.5-7b                    # a checkpoint in this process

Clients change their base URL to http://localhost:8000/v1 and nothing else. docs/serving.md tells what is guaranteed and what not.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # before what may not be installed is imported
    from llava.cli import program

    sys.exit(program("gateway", "python -m llava.serve.api_server"))

import argparse
import asyncio
import logging
import math
import re
import socket
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llava.cli import pair
from llava.cluster.hosts import is_loopback
from llava.ecso.policy import POLICIES, policy_named
from llava.engines import Engine, connect, is_scripted, is_server, model_in
from llava.errors import EngineError, LlavaError, UserError, unknown
from llava.serve.app import deadlines, listen, server, until_failure, until_told
from llava.serve.caps import capped, names
from llava.serve.gateway.audit import AuditLog
from llava.serve.gateway.content import Limits
from llava.serve.gateway.decide import DEFENCES
from llava.serve.gateway.remote import Remote
from llava.serve.gateway.routes import ADMIN, check_fetching, create_app
from llava.serve.gateway.service import STEP, Config, Service
from llava.serve.limits import Caps
from llava.serve.opening import opened
from llava.serve.security import Keys, Rules

log = logging.getLogger(__name__)

WAIT = 120.0  # seconds until a server behind has a model
LONGEST = 1e9  # seconds that a request may take
FIRST_PAUSE, LAST_PAUSE = 0.1, 2.0  # seconds between two questions for the models of a server that has none yet


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "--engine",
        default="mini",
        metavar="TARGET",
        help="mini (default), a checkpoint, a hub id, http://host:port/v1, controller://host:port",
    )
    add("--model", metavar="NAME", help="the model's name at the server behind; left out, all models that it lists are served")
    add("--served-model-name", metavar="NAME", help="the name that clients ask for, when it is to be another")
    add("--engine-option", action="append", default=[], metavar="KEY=VALUE", help="of the engine, such as device=cuda or timeout=60")
    add(
        "--wait",
        type=float,
        default=WAIT,
        metavar="SECONDS",
        help=f"for the server behind to list a model (default: {WAIT:g})",
    )
    add("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    add("--port", type=int, default=8000, help="(default: 8000)")
    add("--api-key", action="append", default=[], metavar="KEY", help="a key of clients; @FILE reads them; LLAVA_API_KEY does the same")
    add("--allow-anonymous", action="store_true", help="serve other machines without any key")
    add("--mode", default="guard", metavar="NAME", help=f"{', '.join(DEFENCES)} (default: guard); shadow delivers and only records")
    add("--allow-override", action="store_true", help="requests may choose their mode, also by asking for MODEL:direct")
    add("--policy", default="guard", metavar="NAME", help=f"{' or '.join(POLICIES)} (default: guard)")
    add("--temperature", type=float, default=0.0, metavar="T", help="of requests that do not say (default: 0, greedy)")
    add("--max-tokens", type=int, default=512, metavar="N", help="of requests that do not say (default: 512)")
    add("--max-running", type=int, default=64, metavar="N", help="requests at a time (default: 64)")
    add("--max-waiting", type=int, default=256, metavar="N", help="requests that may wait; more are told to come again (default: 256)")
    add("--max-per-key", type=int, default=8, metavar="N", help="requests that one key may have at work; 0: any number (default: 8)")
    add("--timeout", type=float, default=180.0, metavar="SECONDS", help="for one request, all steps together (default: 180)")
    steps = "of one step: first (60, to its first text), idle (60, from one piece to the next), total (120)"
    add("--deadline", action="append", default=[], metavar="NAME=SECONDS", help=steps)
    add("--audit-log", type=Path, metavar="FILE", help="append a line for each request: hashes, lengths, verdicts")
    add("--audit-content", action="store_true", help="keep the texts in it too")
    hosts = "fetch images by address from these hosts, over https (http://HOST: without), for clients with a key"
    add("--allow-remote-images", action="append", default=[], metavar="HOST[,HOST]", help=hosts)
    networks = "private networks, such as 10.0.0.0/8, in which those hosts may be"
    add("--allow-remote-network", action="append", default=[], metavar="CIDR[,CIDR]", help=networks)
    caps = ", ".join(names((Limits, Caps)))
    add("--cap", action="append", default=[], metavar="NAME=NUMBER", help=f"another limit of one request: {caps}")


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop."""
    start_log()
    with closing(checked(options)) as ready:
        engines = None
        if not is_server(options.engine):  # its model is loaded here and not in the event loop, so that Ctrl-C ends it at once
            log.info("loading %s", options.engine)
            with ready.opened():
                engines = own_engine(options)
        asyncio.run(serve_gateway(options, ready, engines))
    return 0


def start_log() -> None:
    """Log to standard error, without a line for each call of the model."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for chatty in ("httpx2", "torch"):  # a line for each request, and counters at the end
        logging.getLogger(chatty).setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class Checked:
    """A gateway's options, as far as they can be checked before its model is there; its port and its audit log are taken already."""

    rules: Rules
    config: Config
    caps: Caps
    audit: AuditLog | None
    listener: socket.socket

    def opened(self) -> AbstractContextManager[None]:
        """The port answers, that the model is not there yet."""
        return opened(self.listener, self.rules, self.caps)

    def close(self) -> None:
        """Let go of both."""
        self.listener.close()
        if self.audit is not None:
            self.audit.close()


def checked(options: argparse.Namespace) -> Checked:
    """What `options` mean; raises `UserError`."""
    rules = _rules(options)
    limits, caps = capped(options.cap, Limits(), Caps())
    config = _config(options, limits)
    check_fetching(config, rules)
    with ExitStack() as taken:
        audit = taken.enter_context(closing(AuditLog(options.audit_log, options.audit_content))) if options.audit_log else None
        listener = listen(options.host, options.port)
        taken.pop_all()
    return Checked(rules, config, caps, audit, listener)


async def serve_gateway(options: argparse.Namespace, ready: Checked, engines: dict[str, Engine] | None = None) -> None:
    """Connect to the model, unless its `engines` are there, and serve until told to stop, by a signal or by being cancelled; raises what
    `open_engines` raises, `UserError` for a model whose name cannot be printed, and `EngineError` when a model in this process has failed
    for good."""
    if engines is None:
        with ready.opened():
            engines = await open_engines(options)
    # Told to operators only, and never with a user:password part.
    behind = None if options.allow_anonymous else re.sub("//[^/]*@", "//", options.engine)
    config = replace(ready.config, behind=behind, model_here=not is_server(options.engine))
    service = Service(engines, config, ready.audit)
    try:
        _check_names(engines)
        host, port, mode = options.host, ready.listener.getsockname()[1], ready.config.mode
        log.info("serving %s at http://%s:%d/v1, guard mode %s", ", ".join(service.models()), host, port, mode)
        runner = server(create_app(service, ready.rules, ready.caps))
        await until_failure(until_told(runner, ready.listener), [service.health.lost()])
    finally:
        for engine in engines.values():
            await engine.close()


def _check_names(names: Iterable[str]) -> None:
    """Raises `UserError` for a name of a model, which a server behind or a folder may have given it, that no log and no JSON can hold."""
    for name in names:
        if not name or not name.isprintable():
            said = f"The name of a model cannot be printed: {name[:100]!a}. Give it another one with --model and --served-model-name."
            raise UserError(said)


def own_engine(options: argparse.Namespace) -> dict[str, Engine]:
    """The one model that the options name, under its name for clients; raises what `connect` raises."""
    name = options.served_model_name or options.model or model_in(options.engine) or _name(options.engine)
    return {name: connect(options.engine, **_chosen(options))}


async def open_engines(options: argparse.Namespace) -> dict[str, Engine]:
    """Model name -> engine: of the model that is named, or of all that the server lists; raises what `connect` raises, and `UserError` for
    a server that lists none."""
    target, chosen = options.engine, _chosen(options)
    if options.model is not None or model_in(target) is not None or not is_server(target):
        return own_engine(options)
    names = await _listed(target, chosen, options.wait)
    if options.served_model_name and len(names) > 1:
        raise UserError(f"The server behind has {len(names)} models: --served-model-name needs --model.")
    return {options.served_model_name or name: connect(target, model=name, **chosen) for name in names}


def _chosen(options: argparse.Namespace) -> dict[str, Any]:
    chosen: dict[str, Any] = dict(pair(text) for text in options.engine_option)
    return chosen | ({} if options.model is None else {"model": options.model})


async def _listed(target: str, chosen: dict[str, Any], patience: float) -> list[str]:
    """The models that the server behind lists; it may still be loading them, so that this waits for the first one."""
    end, pause, told = time.monotonic() + patience, FIRST_PAUSE, ""
    engine = connect(target, **chosen)
    try:
        while True:
            failure: LlavaError = UserError("The server behind lists no model: say which one with --model.")
            try:
                if names := await engine.models():  # type: ignore[attr-defined]
                    return list(names)
            except EngineError as error:
                failure = EngineError(f"{error} A server that cannot list its models needs --model.")
            if time.monotonic() >= end:
                raise failure
            if told != str(failure) and math.isfinite(patience):  # who waits for ever knows what for
                log.info("waiting for a model: %s", told := str(failure))
            await asyncio.sleep(min(pause, patience))
            pause = min(2 * pause, LAST_PAUSE)
    finally:
        await engine.close()


def _name(target: str) -> str:
    """What clients call the model: the folder's name, the hub id."""
    if is_scripted(target):
        return "scripted"
    return Path(target).resolve().name if Path(target).exists() else target


def _rules(options: argparse.Namespace) -> Rules:
    keys = Keys.read(options.api_key, "LLAVA_API_KEY")
    if not keys and not options.allow_anonymous and not is_loopback(options.host):
        raise UserError(
            f"--host {options.host} lets other machines in, but no key is set: set LLAVA_API_KEY (or --api-key), or say --allow-anonymous."
        )
    if options.max_per_key < 0:
        raise UserError("--max-per-key is not negative.")
    fix = "Start the gateway with LLAVA_API_KEY, or with --allow-anonymous."
    return Rules(keys, ADMIN, options.allow_anonymous, fix, together=options.max_per_key or None)


def _config(options: argparse.Namespace, limits: Limits) -> Config:
    if options.mode not in DEFENCES:
        raise unknown("guard mode", options.mode, DEFENCES)
    if min(options.max_running, 1 + options.max_waiting) < 1 or not 0 < options.timeout <= LONGEST:
        raise UserError("--max-running and --timeout are above 0 (--timeout at most 1e9), and --max-waiting is not negative.")
    policy = policy_named(options.policy).answering(temperature=options.temperature, max_tokens=options.max_tokens)
    return Config(
        mode=options.mode,
        allow_override=options.allow_override,
        policy=policy,
        limits=limits,
        remote=_remote(options, limits),
        seconds=options.timeout,
        deadlines=deadlines(options.deadline, STEP, ("first", "idle", "total")),
        most_running=options.max_running,
        most_waiting=options.max_waiting,
        self_test=not is_scripted(options.engine),  # it would use up a line of the script
    )


def _remote(options: argparse.Namespace, limits: Limits) -> Remote | None:
    hosts, networks = (",".join(words).split(",") for words in (options.allow_remote_images, options.allow_remote_network))
    if not any(hosts):
        if any(networks):
            raise UserError("--allow-remote-network says where the hosts of --allow-remote-images may be: name these too.")
        return None
    remote = Remote.read(filter(None, hosts), filter(None, networks))
    return replace(remote, most_bytes=limits.remote_bytes, seconds=limits.remote_seconds)
