"""The table of docs/security.md: written from what was counted, each row with the scale at which it was counted."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.resilience.matrix import Row
from tests.resilience.tally import Tally, upper_bound

ROOT = Path(__file__).resolve().parents[2]
RESULTS, PAGE = ROOT / "docs/security.json", ROOT / "docs/security.md"
BEGIN, END = "<!-- resilience: begin -->", "<!-- resilience: end -->"
Results = dict[str, dict[str, Any]]


def load(path: Path = RESULTS) -> Results:
    """What earlier runs counted, by row number."""
    found: Results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def entry(tally: Tally, scale: float, seconds: float) -> dict[str, Any]:
    """A row's count, and how it was made."""
    return {
        "tried": tally.tried,
        "lost": tally.lost,
        "figures": tally.figures,
        "reasons": dict(tally.reasons.most_common(5)),
        "scale": scale,
        "seconds": round(seconds, 1),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
    }


def record(rows: dict[int, Row], number: int, found: dict[str, Any]) -> None:
    """Enter a row's count into both files. Several runs may do so side by side: they take turns by a lock on this very file."""
    with Path(__file__).open("rb") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        results = load() | {str(number): found}
        save(results)
        write(rows, results)


def save(results: Results, path: Path = RESULTS) -> None:
    """Whole, or not at all."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps({key: results[key] for key in sorted(results, key=int)}, indent=1) + "\n", encoding="utf-8")
    new.replace(path)


def table(rows: dict[int, Row], results: Results) -> str:
    """Markdown. Rows that were never run say so."""
    lines = [
        "| | what is done to it | what must come of it | tried | survived | lost | loss rate below | run |",
        "|--:|---|---|--:|--:|--:|--:|---|",
    ]
    for number, row in rows.items():
        found = results.get(str(number))
        if found is None:
            if not row.optional:
                lines.append(f"| {number} | {row.said} | {row.must} | – | – | – | – | not run yet |")
            continue
        tried, lost = found["tried"], found["lost"]
        figures = "; ".join(f"{name}: {value}" for name, value in found["figures"].items())
        said = row.said + (f". *{figures}*" if figures else "")
        bound = f"{100 * upper_bound(lost, tried):.2g} %" if tried else "–"
        run = f"x {found['scale']:g}, {found['date']}, {found['commit']}"
        lines.append(f"| {number} | {said} | {row.must} | {tried:,} | {tried - lost:,} | {lost} | {bound} | {run} |")
    tried, lost = (sum(found[name] for found in results.values()) for name in ("tried", "lost"))
    if tried:
        lines.append(f"| | all rows | | {tried:,} | {tried - lost:,} | {lost} | {100 * upper_bound(lost, tried):.2g} % | |")
    return "\n".join(lines)


def write(rows: dict[int, Row], results: Results, page: Path = PAGE) -> None:
    """Put the table between its marks."""
    text = page.read_text(encoding="utf-8")
    head, found, rest = text.partition(BEGIN)
    _, ended, tail = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"{page} has no place for the table")
    new = page.with_suffix(".new")
    new.write_text(f"{head}{BEGIN}\n{table(rows, results)}\n{END}{tail}", encoding="utf-8")
    new.replace(page)


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "?"
