"""What a user says about device and precision, as torch understands it. Knows no checkpoint."""

from __future__ import annotations

import importlib.util

import torch

from llava.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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


def dtype_for(dtype: str | None, device: torch.device, stored: str | None) -> torch.dtype:
    """The dtype called `dtype`; None and "auto" choose float32 on a CPU, else the one that the checkpoint was `stored` in."""
    if dtype is None or dtype == "auto":
        return torch.float32 if device.type == "cpu" else DTYPES.get(str(stored), torch.float16)
    if dtype not in DTYPES:
        raise UserError(f"Unknown dtype {dtype!r}: use auto, {', '.join(DTYPES)}.")
    return DTYPES[dtype]


def attention_for(name: str | None) -> str | None:
    """The name of an attention implementation of transformers that can run here; None leaves the choice. Raises `UserError`."""
    if name not in (None, "eager", "sdpa", "flash_attention_2"):
        raise UserError(f"Unknown attn_implementation {name!r}: use eager, sdpa or flash_attention_2, or leave it out.")
    if name == "flash_attention_2" and not (torch.cuda.is_available() and importlib.util.find_spec("flash_attn")):
        raise UserError("flash_attention_2 needs a CUDA device and the package flash-attn: leave attn_implementation out.")
    return name


def check_quantization(load_8bit: bool, load_4bit: bool) -> None:
    """Raise `UserError` where 8- or 4-bit weights are asked for and cannot be had."""
    wanted = "load_8bit" if load_8bit else "load_4bit"
    if load_8bit and load_4bit:
        raise UserError("load_8bit and load_4bit exclude each other: choose one.")
    if not torch.cuda.is_available():
        raise UserError(f"{wanted} needs a CUDA device: leave it out, and use dtype bfloat16 to save memory.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(f"{wanted} needs bitsandbytes: pip install bitsandbytes, or leave it out.")
