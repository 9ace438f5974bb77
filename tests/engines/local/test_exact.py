"""Whatever the batch around it, an answer is what transformers' own `generate` says to the same call alone."""

import asyncio
import math
from dataclasses import dataclass
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llava.engines.local.answer import Answer
from llava.engines.local.batcher import Batcher
from llava.engines.local.lanes import lanes_for
from llava.engines.local.packed import Kernel
from llava.engines.local.prompt import Prompt
from llava.model.loaded import Loaded
from tests.engines.local.driving import CHATS, FAMILIES, add, batcher, call, generated, logprobs, of_family, over_slots

MOST = 12  # tokens


@dataclass
class Expected:
    """A model, and what it says to each of `CHATS`."""

    loaded: Loaded
    tokens: list[list[int]]
    first: list[dict[str, float]]


@dataclass(frozen=True)
class Arrival:
    """One call of a schedule: it comes before step `at` and is cancelled before step `until`."""

    chat: int
    max_tokens: int
    at: int
    until: int | None


ARRIVALS = st.lists(
    st.builds(
        Arrival,
        st.integers(0, len(CHATS) - 1),
        st.integers(1, MOST),
        st.integers(0, 10),
        st.none() | st.integers(0, 20),
    ),
    min_size=2,
    max_size=9,
)


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def expected(request: pytest.FixtureRequest, llava: Loaded) -> Expected:
    loaded = of_family(llava, request.param)
    return Expected(loaded, [generated(loaded, chat, MOST) for chat in CHATS], [logprobs(loaded, chat) for chat in CHATS])


@settings(max_examples=75)
@given(
    arrivals=ARRIVALS,
    limits=st.tuples(st.sampled_from([1, 2, 3, 8]), st.sampled_from([7, 40, 512])),  # calls that run, prompt positions in a step
    rows=st.sampled_from([3, 5, 1000]),  # how many of the longest calls the KV budget holds
    most=st.sampled_from([1, 3]),  # lanes, as far as the budget holds their rows
    kernel=st.sampled_from(Kernel),
)
def test_random_schedules_give_the_tokens_of_generate(
    expected: Expected, arrivals: list[Arrival], limits: tuple[int, int], rows: int, most: int, kernel: Kernel
) -> None:
    budget = rows * 256 * over_slots(batcher(expected.loaded)).slots.position_bytes
    with patch("llava.engines.local.runner.kernel_for", return_value=kernel):
        lanes = lanes_for(expected.loaded, *limits, budget, most)
    for arrival, answer in asyncio.run(schedule(lanes, arrivals)):
        wanted = expected.tokens[arrival.chat][: arrival.max_tokens]
        if answer.job.cancelled and answer.reply is None:
            assert answer.tokens == wanted[: len(answer.tokens)]
            continue
        assert answer.tokens == wanted
        assert answer.reply is not None
        found = {text: math.exp(value) for text, value in (answer.reply.first_logprobs or {}).items()}
        assert found == pytest.approx(expected.first[arrival.chat], abs=1e-4)
    assert [over_slots(lane).slots.owners for lane in lanes] == [[]] * len(lanes)
    stats = lanes[0].runner.stats()
    assert stats.slot_bytes == sum(over_slots(lane).slots.bytes for lane in lanes)
    assert stats.slot_bytes + stats.kept_bytes <= budget


async def schedule(lanes: list[Batcher[Prompt]], arrivals: list[Arrival]) -> list[tuple[Arrival, Answer[Prompt]]]:
    """Run it to its end; calls go to one lane after the other."""
    answers: list[tuple[Arrival, Answer[Prompt]]] = []
    waiting = sorted(arrivals, key=lambda arrival: arrival.at)
    step = 0
    while waiting or not all(lane.scheduler.idle for lane in lanes):
        while waiting and waiting[0].at <= step:
            arrival = waiting.pop(0)
            lane = lanes[len(answers) % len(lanes)]
            answers.append((arrival, add(lane, call(CHATS[arrival.chat], arrival.max_tokens, top_logprobs=20))))
        for arrival, answer in answers:
            answer.job.cancelled |= arrival.until is not None and arrival.until <= step
        for lane in lanes:
            lane.step()
        step += 1
        assert step < 10_000
    return answers
