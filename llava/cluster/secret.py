"""Keys as texts, from an option, a variable or a file, so that none need stand in a process list. Knows no right and no server."""

from __future__ import annotations

import os
from pathlib import Path

from llava.errors import UserError

CLUSTER_SECRET = "LLAVA_CLUSTER_SECRET"


def lines(text: str) -> list[str]:
    """The keys that `text` stands for: itself, or for `@file` that file's lines; raises `UserError`."""
    if not text.startswith("@"):
        return [text] if text else []
    try:
        return [line.strip() for line in Path(text[1:]).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        raise UserError(f"The key file {text[1:]} cannot be read.") from None


def checked_key(text: str, variable: str) -> str:
    """`text`, when it may be a key; raises `UserError`."""
    if len(text) < 8 or not text.isascii() or not text.isprintable() or " " in text:
        raise UserError(f"A key in {variable} or on the command line is no key: it has at least 8 visible ASCII characters.")
    return text


def cluster_headers() -> dict[str, str]:
    """What a call to another process of the cluster carries: the first secret of LLAVA_CLUSTER_SECRET, or nothing. Raises `UserError`."""
    text = os.environ.get(CLUSTER_SECRET, "").split(",")[0].strip()
    keys = lines(text.removeprefix("admin:"))
    return {"authorization": f"Bearer {checked_key(keys[0].removeprefix('admin:'), CLUSTER_SECRET)}"} if keys else {}
