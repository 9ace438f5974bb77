"""The decoder's own steps give what transformers' modules give."""

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from llava.engines.local.decoder import Norm


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [0.0, 1e-6, 1.0, 1e12], ids=["zeros", "tiny", "usual", "huge"])
def test_the_norm_is_that_of_transformers(dtype: torch.dtype, size: float) -> None:
    torch.manual_seed(1)
    own = LlamaRMSNorm(48, eps=1e-5).to(dtype)
    torch.nn.init.normal_(own.weight)
    rows = (size * torch.randn(5, 48)).to(dtype)
    before = rows.clone()
    with torch.inference_mode():
        torch.testing.assert_close(Norm(own)(rows), own(rows))
    assert torch.equal(rows, before)
