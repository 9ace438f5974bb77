"""What a user says about device and precision, as torch understands it. Knows no checkpoint."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from typing import Any

import torch

from llava.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class How:
    """Where and in what form a model's weights shall be.

    `dtype` None leaves the choice; `quantization` is transformers' description of 8- or 4-bit weights.
    """

    device: torch.device
    dtype: torch.dtype | None = None
    attn_implementation: str | None = None
    quantization: Any = None

    def settled(self, stored: str | None) -> How:
        """The same with a dtype: float32 on a CPU, else the one that the checkpoint was `stored` in."""
        if self.dtype is not None:
            return self
        return replace(self, dtype=torch.float32 if self.device.type == "cpu" else DTYPES.get(str(stored), torch.float16))


def device_for(device: str | None) -> torch.device:
    """The device called `device`; None and "auto" choose CUDA, else MPS, else the CPU. Raises `UserError`."""
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device is None or device == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if present[name]))
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"Unknown device {device!r}: use auto, cpu, cuda, cuda:0 or mps.") from error
    if not present.get(wanted.type):
        raise UserError(f"There is no device {device} here: use auto or cpu.")
    if wanted.type == "cuda" and wanted.index is not None and wanted.index >= torch.cuda.device_count():
        raise UserError(f"There is no device {device} here: there are {torch.cuda.device_count()} CUDA devices, counted from 0.")
    return wanted


def dtype_for(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """The dtype called `dtype`; None for None and "auto". Raises `UserError`."""
    name = str(dtype).removeprefix("torch.")
    if dtype is None or name == "auto":
        return None
    if name not in DTYPES:
        raise UserError(f"Unknown dtype {name!r}: use auto, {', '.join(DTYPES)}.")
    return DTYPES[name]


def attention_for(name: str | None) -> str | None:
    """The name of an attention implementation of transformers that can run here; None leaves the choice. Raises `UserError`."""
    if name not in (None, "eager", "sdpa", "flash_attention_2"):
        raise UserError(f"Unknown attn_implementation {name!r}: use eager, sdpa or flash_attention_2, or leave it out.")
    if name == "flash_attention_2" and not (torch.cuda.is_available() and importlib.util.find_spec("flash_attn")):
        raise UserError("flash_attention_2 needs a CUDA device and the package flash-attn: leave attn_implementation out.")
    return name


def quantization_for(load_8bit: bool, load_4bit: bool) -> Any:
    """transformers' description of 8- or 4-bit weights, None for whole ones; raises `UserError` where they cannot be had."""
    if not load_8bit and not load_4bit:
        return None
    wanted = "load_8bit" if load_8bit else "load_4bit"
    if load_8bit and load_4bit:
        raise UserError("load_8bit and load_4bit exclude each other: choose one.")
    if not torch.cuda.is_available():
        raise UserError(f"{wanted} needs a CUDA device: leave it out, and use dtype bfloat16 to save memory.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(f"{wanted} needs bitsandbytes: pip install bitsandbytes, or leave it out.")
    return bits_and_bytes(4 if load_4bit else 8)


def bits_and_bytes(bits: int) -> Any:
    """The language model's layers in 8 bits, or in 4 (NF4, double quantisation, float16 arithmetic); tower and projector stay whole."""
    from transformers import BitsAndBytesConfig

    whole = ["lm_head", "model.vision_tower", "model.multi_modal_projector"]
    four = {"bnb_4bit_compute_dtype": torch.float16, "bnb_4bit_use_double_quant": True, "bnb_4bit_quant_type": "nf4"}
    config: Any = BitsAndBytesConfig
    return config(load_in_8bit=bits == 8, load_in_4bit=bits == 4, llm_int8_skip_modules=whole, **(four if bits == 4 else {}))
