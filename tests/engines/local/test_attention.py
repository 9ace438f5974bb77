"""Attention on oneDNN gives what softmax by hand gives, for any start and count, grouped heads, and whatever lies behind the end."""

import pytest
import torch

from llava.engines.local.attention import Seen, pays

LENGTH, DIM = 384, 24


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (7, 1)])
@pytest.mark.parametrize(
    ("start", "count"), [(0, 1), (0, 64), (0, 128), (0, 129), (5, 300), (63, 2), (64, 16), (300, 84), (383, 1), (127, 257)]
)
def test_each_position_sees_itself_and_all_before_it(start: int, count: int, heads: int, kv_heads: int) -> None:
    torch.manual_seed(start + count)
    queries, kv = torch.randn(count, heads, DIM), torch.randn(2, kv_heads, LENGTH, DIM)
    kv[:, :, start + count :] = 1e30
    keys, values = kv[:, :, : start + count].repeat_interleave(heads // kv_heads, 1)
    scores = queries.transpose(0, 1) @ keys.transpose(1, 2) * 0.3
    late = torch.arange(start + count) > start + torch.arange(count)[:, None]
    wanted = (scores.masked_fill(late, -torch.inf).softmax(-1) @ values).transpose(0, 1).reshape(count, -1)
    with torch.inference_mode():
        before = queries.clone()
        torch.testing.assert_close(Seen(start, count).attend(queries, kv[0], kv[1], 0.3), wanted, atol=2e-6, rtol=1e-4)
    assert torch.equal(queries, before)


def test_it_is_for_many_pairs_of_positions() -> None:
    assert pays(0, 632)
    assert pays(610, 75)
    assert not pays(0, 200)
    assert not pays(1000, 1)
