"""Say who answers at an address, what stands behind it, what is wrong, and what to do about it.

    llava doctor http://localhost:8000                 # a gateway, and on from there to its controller, workers and models
    llava doctor http://gate:8000 http://hub:10000 --secret @/etc/llava/secret       # keys go to addresses that are given only
    llava doctor https://host/v1 --model NAME --json   # any OpenAI-compatible server

It asks each model three short, harmless questions and changes nothing. Exit code 0: all is well; 1: something is wrong; 2: the command is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from llava.cli import program
from llava.cluster.secret import CLUSTER_SECRET, lines, texts
from llava.doctor.report import FAULTS, Finding, Report
from llava.doctor.walk import Credentials, examine
from llava.ecso.text import printable
from llava.errors import UserError, unknown

LEAST_SECRET = 4  # characters: what is shorter is a placeholder for a server that wants no key
MARKS = {"fine": "ok", "note": "note", "wrong": "WRONG"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("urls", nargs="+", metavar="URL", help="of a gateway, controller, worker or OpenAI-compatible server; several: one by one")
    add("--key", metavar="KEY", help="of a gateway's client; @FILE reads it (default: LLAVA_API_KEY; OPENAI_API_KEY for other servers)")
    add("--secret", metavar="TEXT", help="of the cluster; @FILE reads it (default: LLAVA_CLUSTER_SECRET)")
    add("--model", metavar="NAME", help="ask this model only")
    add("--timeout", type=float, default=60.0, metavar="SECONDS", help="for one answer of a model (default: 60)")
    add(
        "--accept",
        action="append",
        default=[],
        metavar="CODE",
        help="a fault that is meant to be so, such as no_logprobs; --json tells codes",
    )
    add("--json", action="store_true", help="print the findings as JSON")


def run(options: argparse.Namespace) -> int:
    """Examine and print."""
    for code in options.accept:
        if code not in FAULTS:
            raise unknown("fault", code, FAULTS)
    if not 0 < options.timeout <= 3600:
        raise UserError("--timeout is a number of seconds above 0, at most 3600.")
    credentials = Credentials(
        key=_first(options.key, "LLAVA_API_KEY"),
        secret=_first(options.secret, CLUSTER_SECRET),
        foreign=_first(options.key, "OPENAI_API_KEY"),
    )
    logging.getLogger("llava").addHandler(logging.NullHandler())  # what the engines warn of is a finding here
    chosen = {"model": options.model, "seconds": options.timeout, "accepted": options.accept}
    report = asyncio.run(examine(*options.urls, credentials=credentials, **chosen))
    hidden = [secret for secret in credentials.given() if len(secret) >= LEAST_SECRET]
    print(json.dumps(_without(report.to_dict(), hidden), indent=1) if options.json else _without("\n".join(_lines(report)), hidden))
    return 0 if report.well else 1


def _without(shown: Any, secrets: Sequence[str]) -> Any:
    """What is shown, as text or as JSON, without secrets: a server may say again what it was told."""
    if isinstance(shown, str):
        for secret in secrets:
            shown = shown.replace(secret, "***")
    elif isinstance(shown, dict):
        return {name: _without(value, secrets) for name, value in shown.items()}
    elif isinstance(shown, list | tuple):
        return [_without(value, secrets) for value in shown]
    return shown


def _first(option: str | None, variable: str) -> str | None:
    """The key that a caller shows: the first one, without the right that a server's list of keys may give it."""
    given = texts(variable) if option is None else [text for text in [option.strip()] if text]
    if not given:
        return None
    key = lines(given[0])[0].removeprefix("admin:")
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(f"What {'the option' if option is not None else variable} holds is no key: it has visible ASCII characters only.")
    return key


def _lines(report: Report) -> Iterable[str]:
    for site in report.sites:
        yield printable(f"{site.url}: {site.what}" if site.what else site.url)
        for finding in site.findings:
            yield from _finding(finding, finding.code in report.accepted)
    count = len(report.wrong)
    yield "All is well." if report.well else f"{count} {'thing is' if count == 1 else 'things are'} wrong."


def _finding(finding: Finding, accepted: bool) -> Iterable[str]:
    mark = "note" if accepted and finding.level == "wrong" else MARKS[finding.level]
    yield f"  {mark:6} {printable(finding.said)}{' (accepted)' if accepted and finding.level == 'wrong' else ''}"
    if mark == "WRONG":
        yield f"         {finding.advice}"


if __name__ == "__main__":
    sys.exit(program("doctor", "python -m llava.doctor"))
