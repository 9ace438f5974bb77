"""From pixels to features: CLIP's vision tower and LLaVA's projector, with transformers' weights, on a shorter way.

No layer behind the last one that counts is computed, hidden states are written over, and of the wide ones between two linear layers only
few rows exist at a time; on a CPU a layer is one operation of TorchScript. Knows no image and no prompt.
"""

from typing import Any

import torch
from torch import Tensor, nn

from llava.engines.local.attention import attention
from llava.engines.local.packed import Kernel, joined, rows_near
from llava.engines.local.scripted import scripted


class Eyes:
    """Those of `model`, a `LlavaModel` whose tower is CLIP's. `kernel` as in `packed`."""

    def __init__(self, model: Any, kernel: Kernel) -> None:
        config, tower, projector = model.config, model.vision_tower, model.multi_modal_projector
        wanted, states = config.vision_feature_layer, len(tower.encoder.layers) + 1  # the embeddings, and what each layer gives
        self._wanted = [layer % states for layer in ([wanted] if isinstance(wanted, int) else wanted)]
        self._first = int(config.vision_feature_select_strategy == "default")  # without the position of the class
        self._embeddings, self._norm = tower.embeddings, tower.pre_layrnorm
        self.layers = [scripted(Layer(layer, kernel)) for layer in tower.encoder.layers[: max(self._wanted)]]
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


class Layer(nn.Module):
    """One of the tower's: transformers' `layer`."""

    def __init__(self, layer: Any, kernel: Kernel) -> None:
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        self._before_attention, self._before_mlp = layer.layer_norm1, layer.layer_norm2
        self._dim, self._scaling = int(attention.head_dim), float(attention.scale)
        self._qkv = joined([attention.q_proj, attention.k_proj, attention.v_proj], kernel)
        self._out = joined([attention.out_proj], kernel)
        self._wide, self._narrow = joined([mlp.fc1], kernel), joined([mlp.fc2], kernel)
        self._activate = mlp.activation_fn
        self._rows = rows_near(mlp.fc1.out_features, kernel)  # that go through the MLP together

    def forward(self, hidden: Tensor) -> None:
        """Takes `hidden` (N, positions, width) one layer further, in its place."""
        count, positions, width = hidden.shape
        heads = self._qkv(self._before_attention(hidden)).view(count, positions, 3, -1, self._dim).permute(2, 0, 3, 1, 4)
        hidden += self._out(attention(heads[0], heads[1], heads[2], None, False, self._scaling))
        for rows in torch.split(hidden.view(-1, width), self._rows):
            rows += self._narrow(self._activate(self._wide(self._before_mlp(rows))))
