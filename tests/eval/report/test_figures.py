"""Figures say what was measured, and nothing of what was not."""

from pathlib import Path

from llava.eval.metrics.measure import measure
from llava.eval.report.figures import radar
from llava.eval.report.sections import overview
from tests.eval.metrics.made import SAFE, judgments, records, row, said
from tests.eval.report.test_markup import Seen

AXES = ("a", "b", "c", "d")


def test_a_radar_is_a_polygon_over_all_that_is_known() -> None:
    drawn = radar(AXES, [("direct", (50.0, 0.0, 100.0, 25.0))], "x")
    assert drawn.count('class="area m-direct"') == 1
    assert '<polygon points="230.0,114.0 230.0,170.0 230.0,282.0 202.0,170.0" class="area m-direct">' in drawn


def test_what_is_not_decided_is_no_zero_in_a_radar() -> None:
    """Without b two sides are left, from c to d and from d to a: no point stands at the centre, and no side crosses the gap."""
    drawn = radar(AXES, [("direct", (50.0, None, 100.0, 25.0))], "x")
    sides = [part for part in drawn.split("<") if 'class="area m-direct"' in part]
    assert sides == [
        'line x1="230.0" y1="282.0" x2="202.0" y2="170.0" class="area m-direct">',
        'line x1="202.0" y1="170.0" x2="230.0" y2="114.0" class="area m-direct">',
    ]


def test_bars_that_stand_together_are_of_the_same_score(tmp_path: Path) -> None:
    """Of ECSO's answers the judge of refusals saw harmful questions only: no rate of refused harmless ones can be made of that."""
    about = [{"mode": mode} for mode in ("safe", "safe", "unsafe")]
    for method, judged in (("direct", 3), ("ecso", 1)):
        rows = [row(f"{i}", SAFE, **about[i]) for i in range(3)]
        rows = records(tmp_path, "xstest", method, rows, labels=["safe", "unsafe"])
        judgments(tmp_path, "xstest", method, [said(one, "refused", mode="refusal") for one in rows[-judged:]])
    labels = [value for name, value in Seen(overview(measure(tmp_path))).attributes if name == "aria-label"]
    assert "Over-refusal: xstest, harmless questions refused, gpt-4o/refusal: Direct 100.0, ECSO –" in labels
