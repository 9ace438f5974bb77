"""What a forward pass writes into the slots, and what of them its positions see."""

import pytest
import torch
from torch import Tensor

from llava.engines.local.scripted import scripted
from llava.engines.local.windows import Window, attended, chunks, step

HEADS, KV_HEADS, DIM, LENGTH = 4, 2, 8, 64
SCALING = DIM**-0.5
WAYS = [attended, scripted(attended)]


def slots(*filled: int) -> Tensor:
    """A layer whose rows hold so many positions; behind them lies what nobody may see."""
    torch.manual_seed(1)
    kv = torch.randn(2, len(filled), KV_HEADS, LENGTH, DIM)
    for row, count in enumerate(filled):
        kv[:, row, :, count:] = 1e4
    return kv


def alone(kv: Tensor, row: int, place: int, query: Tensor) -> Tensor:
    """What a query (heads, dim) sees from `place` in its row: softmax by hand."""
    keys, values = kv[:, row, :, : place + 1].repeat_interleave(HEADS // KV_HEADS, 1)
    weights = torch.softmax((keys @ query[:, :, None])[:, :, 0] * SCALING, -1)
    seen: Tensor = (weights[:, None] @ values)[:, 0].flatten()
    return seen


def check(window: Window, kv: Tensor, places: list[tuple[int, int]]) -> None:
    """`places`: the row and the position of each new one."""
    torch.manual_seed(2)
    queries, new = torch.randn(len(places), HEADS, DIM), torch.randn(len(places), 2, KV_HEADS, DIM)
    wanted = kv.clone()
    for (row, place), added in zip(places, new, strict=True):
        wanted[:, row, :, place] = added
    by_hand = torch.stack([alone(wanted, *place, query) for place, query in zip(places, queries, strict=True)])
    assert window.positions.tolist() == [place for _, place in places]
    for way in WAYS:
        slot = kv.clone()
        torch.testing.assert_close(way(window, queries, new, slot, SCALING), by_hand)
        assert torch.equal(slot, wanted)
        if window.last is not None:
            torch.testing.assert_close(way(window, queries[window.last], new, slot, SCALING), by_hand[window.last])


def test_a_step_writes_one_position_a_row_and_each_sees_its_own_row_up_to_there() -> None:
    check(step(torch.tensor([3, 6]), 7, torch.float32), slots(3, 6, 2), [(0, 3), (1, 6)])


@pytest.mark.parametrize("onednn", [False, True])
@pytest.mark.parametrize("rows", [[0, 1], [1], [2, 0], [2, 1, 0]])
def test_chunks_go_on_where_their_rows_end_and_see_nothing_that_comes_later(
    rows: list[int], onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llava.engines.local.windows.pays", lambda _, count: count > 1)
    filled = [3, 6, 0]
    starts, counts = [filled[row] for row in rows], [4, 1, 3][: len(rows)]
    window = chunks(rows, starts, counts, torch.empty(0), onednn=onednn)
    places = [(row, start + i) for row, start, count in zip(rows, starts, counts, strict=True) for i in range(count)]
    check(window, slots(*filled), places)
    assert window.last is not None
    assert [places[i] for i in window.last.tolist()] == [(row, start + n - 1) for row, start, n in zip(rows, starts, counts, strict=True)]
