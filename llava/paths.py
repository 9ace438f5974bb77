"""The only module that knows a directory."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
MINI = PACKAGE / "model" / "mini"  # the embedded model, Hugging Face layout
