"""Attention, and that on oneDNN, give what softmax by hand gives, for any start and count, grouped heads, whatever lies behind the end."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from llava.engines.local.attention import attention, blocks, pays, seen_by

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
        found = seen_by(blocks(start, count), queries, kv[0], kv[1], 0.3)
        torch.testing.assert_close(found, wanted, atol=2e-6, rtol=1e-4)
    assert torch.equal(queries, before)


def test_it_is_for_many_pairs_of_positions() -> None:
    assert pays(0, 632)
    assert pays(610, 75)
    assert not pays(0, 200)
    assert not pays(1000, 1)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (7, 1)])
@pytest.mark.parametrize(
    ("asking", "masked", "causal"), [(1, True, False), (1, False, False), (5, True, False), (5, False, True), (5, False, False)]
)
def test_heads_that_share_keys_see_what_they_would_see_with_keys_of_their_own(
    heads: int, kv_heads: int, asking: int, masked: bool, causal: bool
) -> None:
    torch.manual_seed(heads + asking)
    seen = asking if causal else 9
    queries, kv = torch.randn(3, heads, asking, DIM), torch.randn(2, 3, kv_heads, seen, DIM)
    keys, values = kv.repeat_interleave(heads // kv_heads, 2)
    mask = torch.where(torch.rand(3, 1, asking, seen) < 0.3, -torch.inf, 0.0).index_fill_(-1, torch.tensor(0), 0.0) if masked else None
    late = torch.full((asking, seen), -torch.inf).triu(1) if causal else torch.zeros(())
    scores = queries @ keys.transpose(-1, -2) * 0.3 + late + (0 if mask is None else mask)
    wanted = (scores.softmax(-1) @ values).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention(queries, kv[0], kv[1], mask, causal, 0.3), wanted)


def test_a_prompt_has_one_mask_for_all_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each would take gigabytes of a long prompt."""
    masks: list[Tensor] = []

    def watched(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, *rest: Any, **named: Any) -> Tensor:
        masks.append(mask)
        return own(queries, keys, values, mask, *rest, **named)

    own = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    attention(torch.randn(1, 6, 5, DIM), torch.randn(1, 2, 9, DIM), torch.randn(1, 2, 9, DIM), torch.zeros(1, 1, 5, 9), False, 0.3)
    assert [mask.numel() for mask in masks] == [5 * 9]
