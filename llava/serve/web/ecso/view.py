"""A desk as HTML: what each panel says besides its text, the comparison at the end, the product view, the earlier turns.

Every text of a visitor, a model or a service goes through `words.escaped`. In the product view nothing is told of any step. Knows no
gradio.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llava.chat import Message
from llava.ecso.trace import Step
from llava.serve.web.ecso.desk import ORDER, Desk, panel_of
from llava.serve.web.pictures import Shown
from llava.serve.web.words import escaped, whole


@dataclass(frozen=True, slots=True)
class Words:
    """What a panel is called, what happens in it, what the model sees there, what its button says."""

    title: str
    does: str
    sees: str
    button: str
    eyes: bool = True


WORDS = {
    "answer": Words("Direct response", "The model answers, as it would without a guard.", "sees the picture", "Answer"),
    "check": Words("Harm detection", "The same model judges its own answer.", "sees the picture and its answer", "Judge the answer"),
    "caption": Words("Query-aware caption", "The picture becomes words.", "sees the picture", "Describe the picture"),
    "regenerate": Words("Safe response", "It answers again, from the words alone.", "eyes closed: no picture", "Answer safely", False),
}
SKIPPED = {
    "harmless": "Not needed: the answer was judged harmless.",
    "blind": "There is no picture to describe.",
}
SAYING = ("answer", "check", "caption", "regenerate")  # the steps whose text grows in their panel
RELEASED = {
    "draft": "ECSO left the answer as it is.",
    "regenerated": "ECSO answered again, from the words alone.",
    "refusal": "The new answer was judged harmful too: a fixed refusal.",
}
_EYE = (
    '<svg class="eye" viewBox="0 0 24 24" aria-hidden="true"><path d="M2 12c3-5 6.5-7 10-7s7 2 10 7c-3 5-6.5 7-10 7s-7-2-10-7z"/>'
    '<circle cx="12" cy="12" r="3"/>{}</svg>'
)
_CLOSED = '<path class="strike" d="M4 20 20 4"/>'


def state(desk: Desk, panel: str) -> str:
    """What a panel is: running, done, next, skipped or idle; a check that is done is harmful or harmless."""
    if desk.now and desk.now != "moderation" and panel_of(desk.now) == panel:
        return "running"
    steps = desk.done(panel)
    if steps or (panel == "answer" and desk.draft is not None):
        verdict = steps[-1].verdict if steps and panel == "check" else None
        return "done" if verdict is None else "harmful" if verdict.harmful else "harmless"
    if desk.outcome is not None and ORDER.index(panel) > 0:
        return "skipped"
    return "next" if desk.live(panel) and desk.ask is not None else "idle"


def head(desk: Desk, panel: str) -> str:
    """The heading of a panel, with what it took."""
    words, now = WORDS[panel], state(desk, panel)
    eye = _EYE.format("" if words.eyes else _CLOSED)
    facts = f'<span class="facts">{_facts(desk.done(panel))}</span>' if desk.done(panel) else ""
    return (
        f'<div class="step-head {now}"><span class="number" aria-hidden="true">{ORDER.index(panel) + 1}</span>'
        f'<div><h3>{words.title}{facts}</h3><p>{words.does} <span class="sees">{eye}{words.sees}</span></p></div></div>'
    )


def text(desk: Desk, panel: str) -> str:
    """The text of a panel as plain text, for a text field."""
    if state(desk, panel) == "running" and desk.now != "recheck":
        return whole(desk.said)
    if panel == "answer":
        return whole(desk.draft or "")
    return whole(next((step.text for step in desk.done(panel) if step.name == panel), ""))


def verdict(desk: Desk) -> str:
    """The check's words, and its certainty as a bar."""
    steps, now = desk.done("check"), state(desk, "check")
    if now == "running":
        return f'<p class="verdict wait">Is this answer harmful? <b>{escaped(desk.said) or "…"}</b></p>'
    if not steps:
        return '<p class="verdict wait">Is this answer harmful?</p>'
    harmful = now == "harmful"
    said = "Yes, it is harmful" if harmful else "No, it is harmless"
    known = [step.verdict.p_harmful for step in steps if step.verdict is not None and step.verdict.p_harmful is not None]
    bar = _bar(max(known), desk.method.policy.threshold, harmful) if known else ""
    reply = escaped(" ".join(step.text for step in steps)[:200])
    return f'<p class="verdict {now}">{said}</p>{bar}<p class="reply">The model said: “{reply}”</p>'


def remark(desk: Desk, panel: str) -> str:
    """What stands below a panel's text: why it is empty, or what became of the text."""
    if state(desk, panel) == "skipped":
        why = "blind" if panel == "caption" and desk.ask is not None and not desk.ask.images and desk.done("regenerate") else "harmless"
        return f'<p class="remark">{SKIPPED[why]}</p>'
    if panel == "answer" and desk.given is not None:
        return '<p class="remark">Your text, in place of the model\'s.</p>'
    if any(step.edited for step in desk.done(panel)):
        return '<p class="remark">Your text, in place of the model\'s.</p>'
    checked = [step for step in desk.done(panel) if step.name == "recheck" and step.verdict is not None]
    if checked and checked[-1].verdict is not None:
        return f'<p class="remark">Judged again: {"harmful" if checked[-1].verdict.harmful else "harmless"}.</p>'
    return '<p class="remark">Judging the new answer …</p>' if panel == "regenerate" and desk.now == "recheck" else ""


def comparison(desk: Desk) -> str:
    """Without and with ECSO, side by side, once it is decided."""
    if desk.outcome is None or desk.draft is None:
        return ""
    harmful, released = desk.outcome.harmful, desk.outcome.released
    kind, before = ("harmful", "judged harmful") if harmful else ("harmless", "judged harmless")
    seconds = sum(step.seconds for step in desk.steps)
    return (
        f'<section class="compare" aria-label="Without and with ECSO"><div class="side {kind}"><h3>Without ECSO</h3>'
        f"<blockquote>{escaped(desk.draft)}</blockquote><p>{before}</p></div>"
        f'<div class="side harmless"><h3>With ECSO</h3><blockquote>{escaped(desk.outcome.answer)}</blockquote>'
        f"<p>{RELEASED[released]} {seconds:.2f} s in all.</p></div></section>"
    )


def product(desk: Desk) -> str:
    """What a user of a guarded service sees: a question, and an answer once it is cleared."""
    if desk.ask is None:
        return '<p class="product-empty">Ask something. You will see what a user of a service behind ECSO sees.</p>'
    answer = f"<blockquote>{escaped(desk.outcome.answer)}</blockquote>" if desk.outcome else ""
    waiting = '<p class="waiting">Thinking …</p>' if desk.busy else ""
    return f'<div class="product">{_turn(desk.ask.messages[-1], desk.pictures)}<div class="theirs">{answer}{waiting}</div></div>'


def history(desk: Desk) -> str:
    """The earlier turns: all of them were released."""
    if not desk.history:
        return ""
    turns = "".join(_turn(message, desk.pictures) for message in desk.history)
    return f'<section class="history" aria-label="Earlier in this conversation">{turns}</section>'


def notice(desk: Desk) -> str:
    """What went wrong, or that it was stopped."""
    if desk.problem:
        return f'<p class="problem">{escaped(desk.problem)}</p>'
    if desk.stopped:
        return f'<p class="stopped">Stopped.{"" if desk.product else " You can go on with the next step."}</p>'
    return '<p class="stopped">The question is being moderated …</p>' if desk.now == "moderation" else ""


def _turn(message: Message, known: Mapping[str, Shown]) -> str:
    if message.role == "assistant":
        return f'<div class="theirs"><blockquote>{escaped(message.text)}</blockquote></div>'
    shown = [known[image.sha256].thumbnail for image in message.images]
    pictures = "".join(f'<img src="{address}" alt="picture of this question">' for address in shown)
    return f'<div class="mine">{pictures}<p>{escaped(message.text)}</p></div>'


def _facts(steps: list[Step]) -> str:
    tokens = [step.reply.completion_tokens for step in steps if step.reply.completion_tokens is not None]
    said = [f"{sum(step.seconds for step in steps):.2f} s", *([f"{sum(tokens)} tokens"] if tokens else [])]
    return " · ".join(said)


def _bar(p: float, threshold: float | None, harmful: bool) -> str:
    mark = f'<i style="left:{100 * threshold:.0f}%" title="threshold {threshold:g}"></i>' if threshold is not None else ""
    scale = f'role="meter" aria-label="p(harmful)" aria-valuemin="0" aria-valuemax="1" aria-valuenow="{p:.3f}"'
    return (
        f'<div class="bar {"bad" if harmful else "good"}" {scale}>'
        f'<b style="width:{100 * p:.1f}%"></b>{mark}</div><p class="p">p(harmful) = {p:.3f}</p>'
    )
