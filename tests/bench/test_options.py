"""Options of the benchmarks: whatever is wrong with them is one sentence, and nothing is measured."""

from pathlib import Path

import pytest

from llava import cli

MISTAKES = {
    "engine --shape 8b": "Unknown shape '8b': there is tiny, 5m, 33m, 7b.",
    "engine --parts flow": "Did you mean flows?",
    "engine --verdicts maybe": "Unknown verdicts 'maybe'",
    "engine --verdicts ,": "Nothing is chosen: verdicts are some of no, yes, model.",
    "engine --parts ,": "Nothing is chosen: parts are some of flows, check, decode, mini.",
    "engine --rounds 0": "rounds is 0: give at least 1",
    "engine --tokens 1": "tokens is 1: give at least 2",
    "engine --soak -1": "soak is -1",
    "engine --threads 0": "threads is 0",
    "engine --in-flight 1,x": "invalid list of whole numbers",
    "engine --in-flight 0": "in_flight is (0,)",
    "engine --device tpu": "Unknown device 'tpu'",
    "engine --dtype int8": "Unknown dtype 'int8'",
    "engine --pictures no/such": "There is no folder no/such",
    "eval --shape 8b": "Unknown shape '8b'",
    "eval --workloads choices": "Did you mean choice?",
    "eval --workloads ,": "Nothing is chosen",
    "eval --rounds 0": "rounds is 0: give at least 1",
    "eval --short 0": "short is 0: give at least 1",
    "eval --device tpu": "Unknown device 'tpu'",
    "serve --shape 8b": "Unknown shape '8b'",
    "serve --parts overheat": "Did you mean overhead?",
    "serve --parts ,": "Nothing is chosen",
    "serve --rounds 0": "rounds is 0: give at least 1",
    "serve --clients 0": "clients is (0,)",
    "serve --clients 1,x": "invalid list of whole numbers",
    "serve --streams 1001": "give at most 1000",
    "serve --per-client 0": "per_client is 0",
    "serve --pars mini": "unrecognized arguments",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_a_sentence_before_anything_is_measured(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", *words.split(), "--out", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr()
    assert MISTAKES[words].lower() in shown.err.lower()
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    assert not (tmp_path / "out").exists()
