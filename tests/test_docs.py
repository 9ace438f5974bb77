"""What the pages say of files, anchors, make targets and commands is so: they exist, and each command of ours is understood."""

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from llava.bench.__main__ import BENCHES
from llava.cli import COMMANDS, Parser

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *sorted((ROOT / "docs").glob("*.md"))]
OTHERS = [ROOT / "tests/golden/README.md", ROOT / "playground/data/mini/README.md"]
INDENTED = re.compile(r"^(?: {4}.*\n|\n)+", re.MULTILINE)  # blocks
OURS = re.compile(r"python -m llava\.|llava ")


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text(page), flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def commands(page: Path) -> Iterator[str]:
    """The lines of indented blocks that start a program of ours, without what a comment says."""
    for block in INDENTED.findall(text(page)):
        for line in block.splitlines():
            command = line.split("  #")[0].strip()
            if OURS.match(command):
                yield command


def understood(words: list[str]) -> None:
    """Parse a command of ours; raises `UserError` for an option that does not exist."""
    if words[:2] == ["llava", "bench"]:
        module, rest = BENCHES[words[2]], words[3:]
    elif words[0] == "llava":
        module, rest = COMMANDS[words[1]].module, words[2:]
    else:
        module, rest = words[2], words[3:]
    rest = rest[: rest.index("<")] if "<" in rest else rest
    parser = Parser()
    importlib.import_module(module).arguments(parser)
    parser.parse_args(rest)


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: str(page.relative_to(ROOT)))
def test_each_relative_link_leads_to_a_file_and_its_anchor_to_a_heading(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)|<img src=\"([^\"]+)\"", text(page)):
        file, _, anchor = "".join(link).partition("#")
        target = page.parent / file if file else page
        assert target.exists(), f"{page.name} links to {file}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to #{anchor} of {target.name}"


def test_each_page_of_docs_is_reached_from_the_readme() -> None:
    linked = set(re.findall(r"\]\(docs/(\w+\.md)", text(ROOT / "README.md")))
    assert linked == {page.name for page in (ROOT / "docs").glob("*.md")}


def test_each_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text(ROOT / "Makefile"), re.MULTILINE))
    for page in PAGES:
        for name in re.findall(r"(?:^ {4}|`)make ([a-z-]+)", text(page), re.MULTILINE):
            assert name in targets, f"{page.name} names make {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_command_of_ours_is_understood(page: Path) -> None:
    for line in commands(page):
        understood(shlex.split(line))
