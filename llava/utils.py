"""What LLaVA's users call of its `llava.utils`. Knows nothing else."""

from __future__ import annotations


def disable_torch_init() -> None:
    """Does nothing, so that LLaVA's scripts run as they are: here models are built without first values, which the original spares itself
    by taking them from every layer that its process makes afterwards, other people's too."""
