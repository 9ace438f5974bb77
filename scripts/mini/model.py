"""The network of `mini`: transformers' own LLaVA classes with small numbers, and how training runs them.

`packed_loss` is the one trick: several dialogues share one picture. They lie one after the other behind the
picture's tokens, and the attention mask lets each see the picture and itself only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from scripts.mini.tokenizer import IMAGE_ID, PAD_ID, ROWS

SIDE, PATCH = 96, 8
IMAGE_TOKENS = (SIDE // PATCH) ** 2
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
EDGE = 64
NO_MASK = torch.zeros(1, 1, 1, 1)  # `parts` say who sees whom; given none, transformers would make a mask


def configuration() -> LlavaConfig:
    """4.9 million parameters: 5 vision layers (the last unused, as LLaVA takes features before it), 5 language layers."""
    vision = CLIPVisionConfig(
        hidden_size=160, intermediate_size=640, num_hidden_layers=5, num_attention_heads=4, image_size=SIDE,
        patch_size=PATCH, projection_dim=160, hidden_act="gelu",
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=ROWS, hidden_size=224, intermediate_size=544, num_hidden_layers=5, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=2048, bos_token_id=1, eos_token_id=2, pad_token_id=PAD_ID,
        rms_norm_eps=1e-5, tie_word_embeddings=True,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=IMAGE_ID, projector_hidden_act="gelu",
        vision_feature_layer=-2, vision_feature_select_strategy="default", image_seq_length=IMAGE_TOKENS,
        tie_word_embeddings=True,
    )  # fmt: skip
    config.pad_token_id = PAD_ID
    return config


@dataclass(frozen=True)
class Part:
    """Some neighboring queries of a packed batch and the keys that any of them may see: those of what all share, and those near by.

    `mask` (batch, 1, queries, keys) is added to the scores; it hides what one query of the part sees and another does not.
    """

    queries: slice
    keys: tuple[slice, ...]
    mask: Tensor

    def of(self, x: Tensor) -> Tensor:
        """The part's keys, or their values, of x (batch, heads, length, width)."""
        return joined([x[:, :, span] for span in self.keys], 2)


def joined(spans: list[Tensor], dim: int) -> Tensor:
    """The spans one after the other; a single one is not copied."""
    return spans[0] if len(spans) == 1 else torch.cat(spans, dim)


def parts_of(group: Tensor, kind: torch.dtype) -> list[Part]:
    """The parts of packed rows, group (batch, length) as in `packed_loss`.

    What is shared sees itself only, and a dialogue sees what is shared and itself: most of the square of scores would be hidden,
    and is never computed. All edges are multiples of `EDGE`, so that few different shapes occur.
    """
    length = group.shape[1]
    places = torch.arange(length)
    shared = min(-(-int((group == 0).sum(1).max()) // EDGE) * EDGE, length)
    follows = F.pad(group[:, 1:] == group[:, :-1], (1, 0))
    began = places.expand_as(group).masked_fill(follows, 0).cummax(1).values
    earliest = began.masked_fill(group < 1, length).amin(0).tolist()  # of all rows, where the dialogue at each place began
    out = []
    for start, stop in zip([0, *range(shared, length, EDGE)], [*range(shared, length, EDGE), length], strict=True):
        near = min(earliest[start], start) // EDGE * EDGE
        keys = (slice(0, stop),) if near <= shared else (slice(0, shared), slice(near, stop))
        theirs, at = joined([group[:, span] for span in keys], 1), joined([places[span] for span in keys], 0)
        own = (theirs[:, None, :] == group[:, start:stop, None]) | (theirs[:, None, :] == 0)
        seen = own & (at <= places[start:stop, None])
        mask = torch.zeros(seen.shape, dtype=kind).masked_fill(~seen, -1e4).unsqueeze(1)
        out.append(Part(slice(start, stop), keys, mask))
    return out


def plain_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float, **more: object
) -> tuple[Tensor, None]:
    """Attention as two products and a softmax; (batch, heads, length, width) in, heads and length swapped out.

    On a CPU in bfloat16 this trains two to three times faster than PyTorch's fused kernel, whose backward is slow. `parts`
    stand in the place of a mask; without them every query sees every key.
    """
    parts = cast("list[Part] | None", more.get("parts"))
    if parts is None:
        whole = torch.softmax((query * scaling) @ key.transpose(-1, -2), dim=-1).to(value.dtype) @ value
        return whole.transpose(1, 2).contiguous(), None
    query, key, out = query.to(value.dtype) * scaling, key.to(value.dtype), []
    with torch.autocast("cpu", enabled=False):  # else each softmax would be written in float32, which it sums in anyway
        for part in parts:
            scores = query[:, :, part.queries] @ part.of(key).transpose(-1, -2)
            scores += part.mask
            out.append(torch.softmax(scores, dim=-1) @ part.of(value))
    return torch.cat(out, dim=2).transpose(1, 2).contiguous(), None


AttentionInterface.register("mini_plain", plain_attention)


def build(seed: int) -> LlavaForConditionalGeneration:
    """A model with random weights."""
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(configuration())
    recall(model)
    model.set_attn_implementation("mini_plain")
    model.train()
    return model


@torch.no_grad()
def recall(model: LlavaForConditionalGeneration) -> None:
    """Let two heads of each language layer start out by looking at tokens that are like their own (equal queries and keys).

    Copying and comparing need that, and find it late by themselves. The idea is that of "mimetic initialization" (arXiv 2305.09828).
    So that the tokens' own likeness is not drowned, embeddings begin larger and what the layers add smaller.
    """
    config = model.config.get_text_config()
    cast(nn.Embedding, model.get_input_embeddings()).weight.normal_(0, 0.08)
    rows = slice(0, 2 * config.head_dim)
    for layer in model.model.language_model.layers:
        layer.self_attn.q_proj.weight[rows].normal_(0, 0.05)
        layer.self_attn.k_proj.weight[rows] = layer.self_attn.q_proj.weight[rows]
        for last in (layer.self_attn.o_proj, layer.mlp.down_proj):
            last.weight.mul_((2 * config.num_hidden_layers) ** -0.5)


class Labels(nn.Module):
    """The helper of the vision tower's own stages: what is in the picture, and what is where? Thrown away after training."""

    def __init__(self, weights: Tensor, spots: int) -> None:
        super().__init__()
        self.weights, classes = weights, len(weights)
        self.local = nn.Linear(160, classes)
        self.whole = nn.Linear(160, classes)
        self.spots = nn.Linear(160, 2 * spots)

    def forward(self, features: Tensor, labels: Tensor, points: Tensor) -> Tensor:
        """The loss of features (batch, patches, 160) against picture labels (batch, classes) and points (batch, patches, 2)."""
        local = torch.logsumexp(self.local(features).float() * 2, dim=1) / 2 - 2.5
        logits = local + self.whole(features.mean(dim=1)).float()
        named = F.binary_cross_entropy_with_logits(logits, labels, self.weights, reduction="none").sum(1).mean()
        where = self.spots(features).float().unflatten(-1, (2, -1)).flatten(0, 2)
        target = points.flatten()
        # Most points show nothing; the others carry the lesson.
        cost = F.cross_entropy(where, target, reduction="none")
        shown = (target > 0).float()
        return named + 4 * (cost * shown).sum() / shown.sum().clamp(min=1) + (cost * (1 - shown)).mean()


def pixels(images: Tensor) -> Tensor:
    """uint8 images (batch, side, side, 3) to CLIP's normalized values (batch, 3, side, side)."""
    x = images.permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


def features(model: LlavaForConditionalGeneration, x: Tensor, kept: Tensor | None = None) -> Tensor:
    """The tower's features before the last layer, without the class token: (batch, patches, 160).

    `kept` (batch, some) numbers the patches to look at: leaving out empty paper makes the first stages three times faster.
    """
    tower = model.model.vision_tower
    tower = getattr(tower, "vision_model", tower)
    embedded = tower.embeddings(x)
    if kept is not None:
        rows = torch.cat((torch.zeros_like(kept[:, :1]), kept + 1), dim=1)
        embedded = embedded.gather(1, rows.unsqueeze(-1).expand(-1, -1, embedded.shape[-1]))
    hidden = tower.pre_layrnorm(embedded)
    for layer in tower.encoder.layers[:-1]:
        out = layer(hidden, attention_mask=None)
        hidden = out[0] if isinstance(out, tuple) else out
    patches: Tensor = hidden[:, 1:]
    return patches


def worth_seeing(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` patches of each picture, those with objects or letters first: (batch, count)."""
    shown = (points > 0).any(-1).float()
    return (shown + torch.rand(shown.shape, generator=generator)).topk(count, dim=1).indices


def packed_loss(model: LlavaForConditionalGeneration, batch: dict[str, Tensor], seen: Tensor | None) -> Tensor:
    """Mean loss of packed dialogues, in which a "Yes" weighs nearly as much as a long sentence.

    batch: ids, labels (-100 where nothing is learnt), group (0 the shared prefix, 1.. the dialogues, -1 padding), position and
    weight, all (batch, length). `seen`: features (images, patches, 160) that fill the image tokens in order.
    """
    ids, group = batch["ids"], batch["group"]
    embeds = model.get_input_embeddings()(ids)
    if seen is not None:
        shown = model.model.multi_modal_projector(seen).reshape(-1, embeds.shape[-1])
        embeds = embeds.masked_scatter((ids == IMAGE_ID).unsqueeze(-1), shown.to(embeds.dtype))
    kind = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
    hidden = model.model.language_model(
        inputs_embeds=embeds, attention_mask=NO_MASK, position_ids=batch["position"], use_cache=False, parts=parts_of(group, kind)
    ).last_hidden_state
    chosen = some(batch["labels"] != -100)
    targets = batch["labels"].flatten()[chosen]
    cost = F.cross_entropy(model.lm_head(hidden.flatten(0, 1)[chosen]).float(), targets, reduction="none")
    weight = batch["weight"].flatten()[chosen] * (targets != -100)
    return (cost * weight).sum() / weight.sum()


def some(wanted: Tensor) -> Tensor:
    """The numbers of the wanted tokens of a flattened batch, and of a few others: few different lengths, see `Packer.batch`."""
    flat = wanted.flatten()
    more = -int(flat.sum()) % 64
    return torch.cat((flat.nonzero().flatten(), (~flat).nonzero().flatten()[:more]))
