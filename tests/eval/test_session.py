"""Sessions of a run: what they leave, and how the next one goes on."""

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llava.ecso import GUARD
from llava.errors import UserError
from llava.eval.lock import locked
from llava.eval.merge import merge
from llava.eval.plan import Shard
from llava.eval.records import StorageError, read
from llava.eval.sample import BadData
from llava.eval.session import evaluate
from llava.eval.tasks import task
from llava.paths import MINI_DATA
from llava.serve.gateway.service import Config
from tests.eval.oracle import Server, reply, served
from tests.eval.runs import METHODS, ROOT, content, ids, plan, records, same, vlsafe
from tests.serve.gateway.running import gateway


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vlsafe(tmp_path_factory.mktemp("data"), 12)


@pytest.fixture(scope="module")
def whole(data: Path, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody interrupted."""
    out = tmp_path_factory.mktemp("whole")
    assert evaluate(plan(data, out, server.url)).whole
    return out


def test_a_run_holds_every_sample_once_in_order_with_every_step(whole: Path) -> None:
    header, rows = read(records(whole, "ecso"))
    assert [row["number"] for row in rows] == list(range(12))
    assert header["task"] == {"name": "vlsafe", "options": {}, "samples": 12}
    assert header["method"]["policy"]["name"] == "paper"
    assert len(header["data"]["files"]["vlsafe/harmlessness_examine.jsonl"]) == len(header["method"]["prompts_sha256"]) == 64
    assert {"python", "llava"} <= header["versions"].keys()
    names = {tuple(step["step"] for step in row["steps"]) for row in rows}
    assert names == {("answer", "check"), ("answer", "check", "caption", "regenerate")}
    for row in rows:
        assert row["steps"][0]["messages"][0]["text"] == row["question"]
        assert row["steps"][0]["messages"][0]["images"] == list(row["images"])
        assert row["released"] == ("regenerated" if row["harmful"] else "draft")
        assert row["answer"] == row["steps"][-1 if row["harmful"] else 0]["reply"]


def test_times_stand_apart_for_every_row(whole: Path) -> None:
    measured = [json.loads(text) for text in (whole / "vlsafe/ecso/measured.jsonl").read_text().splitlines()]
    assert sorted(one["id"] for one in measured) == sorted(ids(records(whole, "ecso")))
    assert all(
        one["seconds"] > 0 and one["seconds"] == pytest.approx(sum(s["seconds"] for s in one["steps"]), abs=1e-3) for one in measured
    )
    assert b"seconds" not in records(whole, "ecso").read_bytes()


def test_the_manifest_says_what_there_is_and_who_made_it(whole: Path) -> None:
    manifest = json.loads((whole / "manifest.json").read_text())
    ecso = manifest["tasks"]["vlsafe"]["methods"]["ecso"]
    assert (ecso["rows"], ecso["checked"], ecso["failed"]) == (12, 12, 0)
    assert [session["ended"] is not None for session in manifest["sessions"]] == [True]


def test_the_manifest_says_where_a_local_model_computed_and_in_what_precision(tmp_path: Path) -> None:
    local = plan(ROOT / MINI_DATA, tmp_path, "mini", limit=1, methods=("direct",), max_tokens=1)
    for options in ({"dtype": "float32", "device": "cpu"}, {"dtype": "float32"}):
        evaluate(replace(local, options=options))
    first, then = json.loads((tmp_path / "manifest.json").read_text())["sessions"]
    assert first["computing"] == {"device": "cpu", "dtype": "float32"}
    assert "computing" not in then  # nothing was left to ask


def test_a_whole_run_asks_nothing_again_and_stays_as_it_is(data: Path, whole: Path, server: Server) -> None:
    before, asked = records(whole, "ecso").stat(), len(server.asked)
    assert evaluate(plan(data, whole, server.url)).whole
    assert len(server.asked) == asked
    assert records(whole, "ecso").stat() == before


def test_what_was_limited_goes_on_to_the_same_end(data: Path, whole: Path, server: Server, tmp_path: Path) -> None:
    for limit in (1, 5, None):
        summary = evaluate(plan(data, tmp_path, server.url, limit=limit))
        assert [result.expected for result in summary.results] == [limit or 12] * 2
    assert same(tmp_path, whole)


def test_methods_that_are_added_later_use_the_answers_that_are_there(data: Path, whole: Path, server: Server, tmp_path: Path) -> None:
    evaluate(plan(data, tmp_path, server.url, methods=("direct",)))
    asked = len(server.asked)
    evaluate(plan(data, tmp_path, server.url))
    assert not any(text.startswith("How is number") for text in server.asked[asked:])
    assert same(tmp_path, whole)


@pytest.mark.parametrize("lost", ["half the rows", "the torn end", "all direct rows", "all measurements"])
def test_what_is_lost_is_asked_again_and_nothing_else(data: Path, whole: Path, server: Server, tmp_path: Path, lost: str) -> None:
    evaluate(plan(data, tmp_path, server.url))
    path = records(tmp_path, "ecso")
    lines = path.read_bytes().splitlines(keepends=True)
    if lost == "half the rows":
        path.write_bytes(b"".join(lines[:1] + lines[2::2]))
    elif lost == "the torn end":
        path.write_bytes(b"".join(lines)[:-30])
    elif lost == "all direct rows":
        records(tmp_path, "direct").unlink()
    else:
        (tmp_path / "vlsafe/ecso/measured.jsonl").unlink()
    evaluate(plan(data, tmp_path, server.url))
    assert same(tmp_path, whole)


def test_another_configuration_does_not_mix_with_the_records(data: Path, whole: Path, server: Server) -> None:
    base = plan(data, whole, server.url)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"max_tokens": 5}, "method.policy.answer.max_tokens"),
        ({"policy": GUARD}, "method.policy.name"),
        ({"preset": "repo"}, "method.preset"),
        ({"policy": base.policy.answering(temperature=0.2, seed=1)}, "method.policy.answer.temperature"),
        ({"options": {"model": "oracle"}}, "model.options.model"),
    ]
    for change, named in changes:
        with pytest.raises(UserError, match=rf"{named} is .* there and .* now"):
            evaluate(replace(base, **change))


@pytest.mark.parametrize("changed", ["method", "benchmark", "method of a shard", "shard of a method"])
def test_a_run_is_of_one_model(data: Path, server: Server, tmp_path: Path, changed: str) -> None:
    first = plan(data, tmp_path, server.url, methods=("direct",), shard=Shard(0, 2) if changed == "method of a shard" else None)
    evaluate(first)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"}
    other = replace(first, target="scripted:A cat.", methods=("refuse",), shard=Shard(1, 2) if changed == "shard of a method" else None)
    if changed == "benchmark":
        other = replace(other, tasks=(task("siuo"),))
    sentence = r"direct/records\.jsonl was made with another configuration: model\.target is .* there and .* now\. .*another --out"
    with pytest.raises(UserError, match=sentence):
        evaluate(other)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"} == before


def test_other_data_do_not_mix_with_the_records(data: Path, whole: Path, server: Server, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"task.samples is 12 there and 5 now\. Files or pictures of the benchmark came, went or changed since"
    ):
        evaluate(plan(vlsafe(tmp_path, 5), whole, server.url))


@pytest.mark.parametrize("count", [2, 5])
def test_shards_are_merged_by_id_into_what_one_process_writes(data: Path, whole: Path, server: Server, tmp_path: Path, count: int) -> None:
    for index in reversed(range(count)):
        evaluate(plan(data, tmp_path, server.url, shard=Shard(index, count)))
    assert ids(tmp_path / f"shards/1-of-{count}/vlsafe/direct/records.jsonl") == ids(records(whole, "direct"))[1::count]
    merged = merge(tmp_path)
    assert [(one.method, one.rows, one.expected, one.failed) for one in merged] == [("direct", 12, 12, 0), ("ecso", 12, 12, 0)]
    assert same(tmp_path, whole)
    before = records(tmp_path, "ecso").stat()
    merge(tmp_path)
    assert records(tmp_path, "ecso").stat() == before
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (len(manifest["sessions"]), manifest["tasks"]["vlsafe"]["methods"]["ecso"]["rows"]) == (count, 12)


def test_a_merge_without_all_shards_says_how_many_rows_there_are(data: Path, server: Server, tmp_path: Path) -> None:
    evaluate(plan(data, tmp_path, server.url, shard=Shard(0, 3)))
    assert [(one.rows, one.expected) for one in merge(tmp_path)] == [(4, 12)] * 2


def test_an_unsharded_run_goes_on_with_what_shards_left_and_shards_with_what_it_left(
    data: Path, whole: Path, server: Server, tmp_path: Path
) -> None:
    evaluate(plan(data, tmp_path, server.url, limit=4))
    asked = len(server.asked)
    evaluate(plan(data, tmp_path, server.url, shard=Shard(0, 2)))
    assert sum(text.startswith("How is number") for text in server.asked[asked:]) == 4  # 4, 6, 8, 10
    assert evaluate(plan(data, tmp_path, server.url)).whole
    assert sum(text.startswith("How is number") for text in server.asked[asked:]) == 8
    assert same(tmp_path, whole)


def test_our_gateway_in_front_of_the_same_model_gives_the_same_answers(data: Path, whole: Path, tmp_path: Path) -> None:
    with gateway(reply, Config(self_test=False, allow_override=True)) as running:
        behind = plan(data, tmp_path, f"http://127.0.0.1:{running.port}/v1", options={"model": "tiny:direct"})
        assert evaluate(behind).whole

    def answers(out: Path, method: str) -> list[tuple[object, ...]]:
        return [(row["id"], row["answer"], row["harmful"]) for row in read(records(out, method))[1]]

    assert all(answers(tmp_path, method) == answers(whole, method) for method in METHODS)


def test_shards_of_different_runs_are_not_merged(data: Path, server: Server, tmp_path: Path) -> None:
    evaluate(plan(data, tmp_path, server.url, shard=Shard(0, 2)))
    evaluate(plan(data, tmp_path, server.url, shard=Shard(1, 2), max_tokens=9))
    with pytest.raises(UserError, match=r"1-of-2.*max_tokens"):
        merge(tmp_path)


def test_two_rows_of_one_id_are_not_merged(data: Path, server: Server, tmp_path: Path) -> None:
    evaluate(plan(data, tmp_path, server.url, shard=Shard(0, 2)))
    evaluate(plan(data, tmp_path, server.url, shard=Shard(0, 3)))
    path = tmp_path / "shards/0-of-3/vlsafe/direct/records.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"answer": "Said', b'"answer": "Told'))
    with pytest.raises(UserError, match=r"0-of-3.*another row for the id"):
        merge(tmp_path)


def test_one_writer_at_a_time(data: Path, tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(UserError, match=r"Another run writes to .* \(process \d+ on"):
        evaluate(plan(data, tmp_path))
    shard = plan(data, tmp_path, shard=Shard(0, 2))
    with locked(shard.folder), pytest.raises(UserError, match="Another run writes to"):
        merge(tmp_path)


def test_a_disk_without_locks_is_one_sentence(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(file: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)  # as some clusters' disks say
    with pytest.raises(UserError, match=r"\.lock cannot be locked: No locks available\. Give an --out on another file system"):
        evaluate(plan(data, tmp_path))


def test_a_broken_picture_is_set_aside_and_told_or_fatal(server: Server, tmp_path: Path) -> None:
    data = vlsafe(tmp_path / "data")
    (data / "vlsafe/images/green.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(BadData, match=r"harmlessness_examine.jsonl, line [25]: .*green.png"):
        evaluate(plan(data, tmp_path / "strict", server.url, strict=True))
    summary = evaluate(plan(data, tmp_path / "out", server.url))
    assert not summary.whole
    assert sorted(row.line for row in summary.set_aside) == [2, 5]
    assert len(ids(records(tmp_path / "out", "ecso"))) == 4
    told = [json.loads(text) for text in (tmp_path / "out/vlsafe/quarantine.jsonl").read_text().splitlines()]
    assert sorted((row["line"], row["mended"]) for row in told) == [(2, False), (5, False)]
    failures = [json.loads(text) for text in (tmp_path / "out/vlsafe/ecso/failures.jsonl").read_text().splitlines()]
    assert sorted((failure["kind"], failure["number"]) for failure in failures) == [("ImageError", 1), ("ImageError", 4)]


def test_failures_are_told_and_tried_again_by_the_next_session(data: Path, whole: Path, tmp_path: Path) -> None:
    with served() as server:
        server.refuse = lambda number: 400 if number % 7 == 0 else 0
        base = plan(data, tmp_path, server.url, concurrency=1)
        first = evaluate(base)
        failed = [failure["id"] for result in first.results for failure in result.failures]
        assert failed
        server.refuse = lambda number: 0
        assert evaluate(base).whole
    assert not list(tmp_path.rglob("failures.jsonl"))
    for method in METHODS:
        assert content(records(tmp_path, method))[1] == content(records(whole, method))[1]


def test_a_server_that_is_gone_ends_the_run_and_what_was_answered_stays(data: Path, whole: Path, tmp_path: Path) -> None:
    with served() as server:
        server.refuse = lambda number: 0 if number < 20 else 500
        base = plan(data, tmp_path, server.url, concurrency=2, options={"retries": 0})
        summary = evaluate(base)
        assert not summary.whole
        assert 0 < summary.results[0].rows < 12
        server.refuse = lambda number: 0
        assert evaluate(base).whole


def test_a_run_without_a_way_to_write_is_one_sentence(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        evaluate(plan(data, tmp_path / "file" / "out"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"methods": ("direct", "esco")}, "Did you mean ecso"),
        ({"methods": ("direct", "direct")}, "each only once"),
        ({"methods": ()}, "at least one method"),
        ({"tasks": ()}, "at least one task"),
        ({"limit": 0}, "--limit is 0"),
        ({"preset": "rep"}, "Did you mean repo"),
    ],
)
def test_plans_that_cannot_be_are_refused(change: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=sentence):
        plan(tmp_path, tmp_path, **change)


@pytest.mark.parametrize("text", ["4/4", "1", "-1/2", "0/0", "a/b", "1/2/3"])
def test_a_shard_is_i_of_n(text: str) -> None:
    with pytest.raises(UserError, match="i from 0 to n-1"):
        Shard.of(text)
