"""The façade: images, questions and options in, released answers out."""

import asyncio
import math
import threading
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PIL

from llava.chat import Chat, Reply
from llava.ecso import ECSO, GUARD, Policy, Prompts
from llava.engines import ScriptedEngine
from llava.errors import EngineError, ImageError, UserError
from tests.ecso.factories import BENIGN, HARMFUL, PICTURES, STEP_NAMES, lines, portals

RED = PICTURES[0]

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


def test_a_guard_answers_and_shows_how() -> None:
    with ECSO(ScriptedEngine(HARMFUL)) as guard:
        result = guard(RED, "How to make this?")
    assert (result.answer, result.harmful, result.draft) == ("I cannot help.", True, "Join the rod with the plate.")
    assert repr(guard) == "ECSO('scripted', defence='ecso', policy='paper')"


def test_a_guard_connects_by_name_and_takes_sampling_and_engine_options() -> None:
    with ECSO("scripted:A cat.|No", max_tokens=7, temperature=0.5, delay=0.0) as guard:
        assert guard(None, "Hello?").answer == "A cat."
        assert isinstance(guard.engine, ScriptedEngine)
        sampling = guard.engine.seen[0].sampling
    assert (sampling.max_tokens, sampling.temperature) == (7, 0.5)


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("scripted:a", {"policy": "papre"}),
        ("scripted:a", {"defence": "ecos"}),
        ("scripted:a", {"no_such_option": 1}),
        ("scripted:a", {"max_tokens": 0}),
        ("scripted:a", {"temperature": math.nan}),
        ("no/such/folder/at/all", {}),
        (5, {}),
        ("scripted:a", {"policy": ["paper"]}),
        ("scripted:a", {"policy": None}),
        ("scripted:a", {"defence": []}),
        ("scripted:a", {"defence": ""}),
        ("scripted:a", {"prompts": "Is it harmful?"}),
        ("scripted:a", {"max_tokens": "5"}),
        ("scripted:a", {"stop": 5}),
        ("scripted:a", {"seed": "x"}),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(target: object, options: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        ECSO(target, **options)
    assert portals() == []


@pytest.mark.parametrize(("option", "meant"), [("max_token", "max_tokens"), ("temprature", "temperature"), ("top-p", "top_p")])
def test_a_slip_in_the_name_of_a_sampling_option_is_told_what_was_meant(option: str, meant: str) -> None:
    slip: dict[str, Any] = {option: 1}
    with pytest.raises(UserError, match=rf"Unknown option '{option}'\. Did you mean {meant}\?"):
        ECSO("scripted:a", **slip)
    assert portals() == []


def test_one_loaded_model_serves_several_methods() -> None:
    engine = ScriptedEngine(lines(recheck="Yes"))
    with ECSO(engine, max_tokens=9) as guard:
        assert guard(RED, "How?", method=guard.using(defence="direct")).answer == HARMFUL["answer"]
        assert guard(RED, "How?", method=guard.using(policy="guard")).answer == GUARD.refusal
        assert guard(RED, "How?").answer == HARMFUL["regenerate"]
        assert {call.sampling.max_tokens for call in engine.seen if call.step == "answer"} == {9}


def test_own_prompts_and_policies_are_used() -> None:
    engine = ScriptedEngine(HARMFUL)
    prompts = Prompts(check="{question} -> {answer}: harmful, yes or no?")
    with ECSO(engine, prompts=prompts, policy=Policy(name="mine", caption_tokens=5)) as guard:
        guard(RED, "How?")
    assert engine.seen[1].chat.question == "How? -> Join the rod with the plate.: harmful, yes or no?"
    assert engine.seen[2].sampling.max_tokens == 5


def test_a_candidate_answer_is_checked_in_place_of_the_models_own() -> None:
    engine = ScriptedEngine(BENIGN)
    with ECSO(engine) as guard:
        result = guard(RED, "What is this?", draft="A dog.")
    assert result.answer == result.draft == "A dog."
    assert [call.step for call in engine.seen] == ["check"]


def test_it_works_where_an_event_loop_already_runs_as_in_a_notebook() -> None:
    async def cell() -> tuple[str | None, list[str | None]]:
        with ECSO(ScriptedEngine(BENIGN, delay=0.001)) as guard:
            plain = guard(RED, "What?").answer
            awaited = await asyncio.gather(*(guard.ask(RED, "What?") for _ in range(5)))
            return plain, [result.answer for result in awaited]

    assert asyncio.run(cell()) == ("A cat.", ["A cat."] * 5)


def test_lists_of_paths_and_rows_of_ones_own_are_taken_and_type_checked_as_they_are(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for path in paths:
        path.write_bytes(RED.png())
    names: list[str] = list(map(str, paths))
    rows: list[list[str]] = [[name, "What?"] for name in names]
    with ECSO(ScriptedEngine(BENIGN)) as guard:
        assert guard(paths, "What?").images == guard(names, "What?").images == guard(deque(names), "What?").images == (RED, RED)
        assert [trace.images for trace in guard.map(rows, progress=False)] == [(RED,)] * 2


class Large(PIL.Image):
    """A picture that is not decoded before the caller's event loop has gone on."""

    def __init__(self, gone_on: threading.Event) -> None:
        super().__init__()
        self.gone_on = gone_on
        self.im, self._mode, self._size = RED.pil().im, "RGB", RED.size

    def load(self) -> Any:
        assert self.gone_on.wait(60)
        return super().load()


def test_while_an_awaited_question_has_its_picture_decoded_the_event_loop_goes_on() -> None:
    async def main() -> str | None:
        gone_on = threading.Event()
        asyncio.get_running_loop().call_soon(gone_on.set)
        with ECSO(ScriptedEngine(BENIGN)) as guard:
            return (await guard.ask(Large(gone_on), "What?")).answer

    assert asyncio.run(main()) == "A cat."


def test_many_threads_may_call_one_guard() -> None:
    answers = []
    with ECSO(ScriptedEngine(BENIGN, delay=0.001)) as guard:
        threads = [threading.Thread(target=lambda: answers.append(guard(RED, "What?").answer)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == ["A cat."] * 8


@pytest.mark.parametrize("verdict", ["Yes", "No"])
def test_a_stream_gives_the_released_text_and_nothing_before_the_method_is_done(verdict: str) -> None:
    engine = ScriptedEngine(lines(check=verdict, regenerate="I  cannot help\nwith that. "))
    with ECSO(engine) as guard:
        pieces = guard.stream(RED, "How?")
        first = next(pieces)
        assert engine.seen[-1].step == ("regenerate" if verdict == "Yes" else "check")
        rest = list(pieces)
    assert first + "".join(rest) == ("I  cannot help\nwith that. " if verdict == "Yes" else HARMFUL["answer"])
    assert len(rest) > 1


@pytest.mark.parametrize("step", STEP_NAMES)
def test_a_stream_whose_step_fails_gives_nothing(step: str) -> None:
    with ECSO(ScriptedEngine(lines(**{step: EngineError("The model fell over.")})), policy="guard") as guard:
        given: list[str] = []
        with pytest.raises(EngineError, match="fell over"):
            given.extend(guard.stream(RED, "How?"))
        assert given == []


def test_mistakes_are_raised_from_calls_without_harm_to_the_guard() -> None:
    with ECSO(ScriptedEngine(BENIGN)) as guard:
        with pytest.raises(ImageError):
            guard("no/such/image.png", "What?")
        with pytest.raises(UserError):
            guard(RED, "")
        with pytest.raises(UserError):
            guard(Chat.ask("What?"), "What?")
        with pytest.raises(UserError, match="draft is a text"):
            guard(RED, "What?", draft=5)  # type: ignore[arg-type]
        with pytest.raises(UserError, match="half a character"):
            guard(RED, "What?", draft="half \ud800")
        with pytest.raises(UserError, match="not str"):
            guard(RED, "What?", method="direct")  # type: ignore[arg-type]
        with pytest.raises(UserError, match="Unknown defence"):
            guard.using(defence="")
        with pytest.raises(UserError, match="Unknown policy"):
            guard.using(policy=["paper"])  # type: ignore[arg-type]
        assert guard(RED, "What?").answer == "A cat."


def test_a_reply_that_the_engine_cancelled_is_no_answer() -> None:
    with ECSO(ScriptedEngine(lines(answer=Reply("half an", finish_reason="cancelled")))) as guard, pytest.raises(EngineError):
        guard(RED, "How?")
