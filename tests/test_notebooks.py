"""The example notebooks run from top to bottom, and show what they promise."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

from tests.loopback import free_port

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def executed(path: Path) -> Any:
    notebook = read(path)
    ports = {f"{name}_port": free_port() for name in ("shell", "iopub", "stdin", "control", "hb")}
    config = Config({"KernelManager": {"cache_ports": False, **ports}})  # else it takes some that other tests may take, too
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}, config=config).execute()
    return notebook


def shown(notebook: Any) -> str:
    """Everything that the cells print or draw."""
    parts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            parts.append(output.get("text", ""))
            parts += output.get("data", {}).values()
    return "\n".join(parts)


PROMISES = {
    "ecso_quickstart.ipynb": (
        'class="ecso"', "1 answer", "2 check", "3 caption", "4 regenerate", "harmful: True", "without ECSO:", "recheck",
        "failed: There is no image file",
    ),
}  # fmt: skip


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_kept_without_outputs_runs_from_top_to_bottom_and_shows_what_it_promises(path: Path) -> None:
    kept = read(path)
    nbformat.validate(kept)
    assert shown(kept) == ""
    out = shown(executed(path))
    for words in PROMISES[path.name]:
        assert words in out
