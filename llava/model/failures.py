"""How other libraries fail on files that they cannot read, and how that is said in the end of a sentence. Knows no model."""

from __future__ import annotations

import pickle

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

# What transformers, torch and safetensors raise for files that they cannot read.
UNREADABLE = (
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    ArithmeticError,
    SafetensorError,
    StrictDataclassError,
    pickle.UnpicklingError,
)


def first_line(error: BaseException) -> str:
    """An error's kind and first line, for the end of a sentence."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
