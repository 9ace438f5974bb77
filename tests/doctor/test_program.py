"""`llava doctor` from its command line to its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from llava.cli import main
from llava.doctor import FAULTS
from tests.loopback import free_port
from tests.openai_server import Behaviour, openai_server

ROOT = Path(__file__).resolve().parents[2]
SOUND = [("No", -0.1)]


@dataclass
class Doctor:
    """Runs `llava doctor` in this process."""

    capture: pytest.CaptureFixture[str]
    out: str = ""
    err: str = ""

    def __call__(self, *words: str) -> int:
        code = main(["doctor", *words])
        self.out, self.err = self.capture.readouterr()
        return code


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(capsys)


def test_all_is_well_is_exit_code_0_and_sentences() -> None:
    with openai_server(Behaviour(top_logprobs=SOUND)) as server:
        command = [sys.executable, "-W", "error", "-m", "llava.cli", "doctor", server.url]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    first, *rest = done.stdout.splitlines()
    assert first == f"{server.url.removesuffix('/v1')}: an OpenAI-compatible server"
    assert rest[-1] == "All is well."
    assert "  ok     tiny answers." in rest


def test_a_fault_is_exit_code_1_and_says_what_to_do(doctor: Doctor) -> None:
    port = free_port()
    assert doctor(f"localhost:{port}") == 1
    assert f"  WRONG  Nothing listens at localhost:{port}.\n         {FAULTS['refused']}\n" in doctor.out
    assert doctor.out.endswith("1 thing is wrong.\n")
    assert doctor.err == ""


def test_json_tells_the_same_and_accepted_faults_are_none(doctor: Doctor) -> None:
    with openai_server() as server:  # without log-probabilities
        assert doctor(server.url, "--json") == 1
        told = json.loads(doctor.out)
        assert told["well"] is False
        (fault,) = [each for each in told["sites"][0]["findings"] if each["level"] == "wrong"]
        assert (fault["code"], fault["advice"]) == ("no_logprobs", FAULTS["no_logprobs"])
        assert doctor(server.url, "--accept", "no_logprobs") == 0
        assert "(accepted)" in doctor.out
        server.behaviour.counts = False
        assert doctor(server.url, "--accept", "no_logprobs") == 0
        assert "whether it sees them is not known" in doctor.out
        assert doctor.err == ""


def test_a_key_comes_from_option_file_or_environment_and_is_never_printed(
    tmp_path: Path, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-theirs-123"
    kept = tmp_path / "key"
    kept.write_text(f"{key}\nanother-key\n", encoding="utf-8")
    with openai_server(Behaviour(key=key, top_logprobs=SOUND)) as server:
        for words in (["--key", key], ["--key", f"@{kept}"]):
            assert doctor(server.url, *words) == 0, doctor.out
            assert key not in doctor.out
        monkeypatch.setenv("LLAVA_API_KEY", key)
        assert doctor(server.url) == 1  # that is a gateway's
        monkeypatch.setenv("OPENAI_API_KEY", key)
        assert doctor(server.url) == 0
        server.behaviour.models = [key]  # a server that says the key again
        doctor(server.url)
        assert "***" in doctor.out
        assert key not in doctor.out
        doctor(server.url, "--json")
        assert "***" in json.dumps(json.loads(doctor.out))
        assert key not in doctor.out


def test_a_placeholder_for_a_key_does_not_spoil_what_is_told(doctor: Doctor) -> None:
    with openai_server(Behaviour(top_logprobs=SOUND)) as server:
        assert doctor(server.url, "--json", "--key", "1") == 0
        assert json.loads(doctor.out)["sites"][0]["url"] == server.url.removesuffix("/v1")


MISTAKES = {
    "": "required: URL",
    "ftp://host:1": "A server's address looks like",
    "localhost:1 --accept everything": "Unknown fault",
    "localhost:1 --timeout 0": "--timeout",
    "localhost:1 --key @/no/such/file": "cannot be read",
    "localhost:1 --key äöü": "visible ASCII",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_a_sentence_and_exit_code_2(words: str, doctor: Doctor) -> None:
    assert doctor(*words.split()) == 2
    assert (doctor.out, doctor.err.count("\n")) == ("", 1)
    assert MISTAKES[words] in doctor.err


def test_the_page_tells_every_fault() -> None:
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    assert [code for code in FAULTS if f"`{code}`" not in page] == []


def test_the_doctor_runs_where_no_server_is_installed() -> None:
    code = "import sys; sys.modules['fastapi'] = sys.modules['uvicorn'] = None; import llava.doctor.__main__; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
