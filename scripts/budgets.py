"""Measure the size budgets and fail when one is broken: `python -m scripts.budgets`.

Files <= 300 lines; functions <= 60 lines, 90th percentile <= 25; <= 6 parameters; <= 3 % of the package's code lines stand in a
block of six or more lines that occurs elsewhere too. A budget is a smell alarm: mend the design, do not split for the number.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_FILE, MAX_FUNCTION, MAX_P90, MAX_PARAMETERS, MAX_DUPLICATED, BLOCK = 300, 60, 25, 6, 0.03, 6

# Signatures that a published interface fixes, and nothing else.
FIXED_SIGNATURES = {("llava/model/builder.py", "load_pretrained_model")}


@dataclass(frozen=True)
class Function:
    """A function's place and measures; `parameters` leaves out self and cls."""

    file: str
    name: str
    line: int
    lines: int
    parameters: int


def python_files(*folders: str) -> list[Path]:
    """Our Python files below `folders`, sorted."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def functions(path: Path) -> Iterator[Function]:
    """Every function of one file, nested ones on their own too."""
    file = str(path.relative_to(ROOT))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = sum(argument.arg not in ("self", "cls") for argument in arguments)
            yield Function(file, node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1, count)


def code_lines(path: Path) -> list[tuple[int, str]]:
    """Number and text of the lines that carry code: no blanks, comments, imports or lone brackets."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.strip()
        if len(text) > 2 and not text.startswith(("#", "import ", "from ", '"""')):
            rows.append((number, text))
    return rows


def duplicated(paths: list[Path]) -> tuple[float, list[str]]:
    """Share of code lines in a repeated block, and where the blocks stand."""
    places: dict[tuple[str, ...], list[tuple[Path, int]]] = defaultdict(list)
    lines = {path: code_lines(path) for path in paths}
    for path, rows in lines.items():
        for start in range(len(rows) - BLOCK + 1):
            places[tuple(text for _, text in rows[start : start + BLOCK])].append((path, start))
    marked = {(path, start + k) for spots in places.values() if len(spots) > 1 for path, start in spots for k in range(BLOCK)}
    total = sum(len(rows) for rows in lines.values())
    where = sorted({f"{path.relative_to(ROOT)}:{lines[path][start][0]}" for path, start in marked})
    return len(marked) / max(total, 1), where


def problems() -> Iterator[str]:
    """One sentence for each broken budget."""
    everything = python_files("llava", "scripts", "tests")
    for path in everything:
        length = len(path.read_text(encoding="utf-8").splitlines())
        if length > MAX_FILE:
            yield f"{path.relative_to(ROOT)}: {length} lines, at most {MAX_FILE}"
    found = [function for path in everything for function in functions(path)]
    for function in found:
        place = f"{function.file}:{function.line} {function.name}"
        if function.lines > MAX_FUNCTION:
            yield f"{place}: {function.lines} lines, at most {MAX_FUNCTION}"
        if function.parameters > MAX_PARAMETERS and (function.file, function.name) not in FIXED_SIGNATURES:
            yield f"{place}: {function.parameters} parameters, at most {MAX_PARAMETERS}"
    lengths = sorted(function.lines for function in found)
    p90 = lengths[int(0.9 * (len(lengths) - 1))]
    if p90 > MAX_P90:
        yield f"90th percentile of function lengths is {p90}, at most {MAX_P90}"
    share, where = duplicated(python_files("llava", "scripts"))
    if share > MAX_DUPLICATED:
        yield f"{share:.1%} of the code lines are duplicated, at most {MAX_DUPLICATED:.0%}: {', '.join(where[:20])}"
    sys.stderr.write(f"budgets: {len(everything)} files, {len(found)} functions, p90 {p90} lines, {share:.1%} duplicated\n")


def main() -> int:
    """Print what is over budget; 1 when anything is."""
    broken = list(problems())
    for line in broken:
        sys.stderr.write(f"over budget: {line}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
