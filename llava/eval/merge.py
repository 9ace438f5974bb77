"""Shards of a run become one: rows are joined by id, in the benchmark's order, as if one process had written them.

    llava eval merge runs/first

Never with `cat`: each file has its header, and rows come in the order in which samples ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava.errors import UserError
from llava.eval.lock import locked
from llava.eval.manifest import joined, read_manifest, write_manifest
from llava.eval.provenance import file_hash
from llava.eval.records import check_same, line, lines_of, read, tell, write_changed

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge found for one method of one task: rows that are there, of how many samples, failures that the shards told of, and how
    many rows of the task's files they set aside."""

    task: str
    method: str
    rows: int
    expected: int
    failed: int
    set_aside: int


def merge(out: Path) -> list[Merged]:
    """Join all shards of a run into the run itself, which nobody may be writing to. Doing it twice changes nothing.

    Raises `UserError` where shards do not belong together, or two have different rows of one id; `StorageError`.
    """
    with locked(out):
        return merge_into(out)


def merge_into(out: Path) -> list[Merged]:
    """The same, for one who holds the lock of `out`."""
    shards = sorted(path for path in (out / "shards").glob("*-of-*") if path.is_dir())
    with ExitStack() as held:
        for shard in shards:
            held.enter_context(locked(shard))
        folders = sorted({path.parent.relative_to(shard) for shard in shards for path in shard.glob("*/*/records.jsonl")})
        manifest = joined(read_manifest(out), map(read_manifest, shards))
        for task in sorted({folder.parts[0] for folder in folders}):
            told = {line(value): value for shard in shards for _, value in _lines_if_any(shard / task / "quarantine.jsonl")}
            tell(out / task / "quarantine.jsonl", sorted(told, key=lambda one: (told[one]["file"], told[one]["line"])))
            known = manifest["tasks"].setdefault(task, {"samples": 0, "methods": {}})
            known["set_aside"] = sum(not value["mended"] for value in told.values())
        done = [merged for folder in folders if (merged := _merge_method(out, shards, folder, manifest))]
        if done:
            write_manifest(out, manifest)
        return done


def _merge_method(out: Path, shards: Iterable[Path], folder: Path, manifest: Json) -> Merged | None:
    """One method of one task; None where nothing is recorded: whoever is killed first of all leaves a torn header and no row."""
    header: Json = {}
    rows: dict[str, Json] = {}
    for path in (root / folder / "records.jsonl" for root in (out, *shards)):
        if not any(_lines_if_any(path)):
            continue
        head, some = read(path)
        header = header or head
        check_same(path, head, header)
        for row in some:
            if rows.setdefault(row["id"], row) != row:
                raise UserError(
                    f"{path} has another row for the id {json.dumps(row['id'])} than a file before it: they are not shards of one run. "
                    "Move those of the other run away."
                )
    if not header:
        return None
    ordered = sorted(rows.values(), key=lambda row: row["number"])
    write_changed(out / folder / "records.jsonl", b"".join(map(line, [header, *ordered])))
    measured = {value["id"]: value for root in (out, *shards) for _, value in _lines_if_any(root / folder / "measured.jsonl")}
    write_changed(out / folder / "measured.jsonl", b"".join(line(measured[row["id"]]) for row in ordered if row["id"] in measured))
    failures = {
        value["id"]: value
        for root in (out, *shards)
        for _, value in _lines_if_any(root / folder / "failures.jsonl")
        if value["id"] not in rows
    }
    tell(out / folder / "failures.jsonl", map(line, sorted(failures.values(), key=lambda failure: failure["number"])))
    task, method = folder.parts
    told = manifest["tasks"][task]
    told["samples"] = told["samples"] or len(rows)
    path = out / folder / "records.jsonl"
    told["methods"][method] = {"rows": len(rows), "failed": len(failures), "sha256": file_hash(path)}
    return Merged(task, method, len(rows), told["samples"], len(failures), told["set_aside"])


def _lines_if_any(path: Path) -> Iterator[tuple[int, Json]]:
    return lines_of(path) if path.exists() else iter(())
