"""LLaVA's quick start runs as its README has it."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llava.ecso import ECSO
from llava.errors import ImageError, UserError
from llava.eval.run_llava import eval_model
from llava.mm_utils import get_model_name_from_path
from llava.paths import MINI
from llava.utils import disable_torch_init

ROOT = Path(__file__).resolve().parents[2]
CAT, BOMB = str(ROOT / "examples/cat.png"), str(ROOT / "examples/bomb.png")


def arguments(**changes: Any) -> Any:
    return SimpleNamespace(**{"model_path": "scripted:A cat. ", "query": "What is this?", "image_file": CAT, "temperature": 0} | changes)


def test_the_program_of_llava_s_readme_prints_the_model_s_answer(capsys: pytest.CaptureFixture[str]) -> None:
    disable_torch_init()
    model_path = str(MINI)
    told = {
        "model_path": model_path,
        "model_base": None,
        "model_name": get_model_name_from_path(model_path),
        "query": "What is in the picture?",
        "conv_mode": None,
        "image_file": CAT,
        "sep": ",",
        "temperature": 0,
        "top_p": None,
        "num_beams": 1,
        "max_new_tokens": 512,
    }
    args = type("Args", (), told)()
    eval_model(args)
    with ECSO("mini", defence="direct") as model:
        assert capsys.readouterr().out == f"{model(CAT, 'What is in the picture?').answer}\n"


def test_only_model_query_and_picture_are_needed_and_several_pictures_may_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    eval_model(SimpleNamespace(model_path="scripted:A cat. ", query="What is this?", image_file=CAT))
    eval_model(arguments(image_file=f"{CAT};{BOMB}", sep=";"))
    eval_model(arguments(image_file=Path(CAT), top_p=0.9, max_new_tokens=7))
    assert capsys.readouterr().out == "A cat.\n" * 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_path": ""}, "model_path is missing or empty"),
        ({"query": None, "image_file": None}, "image_file and query is missing"),
        ({"model_base": "vicuna"}, "model_base is not supported: merge"),
        ({"num_beams": 4}, "num_beams above 1"),
        ({"query": "Is <image-placeholder> a cat?"}, "leave <image-placeholder> out"),
        ({"max_new_tokens": 0}, "max_tokens is 0"),
        ({"conv_mode": "v1"}, "conv_mode"),  # a script has no templates
    ],
)
def test_what_is_not_supported_is_a_sentence(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        eval_model(arguments(**changes))


def test_addresses_of_pictures_are_not_fetched() -> None:
    with pytest.raises(ImageError, match="URLs are not fetched"):
        eval_model(arguments(image_file="https://llava-vl.github.io/images/view.jpg"))


def test_the_program_takes_llava_s_flags() -> None:
    words = [
        "--image-file",
        CAT,
        "--query",
        "What?",
        "--conv-mode",
        "vicuna_v1",
        "--temperature",
        "0",
        "--top_p",
        "0.9",
        "--num_beams",
        "2",
    ]
    command = [sys.executable, "-m", "llava.eval.run_llava", "--model-path", "mini", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("llava: num_beams above 1")
    assert subprocess.run([*command, "--num_beams", "1"], capture_output=True, text=True, check=True).stdout.strip()
