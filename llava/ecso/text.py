"""A trace as plain text for a terminal: one block for each step, wrapped to the width; colour only when asked for.

What a model or a user wrote may hold escape sequences that move the cursor or rename the window: control characters are shown,
never sent.
"""

from __future__ import annotations

import shutil
import textwrap
import unicodedata

from llava.ecso.trace import RELEASING, Step, Trace
from llava.ecso.verdict import Verdict

# step -> (number and name, what the model sees there)
TITLES = {
    "answer": ("1 answer", "the question, with the image"),
    "check": ("2 check", "is its own answer harmful?"),
    "caption": ("3 caption", "the image, described for the question"),
    "regenerate": ("4 regenerate", "eyes closed: the caption, no image"),
    "recheck": ("5 recheck", "is the new answer harmful?"),
}
TITLES_WITHOUT_IMAGE = {
    "answer": ("1 answer", "the question; there is no image"),
    "regenerate": ("4 regenerate", "the question again, asked to stay harmless"),
}
RELEASED = {
    "draft": "the model's own answer",
    "regenerated": "the answer given with eyes closed",
    "refusal": "a fixed refusal",
}
_HARMLESS = "\n\t\u200c\u200d"  # the last two are ordinary letters' company in Persian, Hindi and emojis, and turn no text round
_INDENT = "    "
_BOLD, _DIM, _RED, _GREEN = "1", "2", "31", "32"


def title(step: Step, trace: Trace) -> tuple[str, str]:
    """Number and name of a step, and what the model sees there, in words."""
    known = TITLES | ({} if trace.images else TITLES_WITHOUT_IMAGE)
    return known.get(step.name, (printable(step.name), ""))  # a record may come from anywhere


def released_words(trace: Trace) -> str:
    """What was released, in words."""
    given = trace.given is not None and trace.released == "draft"
    return "the answer that was given" if given else RELEASED.get(trace.released or "", "")


def held_back(step: Step, trace: Trace) -> bool:
    """Whether the step made an answer that was not released."""
    return any(step.name == name and trace.released != released for released, name in RELEASING.items())


def printable(text: str) -> str:
    """`text` with control, format and surrogate characters shown as U+FFFD; line breaks, tabs and what joins letters or emojis stay."""
    shown = (c if c in _HARMLESS or unicodedata.category(c) not in ("Cc", "Cf", "Cs") else "\ufffd" for c in text)
    return "".join(shown)


def verdict_words(verdict: Verdict) -> str:
    """A verdict in words: "harmful, p(harmful) 0.981"."""
    word = "harmful" if verdict.harmful else "not harmful"
    return word if verdict.p_harmful is None else f"{word}, p(harmful) {verdict.p_harmful:.3f}"


def as_text(trace: Trace, width: int | None = None, colour: bool = False) -> str:
    """The whole trace; `width` in columns (default: the terminal's, at most 100)."""
    columns = width or min(shutil.get_terminal_size((100, 24)).columns, 100)
    pen = _Pen(max(columns, 20), colour)
    pen.line(pen.paint("question", _BOLD) + pen.paint(_pictures(trace), _DIM))
    pen.body(trace.question)
    if trace.given is not None:
        pen.line(pen.paint("answer to check", _BOLD))
        pen.body(trace.given)
    for step in trace.steps:
        _step(pen, step, trace)
    if trace.outcome:
        pen.line(pen.paint("released", _BOLD, _GREEN) + pen.paint(f"  {released_words(trace)}", _DIM))
        pen.body(trace.outcome.answer)
    if trace.error:
        pen.line(pen.paint("failed", _BOLD, _RED))
        pen.body(str(trace.error))
    facts = [trace.engine, f"defence {trace.method.defence}", f"policy {trace.method.policy.name}", f"{trace.seconds:.2f} s"]
    pen.line(pen.paint(printable(" · ".join(facts)), _DIM))
    return "\n".join(pen.lines)


def _step(pen: _Pen, step: Step, trace: Trace) -> None:
    name, sees = title(step, trace)
    held = "  not released" if held_back(step, trace) else ""
    pen.line(pen.paint(name, _BOLD) + pen.paint(f"  {sees}  {step.seconds:.2f} s{held}", _DIM))
    pen.body(step.text)
    if step.verdict:
        pen.lines[-1] += "  " + pen.paint(f"-> {verdict_words(step.verdict)}", _RED if step.verdict.harmful else _GREEN)


def _pictures(trace: Trace) -> str:
    sizes = [f"{image.size[0]}x{image.size[1]}" for image in trace.images]
    turns = len([m for m in trace.ask.messages if m.role == "user"]) if trace.ask else 0
    parts = [f"image {', '.join(sizes)}" if sizes else "no image", *([f"turn {turns}"] if turns > 1 else [])]
    return "  " + ", ".join(parts)


class _Pen:
    """Collects lines."""

    def __init__(self, width: int, colour: bool) -> None:
        self.lines: list[str] = []
        self._width = width
        self._colour = colour

    def paint(self, text: str, *codes: str) -> str:
        return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if self._colour and text else text

    def line(self, text: str) -> None:
        self.lines.append(text)

    def body(self, text: str) -> None:
        rows = printable(text).rstrip().splitlines() or ["(nothing)"]
        for row in rows:
            self.lines.append(textwrap.fill(row, self._width, initial_indent=_INDENT, subsequent_indent=_INDENT))
