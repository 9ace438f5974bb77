"""docs/method.md is true: its programs run, its tables and figures are those of the code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from llava.ecso import DEFENCES, GUARD, PAPER, POLICIES
from tests.ecso.factories import STEP_NAMES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_each_program_runs_as_printed(program: str) -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    promised = re.findall(r"# (\w+)", program)
    assert [line for line in done.stdout.split() if line in promised] == promised


def test_every_step_policy_and_defence_of_the_code_is_on_the_page() -> None:
    for name in [*STEP_NAMES, *POLICIES, *DEFENCES]:
        assert f"`{name}`" in PAGE


def test_the_figures_of_the_policies_are_the_codes() -> None:
    assert f"windows of {GUARD.window:,} characters that share {GUARD.overlap}" in PAGE
    assert f"harmful from p = {GUARD.threshold} on" in PAGE
    assert f"{PAPER.answer.max_tokens} tokens unless changed" in PAGE
    assert PAPER.check_tokens == 4
    assert "stops after four tokens" in PAGE
    assert f"the original's {PAPER.check_tokens_most:,}" in PAGE
