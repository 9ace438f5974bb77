"""Shards that were killed, damaged or never began: what a merge makes of them."""

import json
from pathlib import Path

import pytest

from llava.cli import main
from llava.errors import UserError
from llava.eval.merge import merge
from llava.eval.plan import Shard
from llava.eval.session import evaluate
from llava.eval.tasks import task
from tests.eval.oracle import Server
from tests.eval.runs import ids, plan, records, same, vlsafe
from tests.eval.tasks import layouts


@pytest.mark.parametrize("left", [b"", b'{"llava_records": 1, "meth'])
def test_a_shard_that_was_killed_before_its_first_line_was_whole_counts_as_none(server: Server, tmp_path: Path, left: bytes) -> None:
    data, out = vlsafe(tmp_path / "data"), tmp_path / "out"
    evaluate(plan(data, out, server.url, shard=Shard(0, 2)))
    torn = records(out / "shards/1-of-2", "ecso")
    torn.parent.mkdir(parents=True)
    torn.write_bytes(left)
    assert [(one.method, one.rows, one.expected) for one in merge(out)] == [("direct", 3, 6), ("ecso", 3, 6)]
    assert evaluate(plan(data, out, server.url)).whole
    evaluate(plan(data, tmp_path / "whole", server.url))
    assert same(out, tmp_path / "whole")


def test_nothing_but_torn_headers_is_no_run(server: Server, tmp_path: Path) -> None:
    torn = records(tmp_path / "out/shards/0-of-2", "direct")
    torn.parent.mkdir(parents=True)
    torn.write_bytes(b"{")
    assert merge(tmp_path / "out") == []
    assert not records(tmp_path / "out", "direct").exists()
    data = vlsafe(tmp_path / "data")
    records(tmp_path / "out", "ecso").parent.mkdir(parents=True)
    records(tmp_path / "out", "ecso").write_bytes(b"{")
    evaluate(plan(data, tmp_path / "out", server.url, shard=Shard(0, 2)))  # it looks there for what need not be asked
    assert len(ids(records(tmp_path / "out/shards/0-of-2", "ecso"))) == 3


def test_a_line_that_is_no_row_is_one_sentence(server: Server, tmp_path: Path) -> None:
    data, out = vlsafe(tmp_path / "data"), tmp_path / "out"
    evaluate(plan(data, out, server.url, shard=Shard(0, 2)))
    path = records(out / "shards/0-of-2", "direct")
    path.write_bytes(path.read_bytes() + b'{"text": "from elsewhere"}\n')
    with pytest.raises(UserError, match="without id and number"):
        merge(out)


def test_what_shards_set_aside_is_counted_and_no_success(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = vlsafe(tmp_path / "data"), tmp_path / "out"
    with (data / "vlsafe/harmlessness_examine.jsonl").open("a") as file:
        file.write('{"image_id": "none.png", "query": "x"}\n')
    for index in (0, 1):
        evaluate(plan(data, out, server.url, shard=Shard(index, 2)))
    assert main(["eval", "merge", str(out)]) == 3
    told = capsys.readouterr().out
    assert told.count(": 6 of 6 rows, 1 rows of the benchmark set aside (quarantine.jsonl)") == 2
    assert json.loads((out / "manifest.json").read_text())["tasks"]["vlsafe"]["set_aside"] == 1


def test_a_merge_of_one_task_leaves_what_is_known_of_the_others(server: Server, tmp_path: Path) -> None:
    data, out = vlsafe(tmp_path / "data"), tmp_path / "out"
    layouts.siuo(data)
    evaluate(plan(data, out, server.url, tasks=(task("siuo"),)))
    before = json.loads((out / "manifest.json").read_text())["tasks"]["siuo"]
    assert before["methods"].keys() == {"direct", "ecso"}
    evaluate(plan(data, out, server.url, shard=Shard(0, 2)))
    merge(out)
    tasks = json.loads((out / "manifest.json").read_text())["tasks"]
    assert tasks["siuo"] == before
    assert tasks["vlsafe"]["methods"]["ecso"]["rows"] == 3


def test_shards_may_ask_servers_at_several_addresses_where_the_models_name_is_given(server: Server, tmp_path: Path) -> None:
    data, out = vlsafe(tmp_path / "data"), tmp_path / "out"
    other = server.url.replace("127.0.0.1", "localhost")
    for index, url in enumerate((server.url, other)):
        evaluate(plan(data, out, url, shard=Shard(index, 2), options={"model": "oracle"}))
    assert [one.rows for one in merge(out)] == [6, 6]
    assert evaluate(plan(data, out, other, options={"model": "oracle"})).whole
    manifest = json.loads((out / "manifest.json").read_text())
    assert {session["model"] for session in manifest["sessions"]} == {server.url, other}
    evaluate(plan(data, tmp_path / "two", server.url, limit=1))
    with pytest.raises(UserError, match=r"model\.target is"):
        evaluate(plan(data, tmp_path / "two", other))  # nobody said which model that is
