"""The arrows of the house: which part may import which, and which third parties."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STANDARD = sys.stdlib_module_names

# part -> (parts of ours it may import, third parties it may import). A part is a module or package below `llava`.
TABLE: dict[str, tuple[set[str], set[str]]] = {
    "__init__": (set(), set()),
    "errors": (set(), set()),
    "paths": (set(), set()),
    "interrupts": (set(), set()),
    "constants": (set(), set()),
    "utils": (set(), set()),
    "image": ({"errors"}, {"PIL"}),
    "recent": (set(), set()),
    "chat": ({"errors", "image"}, set()),
    "conversation": ({"constants", "chat", "image", "errors"}, set()),
    "ecso": ({"chat", "image", "errors", "engines"}, {"tqdm"}),
    "ecso.__main__": ({"ecso", "errors", "cli"}, set()),  # a program: cli holds the one map from errors to exit codes
    "deadlines": ({"errors"}, set()),
    # What the processes of a cluster share, whichever end they are.
    "cluster": ({"chat", "image", "errors", "deadlines", "conversation", "recent"}, {"httpx2"}),
    "engines": ({"chat", "image", "errors", "deadlines", "interrupts", "paths"}, set()),
    "engines.openai": ({"chat", "image", "errors", "engines", "recent"}, {"httpx2"}),
    "engines.controller": ({"chat", "image", "errors", "deadlines", "engines", "conversation", "cluster", "model.templates"}, {"httpx2"}),
    "engines.local": (
        {"chat", "image", "errors", "engines", "constants", "conversation", "mm_utils", "model", "recent"},
        {"torch", "transformers", "PIL", "numpy"},
    ),
    "mm_utils": ({"constants", "conversation", "chat", "image", "errors"}, {"torch", "transformers", "PIL", "numpy"}),
    "model": (
        {"constants", "conversation", "mm_utils", "chat", "image", "errors", "paths"},
        {"torch", "transformers", "safetensors", "accelerate", "huggingface_hub", "sentencepiece", "PIL", "numpy"},
    ),
    "serve": (
        {"ecso", "engines", "cluster", "deadlines", "constants", "conversation", "chat", "image", "errors", "paths", "cli", "recent"}
        | {"model.templates"},
        {"fastapi", "starlette", "uvicorn", "h11", "pydantic", "httpx2"},
    ),
    # The web pages: gradio is known here and nowhere else.
    "serve.web": (
        {"serve", "ecso", "engines", "cluster", "deadlines", "chat", "image", "errors", "paths"},
        {"gradio", "fastapi", "starlette", "openai"},
    ),
    "model.templates": ({"conversation", "errors"}, set()),
    "model.folder": ({"errors", "paths"}, {"huggingface_hub"}),  # reads configs only: what a record says of a model
    "bench": (
        {"ecso", "engines", "eval", "model", "mm_utils", "chat", "image", "errors", "paths"},
        {"torch", "transformers", "safetensors", "PIL", "uvicorn"},
    ),
    "bench.__main__": ({"bench", "errors", "cli"}, set()),
    "eval": ({"ecso", "engines", "chat", "image", "errors", "paths", "cli", "model.folder"}, {"tqdm", "pyarrow"}),
    "eval.run_llava": ({"ecso", "constants", "errors", "cli"}, set()),
    "eval.spread": ({"chat", "errors", "engines"}, {"ray"}),
    "eval.stats": ({"errors"}, {"numpy", "scipy"}),
    "eval.metrics": ({"eval", "errors"}, {"numpy"}),
    "eval.submit": ({"eval", "errors", "cli"}, {"openpyxl"}),
    "eval.judge": (
        {"ecso", "engines", "chat", "image", "errors", "paths", "cli", "model.folder", "eval"},
        {"openai", "httpx2"},  # a judge's endpoint
    ),
    "eval.presets": ({"ecso", "chat", "image", "errors"}, {"PIL"}),  # cuts pictures as the original does
    # A client of every kind of process and part of none: it runs where no server is installed, and so must not import `serve`.
    "doctor": ({"chat", "image", "errors", "constants", "deadlines", "engines", "cluster", "model.templates"}, {"httpx2"}),
    "doctor.__main__": ({"doctor", "cluster", "ecso", "errors", "cli"}, set()),
    "cli": ({"ecso", "errors", "chat", "interrupts", "paths"}, set()),
}

# These parts stay importable without any third party at all, and quickly.
LIGHT = ["llava", "llava.chat", "llava.ecso", "llava.ecso.steps", "llava.engines", "llava.cli", "llava.conversation", "llava.eval.data"]
# The method: a generator, its prompts, its policies, its verdicts; they know each other and nothing else of ours but the words.
METHOD = ("steps", "prompts", "policy", "verdict")
HEAVY = {"torch", "transformers", "PIL", "numpy", "openai", "httpx", "httpx2", "gradio", "fastapi", "pydantic", "tqdm"}


def part_of(module: str) -> str:
    """The longest row of the table that covers `module` (dotted, without the leading `llava.`)."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if (name := ".".join(parts[:length])) in TABLE:
            return name
    raise AssertionError(f"llava.{module} is in no row of the import table")


def imported(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, at any depth, but for TYPE_CHECKING blocks."""
    names: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the arrows"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def is_module(dotted: str) -> bool:
    first = dotted.split(".")[0]
    return bool(first) and any((ROOT / "llava" / name).exists() for name in (first, f"{first}.py"))


def modules() -> list[Path]:
    return sorted((ROOT / "llava").rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_imports_only_what_the_table_allows(path: Path) -> None:
    dotted = ".".join(path.relative_to(ROOT / "llava").with_suffix("").parts)
    name = dotted.removesuffix(".__init__") or "__init__"
    part = part_of(name)
    ours, third = TABLE[part]
    for target in imported(path):
        top, _, rest = target.partition(".")
        if top == "llava":
            if not is_module(rest):
                continue  # a name of the package itself, such as llava.__version__
            wanted = part_of(rest)
            same = wanted == part or part.startswith(f"{wanted}.") or wanted.startswith(f"{part}.")
            assert same or wanted in ours or wanted.split(".")[0] in ours, f"{name} must not import llava.{rest}"
        elif top not in STANDARD:
            assert top in third, f"{name} must not import {top}"


def test_the_method_itself_imports_only_the_standard_library_and_the_words() -> None:
    for path in [ROOT / f"llava/ecso/{name}.py" for name in METHOD]:
        for target in imported(path):
            ours = target.startswith((*(f"llava.ecso.{name}." for name in METHOD), "llava.chat.", "llava.errors."))
            assert ours or target.split(".")[0] in STANDARD, f"{path.name} imports {target}"


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_load_no_heavy_library(module: str) -> None:
    code = f"import sys, {module}; print(sorted(set(sys.modules) & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
