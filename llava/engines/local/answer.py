"""One call while it runs: what it has read, what it has said, when it ends. Knows no model and no batch."""

from __future__ import annotations

import time
from typing import Generic

from torch import Tensor

from llava.chat import Delta, FinishReason, Reply
from llava.engines.local.inbox import Job, P
from llava.engines.local.logprobs import TokenLog
from llava.engines.local.sampling import Sampler, first_logprobs
from llava.engines.local.text import Decode, TextStream
from llava.model.loaded import Loaded


class Answer(Generic[P]):
    """`filled` counts positions whose KV is there: of the prompt, then of the answer. `limit` is the most tokens it may say.

    `decode` is the model's own, or a faster one that gives the same. `log` takes in every token where the call wants to know them.
    """

    def __init__(self, job: Job[P], loaded: Loaded, prompt_tokens: int, decode: Decode, log: TokenLog | None) -> None:
        sampling = job.call.sampling
        self.job = job
        self.prompt = job.prompt
        self.prompt_tokens = prompt_tokens
        self.limit = min(sampling.max_tokens, loaded.context_len - prompt_tokens)
        self.filled = 0
        self.tokens: list[int] = []  # what it has said; the last one is the next to be read
        self.sampler = Sampler(sampling)
        self.reply: Reply | None = None  # set when the answer is complete
        self.odd = False  # something that it read or was to say was no number
        self._loaded = loaded
        self._decode = decode
        self._text = TextStream(decode, (*sampling.stop, *loaded.stop))
        self._said = ""
        self._logprobs: dict[str, float] | None = None
        self._log = log

    @property
    def positions(self) -> int:
        """Positions that it fills at most. (The last token is said and never read.)"""
        return self.prompt_tokens + self.limit - 1

    def say(self, token: int, logits: Tensor) -> Delta:
        """Take in the next token, which was picked from `logits` (vocabulary,); the text that may be shown now."""
        if not self.tokens and self.job.call.top_logprobs:
            self._logprobs = first_logprobs(logits, self.job.call.top_logprobs, self._decode)
        if self._log is not None:
            self._log.add(token, logits)
        self.tokens.append(token)
        text = "" if token in self._loaded.eos_ids else self._text.add(token)
        self._said += text
        reason = self._end(token)
        return Delta(text) if reason is None else self._finish(reason, text)

    def _end(self, token: int) -> FinishReason | None:
        if token in self._loaded.eos_ids or self._text.stopped or self.job.call.settled(self._said):
            return "stop"
        return "length" if len(self.tokens) >= self.limit else None

    def _finish(self, reason: FinishReason, text: str) -> Delta:
        rest = self._text.finish()
        tokens = self._log.tokens() if self._log is not None else None
        seconds = time.monotonic() - self.job.asked
        self.reply = Reply(self._said + rest, self.prompt_tokens, len(self.tokens), reason, self._logprobs, seconds, tokens)
        return Delta(text + rest, self.reply)
