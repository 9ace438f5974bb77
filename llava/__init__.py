"""`llava`: safe answers about images, with any vision-language model.

`import llava` is light: no torch, no transformers. The names below are loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llava.chat import Chat, Image, Message
    from llava.ecso import ECSO
    from llava.engines import connect

__version__ = "0.1.0"
__all__ = ["ECSO", "Chat", "Image", "Message", "__version__", "connect"]

_HOMES = {
    "Chat": "llava.chat",
    "ECSO": "llava.ecso",
    "Image": "llava.chat",
    "LlavaLlamaForCausalLM": "llava.model",  # LLaVA's name; not in `__all__`, for it brings torch
    "Message": "llava.chat",
    "connect": "llava.engines",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'llava' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
