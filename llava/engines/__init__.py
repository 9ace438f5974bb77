"""Who turns a `Call` into a `Reply`; `connect` picks the engine by its target's name.

Importing this package loads neither torch nor an HTTP library: an engine's module is imported when its kind is asked for.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from llava.engines.base import Engine, generate
from llava.engines.scripted import ScriptedEngine
from llava.errors import UserError, unknown
from llava.interrupts import heeded
from llava.paths import MINI

__all__ = ["Engine", "ScriptedEngine", "connect", "generate", "is_scripted", "is_server", "known", "model_in"]


@dataclass(frozen=True, slots=True)
class Value:
    """What an option may be, and how to say so."""

    said: str
    fits: Callable[[object], bool]


@dataclass(frozen=True, slots=True)
class Kind:
    """A family of targets: what they look like, who opens them, which options they take."""

    example: str
    pattern: str  # matches the beginning of the target
    opener: str  # "module:function", called as function(target, **options)
    options: Mapping[str, Value]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1e9


_TEXT = Value("a text", lambda value: value is None or isinstance(value, str))
_TORCH = Value("a name", lambda value: _TEXT.fits(value) or type(value).__module__ == "torch")  # torch.float16, torch.device("cpu")
_SECONDS = Value("a number of seconds, at least 0", _is_number)
_TRUTH = Value("true or false", lambda value: isinstance(value, bool))
_COUNT = Value("a whole number, at least 0", lambda value: isinstance(value, int) and _is_number(value))
_COUNT_FROM_1 = Value("a whole number, at least 1", lambda value: _COUNT.fits(value) and value != 0)
_GIGABYTES = Value("a number above 0", lambda value: value is None or (_is_number(value) and value != 0))
_THREADS = Value("a whole number from 1 to 1024", lambda value: value is None or (_COUNT.fits(value) and value in range(1, 1025)))

_NOT_AN_ADDRESS = r"(?![a-zA-Z][a-zA-Z0-9+.-]+://)(?!.*:\d+(/|$))"  # neither scheme:// nor host:port
_LOCAL = {
    "device": _TORCH,
    "dtype": _TORCH,
    "conv_mode": _TEXT,
    "attn_implementation": _TEXT,
    "max_batch": _COUNT_FROM_1,
    "max_waiting": _COUNT,
    "prefill_chunk": _COUNT_FROM_1,
    "kv_cache_gb": _GIGABYTES,
    "threads": _THREADS,
}

KINDS = (
    Kind('"mini" (the embedded model)', r"mini$", "llava.engines:_open_mini", _LOCAL),
    Kind('"scripted:Yes|No" (replies in order)', r"scripted:", "llava.engines:_open_scripted", {"delay": _SECONDS}),
    Kind(
        '"http://host:8000/v1" (an OpenAI-compatible server)',
        r"https?://",
        "llava.engines.openai:open_server",
        {"model": _TEXT, "api_key": _TEXT, "timeout": _SECONDS, "connect_timeout": _SECONDS, "retries": _COUNT, "check_images": _TRUTH},
    ),
    Kind(
        '"controller://host:10000" (a controller and its workers)',
        r"controller://",
        "llava.engines.controller:ControllerEngine",
        {"model": _TEXT, **dict.fromkeys(("timeout", "connect_timeout", "first_timeout", "idle_timeout"), _SECONDS)},
    ),
    Kind("a model folder or a Hugging Face id", _NOT_AN_ADDRESS + r"\S", "llava.engines.local:open_local", _LOCAL),
)


def connect(target: str | Path | Engine, **options: object) -> Engine:
    """The engine for `target`: "mini", "scripted:...", "http://host:port/v1", "controller://host:port[/model]", a model folder or
    hub id, or an engine itself.

    `options` depend on the kind (local: device, dtype, conv_mode, attn_implementation, max_batch, max_waiting, prefill_chunk, kv_cache_gb,
    threads; HTTP: model, api_key, timeout, connect_timeout, retries, check_images; controller: model, timeout, connect_timeout,
    first_timeout, idle_timeout; scripted: delay). Raises `UserError` for an unknown target or option and for a value of a wrong type,
    `CheckpointError` for a folder that is no checkpoint.
    """
    if not isinstance(target, str | Path):
        if not isinstance(target, Engine):
            raise UserError(f"An engine's target is a text, a path or an engine, not {type(target).__name__}.")
        if options:
            raise UserError(f"An engine that is already connected takes no options (got {', '.join(options)}).")
        return target
    text = str(target)
    kind = known(text, **options)
    module, _, function = kind.opener.partition(":")
    with heeded():
        opener = cast(Callable[..., Engine], getattr(importlib.import_module(module), function))
    with heeded():
        return opener(text, **options)


def known(target: str, **options: object) -> Kind:
    """The kind of `target`, without opening it; raises `UserError` for a target that looks like none and for options that do not fit."""
    kind = next((kind for kind in KINDS if re.match(kind.pattern, target)), None)
    if kind is None:
        shown = target.split("@")[-1][:100]  # never print a user:password part
        raise UserError(f"Cannot connect to {shown!r}. These work: {'; '.join(kind.example for kind in KINDS)}.")
    _check_options(kind, options)
    return kind


def is_server(target: str) -> bool:
    """Whether the model of `target` runs in other processes: behind an OpenAI-compatible server, or in a controller's workers."""
    return re.match(r"(https?|controller)://", target) is not None


def model_in(target: str) -> str | None:
    """The model that controller://host:10000/MODEL names; None where a target names none so."""
    kind, _, rest = target.partition("://")
    return (rest.partition("/")[2].strip("/") or None) if kind == "controller" else None


def is_scripted(target: str) -> bool:
    """Whether `target` is a script of replies, given in order: there is no model, and every call uses one of them up."""
    return target.startswith("scripted:")


def _check_options(kind: Kind, options: dict[str, object]) -> None:
    for option, value in options.items():
        if option not in kind.options:
            raise unknown(f"option of {kind.example}:", option, kind.options)
        wanted = kind.options[option]
        if not wanted.fits(value):
            shown = f" is {value!r:.100}" if wanted is not _TEXT and isinstance(value, int | float) else ""  # a text may be a key
            raise UserError(f"The option {option}{shown}: give {wanted.said}.")


def _open_mini(_target: str, **options: object) -> Engine:
    opener = importlib.import_module("llava.engines.local").open_local
    return cast(Callable[..., Engine], opener)(str(MINI), **options)


def _open_scripted(target: str, **options: object) -> Engine:
    text = target.partition(":")[2]
    if not text:
        raise UserError('A scripted target names its replies: "scripted:A fine day.|No".')
    return cast(Callable[..., Engine], ScriptedEngine)(text.split("|"), **options)
