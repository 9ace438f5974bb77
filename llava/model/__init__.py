"""LLaVA models: from a checkpoint's files to weights, tokenizer and image processor. `LlavaLlamaForCausalLM` is loaded when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llava.model.language_model.llava_llama import LlavaLlamaForCausalLM

__all__ = ["LlavaLlamaForCausalLM"]

# Other names that LLaVA's own `llava.model` has.
_ELSEWHERE = {
    "LlavaConfig": "the config of a loaded model is model.config, transformers' LlavaConfig with LLaVA's mm_* settings in it",
    "LlavaMistralForCausalLM": "load_pretrained_model of llava.model.builder reads such checkpoints, as a LlavaLlamaForCausalLM",
    "LlavaMistralConfig": "load_pretrained_model of llava.model.builder reads such checkpoints",
    "LlavaMptForCausalLM": "MPT models are not supported, use a LLaVA checkpoint on Llama (v1.5)",
    "LlavaMptConfig": "MPT models are not supported, use a LLaVA checkpoint on Llama (v1.5)",
}


def __getattr__(name: str) -> object:
    if name == "LlavaLlamaForCausalLM":
        from llava.model.language_model import llava_llama

        return llava_llama.LlavaLlamaForCausalLM
    if name in _ELSEWHERE:
        raise ImportError(f"There is no {name} here: {_ELSEWHERE[name]}.")
    raise AttributeError(f"module 'llava.model' has no attribute {name!r}")
