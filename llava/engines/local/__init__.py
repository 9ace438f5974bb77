"""Models that run in this process, through transformers: many calls at once, on one model thread (a small model: on one a core).

`engine` takes calls from any event loop, `inbox` brings them to the model threads of `lanes`, `batcher` lets them in and takes one step
of all of them at a time, as `scheduler` says. `runner` computes the steps of LLaVA models, over `slots` of keys and values that
`prefixes` fills with what it knows; `foreign` computes those of all other models. `answer`, `sampling` and `text` are one call's way from
logits to text.
"""

from llava.engines.local.engine import LocalEngine, open_local
from llava.engines.local.memory import Stats

__all__ = ["LocalEngine", "Stats", "open_local"]
