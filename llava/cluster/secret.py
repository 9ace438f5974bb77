"""Keys as texts, from an option, a variable or a file, so that none need stand in a process list. Knows no right and no server."""

from __future__ import annotations

import os
from pathlib import Path

from llava.errors import UserError

CLUSTER_SECRET = "LLAVA_CLUSTER_SECRET"
LEAST_KEY = 8  # characters


def texts(variable: str) -> list[str]:
    """What an environment variable holds, separated by commas; raises `UserError` where it is set to nothing but blanks: whoever sets it
    means a key, and without one everything would be open."""
    value = os.environ.get(variable, "")
    found = [text.strip() for text in value.split(",") if text.strip()]
    if value and not found:
        raise UserError(f"{variable} is set and holds no key: give it one, or unset it.")
    return found


def lines(text: str) -> list[str]:
    """The keys that `text` stands for: itself, or for `@file` that file's lines, at least one; raises `UserError`. `admin:@file` puts
    `admin:` before each."""
    right, file = ("admin:", text.removeprefix("admin:")) if text.startswith("admin:") else ("", text)
    if not file.startswith("@"):
        return [text]
    try:
        kept = [line.strip() for line in Path(file[1:]).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        raise UserError(f"The key file {file[1:]} cannot be read.") from None
    if not kept:
        raise UserError(f"The key file {file[1:]} holds no key.")
    return [right + line.removeprefix(right) for line in kept]


def checked_key(text: str, variable: str) -> str:
    """`text`, when it may be a key; raises `UserError`."""
    if len(text) < LEAST_KEY or not text.isascii() or not text.isprintable() or " " in text:
        raise UserError(
            f"A key in {variable} or on the command line is empty or no key: it has at least {LEAST_KEY} visible ASCII characters."
        )
    return text


def cluster_headers() -> dict[str, str]:
    """What a call to another process of the cluster carries: the first secret of LLAVA_CLUSTER_SECRET, or nothing. Raises `UserError`."""
    secrets = texts(CLUSTER_SECRET)
    if not secrets:
        return {}
    key = checked_key(lines(secrets[0])[0].removeprefix("admin:"), CLUSTER_SECRET)
    return {"authorization": f"Bearer {key}"}
