"""The layers of Llama, Mistral and Qwen2 over KV slots: transformers' weights, angles and activations, on a shorter way.

Three operations of torch where transformers' own pass takes five, which counts at few rows; on a CPU one of TorchScript for all layers.
The positions of all calls lie one behind another, (T, width), without padding; only a window (`windows`) knows which belong together.
Knows no call and no text.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llava.engines.local.packed import Kernel, joined, rows_near
from llava.engines.local.scripted import scripted
from llava.engines.local.windows import Window, attended


class Decoder:
    """The layers of one language model, transformers' `decoder`. `kernel` as in `packed`."""

    def __init__(self, decoder: Any, kernel: Kernel) -> None:
        self._rotary = decoder.rotary_emb
        self._norm = Norm(decoder.norm)
        self.layers = scripted(Layers(Layer(layer, kernel) for layer in decoder.layers))

    def __call__(self, hidden: Tensor, window: Window, slots: Sequence[Tensor]) -> Tensor:
        """The last hidden states (N, width) of the window's last positions; `hidden` (T, width), the embeddings, is written over.
        `slots`: the layers' keys and values."""
        cos, sin = self._rotary(hidden, window.positions[None])
        half = sin.shape[-1] // 2  # both halves are alike
        seen: Tensor = self._norm(self.layers(hidden, list(slots), window, cos[0, :, None, :half], sin[0, :, None, :half]))
        return seen


class Layers(nn.Module):
    """All of them, one behind the other."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self._layers = nn.ModuleList(layers)

    def forward(self, hidden: Tensor, slots: list[Tensor], window: Window, cos: Tensor, sin: Tensor) -> Tensor:
        """`hidden` (T, width) behind the last layer, of the window's last positions. Angles (T, 1, dim / 2)."""
        for i, layer in enumerate(self._layers):
            hidden = layer(hidden, slots[i], window, cos, sin, i == len(slots) - 1)
        return hidden


class Layer(nn.Module):
    """One of them: transformers' `layer`."""

    def __init__(self, layer: Any, kernel: Kernel) -> None:
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        self._before_attention, self._before_mlp = Norm(layer.input_layernorm), Norm(layer.post_attention_layernorm)
        self._dim, self._scaling = int(attention.head_dim), float(attention.scaling)
        self._kv_heads = int(attention.config.num_key_value_heads)
        self._qkv = joined([attention.q_proj, attention.k_proj, attention.v_proj], kernel)
        self._out = joined([attention.o_proj], kernel)
        self._gate_up = joined([mlp.gate_proj, mlp.up_proj], kernel)
        self._down = joined([mlp.down_proj], kernel)
        self._activate = mlp.act_fn
        self._rows = rows_near(2 * mlp.up_proj.out_features, kernel)  # that go through the MLP together

    def forward(self, hidden: Tensor, kv: Tensor, window: Window, cos: Tensor, sin: Tensor, end: bool) -> Tensor:
        """`hidden` (T, width) behind the layer; with `end`, of the window's last positions alone. Angles (T, 1, dim / 2)."""
        heads = self._qkv(self._before_attention(hidden)).view(len(hidden), -1, self._dim)
        _rotate(heads[:, : -self._kv_heads], cos, sin)  # of queries, keys and values, the first two
        queries, new = heads[:, : -2 * self._kv_heads], heads[:, -2 * self._kv_heads :].view(len(heads), 2, self._kv_heads, self._dim)
        last = window.last
        if end and last is not None:
            hidden, queries = hidden[last], queries[last]
        hidden += self._out(attended(window, queries, new, kv, self._scaling))
        for rows in torch.split(hidden, self._rows):
            gate, up = self._gate_up(self._before_mlp(rows)).chunk(2, -1)
            rows += self._down(self._activate(gate).mul_(up))
        return hidden


def _rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Turn pairs of numbers in `heads` (T, heads, dim), each from one half of a head and the other, by their angles (T, 1, dim / 2)."""
    one, other = heads.chunk(2, -1)
    into = one * sin
    one.mul_(cos).addcmul_(other, sin, value=-1)
    other.mul_(cos).add_(into)


class Norm(nn.Module):
    """Divides rows by their root mean square, in five operations for float32 on a CPU: there torch has no kernel and takes nine."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self._weight: Tensor = norm.weight
        self._epsilon = float(norm.variance_epsilon)
        self._added = torch.tensor(self._epsilon)
        self._quick = self._weight.device.type == "cpu" and self._weight.dtype == torch.float32

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., width) of hidden (..., width)."""
        if not self._quick:
            return F.rms_norm(hidden, [hidden.shape[-1]], self._weight, self._epsilon)
        length = torch.linalg.vector_norm(hidden, 2.0, [-1], True)
        scale = torch.addcmul(self._added, length, length, value=1 / hidden.shape[-1]).rsqrt_()
        return (hidden * scale).mul_(self._weight)
