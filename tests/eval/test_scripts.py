"""The original's ten shell scripts."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llava.cli import Parser
from llava.eval.__main__ import arguments
from llava.eval.provenance import model_of
from llava.eval.tasks import TASKS
from llava.paths import MINI_DATA
from tests.eval.oracle import Server
from tests.eval.runs import ROOT
from tests.eval.tasks import layouts

SHELL = sorted((ROOT / "scripts/v1_5").glob("eval*/*.sh"))
PAIRS = {  # the script of direct answers, the one of ECSO, and what each row of the latter has
    "vlsafe": ("eval_safe/gen_vlsafe.sh", "eval_safe/gen_vlsafe_tell_ask.sh", ["image_id", "query", "text", "model_id", "unsafe"]),
    "mm_safetybench": ("eval_safe/gen_mmsafe.sh", "eval_safe/gen_mmsafe_tell_ask.sh", ["image", "query", "text", "model_id", "unsafe"]),
    "mme": (
        "eval/mme.sh",
        "eval_safe/gen_mme_unsafe_ask.sh",
        ["question_id", "prompt", "text", "answer_id", "model_id", "metadata", "safe"],
    ),
    "mmbench": (
        "eval/mmbench.sh",
        "eval_safe/gen_mmbench_unsafe_ask.sh",
        ["question_id", "round_id", "prompt", "text", "options", "option_char", "answer_id", "model_id", "metadata", "safe"],
    ),
    "mm_vet": (
        "eval/mmvet.sh",
        "eval_safe/gen_mm-vet_unsafe_ask.sh",
        ["question_id", "prompt", "text", "answer_id", "model_id", "metadata", "safe"],
    ),
}
HARMFUL = (("unsafe", "Yes"), ("safe", "unsafe"))


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text("utf-8").splitlines()]


def script(name: str, **environment: object) -> subprocess.CompletedProcess[str]:
    words = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable} | {key: str(value) for key, value in environment.items()}
    return subprocess.run(["bash", ROOT / "scripts/v1_5" / name], cwd=ROOT, env=words, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_every_script_is_one_short_call_whose_options_there_are(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 15
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": "echo", "MODEL": "models/llava-x", "DATA": "d", "LIMIT": "3", "CONV_MODE": "v1"}
    done = subprocess.run(["bash", path, "--strict"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    words = done.stdout.split()
    assert words[:2] == ["-m", "llava.eval"]
    parser = Parser()
    arguments(parser)
    options = parser.parse_args(words[2:])
    assert (options.target, str(options.data), str(options.out), options.limit) == ("models/llava-x", "d", "runs/v1_5/llava-x", 3)
    assert (options.engine_option, str(options.original), options.strict) == (["conv_mode=v1"], "data", True)
    assert set(options.tasks) <= set(TASKS)
    assert options.methods == (("direct",) if options.answers is None else ("ecso",))
    plain = subprocess.run(
        ["bash", path], cwd=ROOT, env={"PATH": "/usr/bin:/bin", "PYTHON": "echo"}, capture_output=True, text=True, check=True
    )
    assert plain.stdout.startswith(
        "-m llava.eval --model mini --data playground/data/mini --out runs/v1_5/mini --original data --preset paper"
    )


@pytest.mark.parametrize("path", ["scripts/v1_5/eval_safe/gen_vlsafe.sh", "llava/eval/eval_vlsafe.sh"])
def test_a_server_is_called_by_its_host_and_port_by_all_scripts(path: str) -> None:
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": "echo", "MODEL": "http://me:pw@127.0.0.1:8000/v1"}
    done = subprocess.run(["bash", ROOT / path], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert "--model-name 127.0.0.1-8000" in done.stdout
    assert "runs/v1_5/127.0.0.1-8000 " in done.stdout
    assert model_of(environment["MODEL"], None, {}).name == "127.0.0.1-8000"


def test_there_are_the_ten_scripts() -> None:
    assert [path.name for path in SHELL] == [
        "mmbench.sh",
        "mme.sh",
        "mmvet.sh",
        "gen_mm-vet_unsafe_ask.sh",
        "gen_mmbench_unsafe_ask.sh",
        "gen_mme_unsafe_ask.sh",
        "gen_mmsafe.sh",
        "gen_mmsafe_tell_ask.sh",
        "gen_vlsafe.sh",
        "gen_vlsafe_tell_ask.sh",
    ]


def pair(name: str, out: Path, **environment: object) -> list[dict[str, Any]]:
    """Both scripts of a benchmark; the rows of ECSO's answer files."""
    direct, ecso, keys = PAIRS[name]
    environment |= {"OUT": out / "run", "ORIGINAL": out / "data"}
    early = script(ecso, **environment)
    assert (early.returncode, "There are no answers at" in early.stderr) == (2, True)
    for each in (direct, ecso):
        done = script(each, **environment)
        assert done.returncode == 0, done.stderr
    first = [row for path in sorted((out / "data").rglob("q/merge.jsonl")) for row in rows(path)]
    second = [row for path in sorted((out / "data").rglob("tell_ask*/merge.jsonl")) for row in rows(path)]
    assert len(first) == len(second) > 0
    for before, after in zip(first, second, strict=True):
        harmful = any(after.get(key) == value for key, value in HARMFUL)
        assert list(after) == [*keys, *(["caption", "unsafe_answer"] if harmful else [])]
        assert list(before) == keys[:-1]
        assert before["text"] == after["unsafe_answer" if harmful else "text"]
    return second


@pytest.mark.parametrize("name", ["vlsafe", *(pytest.param(name, marks=pytest.mark.slow) for name in PAIRS if name != "vlsafe")])
def test_two_scripts_in_turn_answer_and_defend(name: str, server: Server, tmp_path: Path) -> None:
    getattr(layouts, name)(tmp_path / "downloads")
    second = pair(name, tmp_path, MODEL=server.url, DATA=tmp_path / "downloads")
    assert {"caption"} <= {key for row in second for key in row}


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_the_scripts_run_without_a_download_on_our_own_sets_with_the_embedded_model(name: str, tmp_path: Path) -> None:
    assert len(pair(name, tmp_path, LIMIT=3)) == 3
    assert (ROOT / MINI_DATA).is_dir()
