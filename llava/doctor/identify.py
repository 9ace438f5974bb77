"""Who answers at an address, found out without showing a key; then whether the key fits. Knows the first paths of each kind of process."""

from __future__ import annotations

import json
import time
from email.utils import parsedate_to_datetime
from typing import Literal

from llava import __version__
from llava.doctor.reach import Head, is_ours
from llava.doctor.report import Site, Trouble
from llava.doctor.web import Answer, Web

Kind = Literal["gateway", "cluster", "controller", "worker", "foreign"]
SKEW = 30.0  # seconds between two clocks that are no fault


async def identify(head: Head, web: Web) -> Kind:
    """Who wrote `head`, the answer to GET /health; "cluster" is a controller or a worker of ours. `web` has no key.

    Raises `Trouble` for a stranger.
    """
    if 300 <= head.status < 400:
        raise Trouble("redirect", f"{web.address.place} redirects to {head.headers.get('location', 'another address')[:200]}.")
    if is_ours(head):
        if head.status == 403:
            raise Trouble("loopback_only", "No key is set there, so that it serves programs of its own machine only.")
        if head.status == 404:
            raise Trouble("other_program", f"A server of llava answers, which has nothing at {web.address.prefix}/health.")
        return "cluster" if _is_fine(head) else "gateway"
    if head.status in (502, 503, 504):
        server = head.headers.get("server", "a proxy")[:60]
        raise Trouble("behind_proxy", f"{server} answers with {head.status}: what stands behind it does not answer.")
    found = await web.get("/v1/models")
    if (found.status == 200 and isinstance(found.fields.get("data"), list)) or (found.status in (401, 403) and "error" in found.fields):
        return "foreign"
    if isinstance((await web.post("/list_models", {})).fields.get("models"), list):
        return "controller"
    if isinstance((await web.post("/worker_get_status", {})).fields.get("model_names"), list):
        return "worker"
    server = head.headers.get("server", "")[:60]
    named = f" ({server})" if server else ""
    raise Trouble("other_program", f"A web server answers{named}, but it is no gateway, controller, worker or OpenAI-compatible server.")


def check_clock(site: Site, head: Head) -> None:
    """Compare the other machine's clock, as its answer tells it, with this one's."""
    try:
        theirs = parsedate_to_datetime(head.headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return  # it tells no time
    ahead = theirs - time.time()
    if abs(ahead) > SKEW:
        site.wrong("clock", f"Its clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's.")


async def check_version(site: Site, web: Web) -> None:
    """Compare its version of llava with this one; a gateway tells it to GET, a process of the cluster, as all it tells, to POST."""
    found = await web.get("/version")
    if found.status == 405:
        found = await web.post("/version", {})
    version = found.fields.get("version")
    if found.status != 200 or not isinstance(version, str):
        return
    if version == __version__:
        site.fine("version", f"It is llava {version}, as here.")
    else:
        site.wrong("version", f"It is llava {version[:40]}; here is {__version__}.")


def check_let_in(answer: Answer, web: Web, what: Literal["key", "secret"]) -> None:
    """Raises `Trouble` where the key, or the cluster's secret, was not accepted."""
    if answer.status == 403 and answer.code == "loopback_only":
        raise Trouble("loopback_only", "No key is set there, so that it serves programs of its own machine only.")
    if answer.status not in (401, 403) or answer.code == "admin_only":
        return
    named = "cluster secret" if what == "secret" else "key"
    if web.key:
        raise Trouble(f"{what}_wrong", f"It does not accept the {named} that was given.")
    if web.withheld:
        said = f"It asks for a {named}, and none is shown to an address that only another process tells: give {web.address.url} too."
        raise Trouble(f"{what}_missing", said)
    raise Trouble(f"{what}_missing", f"It asks for a {named}, and none is given here.")


def check_loaded(answer: Answer) -> None:
    """Raises `Trouble` while a process of ours has no model yet."""
    if answer.code == "model_loading":
        raise Trouble("loading", "It lives, and its model is still being loaded.")


def _is_fine(head: Head) -> bool:
    try:
        return bool(json.loads(head.body) == {"status": "ok"})
    except ValueError:
        return False
