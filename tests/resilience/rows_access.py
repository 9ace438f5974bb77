"""Rows 37 to 40 and 43: who gets in, what a worker may become, other sites, files, other people's answers."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import secrets
from typing import Any

from PIL import Image as PIL

from tests.factories import encoded
from tests.resilience.matrix import row
from tests.resilience.rows_images import seen, show, url
from tests.resilience.stack import ADMIN, KEY, SECRET, Stack
from tests.resilience.talk import CHAT, Answer, ask, bearer, check_answer, question, send
from tests.resilience.tally import Tally, expect, quantile
from tests.serve.canary import SECRET_TEXT

OPEN = {"/health", "/ready"}
_CONTROLLER = "register_worker unregister_worker refresh_all_workers receive_heart_beat list_models get_worker_address worker_get_status"
_GATEWAY = "version metrics openapi.json docs redoc v1/models v1/chat/completions v1/guard/check v1/moderations admin .env"
PATHS = {  # those that there are, and those that clients and scanners try
    "gateway": _GATEWAY,
    "controller": f"{_CONTROLLER} worker_generate_stream test_connection docs",
    "worker": "worker_get_status worker_generate_stream worker_get_conv_template model_details count_token docs",
}
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "PROPFIND")
SPELLINGS = (
    "//health",
    "/health/",
    "/HEALTH",
    "/health%2f",
    "/health;x",
    "/./health",
    "/health/../v1/models",
    "http://x/health",
    "/health%00",
    "*",
)


def keys() -> list[list[str]]:
    """Header lines that are no key of anybody."""
    wrong = [
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY}x",
        f"Bearer {KEY.upper()}",
        f"Basic {KEY}",
        KEY,
        f"Token {KEY}",
        f"Bearer {KEY},{KEY}",
    ]
    wrong += [f"Bearer {'x' * 9000}", "Bearer schlüssel", "Bearer null", "Bearer undefined", f"Bearer\t{KEY}\x0bx", f"Bearer {KEY} {KEY}"]
    lines = [[f"authorization: {value}"] for value in wrong] + [[], [f"authorization: Bearer {KEY}"] * 2]
    lines += [[f"{name}: {KEY}"] for name in ("x-api-key", "api-key", "cookie", "proxy-authorization", "x-forwarded-authorization", "key")]
    return [*lines, ["x-forwarded-for: 127.0.0.1", "x-original-url: /health"], ["x-http-method-override: GET", "x-rewrite-url: /ready"]]


@row(
    37,
    "every route x method without a key, with a wrong, short, long, doubled one; host tricks, other spellings of open paths",
    "the same 401; two paths are open",
)
async def no_key(stack: Stack, tally: Tally) -> None:
    for running in (stack.gateway, stack.controller, stack.workers[0]):
        paths = ("/", *(f"/{path}" for path in PATHS[running.name].split()), *SPELLINGS)
        refusals: set[bytes] = set()
        for path, method, lines in stack.share(itertools.product(paths, METHODS, keys())):
            with tally.trial(f"{running.name} {method} {path} {lines[:1]}"):
                refusal = _closed(await send(running.port, _request(method, path, lines)), "".join(lines))
                refusals |= {refusal} if refusal and method != "HEAD" else set()
        for host in ("", "evil.example", "localhost@evil", "127.0.0.1/health", "[::1", "a, b", "x\x7f"):
            with tally.trial(f"host {host}"):
                refusals |= {_closed(await send(running.port, _request("GET", "/v1/models", [], host)), host)} - {b""}
        with tally.trial("all refusals are the same"):
            expect(len(refusals) == 1, f"{len(refusals)} kinds: {sorted(refusals)[:2]}")
        for path in OPEN:
            with tally.trial(f"{path} is open"):
                expect((await send(running.port, _request("GET", path, []))).status == 200, "it is closed")
    with tally.trial("a user's key reads no metrics"):
        check_answer(await ask(stack.gateway.port, "GET", "/metrics", None, bearer(KEY)), {403}, {"admin_only"})
    await _timing(stack, tally)


def _closed(answer: Answer, sent: str) -> bytes:
    """The 401 without its date and id; nothing for the 400 that the protocol itself has for control characters."""
    if answer.status == 400 and not sent.replace("\t", "").isprintable():
        return b""
    expect(answer.status == 401, f"status {answer.status}")
    return re.sub(rb"(?im)^(date|x-request-id): .*\r\n", b"", answer.raw)


def _request(method: str, path: str, lines: list[str], host: str = "127.0.0.1") -> bytes:
    head = [f"{method} {path} HTTP/1.1", f"host: {host}", "connection: close", "content-length: 0", *lines]
    return "\r\n".join([*head, "", ""]).encode()


async def _timing(stack: Stack, tally: Tally) -> None:
    """A key that begins rightly takes as long to refuse as one that does not."""
    took: dict[str, list[float]] = {KEY[:-1] + "!": [], "x" * len(KEY): []}
    for _ in range(stack.many(1000, 40)):
        for key in took:
            took[key].append((await send(stack.gateway.port, _request("GET", "/v1/models", [f"authorization: Bearer {key}"]))).seconds)
    right, wrong = (quantile(seconds, 0.5) for seconds in took.values())
    tally.figures["refusing a right beginning / a wrong one"] = f"{right / wrong:.2f}"


@row(
    38,
    "registering, beating, leaving, refreshing without the secret or with a user's key; bad status; foreign addresses",
    "401, 403, 400; no call goes out; routing is unchanged",
)
async def registering(stack: Stack, tally: Tally) -> None:
    hub = stack.controller.port
    rogue = {"model_names": ["tiny"], "speed": 1e6, "queue_length": 0}
    strangers: tuple[dict[str, str], ...] = ({}, bearer("x" * 20), bearer(KEY), bearer(SECRET[:-1]), {"x-cluster-secret": SECRET})
    calls: list[tuple[str, dict[str, Any]]] = [
        ("/register_worker", {"worker_name": stack.trap.url, "check_heart_beat": True, "worker_status": rogue})
    ]
    calls += [("/register_worker", {"worker_name": stack.trap.url, "check_heart_beat": False})]
    calls += [
        (path, {"worker_name": stack.workers[0].url, "queue_length": 99999})
        for path in ("/receive_heart_beat", "/unregister_worker", "/refresh_all_workers")
    ]
    for headers, (path, body) in stack.share([*itertools.product(strangers, calls)] * 8):
        with tally.trial(f"a stranger: {path}"):
            expect((await ask(hub, "POST", path, body, headers)).status in (401, 403), "let in")
    names: list[Any] = [
        None,
        3,
        [],
        "",
        "x",
        "ftp://x",
        "http://",
        "http://x y",
        "http://u:p@x",
        "http://x/path",
        "http://x#y",
        "http://x?y",
        "http://x\r\ny",
        "http://x:99999",
    ]
    status: list[Any] = [
        "x",
        [],
        {},
        *({**rogue, "speed": speed} for speed in (0, -1, "1", True, None, 1e308)),
        *({**rogue, "model_names": m} for m in ("tiny", [], [3], [""], ["a\nb"], ["x"] * 101)),
    ]
    status += [{**rogue, "queue_length": length} for length in (-1, 1.5, "0", True, 10**9)]
    good = {"worker_name": "http://127.0.0.1:9", "worker_status": rogue}
    bad = [{**good, "worker_name": name} for name in names] + [{**good, "worker_status": each} for each in status]
    for body in stack.share(bad * 4):
        with tally.trial(f"a bad registration {str(body)[:60]}"):
            check_answer(await ask(hub, "POST", "/register_worker", body, bearer(SECRET)), {400})
    addresses = {worker.url for worker in stack.workers}
    for _ in range(stack.many(100, 10)):
        with tally.trial("routing is unchanged"):
            picked = (await ask(hub, "POST", "/get_worker_address", {"model": "tiny"}, bearer(SECRET))).json()["address"]
            expect(picked in addresses, "a stranger is asked")
    await _beats(stack)


async def _beats(stack: Stack) -> None:
    await asyncio.sleep(1.5)  # the workers say themselves how much they have to do


@row(39, "other origins, null, sub- and superdomains; simple requests of web pages", "no Access-Control header; 415 for text/plain")
async def other_sites(stack: Stack, tally: Tally) -> None:
    origins = [
        "null",
        "https://evil.example",
        "http://localhost:1",
        "http://127.0.0.1",
        "https://127.0.0.1.evil.example",
        "http://evil.127.0.0.1",
        "file://",
        "*",
    ]
    for origin, method, key in stack.share([*itertools.product(origins, ("GET", "POST", "OPTIONS"), ({}, bearer(KEY)))] * 6):
        with tally.trial(f"{method} from {origin}"):
            more = {"origin": origin, "access-control-request-method": "POST", "access-control-request-headers": "authorization", **key}
            answer = await ask(stack.gateway.port, method, CHAT, question("?") if method == "POST" else None, more)
            expect(answer.status in ({401} if not key else {200} if method == "POST" else {404, 405}), f"status {answer.status}")
            expect(not [name for name in answer.headers if name.startswith("access-control")], "it lets a page read")
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data") * stack.many(10, 1):
        with tally.trial(f"a page posts {kind}"):
            check_answer(await ask(stack.gateway.port, "POST", CHAT, question("?"), {**bearer(KEY), "content-type": kind}), {415})


@row(
    40,
    "reading files: /file=, file://, .., encoded, absolute, links, other case; as paths and as images",
    "404 or 400, alike for files that are there; the file is never read",
)
async def files(stack: Stack, tally: Tally) -> None:
    there, missing = stack.folder / "there.txt", stack.folder / "missing.txt"
    there.write_text(SECRET_TEXT, encoding="utf-8")
    (stack.folder / "link.png").symlink_to(there)
    told: dict[tuple[str, str], set[bytes]] = {}
    for file in (there, missing, stack.folder / "link.png"):
        for form in (
            "/file={}",
            "/file{}",
            "/gradio_api/file={}",
            "/static{}",
            "/..{}",
            "/%2e%2e{}",
            "/%2e%2e%2f..{}",
            "{}",
            "/..\\..{}",
            "/v1/models/..{}",
            "/file=file://{}",
        ):
            path = form.format(file)
            for running in (stack.gateway, stack.controller, stack.workers[0]):
                with tally.trial(path):
                    key = bearer(SECRET if running is not stack.gateway else ADMIN)
                    answer = await send(running.port, _request("GET", path, [f"authorization: {key['authorization']}"]))
                    expect(answer.status in (400, 404), f"status {answer.status}")
                    expect(SECRET_TEXT.encode() not in answer.raw and "location" not in answer.headers, "it was read")
                    told.setdefault((form, running.name), set()).add(answer.body)
        for name in (
            str(file),
            file.as_uri(),
            f"../../{file}",
            f"FILE://{file}",
            f"data:{file}",
            f"data:image/png;base64,{file}",
            f"//{file}",
        ):
            for _ in range(stack.many(6, 1)):
                with tally.trial(f"as an image: {name[:12]}"):
                    check_answer(await show(stack, name), {400})
                    asked = {"model": "tiny", "prompt": "USER: <image>\n? ASSISTANT:", "images": [name]}
                    answer = await ask(stack.workers[0].port, "POST", "/worker_generate_stream", asked, bearer(SECRET))
                    expect(b"invalid_image" in answer.raw and SECRET_TEXT.encode() not in answer.raw, "it was read")
    for (form, name), bodies in told.items():
        with tally.trial(f"what {name} says of {form}"):
            expect(len(bodies) == 1, "it tells which file is there")


@row(
    43,
    "200 clients at a time, each with a picture and a word; pictures whose bytes are equal and whose shape is not",
    "nobody gets what belongs to another",
)
async def tenants(stack: Stack, tally: Tally) -> None:
    chance = random.Random(3)

    async def one(number: int) -> None:
        shape = ((2, 8), (4, 4), (8, 2), (16, 1))[number % 4]
        pixels = (b"\1\2\3" * 16) if number % 2 else chance.randbytes(48)
        picture = PIL.frombytes("RGB", shape, pixels)
        await seen(stack, tally, f"a picture of {shape} {number % 2}", encoded(picture, "PNG"), picture)
        word = secrets.token_hex(8)
        with tally.trial("a word"):
            answer = await ask(stack.gateway.port, "POST", CHAT, question(f"echo({word})", url(encoded(picture, "PNG"))), bearer(KEY))
            check_answer(answer, {200})
            expect(answer.text.split()[-1] == word, "another's word")

    for _ in range(stack.many(5, 1)):
        await asyncio.gather(*(one(number) for number in range(stack.many(200, 40) if stack.scale < 1 else 200)))
    for path in ("/v1/chat/completions/chatcmpl-0", "/v1/abort", "/abort_request", "/v1/responses/x/cancel", "/cancel"):
        with tally.trial(f"there is no {path}"):
            check_answer(await ask(stack.gateway.port, "POST", path, {"id": "chatcmpl-", "rid": ""}, bearer(KEY)), {404})
