"""Small worlds in which exactly one thing is wrong: real servers of ours on loopback, and raw sockets for programs that are none."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx2
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llava.chat import Call, Reply
from llava.cluster.wire import Status
from llava.doctor import Credentials
from llava.engines import ScriptedEngine
from llava.engines.base import Engine
from llava.engines.scripted import Line
from llava.errors import EngineError, UserError
from llava.serve import controller, model_worker
from llava.serve.app import listen
from llava.serve.gateway.routes import ADMIN, create_app
from llava.serve.gateway.service import Config, Service
from llava.serve.opening import opened
from llava.serve.registry import Registry
from llava.serve.security import Keys, Right, Rules
from llava.serve.worker import Bounds, Worker
from tests.loopback import free_port
from tests.openai_server import Behaviour, openai_server
from tests.serve.cluster import VICUNA, listening

KEY, SECRET, WRONG = "client-key-1", "cluster-secret-1", "another-key-1"
KEYS = Keys([(KEY, Right.INFERENCE), (SECRET, Right.ADMIN)])
CERTIFICATE = Path(__file__).parent / "certificate.pem"  # self-signed, for localhost; its key is in the same file and guards nothing
PICTURE = 576  # tokens


@dataclass
class Scene:
    """What to examine, and with what."""

    url: str
    credentials: Credentials = field(default_factory=Credentials)
    seconds: float = 30.0
    model: str | None = None


def sound(call: Call) -> Reply:
    """A model that does all that it should."""
    said = "No" if call.step in ("check", "recheck") else "Four."
    return Reply(said, 10 + PICTURE * len(call.chat.images), 1, first_logprobs={"No": -0.1, "Yes": -2.4})


def broken(*steps: str) -> Callable[[Call], Line]:
    """A model that fails at these steps; with none, always."""
    return lambda call: EngineError("The model failed.") if call.step in steps or not steps else sound(call)


def blind(call: Call) -> Line:
    """Does not see images, and does not say so."""
    return Reply(sound(call).text, 10, 1, first_logprobs={"No": -0.1})


def without_logprobs(call: Call) -> Line:
    reply = sound(call)
    return Reply(reply.text, reply.prompt_tokens, 1)


def without_images(call: Call) -> Line:
    return UserError("The model takes no images.") if call.chat.images else sound(call)


@asynccontextmanager
async def gateway(
    script: Engine | Callable[[Call], Line] = sound, config: Config | None = None, keys: Keys | None = None, **more: Any
) -> AsyncIterator[str]:
    """A gateway; its address."""
    engine = script if isinstance(script, Engine) else ScriptedEngine(script)
    service = Service({"tiny": engine}, config or Config(self_test=False, **more))
    async with listening(create_app(service, Rules(keys or Keys(), ADMIN))) as url:
        yield url


@asynccontextmanager
async def worker(
    script: Callable[[Call], Line] = sound, keys: Keys | None = None, bounds: Bounds | None = None, delay: float = 0.0
) -> AsyncIterator[str]:
    """A worker; its address."""
    core = Worker(ScriptedEngine(script, delay=delay), ("tiny",), VICUNA, bounds)
    async with listening(model_worker.create_app(core, model_worker.Config(keys or Keys()))) as url:
        yield url


@asynccontextmanager
async def hub(*addresses: str, keys: Keys | None = None, age: float = 0.0) -> AsyncIterator[str]:
    """A controller with workers registered under these addresses, whose last beat was `age` seconds ago."""
    registry = Registry()
    for address in addresses:
        registry.register(address, Status(("tiny",)), 0.0)
    async with listening(controller.create_app(registry, controller.Config(keys or Keys(), clock=lambda: age))) as url:
        yield url


@asynccontextmanager
async def whole(age: float = 0.0) -> AsyncIterator[str]:
    """Controller and worker, sound."""
    async with worker() as address, hub(address, age=age) as url:
        yield url


@asynccontextmanager
async def saying(answer: bytes, hold: bool = False, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A program that says this to whoever connects, without listening first; `hold`: and keeps the connection. Gives host:port."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            writer.write(answer)
            await writer.drain()
            if hold:
                await reader.read()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
    try:
        yield f"localhost:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def tls() -> ssl.SSLContext:
    """A server's side of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


def http(status: int, *headers: str) -> bytes:
    """An answer of some web server."""
    return "\r\n".join([f"HTTP/1.1 {status} Something", "Server: nginx", *headers, "Content-Length: 0", "", ""]).encode()


def stranger(status: int = 404) -> ASGIApp:
    """A web server that knows none of our paths."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": [(b"server", b"nginx")]})
        await send({"type": "http.response.body", "body": b"<html>"})

    return app


def dated(app: ASGIApp, ahead: float) -> ASGIApp:
    """`app` on a machine whose clock is wrong."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def late(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"date", formatdate(time.time() + ahead, usegmt=True).encode())]}
            await send(message)

        await app(scope, receive, late)

    return wrapped


@asynccontextmanager
async def misdated() -> AsyncIterator[str]:
    core = Worker(ScriptedEngine(sound), ("tiny",), VICUNA)
    async with listening(dated(model_worker.create_app(core, model_worker.Config()), 3600)) as url:
        yield url


@asynccontextmanager
async def loading(**forms: Any) -> AsyncIterator[str]:
    """A gateway whose model is not there yet, or a worker."""
    with listen("127.0.0.1", 0) as listener, opened(listener, Rules(Keys(), ADMIN), **forms):
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@asynccontextmanager
async def full() -> AsyncIterator[str]:
    """A worker with one place, which is taken."""
    async with worker(lambda _: "word " * 10_000, bounds=Bounds(running=1, waiting=0), delay=0.05) as url, httpx2.AsyncClient() as client:
        asked = {"prompt": "USER: x ASSISTANT:", "stop": "</s>"}
        async with client.stream("POST", f"{url}/worker_generate_stream", json=asked, timeout=60) as answer:
            pieces = answer.aiter_bytes()  # kept: without it the call would end
            await anext(pieces)
            yield url


Build = Callable[[AsyncExitStack], Awaitable[Scene]]


def at(make: Callable[[], Any], *, scheme: str = "", host: str = "127.0.0.1", **more: Any) -> Build:
    """A scene at the address that `make`'s context gives, with another scheme or name of the host."""

    async def build(stack: AsyncExitStack) -> Scene:
        url = (await stack.enter_async_context(make())).replace("127.0.0.1", host)
        return Scene(scheme + url.removeprefix("http://") if scheme else url, **more)

    return build


def plain(url: str) -> Build:
    """A scene where there is nothing to build."""

    async def build(_: AsyncExitStack) -> Scene:
        return Scene(url)

    return build


async def unreachable_worker(stack: AsyncExitStack) -> Scene:
    return Scene(await stack.enter_async_context(hub(f"http://127.0.0.1:{free_port()}")))


async def no_models(stack: AsyncExitStack) -> Scene:
    return Scene(stack.enter_context(openai_server(Behaviour(models=[]))).url)


async def local_worker(stack: AsyncExitStack) -> Scene:
    """A controller that the doctor knows under a name that is not this machine's own, and a worker that registered as localhost."""
    address = await stack.enter_async_context(worker())
    url = await stack.enter_async_context(hub(address, keys=KEYS))
    return Scene(url.replace("127.0.0.1", "2130706433"), Credentials(secret=SECRET))


def failing_self_test(call: Call) -> Line:
    """Fails at the answer that the gateway's self-test asks about, and at no other."""
    if call.step == "answer":
        return replace(sound(call), text="It is 4.")
    return EngineError("The model failed.") if "Four." in call.chat.question else sound(call)


# The code of a fault -> a world in which it is the only one.
SCENES: dict[str, Build] = {
    "unknown_host": plain("http://[fe80::1%nosuchinterface]:8000"),
    "refused": plain(f"http://127.0.0.1:{free_port()}"),
    "unreachable": plain("http://255.255.255.255:80"),
    "silent": at(lambda: saying(b"", hold=True)),
    "not_http": at(lambda: saying(b"SSH-2.0-OpenSSH_9.9\r\n")),
    "other_program": at(lambda: listening(stranger())),
    "behind_proxy": at(lambda: saying(http(502))),
    "redirect": at(lambda: saying(http(301, "Location: https://elsewhere.example/"))),
    "needs_tls": at(lambda: saying(b"", context=tls())),
    "no_tls": at(worker, scheme="https://"),
    "certificate": at(lambda: saying(b"", context=tls()), scheme="https://"),
    "loopback_only": at(lambda: gateway(), host="0.0.0.0"),
    "key_missing": at(lambda: gateway(keys=KEYS)),
    "key_wrong": at(lambda: gateway(keys=KEYS), credentials=Credentials(key=WRONG, secret=SECRET)),
    "secret_missing": at(lambda: worker(keys=KEYS), credentials=Credentials(key=KEY)),
    "secret_wrong": at(lambda: hub(keys=KEYS), credentials=Credentials(secret=WRONG)),
    "loading": at(loading),
    "not_ready": at(lambda: gateway(failing_self_test, Config())),
    "no_models": no_models,
    "no_worker": at(hub),
    "worker_unreachable": unreachable_worker,
    "worker_local_address": local_worker,
    "heart_beat_stale": at(lambda: whole(age=25.0)),
    "queue_full": at(full),
    "model_fails": at(lambda: worker(broken())),
    "model_slow": at(lambda: worker(delay=60.0), seconds=0.5),
    "images_refused": at(lambda: gateway(without_images)),
    "images_unseen": at(lambda: gateway(blind)),
    "no_logprobs": at(lambda: worker(without_logprobs)),
    "guard_fails": at(lambda: gateway(broken("check"))),
    "guard_off": at(lambda: gateway(mode="off")),
    "guard_shadow": at(lambda: gateway(mode="shadow")),
    "clock": at(misdated),
}
