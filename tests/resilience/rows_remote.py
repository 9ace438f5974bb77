"""Rows 41 and 42: no address in a request is ever called, and nothing of the environment makes a server call one."""

from __future__ import annotations

import asyncio
import gzip
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.resilience.bundle import PICTURE
from tests.resilience.matrix import row
from tests.resilience.stack import KEY, SECRET, Stack
from tests.resilience.talk import CHAT, ask, bearer, check_answer, question
from tests.resilience.tally import Tally, expect
from tests.serve.gateway.picture_server import PNG, Behave, answer, endless, pictures
from tests.serve.test_published_weaknesses import leaves

HOSTS = r"""
localhost 127.1 127.0.1 0 0.0.0.0 2130706433 0x7f000001 0177.0.0.1 017700000001 127.0.0.1. [::1] [::ffff:127.0.0.1]
[::] [::ffff:7f00:1] LOCALHOST 127.0.0.1.nip.io ①②⑦.⓪.⓪.① 127。0。0。1 %31%32%37.0.0.1 localhost%00.x [::1%25lo]
127.0.0.1%2f x@127.0.0.1 127.0.0.1\@x
"""


def spellings(trap: str) -> list[str]:
    """The canary's address, this machine's and others that nobody may call, in many ways."""
    host = trap.removeprefix("http://")
    port = host.split(":")[1]
    hosts = HOSTS.split()
    found = [f"http://{each}:{port}/x.png" for each in hosts]
    found += [
        f"{scheme}://{host}/x"
        for scheme in ("https", "HTTP", "ftp", "gopher", "dict", "ldap", "ws", "tftp", "jar:http", "unix", "s3", "hTTp")
    ]
    found += [
        f"http:{host}",
        f"http:/{host}",
        f"http:///{host}",
        f"//{host}",
        f"\\\\{host}\\x",
        f"http:\\\\{host}",
        f" http://{host}",
        f"http://{host}\n",
        f"http\t://{host}",
    ]
    found += [
        f"http://x@{host}",
        f"http://{host}#@x",
        f"http://{host}\\@x.example",
        f"http://x.example\\@{host}",
        f"http://{host}?.png",
        f"url({trap})",
        f"<{trap}>",
        trap,
    ]
    found += [
        f"http://{each}/"
        for each in (
            "169.254.169.254",
            "[fd00:ec2::254]",
            "10.0.0.1",
            "192.168.0.1",
            "100.64.0.1",
            "metadata.google.internal",
            "[64:ff9b::7f00:1]",
        )
    ]
    return [*found, f"data:text/html,<img src={trap}>", f"data:image/svg+xml,<svg xmlns:x='{trap}'/>", f"file://{host}/x", f"blob:{trap}"]


@row(
    41,
    "addresses in every text of every request, in many spellings: this machine, metadata services, private networks",
    "400 image_url_not_allowed for images; the canary is never called",
)
async def addresses(stack: Stack, tally: Tally) -> None:
    port, key, fields = stack.gateway.port, bearer(KEY), set()
    for address, stream in stack.share([*itertools.product(spellings(stack.trap.url), (False, True))] * 2):
        with tally.trial(f"an image at {address[:40]!r}"):
            said = await ask(port, "POST", CHAT, question("?", address, stream=stream), key)
            check_answer(said, {400}, {"image_url_not_allowed", "unsupported_image_format"})
            asked = {"model": "tiny", "prompt": "USER: <image>\n? ASSISTANT:", "images": [address]}
            said = await ask(stack.workers[0].port, "POST", "/worker_generate_stream", asked, bearer(SECRET))
            expect(b"invalid_image" in said.raw, "a worker takes it")
    for at, (path, body) in enumerate(stack.share(_planted(stack.trap.url))):
        fields.add(at)
        with tally.trial(f"an address in a field of {path}"):
            check_answer(await ask(port, "POST", path, body, key), {200, 400, 404})
    for name in (
        "x-request-id",
        "x-forwarded-host",
        "x-forwarded-for",
        "referer",
        "origin",
        "x-original-url",
        "host",
        "destination",
        "user-agent",
        "traceparent",
    ):
        with tally.trial(f"an address in {name}"):
            check_answer(await ask(port, "POST", CHAT, question("?"), {**key, name: stack.trap.url}), {200, 400, 401, 403})
    with tally.trial("the canary"):
        expect(not stack.trap.hits, f"it was called {len(stack.trap.hits)} times")
    tally.figures |= {"spellings": str(len(spellings(stack.trap.url))), "fields": str(len(fields))}


def _planted(address: str) -> Iterator[tuple[str, dict[str, Any]]]:
    turn = question("?", PICTURE)["messages"]
    chat = {
        "model": "tiny",
        "messages": turn,
        "user": "u",
        "metadata": {"a": "b"},
        "stop": ["x"],
        "safety_identifier": "x",
        "prompt_cache_key": "x",
    }
    for path, body in (
        (CHAT, chat | {"service_tier": "auto"}),
        ("/v1/guard/check", {"model": "tiny", "messages": turn, "answer": "a"}),
        ("/v1/moderations", {"model": "tiny", "input": ["a"], "messages": turn}),
    ):
        yield from ((path, changed) for changed in leaves(body, address))


BEHAVIOURS: dict[str, Callable[[str], Behave]] = {
    "301 to the canary": lambda trap: answer(b"", f"location: {trap}", "content-length: 0", status="301 Moved"),
    "302 to the canary": lambda trap: answer(b"", f"location: {trap}/x.png", "content-length: 0", status="302 Found"),
    "307 to the canary": lambda trap: answer(b"", f"location: //{trap[7:]}", "content-length: 0", status="307 Temporary"),
    "308 to the canary": lambda trap: answer(b"", f"location: {trap}", "content-length: 0", status="308 Permanent"),
    "refresh": lambda trap: answer(b"x", f"refresh: 0;url={trap}", "content-length: 1"),
    "a page that redirects": lambda trap: answer(f"<meta http-equiv=refresh content='0;url={trap}'>".encode()),
    "an SVG that loads": lambda trap: answer(f"<svg xmlns:x='{trap}'><image href='{trap}'/></svg>".encode(), "content-type: image/svg+xml"),
    "404": lambda _: answer(b"no", "content-length: 2", status="404 Not Found"),
    "500": lambda _: answer(b"no", "content-length: 2", status="500 Broken"),
    "nothing": lambda _: lambda connection, _head: None,
    "no HTTP": lambda _: lambda connection, _head: connection.sendall(b"SSH-2.0-x\r\n"),
    "a length that is too long": lambda _: answer(PNG, f"content-length: {len(PNG) + 9}"),
    "a length that is too short": lambda _: answer(PNG, "content-length: 20"),
    "a length of terabytes": lambda _: answer(PNG, f"content-length: {10**13}"),
    "a bomb of zeros": lambda _: answer(gzip.compress(bytes(50 * 2**20)), "content-encoding: gzip"),
    "a body without end": lambda _: endless(bytes(2**16)),
    "a drip": lambda _: endless(b"x", 0.5),
    "a head without end": lambda _: lambda connection, _head: connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 10**5),
}


@row(
    42,
    "fetching switched on: redirects, bombs, bodies without end, drips, wrong lengths; proxies, .netrc, certificates of the environment",
    "400; only the named host is called; no credentials leave",
)
async def switched_on(stack: Stack, tally: Tally) -> None:
    home = Path(stack.folder / "home")
    home.mkdir(exist_ok=True)
    (home / ".netrc").write_text("machine 127.0.0.1 login x password netrc-secret\n", encoding="utf-8")
    (home / ".netrc").chmod(0o600)
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"), stack.trap.url)
    with ExitStack() as held:
        server = held.enter_context(pictures(answer(PNG)))
        broken = {name: held.enter_context(pictures(behave(stack.trap.url))) for name, behave in stack.share(BEHAVIOURS.items())}
        host, *hosts = (f"http://127.0.0.1:{each.port}" for each in (server, *broken.values()))
        allowed = ["--allow-remote-images", ",".join((host, *hosts)), "--allow-remote-network", "127.0.0.0/8", "--cap", "remote_seconds=3"]
        gateway = await stack.new_gateway(
            *allowed, environment={**proxies, "HOME": str(home), "REQUESTS_CA_BUNDLE": "/no", "NO_PROXY": " "}
        )
        for number in range(stack.many(12, 1)):
            picture = f"{number}.png"
            await asyncio.gather(*(_broken(tally, gateway.port, f"{at}/{picture}", name) for name, at in zip(broken, hosts, strict=True)))
        for number in range(stack.many(100, 6)):
            with tally.trial("a picture by its address"):
                check_answer(await ask(gateway.port, "POST", CHAT, question("?", f"{host}/{number}.png"), bearer(KEY)), {200})
        fetches = sum(len(each.asked) for each in (server, *broken.values()))
        for address in stack.share(spellings(host)):
            with tally.trial(f"another spelling {address[:40]!r}"):
                said = await ask(gateway.port, "POST", CHAT, question("?", address), bearer(KEY))
                expect((said.status == 200 and address.lower().startswith(host)) or said.status == 400, f"status {said.status}")
        for address in (stack.trap.url, "http://169.254.169.254/", f"{host[:-1]}", f"http://x@{host[7:]}/", f"{host}@127.0.0.1/"):
            with tally.trial(f"an address that is not on the list {address[:40]!r}"):
                check_answer(await ask(gateway.port, "POST", CHAT, question("?", address), bearer(KEY)), {400}, {"image_url_not_allowed"})
        with tally.trial("no credentials leave"):
            heads = [head for each in (server, *broken.values()) for head in each.asked]
            expect(not any(word in head for head in heads for word in ("netrc-secret", KEY, "authorization")), "they do")
        tally.figures |= {
            "fetches": str(fetches),
            "names that change their address, and certificates": "tests/serve/gateway/test_remote.py",
        }
        gateway.kill()
    with tally.trial("the canary"):
        expect(not stack.trap.hits, f"it was called {len(stack.trap.hits)} times")


async def _broken(tally: Tally, port: int, address: str, name: str) -> None:
    with tally.trial(f"a picture's server: {name}"):
        asked = await ask(port, "POST", CHAT, question("?", address), bearer(KEY))
        check_answer(asked, {400}, {"image_fetch_failed", "invalid_image"})
