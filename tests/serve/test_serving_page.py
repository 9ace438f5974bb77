"""docs/serving.md is true: the systemd unit is one, codes, counters and caps are those of the code. (Its commands: tests/test_docs.py.)"""

import configparser
import re
import shlex
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

from llava.serve.gateway.content import Limits
from llava.serve.gateway.metrics import Metrics
from tests.test_docs import INDENTED, understood

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")


def unit() -> str:
    """The systemd unit."""
    block = next(block for block in INDENTED.findall(PAGE) if "[Service]" in block)
    return "\n".join(line[4:] for line in block[block.index("[Unit]") - 4 :].splitlines())


def test_the_systemd_unit_starts_the_gateway(tmp_path: Path) -> None:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit())
    assert list(parser) == ["DEFAULT", "Unit", "Service", "Install"]
    program, *words = shlex.split(parser["Service"]["ExecStart"])
    assert program.endswith("/python")
    understood(["python", *words])
    log = words[words.index("--audit-log") + 1]
    assert Path(log).parent == Path("/var/log") / parser["Service"]["LogsDirectory"]
    if shutil.which("systemd-analyze"):
        here = tmp_path / "llava-gateway.service"
        here.write_text(unit().replace(program, "/bin/true").replace("User=llava", "User=root"))
        done = subprocess.run(["systemd-analyze", "verify", str(here)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_each_code_of_the_table_of_errors_is_one_that_the_servers_give() -> None:
    said = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "llava").rglob("*.py"))
    rows = re.findall(r"^\| (?:\d{3}(?:, )?)+ \|([^|]*)\|", PAGE, re.MULTILINE)
    codes = {code for row in rows for code in re.findall(r"`(\w+)`", row)}
    assert len(codes) > 25
    assert {code for code in codes if f'"{code}"' not in said} == set()


def test_each_counter_exists() -> None:
    text = Metrics().text()
    for name in re.findall(r"`((?:vllm:|llava_guard_)\w+)`", PAGE):
        assert f"# TYPE {name} " in text, name


def test_the_default_caps_are_those_that_are_told() -> None:
    limits = Limits()
    told = "8 images of 50 megapixels together, 128 messages, 256 Ki characters, `n` of 4, 4,096 tokens, 4 `stop` texts of 64 characters"
    assert told in PAGE
    given = (limits.images, limits.pixels, limits.messages, limits.text, limits.n, limits.max_tokens, limits.stops, limits.stop_characters)
    assert given == (8, 50_000_000, 128, 256 * 1024, 4, 4096, 4, 64)
    assert (limits.remote_bytes, limits.remote_seconds) == (20 * 2**20, 10.0)
    for name in re.findall(r"--cap ([a-z]\w*)=", PAGE):
        assert name in {field.name for field in fields(Limits)}
