"""The audit log proves that the guard ran, keeps no text unless told to, and shows when it was changed."""

import errno
import hashlib
import json
import os
import resource
import socket
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llava import cli
from llava.chat import Call
from llava.engines import ScriptedEngine
from llava.engines.scripted import Line
from llava.errors import EngineError, UserError
from llava.serve.gateway.audit import AuditLog, verify
from llava.serve.gateway.service import Config
from tests.serve.gateway.running import BENIGN, HARMFUL, chat, gateway, turn, until


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def served(path: Path, script: dict[str, Line], *bodies: dict[str, Any], content: bool = False, **config: Any) -> list[dict[str, Any]]:
    with gateway(script, Config(self_test=False, **config), AuditLog(path, content)) as running:
        for body in bodies:
            running.post("/v1/guard/check" if "answer" in body else "/v1/chat/completions", body)
    return rows(path)


def sha(text: object) -> str:
    return hashlib.sha256(str(text).encode()).hexdigest()


def test_a_line_shows_every_step_the_verdict_and_what_was_released(tmp_path: Path) -> None:
    (row,) = served(tmp_path / "audit", HARMFUL, chat(turn("Who?")))
    assert (row["route"], row["model"], row["mode"], row["status"]) == ("chat", "tiny", "guard", 200)
    assert row["id"].startswith("req_")
    (choice,) = row["choices"]
    assert [step["step"] for step in choice["steps"]] == list(HARMFUL)
    assert [step["reply"]["sha256"] for step in choice["steps"]] == [sha(text) for text in HARMFUL.values()]
    assert [step.get("harmful") for step in choice["steps"]] == [None, True, None, None, False]
    assert choice["verdict"] == "regenerated"
    assert choice["released"] == {"sha256": sha(HARMFUL["regenerate"]), "characters": len(str(HARMFUL["regenerate"]))}
    assert row["chat"][0]["sha256"] == sha("Who?")
    assert len(row["chat"][0]["images"]) == 1


def test_no_text_is_kept_unless_it_is_switched_on(tmp_path: Path) -> None:
    served(tmp_path / "quiet", HARMFUL, chat(turn("Who?")), {"messages": [turn("Who?")], "answer": "You!"})
    served(tmp_path / "open", HARMFUL, chat(turn("Who?")), content=True)
    for text in ("Who?", "You!", *HARMFUL.values()):
        if text not in ("Yes", "No"):
            assert str(text) not in (tmp_path / "quiet").read_text()
    for text in ("Who?", *HARMFUL.values()):
        assert str(text) in (tmp_path / "open").read_text()


def test_failures_and_bypasses_are_lines_too(tmp_path: Path) -> None:
    (failed,) = served(tmp_path / "failed", HARMFUL | {"check": EngineError("no")}, chat())
    assert (failed["mode"], failed["status"], failed["failed_step"], failed["error"]) == ("guard", 503, "check", "EngineError")
    (off,) = served(tmp_path / "off", HARMFUL, chat(guard={"mode": "off"}), allow_override=True)
    assert (off["mode"], off["choices"][0]["verdict"]) == ("off", "bypassed")
    (judged,) = served(tmp_path / "judged", BENIGN, {"messages": [turn()], "answer": "A cat."})
    (candidate,) = judged["judged"]
    assert (judged["route"], candidate["harmful"], candidate["candidate"]["sha256"]) == ("check", False, sha("A cat."))


def test_a_judgement_is_one_line_with_every_text_and_the_safe_answer_that_left(tmp_path: Path) -> None:
    with gateway(HARMFUL, audit=AuditLog(tmp_path / "audit")) as running:
        running.post("/v1/moderations", {"input": ["one", "two"]})
        running.post("/v1/guard/check", {"messages": [turn()], "answer": "three", "safe_answer": True})
    several, safe = rows(tmp_path / "audit")
    assert [each["candidate"]["sha256"] for each in several["judged"]] == [sha("one"), sha("two")]
    assert all(each["harmful"] and "released" not in each for each in several["judged"])
    assert safe["judged"][0]["released"]["sha256"] == sha(HARMFUL["regenerate"])


def test_a_judgement_that_fails_says_of_no_text_that_it_was_judged(tmp_path: Path) -> None:
    def script(call: Call) -> Line:
        return EngineError("no") if "two" in call.chat.question else "No"

    with gateway(script, audit=AuditLog(tmp_path / "audit")) as running:
        assert running.post("/v1/moderations", {"input": ["one", "two"]})[0] == 503
    (row,) = rows(tmp_path / "audit")
    assert (row["status"], row["failed_step"]) == (503, "check")
    assert row["judged"] == [{"candidate": {"sha256": sha(text), "characters": 3}} for text in ("one", "two")]


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/chat/completions", chat(n=2)), ("/v1/moderations", {"input": ["one", "two"]})], ids=["chat", "check"]
)
def test_a_request_whose_client_left_is_a_line_too(tmp_path: Path, path: str, body: dict[str, Any]) -> None:
    engine = ScriptedEngine(HARMFUL, delay=60)
    with gateway(engine, audit=AuditLog(tmp_path / "audit")) as running:
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(running.request("POST", path, body))
            until(lambda: engine.seen)
        until(lambda: running.service.admission.inside == 0)
    (row,) = rows(tmp_path / "audit")
    assert row["status"] == 499
    assert "released" not in json.dumps(row)


def test_lines_are_chained_also_over_restarts_and_a_changed_one_is_found(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    served(path, BENIGN, chat(), chat())
    served(path, BENIGN, chat())
    assert verify(path) == 3
    lines = path.read_text().splitlines()
    for changed in (lines[1:], [lines[0], lines[2]], [lines[0].replace('"safe"', '"SAFE"'), *lines[1:]], [lines[0], "5", *lines[1:]]):
        path.write_text("\n".join(changed) + "\n")
        with pytest.raises(UserError, match="the log was changed"):
            verify(path)


def test_a_line_torn_by_a_crash_is_ended_and_the_log_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    served(path, BENIGN, chat(), chat())
    path.write_bytes(path.read_bytes()[:-30])
    with gateway(BENIGN, audit=AuditLog(path)) as running:
        running.post("/v1/chat/completions", chat())
    assert verify(path) == 3
    assert json.loads(path.read_text().splitlines()[-1])["status"] == 200


def test_a_file_is_for_one_gateway_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    log = AuditLog(path)
    with pytest.raises(UserError, match=r"Another gateway writes to the audit log .*audit, .*: give each its own\."):
        AuditLog(path)
    log.write(id="first")
    log.close()
    log.close()  # the service does so, and whoever made it
    with closing(AuditLog(path)) as again:
        again.write(id="second")
    assert verify(path) == 2


def test_a_gateway_whose_audit_log_is_anothers_does_not_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "audit"
    other = subprocess.Popen([sys.executable, "-c", HOLDS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with other as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        words = ["gateway", "--engine", "scripted:A cat.", "--port", "0", "--audit-log", str(path)]
        assert cli.main(words) == 2
        said = capsys.readouterr().err
        assert said.startswith("llava: Another gateway writes to the audit log")
        assert said.count("\n") == 1
        holder.kill()
    with closing(AuditLog(path)) as log:  # a killed gateway leaves no lock behind
        log.write(id="after it")
    assert verify(path) == 2


HOLDS = """
import sys
from pathlib import Path
from llava.serve.gateway.audit import AuditLog
log = AuditLog(Path(sys.argv[1]))
log.write(id="held")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_disk_without_locks_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(file: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)  # as some clusters' disks say
    with pytest.raises(UserError, match=r"audit cannot be locked: No locks available\. Keep it on another file system\."):
        AuditLog(tmp_path / "audit")


def test_a_line_that_a_full_disk_cut_off_breaks_no_chain_when_there_is_room_again(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(AuditLog(path)) as log:
        log.write(id="first")
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50, before[1]))
            for _ in range(2):  # the first of them is written in part, of the second there is nothing, not even the first one's end
                with pytest.raises(OSError):
                    log.write(id="lost")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        log.write(id="second")
        log.write(id="third")
    assert verify(path) == 4
    assert [row["id"] for row in map(json.loads, path.read_text().splitlines()[2:])] == ["second", "third"]


def test_a_full_disk_stops_the_log_and_not_the_service(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    log = AuditLog(tmp_path / "audit")
    log.close()
    with full.open("wb") as file:
        log._file = file.fileno()
        with gateway(BENIGN, audit=log) as running:
            assert running.post("/v1/chat/completions", chat())[0] == 200
            assert "llava_guard_audit_failures_total 1" in running.metrics()
            log._file = AuditLog(tmp_path / "other")._file


def test_a_pipe_or_a_device_is_no_place_for_a_log_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null"), Path("/dev/zero")):
        with pytest.raises(UserError, match=r"is no regular file, .*: give it one\."):
            AuditLog(path)


def test_the_log_is_its_owners_alone_and_an_impossible_one_is_told(tmp_path: Path) -> None:
    AuditLog(tmp_path / "audit").close()
    assert stat.S_IMODE((tmp_path / "audit").stat().st_mode) == 0o600
    with pytest.raises(UserError, match="cannot be written"):
        AuditLog(tmp_path / "no" / "audit")
