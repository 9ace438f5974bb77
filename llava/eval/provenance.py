"""Where a result comes from: hashes of model and data, versions, commit. Reads files and asks git; loads no model."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import llava
from llava.engines import is_scripted
from llava.errors import UserError
from llava.eval.presets import CLIP_EDGE
from llava.eval.sample import Sample, Task
from llava.model.folder import read_json, resolve
from llava.paths import MINI, PACKAGE

WHOLE = 64 * 2**20  # bytes; of larger files a hash takes SPOTS spots only
SPOTS, SPOT = 256, 64 * 2**10
PACKAGES = ("torch", "transformers", "tokenizers", "pillow", "openai")
_DECIDING = ("conv_mode", "dtype", "attn_implementation", "model")  # options of engines that may change answers
_WEIGHTS = ("*.safetensors", "*.bin", "*.json", "*.model", "*.jinja")


@dataclass(frozen=True, slots=True)
class Model:
    """A model as a record names it. `sha256` is over its files (see `file_hash`), None for one behind an address. `edge`: the side of its
    pictures in pixels. `options`: those that may change its answers."""

    target: str
    name: str
    local: bool
    sha256: str | None = None
    edge: int = CLIP_EDGE
    options: Mapping[str, Any] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        """For a header. A server's model is known by its name where that is given: clusters move, and have many addresses."""
        named = "://" in self.target and "model" in self.options
        return {"options": dict(self.options), "target": "a server" if named else self.target, "sha256": self.sha256}


def model_of(target: str, name: str | None, options: Mapping[str, Any]) -> Model:
    """What is known of `target` without loading it; raises `UserError` and `CheckpointError` for a folder that is none.

    `name` is what answer files call it; otherwise the last part of its target.
    """
    deciding = {key: value for key, value in options.items() if key in _DECIDING}
    shown = without_login(target) if "://" in target else target
    name = name or name_of({"target": shown, "options": deciding})
    if "://" in target or is_scripted(target):
        return Model(shown, name, local=False, options=deciding)
    folder = MINI if target == "mini" else resolve(target)
    config = read_json(folder / "config.json")
    vision = config.get("vision_config")
    edge = vision.get("image_size", CLIP_EDGE) if isinstance(vision, dict) else CLIP_EDGE
    digest = hashlib.sha256()
    for path in sorted({path for pattern in _WEIGHTS for path in folder.glob(pattern)}):
        digest.update(f"{path.name} {file_hash(path)}\n".encode())
    return Model(target, name, local=True, sha256=digest.hexdigest(), edge=edge, options=deciding)


def name_of(described: Mapping[str, Any]) -> str:
    """What answer files call the model that a header describes: a server's by its own name, one here by the last part of its target."""
    target = str(described.get("target", ""))
    if served := described.get("options", {}).get("model"):
        return str(served)
    if "://" in target:
        return urlsplit(target).netloc.replace(":", "-")
    return "scripted" if is_scripted(target) else Path(target).name


def without_login(target: str) -> str:
    """An address without the name and password that may stand in it, its query and its fragment; raises `UserError` for what is none."""
    try:
        parts = urlsplit(target)
    except ValueError:  # one bracket of an IPv6 address; the text may hold a password
        raise UserError("The model's address cannot be read: it looks like http://host:8000/v1 or controller://host:10000.") from None
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def file_hash(path: Path) -> str:
    """The sha256 of a file; of one above 64 MiB, of its size and 256 evenly spread spots: a checkpoint's every weight changes in training.

    Raises `UserError` for a file that cannot be read.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if size <= WHOLE:
                return hashlib.file_digest(file, "sha256").hexdigest()
            digest = hashlib.sha256(f"{size}".encode())
            for spot in range(SPOTS):
                file.seek(spot * (size - SPOT) // (SPOTS - 1))
                digest.update(file.read(SPOT))
            return digest.hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None


def data_of(task: Task, root: Path, samples: Iterable[Sample]) -> dict[str, Any]:
    """For a header: hashes of the question files, and of all ids, questions and names of pictures in their order."""
    files = {str(path.relative_to(root) if path.is_relative_to(root) else path): file_hash(path) for path in task.files(root)}
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(json.dumps([sample.id, sample.question, sample.prompt, sample.picture.name if sample.picture else None]).encode())
    return {"sha256": digest.hexdigest(), "files": files}


@cache
def versions() -> dict[str, str]:
    """Of Python, this package and those that may change an answer; a package that is not there is left out."""
    found = {"llava": llava.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def git_commit() -> str | None:
    """The commit of the package's source, with a "+" when it was changed since; None outside a git checkout."""
    head = _git("rev-parse", "HEAD")
    return None if head is None else head + ("+" if _git("status", "--porcelain", "--untracked-files=no", ".") else "")


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=PACKAGE, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
