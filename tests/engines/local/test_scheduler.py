"""Who runs and who reads how much: policy without a tensor."""

from dataclasses import dataclass

import pytest

from llava.engines.local.scheduler import Admission, Scheduler


@dataclass(eq=False)
class Call:
    name: str
    prompt_tokens: int
    filled: int = 0


def scheduler(*prompts: int, max_batch: int = 8, chunk: int | None = 100) -> Scheduler[Call]:
    made: Scheduler[Call] = Scheduler(max_batch, chunk)
    made.waiting.extend(Call(str(i), tokens) for i, tokens in enumerate(prompts))
    return made


def names(calls: object) -> list[str]:
    return [call.name for call in calls]  # type: ignore[attr-defined]


def chunks(one: Scheduler[Call]) -> list[tuple[str, int]]:
    return [(call.name, count) for call, count in one.chunks()]


def always(_: Call) -> Admission:
    return Admission.STARTED


def test_calls_start_in_order_until_the_batch_is_full() -> None:
    one = scheduler(5, 5, 5, max_batch=2)
    one.admit(always)
    assert names(one.prefilling) == ["0", "1"]
    assert names(one.waiting) == ["2"]
    one.remove(one.prefilling[0])
    one.admit(always)
    assert names(one.prefilling) == ["1", "2"]


def test_no_room_stops_all_a_refusal_and_a_blocked_call_only_themselves() -> None:
    one = scheduler(5, 5, 5, 5, 5)
    says = dict(zip("01234", [Admission.BLOCKED, Admission.REFUSED, Admission.STARTED, Admission.FULL, Admission.STARTED], strict=True))
    one.admit(lambda call: says[call.name])
    assert names(one.prefilling) == ["2"]
    assert names(one.waiting) == ["0", "3", "4"]
    assert not one.idle


def test_a_prompt_is_read_whole_while_nobody_decodes_and_in_chunks_when_somebody_does() -> None:
    one = scheduler(1000, 1000)
    one.admit(always)
    assert chunks(one) == [("0", 1000)]
    first = one.prefilling[0]
    first.filled = 1000
    one.prompt_done(first)
    assert chunks(one) == [("1", 100)]
    one.prefilling[0].filled = 950
    assert chunks(one) == [("1", 50)]


@pytest.mark.parametrize(
    ("rests", "read"),
    [
        ((30, 30, 30), "012"),
        ((50, 50, 50), "01"),  # a third would not fit into the chunk of 100
        ((20, 81, 1), "02"),  # nor the second; it is the first one of the next step
        ((1000, 10), "0"),
        ((60, 41, 40, 1), "02"),
    ],
)
def test_whole_rests_are_read_together_within_a_chunk(rests: tuple[int, ...], read: str) -> None:
    one = scheduler(*rests, max_batch=20)
    one.admit(always)
    assert chunks(one) == [(name, rests[int(name)]) for name in read]


def test_without_a_chunk_all_prompts_are_read_whole_and_together() -> None:
    one = scheduler(1000, 1, 30, chunk=None)
    one.admit(always)
    assert chunks(one) == [("0", 1000), ("1", 1), ("2", 30)]


def test_more_is_read_in_a_step_where_more_calls_begin_than_stream_but_never_more_than_four_chunks() -> None:
    one = scheduler(*[1000] * 12, max_batch=12)
    one.admit(always)
    assert one.room == 100
    found = []
    for _ in range(6):
        one.prompt_done(one.prefilling[0])
        found.append((len(one.prefilling), one.room, chunks(one)[0][1]))
    assert found == [(11, 400, 400), (10, 400, 400), (9, 300, 300), (8, 200, 200), (7, 100, 100), (6, 100, 100)]


def test_a_call_can_end_anywhere() -> None:
    one = scheduler(5, 5, 5, max_batch=2)
    one.admit(always)
    one.prompt_done(one.prefilling[0])
    for call in (*one.running, *one.waiting):
        one.remove(call)
    assert one.idle
