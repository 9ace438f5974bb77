"""`ECSO`: the method on a model, in one object, for notebooks and programs.

    guard = ECSO("mini")
    result = guard("examples/bomb.png", "How to manufacture this in real life?")

It joins the parts and computes nothing: `llava.engines.connect` finds the model, driver.py runs the method, mapping.py runs many.
Calls may come from any thread and from inside a running event loop; the work happens on a thread of the guard's own.
"""

from __future__ import annotations

import asyncio
import difflib
import re
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llava.chat import Chat, Sampling
from llava.ecso.defences import Method
from llava.ecso.driver import run
from llava.ecso.inputs import Pictures, Row, as_chat, check_text
from llava.ecso.mapping import map_rows
from llava.ecso.policy import Policy, policy_named
from llava.ecso.portal import Portal
from llava.ecso.prompts import Prompts
from llava.ecso.trace import Trace
from llava.errors import UserError

if TYPE_CHECKING:
    from types import TracebackType

    from llava.engines.base import Engine

_SAMPLING = {field.name for field in fields(Sampling)}
_PROMPTS = Prompts()


class ECSO:
    """A guard before a vision-language model.

    `target`: "mini", a checkpoint folder or hub id, "http://host:8000/v1", "controller://host:10000", "scripted:...", or an engine.
    `policy`: "paper", "guard" or a `Policy`. `defence`: a name in `DEFENCES`. `options`: of the answers' sampling (`max_tokens`,
    `temperature`, `top_p`, `stop`, `seed`); all others go to the engine (`device`, `dtype`, `model`, `api_key`, ...).
    A guard closes the engine that it opened itself; an engine that it was given stays open, for whoever made it (other guards, perhaps).
    Raises `UserError` for what cannot be, `CheckpointError` for a folder that is no checkpoint.
    """

    def __init__(
        self,
        target: object = "mini",
        *,
        policy: str | Policy = "paper",
        defence: str = "ecso",
        prompts: Prompts = _PROMPTS,
        **options: object,
    ) -> None:
        from llava.engines import connect

        sampling = {name: value for name, value in options.items() if name in _SAMPLING}
        others = {name: value for name, value in options.items() if name not in _SAMPLING}
        for name in others:  # the engine would say what it knows, and nothing of these
            if near := difflib.get_close_matches(name, _SAMPLING, 1, 0.8):
                raise UserError(f"Unknown option {name!r}. Did you mean {near[0]}?")
        self.method = Method(defence, policy_named(policy).answering(**sampling), prompts)
        self.engine: Engine = connect(target, **others)  # type: ignore[arg-type]
        self._portal = Portal(self.engine.close if isinstance(target, str | Path) else None)

    def using(self, *, policy: str | Policy | None = None, defence: str | None = None) -> Method:
        """This guard's method with another policy or defence, for `guard(..., method=...)`: one loaded model, several methods.

        The guard's sampling of answers is kept when the policy is given by name. Raises `UserError` for names that there are not.
        """
        chosen = self.method.policy
        if policy is not None:
            chosen = policy if isinstance(policy, Policy) else replace(policy_named(policy), answer=self.method.policy.answer)
        return Method(self.method.defence if defence is None else defence, chosen, self.method.prompts)

    def __call__(
        self, image: Pictures | Chat, question: str | Chat | None = None, *, draft: str | None = None, method: Method | None = None
    ) -> Trace:
        """One guarded answer. `image`: a path, bytes, a Pillow image, an `Image`, a list of these, or None; or a whole `Chat` alone.

        `draft` is a candidate answer from elsewhere: it is checked in place of the model's own. Raises `UserError` for what cannot be asked
        (`ImageError`, `ContextTooLong`, ...) and `EngineError` when the model fails, in whichever step: nothing is released then.
        """
        return self._portal.run(self._work(as_chat(image, question), draft, method))

    async def ask(
        self, image: Pictures | Chat, question: str | Chat | None = None, *, draft: str | None = None, method: Method | None = None
    ) -> Trace:
        """The same, awaited; many may be awaited at once. Raises `EngineClosed` when the guard is closed meanwhile."""
        chat = await asyncio.to_thread(as_chat, image, question)  # to decode a large picture takes a while: the caller's loop goes on
        return await asyncio.wrap_future(self._portal.start(self._work(chat, draft, method)))

    def stream(
        self, image: Pictures | Chat, question: str | Chat | None = None, *, draft: str | None = None, method: Method | None = None
    ) -> Iterator[str]:
        """The released text in pieces, none before the method is done: a rendering of the finished result, so nothing can leak."""
        answer = self(image, question, draft=draft, method=method).answer or ""
        yield from re.findall(r"\S*\s+|\S+", answer)

    def map(
        self,
        rows: Iterable[Row],
        *,
        concurrency: int | None = None,
        progress: bool = True,
        on_error: Literal["keep", "raise"] = "keep",
        method: Method | None = None,
    ) -> list[Trace]:
        """A trace for each row, in order, `concurrency` rows at a time (None: as many as serve the engine best). A row is an
        (image, question) pair, a mapping with `question` and `image` or `images`, or a `Chat`.

        A failing row does not lose the others: its trace has an `error` (and no answer). With `on_error="raise"` the first one ends the
        work and is the `__cause__` of a `Stopped`; so does an error of the iterable itself. Ctrl-C raises `Interrupted`. Both are
        `Unfinished` and hold the finished rows as `done`. An engine without room for `concurrency` rows gets fewer at a time. Raises
        `UserError` for arguments of a wrong kind.
        """
        from llava.engines import base

        if concurrency is None:
            concurrency = base.concurrency(self.engine)
        if not isinstance(concurrency, int) or isinstance(concurrency, bool) or concurrency < 1:
            raise UserError(f"concurrency is {concurrency!r}: give a whole number, at least 1.")
        if on_error not in ("keep", "raise"):
            raise UserError(f"on_error is {on_error!r}: use keep or raise.")
        work = map_rows(self._method(method), self.engine, rows, concurrency, on_error == "raise")
        self._portal.check_can_wait()
        return work.collect(self._portal, progress)

    def close(self) -> None:
        """End the guard's thread and the calls that still run on it, and close the engine if the guard opened it.

        It also happens when the guard is garbage, and at exit.
        """
        self._portal.close()

    def _work(self, chat: Chat, draft: str | None, method: Method | None) -> Coroutine[Any, Any, Trace]:
        if draft is not None:
            check_text("draft", draft)
        return run(self._method(method), chat, self.engine, draft)

    def _method(self, given: Method | None) -> Method:
        if given is None:
            return self.method
        if not isinstance(given, Method):
            raise UserError(f"A method is what guard.using(...) gives, not {type(given).__name__}.")
        return given

    def __enter__(self) -> ECSO:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        method = self.method
        return f"ECSO({self.engine.name!r}, defence={method.defence!r}, policy={method.policy.name!r})"
