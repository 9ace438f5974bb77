"""`llava bench serve`: real servers, few requests. Are the figures what was measured, and does nothing pass that is not whole?"""

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llava import cli
from llava.bench.report import data
from llava.bench.serve import PARTS, Plan, Record, Result
from llava.bench.serve_client import Got, Load, drive, streamed_text
from llava.bench.serve_models import CONVERSATION, First, Throughput, conversations
from llava.bench.serve_overhead import Overhead, Streams, _is_whole, _is_whole_original
from llava.bench.serve_report import COLUMNS, markdown
from llava.bench.serve_scripted import Script, said
from llava.bench.serve_servers import Servers, free_port
from llava.errors import EngineError
from tests.loopback import on_loopback

SCRIPT = Script(think=0.0, pieces=5, pace=0.0, check=0.0)
QUESTION = "What do you see?"


def bench(folder: Path, words: str) -> tuple[int, dict[str, Any]]:
    code = cli.main(["bench", "serve", "--quick", "--out", str(folder), *words.split()])
    return code, json.loads((folder / "serve.json").read_text())


def test_overhead_and_streams_are_measured_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, data = bench(tmp_path, "--parts overhead,streams --clients 1,2 --per-client 1 --streams 6")
    assert code == 0
    rows = data["medians"]["overhead"]
    ways = ("directly", "gateway, mode off", "gateway, guarded")
    assert [(row["way"], row["clients"], row["picture"]) for row in rows] == [
        (way, clients, picture) for clients, picture in ((1, False), (2, False), (2, True)) for way in ways
    ]
    for row in rows:
        assert row["lost"] == 0
        assert 0 < row["p50"] <= row["p99"]
        if row["way"] == "gateway, guarded":
            assert 0 < row["outside50"] <= row["outside99"]
        else:  # nobody tells how long the gateway's calls took
            assert (row["outside50"], row["outside99"]) == (None, None)
    direct, through = rows[0], rows[1]
    assert through["added50"] == pytest.approx(through["p50"] - direct["p50"])
    for row in data["medians"]["streams"]:
        assert (row["streams"], row["open"], row["lost"]) == (6, 6, 0)
    printed = capsys.readouterr().out
    assert "| gateway, guarded | 2 | yes |" in printed
    assert re.search(r"\| gateway, mode off \| 2 \| yes \| .* ms \| - \| - \| [0-9.]+ \|\n", printed)
    assert "0.17 s for an answer" in printed


@pytest.mark.slow
def test_models_are_measured_through_the_whole_chain(tmp_path: Path) -> None:
    code, data = bench(tmp_path, "--parts mini,long,shape,first --clients 1,3 --requests 3 --tokens 4 --rounds 2")
    assert code == 0
    assert len(data["rounds"]) == 2
    for part, model in (("mini", "mini"), ("long", "5m"), ("shape", "tiny")):
        rows = data["rounds"][1][part]
        assert [(row["model"], row["questions"], row["way"], row["clients"]) for row in rows] == [
            (model, questions, way, clients) for questions in (1, 8) for way in ("unguarded", "guarded") for clients in (1, 3)
        ]
        assert [row["requests"] for row in rows] == [6, 18] * 2 + [16, 24] * 2
        assert all(row["lost"] == 0 for row in rows)
        assert rows[1]["ratio"] == pytest.approx(rows[1]["tokens_per_second"] / rows[0]["tokens_per_second"])
    for row in data["rounds"][0]["long"] + data["rounds"][0]["shape"]:
        tokens = (
            4 if row["way"] == "unguarded" else 5
        )  # an answer, and a check that its first token settles: it is no beginning of a verdict
        assert row["tokens_per_second"] == pytest.approx(tokens * row["answers_per_second"])
        assert row["released"] == 1
    for worker, off, guard in (data["rounds"][0]["first"][:3], data["rounds"][0]["first"][3:]):
        assert (worker["ratio"], worker["way"]) == (1, "the worker's stream, unguarded")
        for row in (worker, off, guard):
            assert 0 < row["first"] <= row["whole"]
            assert row["ratio"] == pytest.approx(row["first"] / worker["first"])


def event(**choice: Any) -> bytes:
    chosen = {"index": 0, "delta": {}, "finish_reason": None, **choice}
    return b"data: " + json.dumps({"choices": [chosen]}).encode() + b"\n\n"


END = event(finish_reason="stop") + b"data: [DONE]\n\n"
STREAMS = {
    "whole": (event(delta={"content": "A cat."}) + END, "A cat."),
    "no end": (event(delta={"content": "A cat."}), None),
    "no finish": (event(delta={"content": "A cat."}) + b"data: [DONE]\n\n", None),
    "cut": ((event(delta={"content": "A cat."}) + END)[:-1], None),
    "more": (event(delta={"content": "A cat."}) + END + b"x", None),
    "text after the end": (event(finish_reason="stop") + event(delta={"content": "A cat."}) + b"data: [DONE]\n\n", None),
    "something else": (b"event: x\n\n" + END, None),
    "filtered": (event(finish_reason="content_filter") + b"data: [DONE]\n\n", None),
    "nothing": (b"", None),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_of_which_a_byte_is_out_of_place_is_no_stream(name: str) -> None:
    content, text = STREAMS[name]
    if text is None:
        with pytest.raises(ValueError):
            streamed_text(content)
    else:
        assert streamed_text(content) == text


def got(content: bytes, status: int = 200) -> Got:
    return Got(status, {}, content, 0.1, 0.2)


def test_an_answer_to_another_question_or_with_another_status_is_lost() -> None:
    text = "".join(said(QUESTION, SCRIPT.pieces))
    content = event(delta={"content": text}) + END
    assert _is_whole(got(content), QUESTION, SCRIPT)
    assert not _is_whole(got(content), f"{QUESTION} ", SCRIPT)
    assert not _is_whole(got(content, 503), QUESTION, SCRIPT)
    assert not _is_whole(got(content.replace(b"-", b"_", 1)), QUESTION, SCRIPT)
    assert not _is_whole(None, QUESTION, SCRIPT)


def test_an_original_stream_must_grow_from_the_prompt_to_the_whole_answer() -> None:
    pieces = said(QUESTION, SCRIPT.pieces)
    texts = [QUESTION + "".join(pieces[: i + 1]) for i in range(len(pieces))]

    def content(*texts: str) -> bytes:
        return b"".join(json.dumps({"text": text, "error_code": 0}).encode() + b"\0" for text in texts)

    assert _is_whole_original(got(content(*texts)), QUESTION, SCRIPT)
    assert _is_whole_original(got(content(*texts, texts[-1])), QUESTION, SCRIPT)  # a sign of life
    for wrong in (texts[:-1], texts[::-1], [texts[-1] + "x"], [texts[-1][len(QUESTION) :]]):
        assert not _is_whole_original(got(content(*wrong)), QUESTION, SCRIPT)
    assert not _is_whole_original(got(content(*texts)[:-1]), QUESTION, SCRIPT)
    assert not _is_whole_original(got(json.dumps({"text": texts[-1], "error_code": 1}).encode() + b"\0"), QUESTION, SCRIPT)


def test_answers_of_the_script_differ_by_question_and_have_characters_of_all_lengths() -> None:
    texts = {"".join(said(f"{QUESTION} {i}", 16)) for i in range(500)}
    assert len(texts) == 500
    assert {len(character.encode()) for text in texts for character in text} == {1, 2, 3, 4}


def test_requests_to_nobody_are_lost_and_none_hangs() -> None:
    load = asyncio.run(drive(free_port(), "/", [b"{}"] * 5, 2))
    assert isinstance(load, Load)
    assert load.answers == [None] * 5


def test_a_client_asks_what_belongs_together_itself_and_in_order() -> None:
    asked: dict[int, list[int]] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        asked.setdefault(scope["client"][1], []).append(int(body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})

    with on_loopback(app) as port:
        load = asyncio.run(drive(port, "/", [str(i).encode() for i in range(22)], 3, turns=4))
    assert [got and got.content for got in load.answers] == [b"{}"] * 22
    assert len(asked) == 3
    groups = [numbers[at : at + 4] for numbers in asked.values() for at in range(0, len(numbers), 4)]
    assert sorted(groups) == [list(range(at, min(at + 4, 22))) for at in range(0, 22, 4)]


@pytest.mark.parametrize(("clients", "requests", "each"), [(1, 48, 48), (4, 48, 12), (16, 48, 8), (1, 8, 16), (8, 8, 8), (3, 1, 8)])
def test_conversations_are_about_pictures_of_ones_own_and_new_pictures_come_evenly(clients: int, requests: int, each: int) -> None:
    asked = conversations(clients, requests)
    assert len(asked) == clients * each
    assert len(set(asked)) == len(asked)  # nothing is asked twice
    assert [number[0] for number, _ in asked] == [client for client in range(clients) for _ in range(each)]
    later = [at for at in range(len(asked)) if at % each]  # a client's first answer is none that counts
    new = sum(asked[at][0] != asked[at - 1][0] for at in later)
    assert new == pytest.approx(len(later) / len(CONVERSATION), abs=1)


def test_rates_are_those_while_all_clients_are_at_work() -> None:
    spans = [(0.0, 2.0), (0.0, 1.0), (1.0, 3.0), (2.0, 4.0), (3.0, 5.0), (4.0, 5.5), (5.0, 9.0)]
    assert Load([None] * 7, spans, 9.0).steady(2) == (2.0, 5.0)
    assert Load([None] * 7, spans, 9.0).steady(1) == (2.0, 5.0)
    assert Load([None] * 3, spans[:3], 3.0).steady(2) == (0.0, 3.0)  # too few
    two = [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 4.0), (0.0, 2.5), (2.5, 3.0), (3.0, 4.0), (4.5, 5.0)]
    assert Load([None] * 8, two, 5.0).steady(2, 4) == (2.5, 4.5)  # the first answers of the two are those to requests 0 and 4


def test_a_server_that_does_not_start_tells_its_last_words(tmp_path: Path) -> None:
    with (
        Servers(tmp_path) as servers,
        pytest.raises(EngineError, match=r"serve.api_server did not start; it said: llava: .*Did you mean paper"),
    ):
        servers.gateway("scripted:x", "--policy", "papr")


MINI = Throughput("mini", "guarded", 16, 8, 48, 0, 17.0, 300.0, 4.1, 0.9)
RECORDS: dict[str, Record] = {
    "overhead": Overhead("gateway, guarded", 8, False, 128, 0, 0.0021, 0.0089, 0.0012, 0.0048, 0.0009, 0.003, 9.5),
    "streams": Streams("gateway, guarded", 1000, 1000, 0, 2.5, 12.0),
    "mini": MINI,
    "long": Throughput("5m", "guarded", 16, 8, 128, 0, 26.0, 1700.0, 4.1, 1.0),
    "shape": Throughput("33m", "unguarded", 8, 1, 24, 0, 1.5, 96.0, 2.2, 1.0),
    "first": First("mini", "gateway, guarded", 8, 0.31, 0.31, 6.2),
}


def test_the_report_holds_every_part_and_medians_of_the_rounds() -> None:
    rounds = [{part: [record] for part, record in RECORDS.items()} for _ in range(3)]
    rounds[2]["mini"] = [replace(MINI, answers_per_second=99.0, requests=2)]
    machine: dict[str, object] = {"processor": "a processor", "cores": 2, "torch": "2"}
    result = Result(Plan(), machine, "2026-11-22T00:00:00", rounds)
    printed = markdown(result)
    tables = re.findall(r"^\| ---", printed, re.MULTILINE)
    assert len(tables) == len(PARTS) == len(COLUMNS) + 2  # three parts have throughputs
    assert "| mini | guarded | 16 | 8 | 98 | 0 | 17.00 | 300 | 4.10 | 90% |" in printed
    assert "2.1 ms" in printed
    assert json.loads(json.dumps(data(result)))["medians"]["streams"][0]["streams"] == 1000
