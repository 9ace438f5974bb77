"""From pixels to features: CLIP's vision tower and LLaVA's projector, with transformers' weights and attention, on a shorter way.

No layer behind the last one that counts is computed, hidden states are written over, and of the wide ones between two linear layers only
few rows exist at a time. Knows no image and no prompt.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.modeling_clip import eager_attention_forward

from llava.engines.local.packed import Kernel, joined, rows_near


class Eyes:
    """Those of `model`, a `LlavaModel` whose tower is CLIP's. `kernel` as in `packed`."""

    def __init__(self, model: Any, kernel: Kernel) -> None:
        config, tower, projector = model.config, model.vision_tower, model.multi_modal_projector
        wanted, states = config.vision_feature_layer, len(tower.encoder.layers) + 1  # the embeddings, and what each layer gives
        self._wanted = [layer % states for layer in ([wanted] if isinstance(wanted, int) else wanted)]
        self._first = int(config.vision_feature_select_strategy == "default")  # without the position of the class
        self._embeddings, self._norm = tower.embeddings, tower.pre_layrnorm
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(tower.config._attn_implementation, eager_attention_forward)
        self.layers = [_Layer(layer, attend, kernel) for layer in tower.encoder.layers[: max(self._wanted)]]
        self._inwards, self._outwards = joined([projector.linear_1], kernel), joined([projector.linear_2], kernel)
        self._activate = projector.act

    def __call__(self, pixels: Tensor) -> Tensor:
        """Features (N, positions, width) of pixels (N, 3, H, W)."""
        hidden = self._norm(self._embeddings(pixels))
        states = {0: hidden.clone()} if 0 in self._wanted else {}
        for number, layer in enumerate(self.layers, 1):
            layer(hidden)
            if number in self._wanted:
                states[number] = hidden.clone() if number < len(self.layers) else hidden
        seen = [states[number][:, self._first :] for number in self._wanted]
        features: Tensor = self._outwards(self._activate(self._inwards(seen[0] if len(seen) == 1 else torch.cat(seen, -1))))
        return features


class _Layer:
    def __init__(self, layer: Any, attend: Any, kernel: Kernel) -> None:
        self._attention, mlp = layer.self_attn, layer.mlp
        self._before_attention, self._before_mlp = layer.layer_norm1, layer.layer_norm2
        self._attend = attend
        self._qkv = joined([self._attention.q_proj, self._attention.k_proj, self._attention.v_proj], kernel)
        self._out = joined([self._attention.out_proj], kernel)
        self._wide, self._narrow = joined([mlp.fc1], kernel), joined([mlp.fc2], kernel)
        self._activate = mlp.activation_fn
        self._rows = rows_near(mlp.fc1.out_features, kernel)  # that go through the MLP together

    def __call__(self, hidden: Tensor) -> None:
        """Takes `hidden` (N, positions, width) one layer further, in its place."""
        count, positions, width = hidden.shape
        heads = self._qkv(self._before_attention(hidden)).view(count, positions, 3, -1, self._attention.head_dim)
        queries, keys, values = heads.permute(2, 0, 3, 1, 4)
        seen = self._attend(self._attention, queries, keys, values, None, scaling=self._attention.scale)[0]
        hidden += self._out(seen.reshape(count, positions, width))
        for rows in torch.split(hidden.view(-1, width), self._rows):
            rows += self._narrow(self._activate(self._wide(self._before_mlp(rows))))
