"""The options of the web pages, which are LLaVA's and a few of ours, and what becomes of them. Knows no gradio."""

from __future__ import annotations

import argparse
import importlib.util
import logging
from dataclasses import dataclass

from llava.cluster.dial import worker_address
from llava.cluster.hosts import is_loopback
from llava.errors import UserError, unknown
from llava.serve.security import Keys, Rules

LIST_MODES = ("once", "reload")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator decides. `controller`: the engine's target; `reload`: ask for the models at each visit; `concurrency`: answers at a
    time; `share`: through gradio's tunnel too; `moderate`: ask a moderation endpoint about each question; `embed`: inside another page."""

    host: str
    port: int
    controller: str
    rules: Rules
    reload: bool = False
    concurrency: int = 16
    share: bool = False
    moderate: bool = False
    embed: bool = False


def arguments(parser: argparse.ArgumentParser, port: int = 7860, controller: str | None = "http://localhost:21001") -> None:
    """Declare them. `controller`: the default; with None the option is there, and --help does not tell it."""
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    add("--port", type=int, default=port, help=f"(default: {port}; 0: any free one)")
    where = argparse.SUPPRESS if controller is None else f"where the models are (default: {controller})"
    add("--controller-url", "--controller", default=controller, metavar="URL", help=where)
    modes = "ask for the list of models once, or at each visit (reload; default: once)"
    add("--model-list-mode", default="once", metavar="MODE", help=modes)
    add("--concurrency-count", type=int, default=16, metavar="N", help="answers at a time (default: 16); more wait")
    add("--moderate", action="store_true", help="ask a moderation endpoint about each question first; it needs OPENAI_API_KEY")
    add("--share", action="store_true", help="also through gradio's public tunnel, for those who have a key")
    add("--embed", action="store_true", help="without its heading, and allowed inside another site's page")
    keys = "a key of visitors, which their browser asks for as the password; @FILE reads them; LLAVA_API_KEY does the same"
    add("--api-key", action="append", default=[], metavar="KEY", help=keys)
    add("--allow-anonymous", action="store_true", help="serve other machines without any key")


def settings(options: argparse.Namespace) -> Settings:
    """The settings that the options say; raises `UserError`."""
    if options.model_list_mode not in LIST_MODES:
        raise unknown("model list mode", options.model_list_mode, LIST_MODES)
    if options.concurrency_count < 1:
        raise UserError("--concurrency-count is at least 1.")
    try:
        scheme, _, address = worker_address(options.controller_url).partition("://")
    except UserError:
        raise UserError("--controller looks like http://localhost:10000.") from None
    if scheme != "http":
        raise UserError(
            "--controller is asked over http only: where it is elsewhere, put a tunnel between, and give the tunnel's http:// address."
        )
    return Settings(
        host=options.host,
        port=options.port,
        controller=f"controller://{address}",
        rules=_rules(options),
        reload=options.model_list_mode == "reload",
        concurrency=options.concurrency_count,
        share=options.share,
        moderate=options.moderate,
        embed=options.embed,
    )


def url(host: str, port: int) -> str:
    """Where a page is; an address of IPv6 stands in brackets."""
    return f"http://[{host.strip('[]')}]:{port}" if ":" in host else f"http://{host}:{port}"


def prepare() -> None:
    """What a page's program does first: start the log; raises `UserError` where gradio is missing."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("httpx", "httpx2"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    if importlib.util.find_spec("gradio") is None:
        raise UserError("The web pages need gradio, which is not installed here: pip install 'llava[demo]'.")


def _rules(options: argparse.Namespace) -> Rules:
    keys = Keys.read(options.api_key, "LLAVA_API_KEY")
    if options.share and not keys:
        raise UserError("--share opens the page to the internet: set LLAVA_API_KEY (or --api-key); visitors give it as the password.")
    if not keys and not options.allow_anonymous and not is_loopback(options.host):
        raise UserError(
            f"--host {options.host} lets other machines in, but no key is set: set LLAVA_API_KEY (or --api-key), or say --allow-anonymous."
        )
    return Rules(keys, anonymous=options.allow_anonymous, fix="Start the page with LLAVA_API_KEY, or with --allow-anonymous.")
