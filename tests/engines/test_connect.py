"""`connect` picks an engine by its target, and says what it cannot do."""

import asyncio
import importlib
import inspect
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from llava.chat import Call, Chat
from llava.engines import KINDS, Engine, ScriptedEngine, connect, generate, is_scripted, is_server
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


@pytest.mark.parametrize("target", ["ftp://host/x", "localhost:8000", "localhost:8000/v1", "", "  "])
def test_an_unknown_kind_of_target_says_which_work(target: str) -> None:
    with pytest.raises(UserError, match=r"Cannot connect to .* These work: \"mini\".*scripted:.*http://host:8000/v1.*folder"):
        connect(target)


@pytest.mark.parametrize(
    ("target", "server", "scripted"),
    [
        ("http://host:8000/v1", True, False),
        ("https://host/v1", True, False),
        ("controller://host:10000", True, False),
        ("scripted:Yes|No", False, True),
        ("scripted:http://host", False, True),
        ("mini", False, False),
        ("models/scripted", False, False),
    ],
)
def test_a_target_tells_where_its_model_runs_and_whether_there_is_one(target: str, server: bool, scripted: bool) -> None:
    assert (is_server(target), is_scripted(target)) == (server, scripted)


def test_a_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(UserError) as caught:
        connect("ftp://me:secret@host/x")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "option", "hint"),
    [
        ("http://host/v1", "modle", "Did you mean model?"),
        ("mini", "dvice", "Did you mean device?"),
        ("mini", "zzz", "there is device, dtype"),
    ],
)
def test_an_unknown_option_names_the_valid_ones(target: str, option: str, hint: str) -> None:
    with pytest.raises(UserError, match=f"Unknown option of .*: '{option}'") as caught:
        connect(target, **{option: 1})
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("target", "option", "value", "said"),
    [
        ("scripted:x", "delay", "x", "The option delay: give a number of seconds, at least 0."),
        ("scripted:x", "delay", math.nan, "The option delay is nan: give a number of seconds"),
        ("scripted:x", "delay", -1, "The option delay is -1: give"),
        ("scripted:x", "delay", True, "The option delay is True: give"),
        ("scripted:x", "delay", 10**400, "give a number of seconds"),
        ("mini", "threads", "x", "The option threads: give a whole number from 1 to 1024."),
        ("mini", "threads", 0, "The option threads is 0: give a whole number from 1 to 1024."),
        ("mini", "max_waiting", 1.5, "The option max_waiting is 1.5: give a whole number, at least 0."),
        ("mini", "device", 3, "The option device is 3: give a name."),
        ("mini", "conv_mode", ["v1"], "The option conv_mode: give a text."),
        ("http://host/v1", "api_key", 1234, "The option api_key: give a text."),
        ("http://host/v1", "timeout", None, "The option timeout: give a number of seconds, at least 0."),
        ("http://host/v1", "retries", "many", "The option retries: give a whole number, at least 0."),
    ],
)
def test_an_option_of_a_wrong_type_is_refused_before_anything_is_opened(target: str, option: str, value: object, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        connect(target, **{option: value})
    assert len(str(caught.value)) < 200


def test_what_torch_calls_a_dtype_or_device_is_a_name_too() -> None:
    with pytest.raises(CheckpointError):
        connect("no/such/folder", dtype=torch.float32, device=torch.device("cpu"))


@pytest.mark.parametrize("target", ["no/such/folder", "./nothing-here", Path("/nowhere/at/all")])
def test_a_missing_checkpoint_is_a_clear_error(target: str | Path) -> None:
    with pytest.raises(CheckpointError):
        connect(target)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.opener)
def test_the_table_names_exactly_the_options_that_an_opener_takes(kind: object) -> None:
    from llava.engines.local import LocalEngine
    from llava.engines.openai import OpenAIEngine

    module, _, function = kind.opener.partition(":")  # type: ignore[attr-defined]
    opener = {"_open_mini": "llava.engines.local:open_local", "_open_scripted": "llava.engines:ScriptedEngine"}.get(function)
    module, _, function = (opener or f"{module}:{function}").partition(":")
    taken = keywords(getattr(importlib.import_module(module), function)) - {"name"}
    if function == "open_local":
        taken |= keywords(LocalEngine)
    if function == "open_server":
        taken |= keywords(OpenAIEngine)
    assert taken == set(kind.options)  # type: ignore[attr-defined]


def keywords(function: object) -> set[str]:
    parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    return {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}


def test_importing_the_package_is_light() -> None:
    program = "import sys, llava.engines; print(sorted({'torch', 'transformers', 'httpx', 'httpx2', 'PIL'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_every_kind_speaks_the_protocol() -> None:
    assert isinstance(connect("scripted:x"), Engine)
    assert isinstance(connect("http://localhost:1/v1"), Engine)
