"""What training of the embedded model relies on: packed dialogues teach what each of them would teach alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from scripts.mini import model as net
from scripts.mini.tokenizer import IMAGE_ID, PAD_ID

LEARNT = 6  # the last tokens of each dialogue


@pytest.fixture(scope="module", name="model")
def random_model() -> LlavaForConditionalGeneration:
    return net.build(seed=3)  # without dropout: training computes what using does


def packed(heads: list[list[int]], dialogues: list[list[list[int]]], length: int) -> dict[str, Tensor]:
    """Rows in which the dialogues lie behind their head, one after the other."""
    shape = (len(heads), length)
    batch = {"ids": torch.full(shape, PAD_ID), "labels": torch.full(shape, -100), "group": torch.full(shape, -1),
             "position": torch.zeros(shape, dtype=torch.long), "weight": torch.ones(shape)}  # fmt: skip
    for row, (head, own) in enumerate(zip(heads, dialogues, strict=True)):
        at = len(head)
        batch["ids"][row, :at], batch["group"][row, :at] = torch.tensor(head), 0
        batch["position"][row, :at] = torch.arange(at)
        for number, ids in enumerate(own, 1):
            end = at + len(ids)
            batch["ids"][row, at:end], batch["group"][row, at:end] = torch.tensor(ids), number
            batch["position"][row, at:end] = torch.arange(len(head), len(head) + len(ids))
            batch["labels"][row, end - LEARNT - 1 : end - 1] = torch.tensor(ids[-LEARNT:])
            at = end
    return batch


def alone(model: LlavaForConditionalGeneration, head: list[int], ids: list[int], seen: Tensor | None) -> Tensor:
    """The cost of each learnt token of one dialogue behind its head, computed with every token seeing all before it."""
    row = torch.tensor([head + ids])
    embeds = model.get_input_embeddings()(row)
    if seen is not None:
        embeds = embeds.masked_scatter((row == IMAGE_ID).unsqueeze(-1), model.model.multi_modal_projector(seen).flatten(0, 1))
    causal = torch.full((row.shape[1], row.shape[1]), -1e4).triu(1)
    hidden, places = embeds, torch.arange(row.shape[1]).unsqueeze(0)
    language = model.model.language_model
    angles = language.rotary_emb(hidden, places)
    for layer in language.layers:
        layer.self_attn.config._attn_implementation = "eager"
        hidden = layer(hidden, attention_mask=causal[None, None], position_embeddings=angles)
        layer.self_attn.config._attn_implementation = "mini_plain"
    logits = model.lm_head(language.norm(hidden))[0, -LEARNT - 1 : -1]
    return torch.nn.functional.cross_entropy(logits, row[0, -LEARNT:], reduction="none")


@pytest.mark.parametrize("with_pictures", [False, True], ids=["behind captions of different lengths", "behind pictures"])
def test_packed_dialogues_cost_what_each_of_them_costs_alone(model: LlavaForConditionalGeneration, with_pictures: bool) -> None:
    draw = torch.Generator().manual_seed(5)

    def words(count: int) -> list[int]:
        return torch.randint(10, 900, (count,), generator=draw).tolist()

    heads = [[1, *words(4), *[IMAGE_ID] * net.IMAGE_TOKENS] if with_pictures else words(count) for count in (40, 71, 64)]
    dialogues = [[words(n) for n in sizes] for sizes in ((9, 90, 30, 12), (20, 21, 22, 23), (100, 7, 64))]
    seen = torch.randn(3, net.IMAGE_TOKENS, 160, generator=draw) if with_pictures else None
    with torch.no_grad():
        together = net.packed_loss(model, packed(heads, dialogues, 320), seen)
        costs = [alone(model, head, ids, None if seen is None else seen[row : row + 1])
                 for row, (head, own) in enumerate(zip(heads, dialogues, strict=True)) for ids in own]  # fmt: skip
    assert together.item() == pytest.approx(torch.cat(costs).mean().item(), rel=1e-5)


def test_no_part_of_a_packed_batch_computes_the_whole_square_of_scores() -> None:
    group = torch.tensor([[0] * 150 + [1 + at // 20 for at in range(298)]])
    parts = net.parts_of(group, torch.float32)
    computed = sum(part.mask.shape[2] * part.mask.shape[3] for part in parts)
    assert [part.queries.stop for part in parts] == [192, 256, 320, 384, 448]
    assert computed < 0.65 * 448 * 448
