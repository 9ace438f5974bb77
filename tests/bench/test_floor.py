import pytest

from llava.bench.floor import Size, floor, floor_of_calls, floor_of_step
from llava.bench.machine import Rates
from llava.bench.plain import Said
from llava.chat import Call, Chat, Reply
from llava.model.loaded import Loaded
from tests.factories import image

SIZE = Size(body=1000, head=100, attention=4, cached=8, image=50_000, bytes_per_value=2, system=10, prefix=30)
RATES = Rates(1e6, 1e6)


def said(prompt: int, completion: int) -> Said:
    return Said(Reply("x", prompt, completion), 0.1, 0.2)


def ask(colour: str | None = "red") -> Call:
    return Call("answer", Chat.ask("?", [image(colour)] if colour else []))


def test_the_larger_of_computing_and_moving_sets_the_floor() -> None:
    assert (floor(2e6, 1e6, RATES).seconds, floor(2e6, 1e6, RATES).bound) == (2.0, "operations")
    assert (floor(1e6, 3e6, RATES).seconds, floor(1e6, 3e6, RATES).bound) == (3.0, "bytes")


def test_in_turn_tokens_wait_for_prompts() -> None:
    assert floor(5e6, 3e6, RATES, prompts=(4e6, 0)).in_turn == 4.0 + 3.0
    assert floor(5e6, 3e6, RATES, prompts=(1e6, 0)).in_turn == 1.0 + 4.0
    assert floor(5e6, 3e6, RATES, prompts=(1e6, 2e6)).in_turn == 2.0 + 4.0


def test_one_call_is_counted_by_hand() -> None:
    found = floor_of_calls(SIZE, [(ask(), said(40, 3))], 1, RATES)
    positions = 42  # the prompt and two of the three tokens: the last one is not fed again
    seen = sum(range(1, positions + 1))
    assert found.operations == 50_000 + 2 * 1000 * positions + 4 * seen + 2 * 100 * 3
    assert found.bytes == 3 * 1100 * 2 + (41 + 42) * 8
    prompt = 50_000 + 2 * 1000 * 40 + 4 * sum(range(1, 41)) + 2 * 100
    spoken, moved = found.operations - prompt, found.bytes - 1100 * 2
    assert found.in_turn == pytest.approx((prompt + max(spoken, moved)) / 1e6)


def test_a_second_question_about_an_image_costs_its_own_tokens_only() -> None:
    one = floor_of_calls(SIZE, [(ask(), said(40, 3))], 1, RATES).operations
    two = floor_of_calls(SIZE, [(ask(), said(40, 3))] * 2, 1, RATES).operations
    seen = sum(range(31, 43))
    assert two - one == 2 * 1000 * 12 + 4 * seen + 2 * 100 * 3
    other = floor_of_calls(SIZE, [(ask(), said(40, 3)), (ask("blue"), said(40, 3))], 1, RATES).operations
    assert other > two + 50_000


def test_a_call_without_image_shares_the_system_line_only() -> None:
    found = floor_of_calls(SIZE, [(ask(None), said(15, 1))], 1, RATES)
    assert found.operations == 2 * 1000 * 15 + 4 * sum(range(1, 16)) + 200


def test_rows_that_run_together_share_the_weights_traffic() -> None:
    calls = [(ask(), said(40, 4)), (ask("blue"), said(40, 4))]
    alone, together = (floor_of_calls(SIZE, calls, n, RATES).bytes for n in (1, 2))
    assert alone - together == 4 * 1100 * 2


def test_a_step_reads_the_weights_once_and_each_rows_cache() -> None:
    found = floor_of_step(SIZE, [50, 60], RATES)
    assert found.bytes == 1100 * 2 + 110 * 8
    assert found.operations == 2 * 2 * 1100 + 110 * 4


def test_sizes_are_read_off_the_loaded_model(random_llava: Loaded) -> None:
    size = Size.of(random_llava)
    assert size.prefix - size.system == random_llava.image_tokens == 16
    assert size.body == 2 * (4 * 64 * 64 + 3 * 64 * 96 + 2 * 64)  # two layers: attention, MLP, norms
    assert size.head == 1600 * 64
    assert size.cached == 2 * 64 * 2 * 4  # keys and values, width, layers, float32
    assert size.attention == 4 * 64 * 2
    layer = 4 * (32 * 32 + 32) + 2 * 32 * 64 + 64 + 32 + 4 * 32  # of the tower; one of its two is used
    projector = 32 * 64 + 64 + 64 * 64 + 64
    assert size.image == 2 * 17 * (layer + 3 * 14 * 14 * 32) + 4 * 32 * 17**2 + 2 * 16 * projector
