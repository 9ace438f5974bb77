"""Where a visitor chooses, drops or pastes pictures. Their bytes go to `door.PICTURES`; what an event carries are the ids that come back.

The component's value is JSON text: a list of {id, size, thumbnail}, where the id of a picture that is still on its way is null. It comes
from the browser, so only the ids are read from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gradio as gr

from llava.errors import UserError
from llava.image import MAX_BYTES
from llava.serve.web.door import PICTURES
from llava.serve.web.pictures import Shown

_DAMAGED = "The list of pictures is damaged: load the page again."
_SCRIPT = Path(__file__).with_name("picker.js").read_text(encoding="utf-8")
_SCRIPT = _SCRIPT.replace("PICTURES", json.dumps(PICTURES.lstrip("/"))).replace("MAX_BYTES", str(MAX_BYTES))

# gradio makes a JavaScript template of it, after Handlebars: no {{...}} may stand here, it would be compiled with its value.
_TEMPLATE = """
<div class="picker">
  <label class="picker-drop">
    <input type="file" multiple accept="image/png,image/jpeg,image/webp,image/gif" aria-describedby="picker-said">
    <span><b>Add pictures</b>: choose, drop or paste</span>
  </label>
  <ul class="picker-list" aria-label="Pictures of the question">
    ${JSON.parse(value || "[]").map((picture, index) => picture.id === null ? `<li class="coming">on its way …</li>` : `<li>
      <img src="${picture.thumbnail}" alt="Picture ${index + 1}, ${picture.size} pixels">
      <button type="button" data-remove="${picture.id}" aria-label="Remove picture ${index + 1}">&times;</button>
    </li>`).join("")}
  </ul>
</div>
"""


def Picker() -> Any:
    """The component, gradio's HTML; `change` happens when the visitor adds or removes a picture. (A class of our own would make gradio
    write a file beside this one.)"""
    return gr.HTML("[]", html_template=_TEMPLATE, js_on_load=_SCRIPT, elem_id="picker", label="Pictures", apply_default_css=False)


def picker_ids(value: Any) -> list[str]:
    """The ids in a picker's value; raises `UserError` when it is none, and while a picture is on its way."""
    try:
        ids = [picture["id"] for picture in json.loads(value or "[]")]
    except (TypeError, ValueError, KeyError, RecursionError):
        raise UserError(_DAMAGED) from None
    if None in ids:
        raise UserError("A picture is still on its way: ask again when it is listed.")
    if not all(isinstance(name, str) for name in ids):
        raise UserError(_DAMAGED)
    return ids


def picker_value(pictures: Iterable[Shown]) -> str:
    """What a picker shows for these pictures."""
    return json.dumps([described(picture) for picture in pictures])


def described(picture: Shown) -> dict[str, str]:
    """What a picker is told of a picture."""
    return {"id": picture.id, "size": f"{picture.size[0]} x {picture.size[1]}", "thumbnail": picture.thumbnail}
