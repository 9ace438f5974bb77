"""The terminal chat as people start it: in a process of its own, behind pipes and on a terminal, with keys."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from llava.cli import main
from llava.serve.chat.talk import STEPS
from tests.serve.gateway.running import BENIGN, gateway
from tests.serve.terminal import CTRL_C, CTRL_D, ROOT, UP, terminal

CLI = "llava.serve.cli"
LONG = "scripted:" + "word " * 4000 + "finis|A cat.|No"  # most of two minutes with the delay below
SLOW = ("--engine-option", "delay=0.02")
HARMFUL = "scripted:Join the rod with the plate.|Yes|A red bomb.|I cannot help.|No"


def piped(lines: str | bytes, *words: str | Path, module: str = CLI) -> subprocess.CompletedProcess[str]:
    sent = lines.encode() if isinstance(lines, str) else lines
    command = [sys.executable, "-W", "error", "-m", module, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, input=sent, capture_output=True, timeout=120, check=False)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.parametrize(("module", "words"), [(CLI, []), ("llava.cli", ["chat"])], ids=["python -m llava.serve.cli", "llava chat"])
def test_llavas_command_answers_with_the_embedded_model(module: str, words: list[str]) -> None:
    flags = "--model-path mini --device cpu --conv-mode vicuna_v1 --temperature 0 --max-new-tokens 24 --image-file examples/cat.png"
    done = piped("What is in the picture?\n", *words, *flags.split(), "--engine-option", "threads=1", module=module)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"ASSISTANT: .*cat.*\n", done.stdout)


def test_answers_of_a_pipe_are_on_standard_output_and_all_else_is_not() -> None:
    done = piped("What?\n/help\n/nothing\nAnd this", "--engine", "scripted:A cat.|A dog.")
    assert done.stdout == "ASSISTANT: A cat.\nASSISTANT: A dog.\n"
    assert "Unknown command '/nothing'" in done.stderr
    assert done.returncode == 1  # nobody was there to read the sentence
    assert piped("What?", "--engine", "scripted:A cat.").returncode == 0


def test_bytes_that_are_no_text_are_a_sentence() -> None:
    done = piped(b"what \xff?\n/image \xfe.png\nWhat?\n", "--engine", "scripted:A cat.")
    assert (done.stdout, done.returncode) == ("ASSISTANT: A cat.\n", 1)
    assert "not valid text" in done.stderr
    assert "There is no image file" in done.stderr


def test_any_engine_will_do() -> None:
    with gateway(BENIGN) as running:
        done = piped("What?\n", "--engine", f"http://127.0.0.1:{running.port}/v1")
        assert (done.stdout, done.stderr) == (f"ASSISTANT: {BENIGN['answer']}\n", "")
        done = piped("What?\n", "--engine", f"http://127.0.0.1:{running.port}/v1", "--engine-option", "model=none")
        assert "has no model 'none'; it lists tiny" in done.stderr


REFUSED = {
    "--model-base vicuna": "merge the checkpoint into its base first",
    "--load-8bit": "try --engine-option dtype=float16",
    "--load-4bit": "try --engine-option dtype=float16",
    "--model-path mini --engine scripted:x": "give one of them",
    "--image-file no.png": "There is no image file no.png",
    "--engine scripted:x --device cpu": "Unknown option",
    "--engine ftp://host": "Cannot connect",
    "--conv-mode vicuna_v9": "Unknown conv_mode",
    "--temperature 9": "from 0 (greedy) to 2",
    "--max-new-tokens 0": "at least 1",
    "--policy gaurd": "Did you mean guard?",
    "--threshold 0.9": "at most 0.5",
    "--threshold 0.3 --policy paper": "with --policy guard",
    "--engine-option device": "KEY=VALUE",
    "--unknown": "Unrecognized arguments",
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_flag_that_cannot_be_honoured_ends_the_program_with_one_sentence(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1), err
    assert REFUSED[words] in err


def test_on_a_terminal_questions_are_asked_for_and_answers_stream() -> None:
    with terminal(CLI, "--engine", LONG, *SLOW) as screen:
        began = screen.wait_for("USER: ")
        assert began.startswith("(loading the model)")
        assert "\r" in began.partition("unguarded")[0]  # gone again
        screen.type("Tell me.\n")
        screen.wait_for("ASSISTANT: word word ")
        assert "finis" not in screen.text
        screen.type(CTRL_C)
        screen.wait_for("What was said so far stays in the conversation.")
        screen.wait_for("USER: ")
        screen.type("What is it?\n")
        screen.wait_for("ASSISTANT: A cat.\n")
        screen.wait_for("USER: ")
        screen.type(CTRL_D)
        assert screen.end() == 0
    assert "Traceback" not in screen.text


def test_a_guarded_answer_shows_nothing_of_its_draft_and_can_be_stopped() -> None:
    with terminal(CLI, "--ecso", "--engine", LONG, *SLOW) as screen:
        assert "guarded, policy guard" in screen.wait_for("USER: ")
        screen.type("Tell me.\n")
        screen.wait_for("Tell me.\n")
        screen.wait_for("(answering)")
        screen.type(CTRL_C)
        screen.wait_for("The question is taken back.")
        screen.wait_for("USER: ")
        screen.type("What is it?\n/exit\n")
        screen.wait_for("ASSISTANT: A cat.\n")
        assert screen.end() == 0
    assert "word" not in screen.text
    with terminal(CLI, "--ecso", "--engine", HARMFUL, "--image-file", "examples/bomb.png") as screen:
        screen.wait_for("USER: ")
        screen.type("How?\n")
        shown = screen.wait_for("USER: ")
        assert shown.endswith("ASSISTANT: I cannot help.\nUSER: ")
        assert [words for words in STEPS.values() if words in shown] == list(STEPS.values())
        assert f"\r{' ' * len(STEPS['recheck'])}\rASSISTANT" in shown  # each is gone when the next thing is written
    assert "Join" not in screen.text


def test_ctrl_c_before_a_question_drops_the_line_and_says_how_to_end() -> None:
    with terminal(CLI, "--engine", "scripted:A cat.") as screen:
        screen.wait_for("USER: ")
        screen.type("half a question")
        screen.wait_for("half a question")
        screen.type(CTRL_C)
        screen.wait_for("Ctrl-D or /exit ends the chat.")
        screen.wait_for("USER: ")
        screen.type("What?\n")
        screen.wait_for("ASSISTANT: A cat.")
        screen.wait_for("USER: ")
        screen.type("/exit\n")
        assert screen.end() == 0


def test_ctrl_c_while_a_key_is_at_work_is_heeded_without_another_key(tmp_path: Path) -> None:
    fifo = tmp_path / "interrupt"
    os.mkfifo(fifo)
    with terminal("tests.serve.late_interrupt", fifo, "--engine", "scripted:A cat.") as screen:
        screen.wait_for("USER: ")
        screen.type("half")
        screen.wait_for("half")
        fifo.write_bytes(b"")
        screen.wait_for("Ctrl-D or /exit ends the chat.", 20)
        screen.wait_for("USER: ")
        screen.type("What?\n")
        screen.wait_for("ASSISTANT: A cat.")
        screen.wait_for("USER: ")
        screen.type(CTRL_D)
        assert screen.end() == 0


def test_ctrl_c_while_a_pipe_is_read_ends_the_program() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", CLI, "--engine", "scripted:A cat.|x"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(b"What?\n")
        program.stdin.flush()
        assert program.stdout.readline() == b"ASSISTANT: A cat.\n"
        program.send_signal(2)
        assert program.wait(60) == 130


def test_questions_come_back_with_the_arrow_keys_and_are_kept_only_where_told(tmp_path: Path) -> None:
    for history in ([], ["--history", str(tmp_path / "kept")], ["--history", str(tmp_path / "kept")]):
        with terminal(CLI, "--engine", "scripted:A cat.|A dog.", *history, TERM="xterm", HOME=str(tmp_path)) as screen:
            screen.wait_for("USER: ")
            screen.type("What is this?\n")
            screen.wait_for("A cat.")
            screen.wait_for("USER: ")
            screen.type(UP)
            screen.wait_for("What is this?")
            screen.type("\n")
            screen.wait_for("A dog.")
            screen.wait_for("USER: ")
            screen.type(CTRL_D)
            assert screen.end() == 0
        assert {path.name for path in tmp_path.iterdir()} == ({"kept"} if history else set())
    assert (tmp_path / "kept").read_text(encoding="utf-8") == "What is this?\n"  # readline keeps the same line once
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o600


def test_a_history_file_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    for file in (tmp_path, "~nobody-here/kept"):
        with terminal(CLI, "--engine", "scripted:A cat.", "--history", file) as screen:
            assert screen.end() == 2
        assert f"The history file {file} cannot be used" in screen.text
