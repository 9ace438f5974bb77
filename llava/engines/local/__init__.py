"""Models that run in this process, through transformers.

`text` turns tokens into text as they come, `inbox` lets calls wait their turn (neither knows torch), `sampling` and `runner` do
the arithmetic, `engine` joins them: one model thread, many event loops.
"""

from llava.engines.local.engine import LocalEngine, open_local

__all__ = ["LocalEngine", "open_local"]
