"""A trace as HTML for notebooks: the image, the four steps, what was released.

Self-contained: no script, no font, no address. Every text of a model or a user is escaped. Colours are inherited and borders are
translucent, so that it suits light and dark pages.
"""

from __future__ import annotations

import base64
import io
from html import escape
from typing import Literal

from llava.chat import Image
from llava.ecso.text import held_back, printable, released_words, title, verdict_words
from llava.ecso.trace import Step, Trace
from llava.errors import ImageError

THUMBNAIL = 320  # pixels of the longer side; a notebook keeps every drawn image

_STYLE = (
    "<style>"
    ".ecso{font:14px/1.5 system-ui,sans-serif;max-width:860px;display:flex;flex-wrap:wrap;gap:16px}"
    ".ecso figure{margin:0;flex:0 1 240px}.ecso img{max-width:100%;border-radius:8px;display:block;margin-bottom:8px}"
    ".ecso ol{list-style:none;margin:0;padding:0;flex:1 1 420px;min-width:0}"
    ".ecso li{border-left:3px solid rgba(128,128,128,.35);margin:0 0 10px;padding:2px 0 2px 12px}"
    ".ecso b{font-weight:600}.ecso small{opacity:.65;margin-left:8px}"
    ".ecso p{margin:2px 0 0;white-space:pre-wrap;overflow-wrap:anywhere}"
    ".ecso .harmful{border-color:#d9534f}.ecso .harmless,.ecso .released{border-color:#3a9d5d}"
    ".ecso .held p{opacity:.6}.ecso .released{background:rgba(58,157,93,.09)}"
    ".ecso .verdict{opacity:1;font-weight:600}.ecso .harmful .verdict{color:#d9534f}.ecso .harmless .verdict{color:#3a9d5d}"
    ".ecso .facts{border:0;padding:0}.ecso .facts small{margin:0}"
    ".ecso meter{width:110px;height:.7em;vertical-align:baseline;margin-left:8px}"
    "</style>"
)


def as_html(trace: Trace) -> str:
    """A `<div>` to be shown in a notebook."""
    rows = [_item("question", "", trace.question, "question")] if not trace.images else []
    if trace.given is not None:
        held = trace.released != "draft"
        rows.append(_item("answer to check", "not released" if held else "", trace.given, "held" if held else "step"))
    rows += [_step(step, trace) for step in trace.steps]
    if trace.outcome:
        rows.append(_item("released", released_words(trace), trace.outcome.answer, "released"))
    if trace.error:
        rows.append(_item("failed", "", str(trace.error), "harmful"))
    facts = f"{trace.engine} · defence {trace.method.defence} · policy {trace.method.policy.name} · {trace.seconds:.2f} s"
    return f'{_STYLE}<div class="ecso">{_figure(trace)}<ol>{"".join(rows)}<li class="facts"><small>{_text(facts)}</small></li></ol></div>'


def _figure(trace: Trace) -> str:
    if not trace.images:
        return ""
    pictures = "".join(_picture(image) for image in trace.images)
    return f"<figure>{pictures}<figcaption>{_text(trace.question)}</figcaption></figure>"


def thumbnail(image: Image, side: int = THUMBNAIL, kind: Literal["PNG", "JPEG"] = "PNG") -> str:
    """A small copy of at most `side` pixels, as a data URL; raises `ImageError` where there are no pixels."""
    pil = image.pil()
    pil.thumbnail((side, side))
    buffer = io.BytesIO()
    pil.save(buffer, kind, quality=80)  # which a PNG has not
    return f"data:image/{kind.lower()};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _picture(image: Image) -> str:
    width, height = image.size
    try:
        address = thumbnail(image)
    except ImageError:  # a trace that was saved without its pixels
        return f"<p><small>image {width} x {height}, {escape(image.sha256[:12])}</small></p>"
    return f'<img alt="image of the question, {width} x {height} pixels" src="{address}">'


def _step(step: Step, trace: Trace) -> str:
    name, sees = title(step, trace)
    note = " · ".join([sees, f"{step.seconds:.2f} s", *(["not released"] if held_back(step, trace) else [])])
    verdict = step.verdict
    if verdict is None:
        return _item(name, note, step.text, "held" if held_back(step, trace) else "step")
    meter = f'<meter min="0" max="1" value="{verdict.p_harmful:.4f}"></meter>' if verdict.p_harmful is not None else ""
    extra = f'<small class="verdict">{_text(verdict_words(verdict))}</small>{meter}'
    return _item(name, note, step.text, "harmful" if verdict.harmful else "harmless", extra)


def _item(name: str, note: str, text: str, kind: str, extra: str = "") -> str:
    return f'<li class="{kind}"><b>{_text(name)}</b><small>{_text(note)}</small>{extra}<p>{_text(text)}</p></li>'


def _text(text: str) -> str:
    return escape(printable(text))
