"""The network of `mini`: transformers' own LLaVA classes with small numbers, and how training runs them.

`packed_loss` is the one trick: several dialogues share one picture. They lie one after the other behind the
picture's tokens, and the attention mask lets each see the picture and itself only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from scripts.mini.tokenizer import IMAGE_ID, PAD_ID, ROWS

SIDE, PATCH = 96, 8
IMAGE_TOKENS = (SIDE // PATCH) ** 2
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def config() -> LlavaConfig:
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
    return LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=IMAGE_ID, projector_hidden_act="gelu",
        vision_feature_layer=-2, vision_feature_select_strategy="default", image_seq_length=IMAGE_TOKENS,
        pad_token_id=PAD_ID, tie_word_embeddings=True,
    )  # fmt: skip


def plain_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float, **_: object
) -> tuple[Tensor, None]:
    """Attention as two products and a softmax; (batch, heads, length, width) in, heads and length swapped out.

    On a CPU in bfloat16 this trains two to three times faster than PyTorch's fused kernel, whose backward is slow.
    """
    scores = (query * scaling) @ key.transpose(-1, -2)
    if attention_mask is not None:
        scores = scores + attention_mask
    return (torch.softmax(scores, dim=-1).to(value.dtype) @ value).transpose(1, 2).contiguous(), None


AttentionInterface.register("mini_plain", plain_attention)


def build(seed: int) -> LlavaForConditionalGeneration:
    """A model with random weights."""
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(config())
    model.set_attn_implementation("mini_plain")
    return model.train()


class Labels(nn.Module):
    """Stage 1's helper on the vision tower: which labels does any patch see? Thrown away after training."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.local = nn.Linear(160, classes)
        self.whole = nn.Linear(160, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Features (batch, patches, 160) to logits (batch, classes): a soft maximum over patches, plus the mean's view."""
        local = torch.logsumexp(self.local(features).float() * 2, dim=1) / 2 - 2.5
        return local + self.whole(features.mean(dim=1)).float()


def pixels(images: Tensor) -> Tensor:
    """uint8 images (batch, side, side, 3) to CLIP's normalized values (batch, 3, side, side)."""
    x = images.permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


def features(model: LlavaForConditionalGeneration, x: Tensor) -> Tensor:
    """The tower's features before the last layer, without the class token: (batch, patches, 160)."""
    tower = model.model.vision_tower
    tower = getattr(tower, "vision_model", tower)
    hidden = tower.pre_layrnorm(tower.embeddings(x))
    for layer in tower.encoder.layers[:-1]:
        out = layer(hidden, attention_mask=None)
        hidden = out[0] if isinstance(out, tuple) else out
    return hidden[:, 1:]


def packed_loss(model: LlavaForConditionalGeneration, batch: dict[str, Tensor], seen: Tensor | None) -> Tensor:
    """Mean loss per answer token of packed dialogues.

    batch: ids, labels (-100 where nothing is learnt), group (0 the shared prefix, 1.. the dialogues, -1 padding)
    and position, all (batch, length). `seen`: features (images, patches, 160) that fill the image tokens in order.
    """
    ids, group = batch["ids"], batch["group"]
    embeds = model.get_input_embeddings()(ids)
    if seen is not None:
        shown = model.model.multi_modal_projector(seen).reshape(-1, embeds.shape[-1])
        embeds = embeds.masked_scatter((ids == IMAGE_ID).unsqueeze(-1), shown.to(embeds.dtype))
    length = ids.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    own = (group[:, None, :] == group[:, :, None]) | (group[:, None, :] == 0)
    kind = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
    mask = torch.zeros(own.shape, dtype=kind).masked_fill(~(own & causal), -1e4).unsqueeze(1)
    hidden = model.model.language_model(
        inputs_embeds=embeds, attention_mask=mask, position_ids=batch["position"], use_cache=False
    ).last_hidden_state
    targets = batch["labels"]
    chosen = targets != -100
    logits = model.lm_head(hidden[chosen])
    return F.cross_entropy(logits.float(), targets[chosen])
