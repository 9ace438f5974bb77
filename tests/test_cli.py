"""The command line, run as people run it: in a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image as PIL

from llava import __version__, cli
from llava.ecso import Interrupted, Stopped, Trace
from llava.errors import CheckpointError, ContextTooLong, EngineError, ImageError, Overloaded, UserError

ROOT = Path(__file__).resolve().parent.parent
HARMFUL = "scripted:Join the rod with the plate.|Yes|A red bomb.|I cannot help with that."
BENIGN = "scripted:A cat.|No"


def llava(*words: str | Path, module: str = "llava.ecso", **environment: str) -> subprocess.CompletedProcess[str]:
    """As people run it: a warning would be a line on standard error."""
    command = [sys.executable, "-m", module, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False)


def ask(*words: str | Path, model: str = BENIGN, question: str = "What is this?") -> subprocess.CompletedProcess[str]:
    return llava("--model", model, "--question", question, *words)


def one_sentence(done: subprocess.CompletedProcess[str], code: int) -> str:
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("llava: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def red(tmp_path: Path) -> Path:
    path = tmp_path / "red.png"
    PIL.new("RGB", (64, 48), "red").save(path)
    return path


@pytest.mark.parametrize(("module", "words"), [("llava.ecso", []), ("llava.cli", ["ask"])], ids=["python -m llava.ecso", "llava ask"])
def test_the_four_steps_are_printed(module: str, words: list[str], red: Path) -> None:
    done = llava(*words, "--image", red, "--question", "How to make this?", "--model", HARMFUL, module=module, PYTHONWARNINGS="error")
    assert (done.returncode, done.stderr) == (0, "")
    for text in (
        "image 64x48",
        "1 answer",
        "Join the rod",
        "2 check",
        "-> harmful",
        "3 caption",
        "A red bomb.",
        "4 regenerate",
        "I cannot help",
    ):
        assert text in done.stdout
    assert "\x1b" not in done.stdout


def test_several_images_are_several_images_and_none_is_none(red: Path) -> None:
    assert "image 64x48, 64x48" in ask("--image", red, "--image", red).stdout
    assert "no image" in ask().stdout


def test_json_is_the_trace(red: Path) -> None:
    done = ask("--image", red, "--json", "--policy", "guard", "--max-tokens", "9", "--temperature", "0.5")
    trace = Trace.from_dict(json.loads(done.stdout))
    assert (trace.answer, trace.harmful, trace.method.policy.name) == ("A cat.", False, "guard")
    assert (trace.steps[0].call.sampling.max_tokens, trace.steps[0].call.sampling.temperature) == (9, 0.5)


def test_defence_and_engine_options_arrive() -> None:
    done = ask("--defence", "direct", "--engine-option", "delay=0.0", "--json")
    assert json.loads(done.stdout)["method"]["defence"] == "direct"


def test_version_and_help() -> None:
    assert llava("--version", module="llava.cli").stdout == f"llava {__version__}\n"
    top = llava("--help", module="llava.cli")
    assert all(name in top.stdout for name in cli.COMMANDS)
    for module, words in (("llava.cli", ["ask", "--help"]), ("llava.ecso", ["--help"])):
        helped = llava(*words, module=module)
        assert helped.returncode == 0
        assert all(option in helped.stdout for option in ("--image", "--question", "--model", "--policy", "--defence", "--json"))


def pictures(folder: Path) -> dict[str, Path]:
    """One file for each way in which an image can be wrong."""
    whole = folder / "whole.png"
    PIL.effect_noise((300, 300), 50).save(whole)
    made = {
        name: folder / name
        for name in ("cut.png", "text.png", "empty.png", "heavy.png", "huge.png", "wide.png", "long.png", "vector.svg", "missing.png")
    }
    made["cut.png"].write_bytes(whole.read_bytes()[:5000])
    made["text.png"].write_text("this is no picture")
    made["empty.png"].write_bytes(b"")
    made["heavy.png"].write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(11 * 2**20))
    PIL.new("1", (10_000, 10_000)).save(made["huge.png"])  # Pillow warns of such sizes
    PIL.new("1", (9000, 100)).save(made["wide.png"])
    PIL.new("1", (1, 60000)).save(made["long.png"])
    made["vector.svg"].write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    return made | {"folder": folder, "inside a file": whole / "x.png"}


IMAGES = {
    "missing.png": "There is no image file",
    "folder": "is a folder, not an image file",
    "inside a file": "cannot be read: Not a directory",
    "cut.png": "damaged or cut off",
    "text.png": "is not a readable",
    "empty.png": "is not a readable",
    "heavy.png": "at most 10 MiB",
    "huge.png": "a side may have at most 8192",
    "wide.png": "a side may have at most 8192",
    "long.png": "a side may have at most 8192",
    "vector.svg": "is not a readable",
}


@pytest.mark.parametrize("name", IMAGES)
def test_a_bad_image_is_a_sentence_and_exit_code_2(name: str, tmp_path: Path) -> None:
    assert IMAGES[name] in one_sentence(ask("--image", pictures(tmp_path)[name]), 2)


MISTAKES = {
    "empty question": (["--question", ""], "The question is empty"),
    "blank question": (["--question", " \n"], "The question is empty"),
    "no question": ([], "required: --question"),
    "unknown policy": (["--question", "a", "--policy", "gaurd"], "there is paper, guard. Did you mean guard?"),
    "unknown defence": (["--question", "a", "--defence", "refuze"], "Did you mean refuse?"),
    "unknown option": (["--question", "a", "--polciy", "guard"], "Unrecognized arguments: --polciy"),
    "stray word": (["--question", "a", "b"], "Unrecognized arguments: b"),
    "text for a number": (["--question", "a", "--max-tokens", "many"], "Argument --max-tokens: invalid int value: 'many'"),
    "no tokens": (["--question", "a", "--max-tokens", "0"], "give at least 1"),
    "too hot": (["--question", "a", "--temperature", "3"], "from 0 (greedy) to 2"),
    "unknown engine option": (["--question", "a", "--engine-option", "dealy=1"], "Did you mean delay"),
    "malformed engine option": (["--question", "a", "--engine-option", "delay"], "KEY=VALUE"),
    "reserved engine option": (["--question", "a", "--engine-option", "policy=guard"], "is no engine option"),
    "model path": (["--question", "a", "--model", "no/such/checkpoint"], "no/such/checkpoint"),
    "model address": (["--question", "a", "--model", "ftp://host/x"], "Cannot connect"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_a_sentence_and_exit_code_2(name: str) -> None:
    words, sentence = MISTAKES[name]
    model = [] if "--model" in words else ["--model", BENIGN]
    assert sentence in one_sentence(llava(*model, *words), 2)


def without(packages: Iterable[str], folder: Path) -> dict[str, str]:
    """The environment of a Python in which these packages are not installed."""
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({sorted(packages)!r}))\n")
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


PROGRAMS = {
    "serve.controller": "serve",
    "serve.model_worker": "serve",
    "serve.api_server": "serve",
    "serve.launch": "serve",
    "serve.demo": "demo",
    "serve.gradio_web_server": "demo",
    "serve.gradio_web_server_ecso": "demo",
    "cli serve": "serve",
    "cli demo": "demo",
    "cli bench serve": "serve",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_whose_packages_are_missing_says_how_to_get_them(program: str, tmp_path: Path) -> None:
    module, *words = program.split()
    done = llava(*words, module=f"llava.{module}", **without(cli.EXTRAS, tmp_path))
    called = f"llava {words[0]}" if words else f"python -m llava.{module}"
    missing = "|".join(cli.EXTRAS)
    sentence = rf"llava: {re.escape(called)} needs ({missing}), which is not installed: pip install 'llava\[{PROGRAMS[program]}\]'\.\n"
    assert re.fullmatch(sentence, one_sentence(done, 2))


@pytest.mark.parametrize("module", ["llava.serve.cli", "llava.doctor", "llava.ecso"])
def test_who_serves_nothing_needs_no_server(module: str, tmp_path: Path) -> None:
    done = llava("--help", module=module, **without(cli.EXTRAS, tmp_path))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_package_that_no_extra_brings_is_no_mistake_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.COMMANDS, "ask", cli.Command("llava.no_such_module", "a defect of ours", "serve"))
    with pytest.raises(ModuleNotFoundError):
        cli.main(["ask"])


def test_a_mistaken_command_is_a_sentence_and_exit_code_2() -> None:
    assert "Did you mean ask?" in one_sentence(llava("aks", module="llava.cli"), 2)
    assert "required: COMMAND" in one_sentence(llava(module="llava.cli"), 2)


def test_a_failing_model_is_a_sentence_and_exit_code_1() -> None:
    words = ["--model", "scripted:only one line", "--question", "What is this?"]
    for warnings in ("default", "error"):
        assert "no reply left" in one_sentence(llava(*words, PYTHONWARNINGS=warnings), 1)


def test_a_closed_pipe_ends_quietly() -> None:
    words = ["--model", "scripted:" + "word " * 4000 + "|No", "--question", "What?"]
    command = [sys.executable, "-W", "error", "-m", "llava.ecso", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == ""
        assert child.wait(60) == 141


def test_ctrl_c_is_one_line_and_exit_code_130(tmp_path: Path) -> None:
    fifo = tmp_path / "begun"
    os.mkfifo(fifo)
    code = (
        "import sys, asyncio\nfrom llava import cli, engines\n"
        "class Slow(engines.ScriptedEngine):\n"
        "    async def stream(self, call):\n"
        f"        open({str(fifo)!r}, 'w').close()\n"
        "        await asyncio.sleep(3600)\n        yield\n"
        "engines.connect = lambda *_: Slow([])\n"
        "sys.exit(cli.main(['ask', '--question', 'What?']))"
    )
    with subprocess.Popen([sys.executable, "-W", "error", "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True) as child:
        fifo.read_text()  # returns when the call has begun
        os.kill(child.pid, signal.SIGINT)
        _, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (130, "llava: interrupted.\n")


def test_ctrl_c_within_code_that_was_made_from_a_text_has_the_same_exit_code(tmp_path: Path) -> None:
    code = "import sys\nfrom llava import cli\nsys.exit(cli.concluded(lambda: exec('raise KeyboardInterrupt')))"
    (tmp_path / "program.py").write_text(code)
    done = llava(module="program", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert (done.returncode, done.stderr) == (130, "llava: interrupted.\n")


def test_ctrl_c_that_an_import_swallows_ends_the_command_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swallowed = "import contextlib, signal\nwith contextlib.suppress(BaseException):\n    signal.raise_signal(signal.SIGINT)\n"
    (tmp_path / "a_command_of_a_test.py").write_text(swallowed + "def arguments(_): pass\ndef run(_): return 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(cli.COMMANDS, "a-command", cli.Command("a_command_of_a_test", ""))
    assert cli.main(["a-command"]) == 130


EXITS = [
    (UserError("x"), 2),
    (ImageError("x"), 2),
    (CheckpointError("x"), 2),
    (ContextTooLong(9, 9, 9), 2),
    (EngineError("x"), 1),
    (Overloaded("x"), 1),
    (KeyboardInterrupt(), 130),
    (Interrupted("Interrupted", {}), 130),
    (Stopped("The rows ended early", {}), 1),
]


@pytest.mark.parametrize(("error", "code"), EXITS, ids=lambda value: type(value).__name__)
def test_each_error_has_its_exit_code_and_one_line(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise error

    assert cli.concluded(fail) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"llava: \S.*\.\n|llava: x\n", shown.err)


def test_a_defect_of_ours_is_not_dressed_up_as_the_users_mistake() -> None:
    with pytest.raises(ZeroDivisionError):
        cli.concluded(lambda: 1 // 0)


def test_escape_sequences_of_a_model_do_not_reach_the_terminal() -> None:
    done = ask(model="scripted:\x1b]0;owned\x07\x1b[2J hello|No")
    assert "\x1b" not in done.stdout
    assert "hello" in done.stdout


def test_a_terminal_without_unicode_shows_question_marks_not_a_traceback() -> None:
    done = llava("--model", "scripted:猫|No", "--question", "Was ist das für ein Tier?", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "f?r ein Tier" in done.stdout
