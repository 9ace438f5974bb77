"""The README is true: its programs and commands run as printed. (Its links and targets: test_docs.py.)"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("program", blocks("python"), ids=range(len(blocks("python"))))
def test_each_program_of_the_readme_runs_as_printed(program: str) -> None:
    assert run([sys.executable, "-W", "error", "-c", program]).strip()


@pytest.mark.parametrize("line", [line for block in blocks("bash") for line in block.splitlines() if line.strip()])
def test_each_command_of_the_readme_runs_as_printed(line: str) -> None:
    words = shlex.split(line)
    program = {"python": [sys.executable], "llava": [sys.executable, "-m", "llava.cli"]}[words[0]]
    assert run([*program, *words[1:]]).strip()


def test_the_version_is_the_changelogs_newest() -> None:
    from llava import __version__

    newest = re.search(r"^## (?:Unreleased \()?([\w.]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest.group(1) == __version__
