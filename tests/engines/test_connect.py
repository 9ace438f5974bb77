"""`connect` picks an engine by its target, and says what it cannot do."""

import asyncio
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from llava.chat import Call, Chat
from llava.engines import KINDS, Engine, ScriptedEngine, connect, generate
from llava.errors import CheckpointError, UserError


def test_scripted_targets_name_their_replies() -> None:
    engine = connect("scripted:Yes|No")

    async def main() -> list[str]:
        return [(await generate(engine, Call("answer", Chat.ask("q")))).text for _ in range(2)]

    assert asyncio.run(main()) == ["Yes", "No"]
    with pytest.raises(UserError, match="names its replies"):
        connect("scripted:")


def test_an_engine_is_passed_through_and_takes_no_options() -> None:
    engine = ScriptedEngine(["x"])
    assert connect(engine) is engine
    with pytest.raises(UserError, match=r"takes no options \(got device\)"):
        connect(engine, device="cpu")


def test_what_is_no_target_is_refused() -> None:
    with pytest.raises(UserError, match="not int"):
        connect(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["controller://localhost:10000", "ftp://host/x", "localhost:8000", "localhost:8000/v1", "", "  "])
def test_an_unknown_kind_of_target_says_which_work(target: str) -> None:
    with pytest.raises(UserError, match=r"Cannot connect to .* These work: \"mini\".*scripted:.*http://host:8000/v1.*folder"):
        connect(target)


def test_a_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(UserError) as caught:
        connect("ftp://me:secret@host/x")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "option", "hint"),
    [("http://host/v1", "modle", "did you mean model?"), ("mini", "dvice", "did you mean device?"), ("mini", "zzz", "It takes device")],
)
def test_an_unknown_option_names_the_valid_ones(target: str, option: str, hint: str) -> None:
    with pytest.raises(UserError, match=f"Unknown option '{option}'") as caught:
        connect(target, **{option: 1})
    assert hint in str(caught.value)


@pytest.mark.parametrize("target", ["no/such/folder", "./nothing-here", Path("/nowhere/at/all")])
def test_a_missing_checkpoint_is_a_clear_error(target: str | Path) -> None:
    with pytest.raises(CheckpointError):
        connect(target)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.opener)
def test_the_table_names_exactly_the_options_that_an_opener_takes(kind: object) -> None:
    from llava.engines.local import LocalEngine

    module, _, function = kind.opener.partition(":")  # type: ignore[attr-defined]
    opener = {"_open_mini": "llava.engines.local:open_local", "_open_scripted": "llava.engines:ScriptedEngine"}.get(function)
    module, _, function = (opener or f"{module}:{function}").partition(":")
    taken = keywords(getattr(importlib.import_module(module), function)) - {"name"}
    if function == "open_local":
        taken |= keywords(LocalEngine)
    assert taken == set(kind.options)  # type: ignore[attr-defined]


def keywords(function: object) -> set[str]:
    parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    return {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}


def test_importing_the_package_is_light() -> None:
    program = "import sys, llava.engines; print(sorted({'torch', 'transformers', 'openai', 'httpx', 'PIL'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_every_kind_speaks_the_protocol() -> None:
    assert isinstance(connect("scripted:x"), Engine)
    assert isinstance(connect("http://localhost:1/v1"), Engine)
