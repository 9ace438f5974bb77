"""In how many pieces an answer leaves a worker: as the model says it, or gathered for a reader of the whole."""

from __future__ import annotations

from typing import Any

import pytest

from llava.chat import Call, Chat, Reply
from llava.cluster.wire import request_of
from llava.engines import ScriptedEngine
from llava.serve.model_worker import Config, create_app
from llava.serve.worker import Worker
from tests.serve.asgi import post
from tests.serve.cluster import VICUNA, events


def said(engine: ScriptedEngine, whole: bool) -> list[dict[str, Any]]:
    """What a worker answers."""
    app = create_app(Worker(engine, ("tiny",), VICUNA), Config())
    asked = request_of(Call("answer", Chat.ask("What?"), whole=whole), "tiny", VICUNA)
    return events(post(app, "/worker_generate_stream", asked).content)


@pytest.mark.parametrize(("whole", "pieces"), [(True, 1), (False, 6)])
def test_a_reader_of_whole_answers_gets_no_pieces_of_them(whole: bool, pieces: int) -> None:
    engine = ScriptedEngine([Reply("A black cat sits.", 5, 4)])
    got = said(engine, whole)
    assert len(got) == pieces
    assert "".join(event["delta"] for event in got) == "A black cat sits."
    assert got[-1]["finish_reason"] == "stop"


def test_a_long_answer_shows_that_it_goes_on_also_to_a_reader_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llava.serve.worker.GATHER", 0.0)
    got = said(ScriptedEngine(["A black cat sits."]), whole=True)
    assert len(got) > 1
