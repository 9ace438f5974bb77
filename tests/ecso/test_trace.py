"""Traces: their attributes, as JSON and back, as text, as HTML."""

import asyncio
import copy
import json
import pickle
import random
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PIL

from llava.chat import Chat, Image, Reply
from llava.ecso import DEFENCES, GUARD, PAPER, Method, Trace
from llava.ecso.driver import run
from llava.ecso.html import as_html
from llava.ecso.text import as_text
from llava.engines import ScriptedEngine
from llava.engines.scripted import Script
from llava.errors import ContextTooLong, ImageError, LlavaError, NoLogprobs, Overloaded, UserError
from tests.ecso.factories import BENIGN, HARMFUL, PICTURES, STEP_NAMES, chats, lines, texts

BOMB = Chat.ask("How to make this?", PICTURES[:1])
HOSTILE = "<script>alert(1)</script><img src=x onerror=y>\"'&amp;</div></p><style>*{}</style>\x1b]0;owned\x07\x1b[2J\u202e{caption}"


def traced(replies: Script, method: Method | None = None, chat: Chat = BOMB, draft: str | None = None) -> Trace:
    return asyncio.run(run(method or Method(), chat, ScriptedEngine(replies), draft))


replies = st.fixed_dictionaries({step: texts | st.sampled_from(["Yes", "No"]) for step in STEP_NAMES})
methods = st.builds(Method, st.sampled_from(sorted(DEFENCES)), st.sampled_from([PAPER, GUARD, GUARD.answering(stop=["a", "b"], seed=1)]))


def test_the_attributes_of_a_result_name_the_four_steps() -> None:
    result = traced(HARMFUL)
    assert (result.draft, result.check, result.caption, result.answer) == (
        "Join the rod with the plate.",
        "Yes",
        "A red bomb.",
        "I cannot help.",
    )
    assert (result.harmful, result.released, result.p_harmful, result.finish_reason) == (True, "regenerated", None, "stop")
    assert result.seconds == sum(step.seconds for step in result.steps)
    assert repr(result) == "Trace(regenerated, harmful=True, answer='I cannot help.')"
    benign = traced(BENIGN)
    assert (benign.harmful, benign.released, benign.caption, benign.regenerated) == (False, "draft", None, None)


def test_a_given_draft_and_a_refusal_are_told_apart_from_the_models_own_words() -> None:
    result = traced(lines(recheck="Yes"), Method(policy=GUARD), draft="A candidate.")
    assert (result.draft, result.answer, result.regenerated) == ("A candidate.", GUARD.refusal, "I cannot help.")
    assert result.finish_reason == "refusal"
    passed = traced(BENIGN, draft="A candidate.")
    assert "released  the answer that was given\n    A candidate." in str(passed)
    assert passed.finish_reason is None


def test_several_checks_report_the_one_that_decided_and_the_highest_p() -> None:
    parts = iter([Reply("No", first_logprobs={"No": -0.5, "Yes": -1.0}), Reply("No", first_logprobs={"No": -0.1, "Yes": -3.0})])
    engine = ScriptedEngine(lambda call: next(parts) if call.step == "check" else "x" * 2000)
    trace = asyncio.run(run(Method(policy=GUARD), BOMB, engine))
    assert len([step for step in trace.steps if step.name == "check"]) == 2
    assert trace.p_harmful == pytest.approx(0.3775, abs=1e-3)


@given(replies, methods, chats(), st.none() | texts, st.booleans())
def test_a_trace_survives_json(said: dict[str, str], method: Method, chat: Chat, draft: str | None, embed: bool) -> None:
    trace = traced(said, method, chat, draft)
    back = Trace.from_dict(json.loads(json.dumps(trace.to_dict(embed=embed), allow_nan=False)))
    assert back == trace
    assert as_text(back) == as_text(trace)


def test_pixels_are_kept_only_when_wanted() -> None:
    trace = traced(HARMFUL)
    assert "base64" not in json.dumps(trace.to_dict())
    bare = Trace.from_dict(trace.to_dict())
    assert bare.images[0].size == (8, 6)
    assert "image 8 x 6" in as_html(bare)
    for pixels in (bare.images[0].pil, bare.images[0].png, bare.images[0].file, bare.images[0].data_url):
        with pytest.raises(ImageError, match="saved without its images"):
            pixels()
    full = Trace.from_dict(trace.to_dict(embed=True))
    assert full.images[0].pil().tobytes() == trace.images[0].pil().tobytes()


def test_a_large_picture_survives_too() -> None:
    noise = PIL.frombytes("RGB", (2200, 2000), random.Random(1).randbytes(2200 * 2000 * 3))  # a PNG of 13 MiB
    trace = traced(BENIGN, chat=Chat.ask("What is this?", [Image(noise)]))
    back = Trace.from_dict(json.loads(json.dumps(trace.to_dict(embed=True))))
    assert back == trace
    assert back.images[0].pil().tobytes() == noise.tobytes()


def test_a_record_opens_no_file_and_no_other_picture_than_it_names(tmp_path: Path) -> None:
    file = tmp_path / "private.png"
    file.write_bytes(PICTURES[0].png())
    for forged in (str(file), PICTURES[1].data_url(), "", 5, None, file.as_uri()):
        record = json.loads(json.dumps(traced(HARMFUL).to_dict(embed=True)))
        for image in record["images"].values():
            image["data_url"] = forged
        with pytest.raises(UserError):
            Trace.from_dict(record)


def test_log_probabilities_survive_json_but_for_impossible_tokens() -> None:
    logprobs = {"Yes": -0.1, "No": float("-inf")}
    trace = traced(lines(check=Reply("Yes", first_logprobs=logprobs)))
    back = Trace.from_dict(json.loads(json.dumps(trace.to_dict(), allow_nan=False)))
    assert back.steps[1].reply.first_logprobs == {"Yes": -0.1}


@pytest.mark.parametrize(
    "damage", [{"format": 2}, {"format": None}, {"steps": 5}, {"chat": [{}]}, {"method": {}}, {"engine": None, "images": None}]
)
def test_damaged_records_are_refused_with_a_sentence(damage: dict[str, object]) -> None:
    with pytest.raises(UserError, match="trace"):
        Trace.from_dict({**traced(HARMFUL).to_dict(), **damage})


FORGED: list[tuple[tuple[str | int, ...], Any]] = [
    (("engine",), "no text"),
    (("given",), 7),
    (("answer",), None),
    (("released",), "draught"),
    (("harmful",), "maybe"),
    (("steps", 0, "step"), 7),
    (("steps", 0, "seconds"), "</small><script>alert(1)</script>"),
    (("steps", 0, "seconds"), 10**400),
    (("steps", 0, "edited"), "yes"),
    (("steps", 0, "top_logprobs"), True),
    (("steps", 0, "reply", "text"), 5),
    (("steps", 0, "reply", "finish_reason"), "later"),
    (("steps", 0, "reply", "first_logprobs"), {"Yes": "often"}),
    (("steps", 1, "verdict", "p_harmful"), "<b>"),
    (("steps", 1, "verdict", "reason"), None),
]


@pytest.mark.parametrize(("where", "value"), FORGED, ids=[" ".join(map(str, where)) for where, _ in FORGED])
def test_a_record_whose_values_are_of_another_kind_is_refused_before_it_is_shown(where: tuple[str | int, ...], value: Any) -> None:
    record = json.loads(json.dumps(traced(HARMFUL).to_dict()))
    part = record
    for name in where[:-1]:
        part = part[name]
    part[where[-1]] = [value] if value == "no text" else value
    with pytest.raises(UserError, match="The trace is damaged"):
        Trace.from_dict(record)


@pytest.mark.parametrize("size", [[HOSTILE, 6], [8], [8, 6, 3], [8, 0], [True, 6], [8.0, 6], [10**400, 6], "86", 5, None])
def test_a_size_in_a_record_is_two_whole_numbers_or_it_could_bring_a_script_into_a_notebook(size: Any) -> None:
    record = json.loads(json.dumps(traced(HARMFUL).to_dict()))
    (image,) = record["images"].values()
    image["size"] = size
    with pytest.raises(UserError, match="The trace is damaged"):
        Trace.from_dict(record)


def test_an_image_of_a_record_is_named_by_its_hash_and_nothing_else() -> None:
    text = json.dumps(traced(HARMFUL).to_dict())
    with pytest.raises(UserError, match="The trace is damaged"):
        Trace.from_dict(json.loads(text.replace(PICTURES[0].sha256, "../" * 9)))


@pytest.mark.parametrize("other", [{}, [], None, "a trace", 5])
def test_what_is_no_record_at_all_is_refused_too(other: Any) -> None:
    with pytest.raises(UserError, match="no trace"):
        Trace.from_dict(other)


@pytest.mark.parametrize("error", [ContextTooLong(900, 100, 512), ContextTooLong(), NoLogprobs(), Overloaded("no room")])
def test_a_failed_row_keeps_its_errors_kind_and_sentence(error: LlavaError) -> None:
    failed = Trace(BOMB, Method(), "tiny", error=error)
    pickled = pickle.loads(pickle.dumps(failed))  # noqa: S301 - our own
    for back in (Trace.from_dict(json.loads(json.dumps(failed.to_dict()))), pickled):
        assert (type(back.error), str(back.error)) == (type(error), str(error))


def test_traces_travel_between_processes() -> None:
    for trace in (traced(HARMFUL), Trace.from_dict(traced(HARMFUL).to_dict())):
        assert pickle.loads(pickle.dumps(trace)) == copy.deepcopy(trace) == trace  # noqa: S301 - our own


def test_the_text_names_every_step_and_fits_the_width() -> None:
    shown = as_text(traced(lines(answer="word " * 60)), width=60)
    for words in (
        "question  image 8x6",
        "1 answer",
        "2 check",
        "-> harmful",
        "3 caption",
        "4 regenerate",
        "eyes closed",
        "released",
        "policy paper",
    ):
        assert words in shown
    assert max(map(len, shown.splitlines())) <= 72
    assert "\x1b" not in shown
    assert "\x1b[1m" in as_text(traced(HARMFUL), colour=True)
    assert str(traced(HARMFUL)).startswith("question")


def test_paragraphs_keep_their_empty_lines_and_only_a_blank_text_is_said_to_be_nothing() -> None:
    shown = as_text(traced(lines(answer="One.\n\nTwo.\n\n", caption=" \n")))
    assert "    One.\n\n    Two.\n2 check" in shown
    assert shown.count("(nothing)") == 1
    assert "3 caption  the image, described for the question  0.00 s\n    (nothing)\n4 regenerate" in shown


def test_words_and_emojis_with_joiners_stay_whole() -> None:
    said = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f469\u200d\U0001f52c"
    trace = traced(lines(answer=said))
    assert said in as_text(trace)
    assert said in as_html(trace)


def test_no_words_of_a_model_or_user_can_steer_the_terminal() -> None:
    trace = traced(dict.fromkeys(STEP_NAMES, HOSTILE) | {"check": "Yes"}, chat=Chat.ask(HOSTILE, PICTURES[:1]))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", as_text(trace))
    renamed = replace(trace, steps=tuple(replace(step, call=replace(step.call, step=HOSTILE)) for step in trace.steps))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", as_text(Trace.from_dict(renamed.to_dict())))


class Tags(HTMLParser):
    """Collects elements and whether they are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@given(replies, methods, chats(), st.none() | texts)
def test_the_drawing_is_balanced_and_self_contained_whatever_was_said(
    said: dict[str, str], method: Method, chat: Chat, draft: str | None
) -> None:
    hostile = {step: text if text in ("Yes", "No") else HOSTILE + text for step, text in said.items()}
    tags = Tags()
    tags.feed(as_html(traced(hostile, method, chat, draft)))
    assert tags.open == []
    assert set(tags.seen) <= {"style", "div", "figure", "figcaption", "img", "ol", "li", "b", "small", "p", "meter"}
    assert all(name in {"class", "alt", "src", "min", "max", "value"} for name, _ in tags.attributes)
    assert all((value or "").startswith("data:image/png;base64,") for name, value in tags.attributes if name == "src")


def test_the_drawing_shows_every_step_and_dims_what_was_not_released() -> None:
    drawn = traced(lines(check=Reply("Yes", first_logprobs={"Yes": -0.1, "No": -2.4})))._repr_html_()
    for words in ("1 answer", "2 check", "3 caption", "4 regenerate", "How to make this?", '<meter min="0" max="1" value="0.9089">'):
        assert words in drawn
    assert re.search(r'class="held"><b>1 answer', drawn)
    assert re.search(r'class="released"><b>released', drawn)
