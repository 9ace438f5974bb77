"""A run's manifest: what there is, how much of it, and every session that worked on it. For people and for the tools after us.

Each session adds itself when it begins and closes its entry when it ends: one that was killed has no end.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llava.errors import UserError
from llava.eval.provenance import git_commit, versions
from llava.eval.records import write_whole

Json = dict[str, Any]
MANIFEST = "manifest.json"
FORMAT = 1
# Manifests get published: a key, a login, and all of an address's query and fragment, where tokens of any name stand.
_SECRET = re.compile(r"(?<=://)[^/\s]*(?=@)|(?<=api_key=).*")
_QUERY = re.compile(r"(://[^\s?#]*)[?#]\S*")


def read_manifest(folder: Path) -> Json:
    """The manifest of a run, an empty one where there is none; raises `UserError` for one that is damaged."""
    path = folder / MANIFEST
    if not path.exists():
        return {"format": FORMAT, "tasks": {}, "sessions": []}
    try:
        value: Json = json.loads(path.read_bytes())
        if value["format"] != FORMAT or not isinstance(value["sessions"], list) or not isinstance(value["tasks"], dict):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged or of another format: remove it; the records do not need it.") from None
    return value


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Replace a run's manifest; raises `StorageError`."""
    write_whole(folder / MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace") + b"\n")


def begun(folder: Path, described: Json) -> Json:
    """Add a session that begins now, with what is `described`; returns the manifest, whose last session it is."""
    manifest = read_manifest(folder)
    session = {
        "id": secrets.token_hex(8),
        "begun": _now(),
        "ended": None,
        "host": socket.gethostname(),
        "process": os.getpid(),
        "command": [_QUERY.sub(r"\1", _SECRET.sub("***", word)) for word in sys.argv],
    }
    manifest["sessions"].append({**session, **described, "versions": versions(), "git": git_commit()})
    write_manifest(folder, manifest)
    return manifest


def ended(folder: Path, manifest: Json, tasks: Json) -> None:
    """Close the last session, and put in what there is of each task now."""
    manifest["sessions"][-1]["ended"] = _now()
    for name, told in tasks.items():
        methods = manifest["tasks"].get(name, {}).get("methods", {})  # another session may have run others
        manifest["tasks"][name] = {**told, "methods": methods | told["methods"]}
    write_manifest(folder, manifest)


def joined(whole: Json, shards: Iterable[Json]) -> Json:
    """A run's manifest with those of its shards: all sessions in the order of time, once each, and the shards' tasks, whose rows the reader
    has to count."""
    tasks: Json = dict(whole["tasks"])
    sessions = {json.dumps(session): session for session in whole["sessions"]}
    for manifest in shards:
        sessions |= {json.dumps(session): session for session in manifest["sessions"]}
        for name, told in manifest["tasks"].items():
            known = tasks.get(name, {"methods": {}})
            tasks[name] = {**told, "samples": max(known.get("samples", 0), told["samples"]), "methods": known["methods"]}
    return {"format": FORMAT, "tasks": tasks, "sessions": sorted(sessions.values(), key=lambda session: str(session["begun"]))}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
