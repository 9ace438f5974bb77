"""The layers of Llama, Mistral and Qwen2 over KV slots: transformers' weights, angles, activations and attention, on a shorter way.

Three operations of torch where transformers' own pass takes five, which counts at few rows. The positions of all calls lie one behind
another, (T, width), without padding; only a window (`windows`) knows which belong together. Knows no call and no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import eager_attention_forward

from llava.engines.local.packed import Kernel, joined, rows_near
from llava.engines.local.windows import Window


class Decoder:
    """The layers of one language model, transformers' `decoder`. `kernel` as in `packed`."""

    def __init__(self, decoder: Any, kernel: Kernel) -> None:
        self._rotary = decoder.rotary_emb
        self._norm = Norm(decoder.norm)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(decoder.config._attn_implementation, eager_attention_forward)
        self._layers = [_Layer(layer, attend, kernel) for layer in decoder.layers]

    def __call__(self, hidden: Tensor, window: Window, slots: Sequence[Tensor]) -> Tensor:
        """The last hidden states (N, width) of the window's last positions; `hidden` (T, width), the embeddings, is written over.
        `slots`: the layers' keys and values."""
        cos, sin = self._rotary(hidden, window.positions[None])
        half = sin.shape[-1] // 2  # both halves are alike
        turn = cos[0, :, None, :half], sin[0, :, None, :half]
        *early, last = zip(self._layers, slots, strict=True)
        for layer, kv in early:
            hidden = layer(hidden, kv, window, turn)
        layer, kv = last
        return self._norm(layer(hidden, kv, window, turn, window.last))


class _Layer:
    def __init__(self, layer: Any, attend: Any, kernel: Kernel) -> None:
        self._attention, mlp = layer.self_attn, layer.mlp
        self._before_attention, self._before_mlp = Norm(layer.input_layernorm), Norm(layer.post_attention_layernorm)
        self._attend = attend
        self._kv_heads = self._attention.config.num_key_value_heads
        self._qkv = joined([self._attention.q_proj, self._attention.k_proj, self._attention.v_proj], kernel)
        self._out = joined([self._attention.o_proj], kernel)
        self._gate_up = joined([mlp.gate_proj, mlp.up_proj], kernel)
        self._down = joined([mlp.down_proj], kernel)
        self._activate = mlp.act_fn
        self._rows = rows_near(2 * mlp.up_proj.out_features, kernel)  # that go through the MLP together

    def __call__(self, hidden: Tensor, kv: Tensor, window: Window, turn: tuple[Tensor, Tensor], only: Tensor | None = None) -> Tensor:
        """`hidden` (T, width) behind the layer; with `only`, indices (N,), of these positions."""
        heads = self._qkv(self._before_attention(hidden)).view(len(hidden), -1, self._attention.head_dim)
        _rotate(heads[:, : -self._kv_heads], *turn)  # of queries, keys and values, the first two
        queries, new = heads[:, : -2 * self._kv_heads], heads[:, -2 * self._kv_heads :].view(len(heads), 2, self._kv_heads, -1)
        if only is not None:
            hidden, queries = hidden[only], queries[only]
        seen = window.attend(self._attend, self._attention, queries, new, kv)
        hidden += self._out(seen)
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


class Norm:
    """Divides rows by their root mean square, in five operations for float32 on a CPU: there torch has no kernel and takes nine."""

    def __init__(self, norm: Any) -> None:
        self._weight: Tensor = norm.weight
        self._epsilon: float = norm.variance_epsilon
        self._added = torch.tensor(self._epsilon)
        self._quick = self._weight.device.type == "cpu" and self._weight.dtype == torch.float32

    def __call__(self, hidden: Tensor) -> Tensor:
        """(..., width) of hidden (..., width)."""
        if not self._quick:
            return F.rms_norm(hidden, self._weight.shape, self._weight, self._epsilon)
        length = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True)
        scale = torch.addcmul(self._added, length, length, value=1 / hidden.shape[-1]).rsqrt_()
        return (hidden * scale).mul_(self._weight)
