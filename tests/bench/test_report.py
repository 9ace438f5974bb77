import json
import xml.etree.ElementTree as ET
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest

from llava.bench.flows import Flow
from llava.bench.mini import Mini
from llava.bench.probes import Check, Decode
from llava.bench.report import COLUMNS, chart, data, medians, table, write
from llava.bench.soak import Soak
from llava.eval.records import StorageError

FLOW = Flow(
    way="engine",
    path="safe",
    questions=1,
    in_flight=16,
    rows=16,
    equal=16,
    hits=3,
    misses=1,
    rows_per_second=2.5,
    tokens_per_second=160.0,
    first=0.4,
    answers=0.5,
    ratio=2.2,
    peak_mib=700.0,
    floor=5.0,
    reached=0.5,
    reached_in_turn=0.625,
    bound="operations",
)
RECORDS = (
    FLOW,
    Check(0.36, 0.4, 0.05, 0.125),
    Decode(8, 90.0, 200.0, 2.2, 400.0, 0.5),
    Mini(500, 500, 40, 16, 8.0, 41.0, 5.1),
    Soak(2000, 700, 500.0, 502.0, 3, 3, 0, True),
)


def test_medians_of_figures_and_sums_of_counts() -> None:
    both = medians([FLOW, replace(FLOW, ratio=3.0, equal=15), replace(FLOW, ratio=9.0, hits=0)])
    assert (both.ratio, both.equal, both.rows, both.hits, both.misses) == (3.0, 47, 48, 6, 3)
    assert (both.in_flight, both.path, both.bound) == (16, "safe", "operations")
    assert medians([FLOW, *[replace(FLOW, bound="bytes")] * 2]).bound == "bytes"


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_table_has_a_heading_a_rule_and_a_row_for_each_record(record: object) -> None:
    lines = table([record, record]).splitlines()
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1
    assert lines[0].count("|") == len(COLUMNS[type(record)]) + 1
    assert lines[2] == lines[3]


def test_a_flows_row_shows_its_figures() -> None:
    row = table([FLOW]).splitlines()[-1]
    for shown in ("engine, 16 in flight", "2.50", "2.20", "3 of 4", "50%", "62%", "16 of 16 rows", "5.00 samples/s (operations)"):
        assert shown in row
    assert "- |" in table([replace(FLOW, way="plain")]).splitlines()[-1]


def test_a_changed_golden_request_cannot_be_overlooked() -> None:
    assert "DIFFERENT" in table([replace(RECORDS[-1], golden_equal=False)])


def test_the_chart_is_an_svg_with_a_bar_for_each_flow() -> None:
    flows = [replace(FLOW, way="plain", ratio=1.0), FLOW, replace(FLOW, path="harmful", ratio=0.5)]
    root = ET.fromstring(chart(flows, "a < b & c"))
    rects = list(root.iter("{http://www.w3.org/2000/svg}rect"))[1:]
    widths = [float(rect.attrib["width"]) for rect in rects]
    assert len(widths) == 3
    assert widths[1] / widths[0] == pytest.approx(2.2, rel=0.01)
    assert widths[2] / widths[0] == pytest.approx(0.5, rel=0.01)
    assert "a < b & c" in [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]


def test_files_are_written_whole_and_the_chart_only_where_there_is_one(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b", "engine", {"x": 1}, None)
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["engine.json"]
    write(tmp_path / "a" / "b", "engine", {"x": 2}, "<svg/>")
    assert json.loads((tmp_path / "a" / "b" / "engine.json").read_text()) == {"x": 2}
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["engine.json", "engine.svg"]


def test_a_disk_that_takes_no_figures_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"engine\.json cannot be written: Not a directory"):
        write(tmp_path / "file" / "bench", "engine", {"x": 1})


def test_data_are_plain_json_whatever_a_plan_holds() -> None:
    @dataclass
    class Found:
        plan: Path
        rounds: list[Check]

        def medians(self) -> dict[str, list[Check]]:
            return {"check": self.rounds}

    check = RECORDS[1]
    assert isinstance(check, Check)
    assert data(Found(Path("a/b"), [check])) == {"plan": "a/b", "rounds": [asdict(check)], "medians": {"check": [asdict(check)]}}
