"""What counts trials and writes the table; and that the matrix has all its rows. The rows themselves are `make resilience`."""

import asyncio
import json
import re
from pathlib import Path

import pytest

from tests.resilience import report
from tests.resilience.matrix import chosen, divided, rows
from tests.resilience.play import MARK, REFUSED
from tests.resilience.stack import beside
from tests.resilience.talk import Answer, check_answer
from tests.resilience.tally import Lost, Tally, expect, quantile, upper_bound
from tests.serve import test_published_weaknesses


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    for lost, tried, bound in ((0, 300, 0.009936), (0, 1, 0.95), (1, 100, 0.046559), (5, 1000, 0.010483), (3, 3, 1.0)):
        assert upper_bound(lost, tried) == pytest.approx(bound, abs=2e-6)
    assert 0.5 < upper_bound(10_000, 20_000) < 0.51  # more ways than a float can count


def test_a_trial_that_breaks_in_any_way_is_lost_and_the_next_goes_on() -> None:
    tally = Tally()
    for number in range(4):
        with tally.trial("a trial"):
            expect(number != 1, "it is one")
            if number == 2:
                raise ZeroDivisionError("two")
    assert (tally.tried, tally.survived, tally.lost) == (4, 2, 2)
    assert list(tally.reasons) == ["a trial: it is one", "a trial: ZeroDivisionError: two"]


def test_what_is_expected_holds_under_python_o() -> None:
    with pytest.raises(Lost, match="not so"):
        expect(False, "not so")


def test_quantiles_of_few_values() -> None:
    assert quantile([], 0.5) == 0
    assert quantile([3, 1, 2], 0.5) == 2
    assert quantile([3, 1, 2], 0.99) == 3


def test_the_matrix_has_the_rows_of_the_plan() -> None:
    planned = {*range(1, 18), *range(23, 45), 46, 47, 48}
    assert set(rows()) == planned
    assert [number for number, row in rows().items() if row.optional] == [6]
    assert chosen("1-3,44") == [1, 2, 3, 44]
    assert chosen("18-23") == [23]
    with pytest.raises(ValueError, match="no such rows"):
        chosen("45")


def test_the_table_tells_what_was_counted_and_what_was_not() -> None:
    tally = Tally(tried=300, lost=0, figures={"time": "3 ms"})
    results = {"7": report.entry(tally, 0.5, 12.0)}
    lines = report.table(rows(), results).splitlines()
    assert len(lines) == 2 + len(rows()) - 1 + 1  # the soak is not in it before it was run
    (seven,) = [line for line in lines if line.startswith("| 7 |")]
    assert "*time: 3 ms*" in seven
    assert "| 300 | 300 | 0 | 0.99 % | x 0.5," in seven
    assert sum("not run yet" in line for line in lines) == len(rows()) - 2


def test_the_page_has_the_table_of_the_results_that_are_kept() -> None:
    text = report.PAGE.read_text(encoding="utf-8")
    between = text.partition(report.BEGIN)[2].partition(report.END)[0]
    assert between.strip() == report.table(rows(), report.load()).strip()
    assert all(found["lost"] == 0 for found in report.load().values())


def test_the_rows_are_divided_so_that_all_lanes_take_as_long() -> None:
    assert divided([1, 2, 3, 4], 2, {1: 300, 2: 10, 3: 100, 4: 200}) == [[1, 2], [3, 4]]
    assert divided([5, 6], 3, {}) == [[5], [6]]


def test_works_go_on_side_by_side_and_the_first_that_breaks_ends_the_others() -> None:
    ended: list[int] = []

    async def work(number: int) -> int:
        try:
            await asyncio.sleep(0 if number < 3 else 3600)
        finally:
            ended.append(number)
        expect(number != 2, "the second")
        return number

    async def main() -> None:
        assert await beside(2, [work(0), work(1)]) == [0, 1]
        with pytest.raises(Lost, match="the second"):
            await beside(2, [work(3), work(2)])
        await asyncio.sleep(0)

    asyncio.run(main())
    assert sorted(ended) == [0, 1, 2, 3]


def answer(body: bytes, head: str = "content-type: application/json", status: int = 200, length: int | None = None) -> Answer:
    return Answer(f"HTTP/1.1 {status} X\r\n{head}\r\ncontent-length: {length or len(body)}\r\n\r\n".encode() + body)


def stream(*events: object, end: bytes = b"data: [DONE]\n\n") -> Answer:
    body = b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events) + end
    return answer(body, "content-type: text/event-stream")


def chunk(index: int, delta: dict[str, str], reason: str | None = None) -> dict[str, object]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": reason}]}


def test_what_is_released_reads_alike_from_an_object_and_from_a_stream() -> None:
    message = {"role": "assistant", "content": REFUSED[0], "refusal": REFUSED[0]}
    whole = answer(json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "content_filter"}]}).encode())
    pieces = [chunk(0, {"role": "assistant", "content": ""}), chunk(0, {"content": REFUSED[0]}), chunk(0, {}, "content_filter")]
    assert whole.said == stream(*pieces, {"choices": [], "usage": {}}).said == [REFUSED]
    two = stream(chunk(1, {"content": "b"}), chunk(0, {"content": "a"}), chunk(0, {}, "stop"), chunk(1, {}, "length"))
    assert (two.said, two.text) == ([("a", "stop"), ("b", "length")], "a\nb")


def test_an_answer_that_is_cut_wrong_or_leaks_is_lost() -> None:
    check_answer(answer(b'{"choices": []}'), {200})
    check_answer(stream(chunk(0, {})), {200})
    for found, why in (
        (Answer(b""), "status 0"),
        (answer(b"{}", status=503), "status 503"),
        (answer(b'{"choices": []}', length=99), "cut off"),
        (Answer(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"), "cut off"),
        (stream(chunk(0, {}), end=b""), "with its end"),
        (answer(json.dumps({"x": MARK[:5]}).encode()), "not cleared"),
        (answer(b'{"x": 1}', f"x-why: {MARK}"), "not cleared"),
    ):
        with pytest.raises(Lost, match=why):
            check_answer(found, {200})


def test_each_advisory_that_the_page_names_has_its_test() -> None:
    page = report.PAGE.read_text(encoding="utf-8")
    table = page[page.index("`tests/serve/test_published_weaknesses.py`") : page.index("The two web pages stand on gradio")]
    named = set(re.findall(r"CVE-\d+-\d+", table))
    tests = set(re.findall(r"def test_cve_(\d+_\d+)_", Path(test_published_weaknesses.__file__).read_text(encoding="utf-8")))
    assert len(named) >= 16
    assert named == {f"CVE-{number.replace('_', '-')}" for number in tests}
