"""`llava eval`, run as people run it: in processes of its own, and with those killed."""

import json
import multiprocessing
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llava.cli import main
from llava.eval.session import evaluate
from tests.eval.oracle import Server, served
from tests.eval.runs import METHODS, ROOT, command, content, ids, plan, records, run, same, vlsafe


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vlsafe(tmp_path_factory.mktemp("data"), 40)


@pytest.fixture(scope="module")
def whole(data: Path, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    evaluate(plan(data, out, server.url))
    return out


def words(data: Path, out: Path, server: Server) -> list[str]:
    return ["--engine", server.url, "--data", str(data), "--tasks", "vlsafe", "--out", str(out)]


def test_a_run_prints_what_came_of_it(data: Path, whole: Path, server: Server, tmp_path: Path) -> None:
    done = run(*words(data, tmp_path, server), "--resume", "--progress", PYTHONWARNINGS="error")
    assert done.returncode == 0, done.stderr
    assert re.search(r"vlsafe ecso: 40 of 40 rows, \d+ of 40 first answers judged harmful -> .*ecso/records.jsonl", done.stdout)
    assert re.search(r"vlsafe: 100%.* 40/40 .*sample.*harmful=\d+%", done.stderr)
    assert same(tmp_path, whole)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (["--tasks", "vlsave"], "Did you mean vlsafe?"),
        (["--methods", "ecso,dirct"], "Did you mean direct?"),
        (["--preset", "repo", "--policy", "guard"], "no other policy"),
        (["--shard", "2/2"], "i from 0 to n-1"),
        (["--limit", "0"], "--limit is 0"),
        (["--data", "/nowhere"], "There is no file of questions"),
        (["--answers", "/nowhere"], "There are no answers at /nowhere"),
        (["--processes", "0"], "--processes is '0'"),
        (["--task-option", "modes=SD"], "The task vlsafe has no options"),
        (["--model", "llava"], "are one option: give one. Of a server's models: --engine-option model=NAME"),
        (["--limit", "abc"], "invalid int value: 'abc'"),
        (["--out", __file__], "is a file: name a folder"),
        (["mege", "x"], "llava eval merge FOLDER"),
        (["merge", "/nowhere"], "has no shards"),
        (["--engine", "no/such/model/here"], "There is no checkpoint folder"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(data: Path, server: Server, tmp_path: Path, wrong: list[str], sentence: str) -> None:
    done = run(*words(data, tmp_path / "out", server), *wrong)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("llava: ")
    assert (done.stderr.count("\n"), sentence in done.stderr) == (1, True), done.stderr


@pytest.mark.parametrize(
    ("more", "sampled"), [(["--top-p", "0.9"], (1.0, 0.9, 0)), (["--temperature", "0", "--top-p", "0.9"], (0.0, 0.9, None))]
)
def test_top_p_alone_asks_to_sample_in_a_way_that_can_be_gone_on_with(
    data: Path, server: Server, tmp_path: Path, more: list[str], sampled: tuple[float, float, int | None]
) -> None:
    command = ["eval", *words(data, tmp_path, server), "--methods", "direct", "--limit", "1", "--no-progress", *more]
    assert main(command) == 0
    answer = content(records(tmp_path, "direct"))[0]["method"]["policy"]["answer"]
    assert (answer["temperature"], answer["top_p"], answer["seed"]) == sampled


def test_nobody_there_is_exit_code_1(data: Path, tmp_path: Path) -> None:
    done = run("--engine", "http://127.0.0.1:9/v1", "--data", data, "--tasks", "vlsafe", "--out", tmp_path, "--limit", "2")
    assert done.returncode == 1, done.stderr
    assert "No server answers at http://127.0.0.1:9/v1" in done.stderr
    assert done.stderr.count("\n") == 1


def test_samples_that_fail_are_listed_with_exit_code_3(server: Server, tmp_path: Path) -> None:
    data = vlsafe(tmp_path / "data")
    (data / "vlsafe/images/blue.png").write_bytes(b"no picture")
    with (data / "vlsafe/harmlessness_examine.jsonl").open("a") as file:
        file.write('{"image_id": "../../secret.png", "query": "x"}\n{"image_id": "red.png", "query": "torn')
    done = run(*words(data, tmp_path / "out", server))
    assert done.returncode == 3
    assert done.stdout.count("4 of 6 rows") == 2
    for text in ("line 7: '../../secret.png' is not", "line 8: torn", "line 3: ", "failed: vlsafe ecso "):
        assert text in done.stderr
    told = [json.loads(text) for text in (tmp_path / "out/vlsafe/quarantine.jsonl").read_text().splitlines()]
    assert [row["line"] for row in told] == [3, 6, 7, 8]
    strict = run(*words(data, tmp_path / "strict", server), "--strict")
    assert strict.returncode == 2
    assert "line 7" in strict.stderr


def test_shards_in_processes_give_what_one_process_gives(data: Path, whole: Path, server: Server, tmp_path: Path) -> None:
    for index in (1, 0):
        assert run(*words(data, tmp_path / "by-hand", server), "--shard", f"{index}/2").returncode == 0
    merged = run("merge", tmp_path / "by-hand")
    assert (merged.returncode, merged.stdout) == (0, "vlsafe direct: 40 of 40 rows\nvlsafe ecso: 40 of 40 rows\n")
    together = run(*words(data, tmp_path / "together", server), "--processes", "2", CUDA_VISIBLE_DEVICES="0,1")
    assert (together.returncode, "40 of 40 rows" in together.stdout) == (0, True), together.stderr
    assert same(tmp_path / "by-hand", whole)
    assert same(tmp_path / "together", whole)


def test_a_second_writer_is_refused_and_ctrl_c_keeps_what_is_there(data: Path, whole: Path, tmp_path: Path) -> None:
    with served() as slow:
        slow.pause = 0.5
        process = subprocess.Popen(command(*words(data, tmp_path, slow), "--concurrency", "2"), cwd=ROOT, stderr=subprocess.PIPE, text=True)
        wait_for_rows(tmp_path, 2)
        second = run(*words(data, tmp_path, slow))
        assert (second.returncode, "Another run writes to" in second.stderr) == (2, True)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "go on" in said
        slow.pause = 0.0
        assert run(*words(data, tmp_path, slow)).returncode == 0
    for method in METHODS:
        assert content(records(tmp_path, method))[1] == content(records(whole, method))[1]


def wait_for_rows(out: Path, count: int) -> None:
    path = records(out, "direct")
    while not path.exists() or path.read_bytes().count(b"\n") <= count:
        time.sleep(0.01)


@pytest.mark.parametrize("processes", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_full_disk_ends_the_run_with_exit_code_1_and_costs_nothing(
    data: Path, whole: Path, server: Server, tmp_path: Path, processes: str
) -> None:
    blocks = {"1": 40, "2": 20}[processes]  # kilobytes, of which one file takes no more
    limited = ["bash", "-c", f'ulimit -f {blocks}; exec "$@"', "bash", *command(*words(data, tmp_path, server), "--processes", processes)]
    done = subprocess.run(limited, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1, done.stderr
    assert "cannot be written: File too large" in done.stderr
    assert done.stderr.count("\n") == 1
    some = [name for path in tmp_path.rglob("direct/records.jsonl") for name in ids(path)]
    assert 0 < len(some) < 40
    assert run(*words(data, tmp_path, server)).returncode == 0
    assert same(tmp_path, whole)


READ_ONLY_TOO_FOR_ROOT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(24, 1)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE: what it starts obeys the permissions of files
os.execv(sys.argv[1], sys.argv[1:])
"""


def obeying(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", READ_ONLY_TOO_FOR_ROOT, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )


SLOW_PLACES = [pytest.param(place, marks=pytest.mark.slow) for place in ("vlsafe/direct/records.jsonl", "vlsafe/ecso", "../answers")]


@pytest.mark.parametrize("place", ["", *SLOW_PLACES])
def test_a_read_only_folder_is_exit_code_1_and_one_sentence_and_costs_nothing(
    data: Path, whole: Path, server: Server, tmp_path: Path, place: str
) -> None:
    out = tmp_path / "out"
    (tmp_path / "answers").mkdir()
    base = [*words(data, out, server), "--original", str(tmp_path / "answers")]
    assert run(*words(data, out, server), "--limit", "3").returncode == 0
    if place == "":
        (out / ".lock").unlink()
    if place == "vlsafe/ecso":
        (out / place / "measured.jsonl").unlink()
    (out / place).chmod(0o555 if (out / place).is_dir() else 0o444)
    try:
        done = obeying(*command(*base))
    finally:
        (out / place).chmod(0o755)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "cannot be written: Permission denied" in done.stderr
    assert run(*base).returncode == 0
    assert same(out, whole)


def kill_and_resume(data: Path, out: Path, server: Server, kills: int, seed: int) -> list[int]:
    """Kill the run at random moments of its work, then some more at any moment, also before it works; then let it end.

    Returns how many lines the kills of its work found."""
    draw, found = random.Random(seed), []
    processes = multiprocessing.get_context("forkserver")  # a clean process that has everything imported, and can be forked
    processes.set_forkserver_preload(["llava.eval.session", "llava.engines.openai", "llava.ecso", "tqdm", "PIL.PngImagePlugin"])
    for number in range(kills + kills // 3):
        process = processes.Process(target=evaluate, args=(plan(data, out, server.url, concurrency=8),))
        before = rows_in(out)
        process.start()
        while rows_in(out) <= before and process.is_alive() and number < kills:
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.2))
        process.kill()
        process.join()
        found.append(rows_in(out))
    assert evaluate(plan(data, out, server.url)).whole
    return found[:kills]


def rows_in(out: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for method in METHODS if (path := records(out, method)).exists())


def test_a_killed_run_goes_on_to_the_same_bytes(data: Path, whole: Path, tmp_path: Path) -> None:
    with served() as server:
        server.pause = 0.05
        found = kill_and_resume(data, tmp_path, server, kills=6, seed=1)
    assert found == sorted(found)
    for method in METHODS:
        assert content(records(tmp_path, method))[1] == content(records(whole, method))[1]


@pytest.mark.slow
def test_fifty_kills_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    data = vlsafe(tmp_path / "data", 800)
    with served() as server:
        assert evaluate(plan(data, tmp_path / "whole", server.url, concurrency=8)).whole
        server.pause = 0.3
        found = kill_and_resume(data, tmp_path / "killed", server, kills=60, seed=2)
        server.pause = 0.0
    assert found == sorted(found)
    assert len(set(found)) >= 50  # so many kills met a run at work
    for method in METHODS:
        assert content(records(tmp_path / "killed", method))[1] == content(records(tmp_path / "whole", method))[1]
