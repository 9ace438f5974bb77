"""How much memory loading takes beyond the weights: `python -m scripts.bench_load [--gib 1.5] [--dtype bfloat16]`.

Writes a random original-format LLaVA checkpoint (two shards, once `.bin`, once safetensors; stored as float16), loads each in a process of
its own and prints the peak resident memory over that of the imports, and its ratio to the weights' size in the wanted dtype.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden" / "ckpt"
HIDDEN, INTERMEDIATE, VOCABULARY = 2048, 5504, 32000
LAYER = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN, HIDDEN),
    "self_attn.v_proj": (HIDDEN, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
    "mlp.up_proj": (INTERMEDIATE, HIDDEN),
    "mlp.down_proj": (HIDDEN, INTERMEDIATE),
    "input_layernorm": (HIDDEN,),
    "post_attention_layernorm": (HIDDEN,),
}


def shapes(layers: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a checkpoint with `layers` layers."""
    named: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN), "lm_head.weight": (VOCABULARY, HIDDEN)}
    named |= {f"model.layers.{i}.{part}.weight": shape for i in range(layers) for part, shape in LAYER.items()}
    named |= {"model.norm.weight": (HIDDEN,), "model.mm_projector.0.weight": (HIDDEN, 64), "model.mm_projector.0.bias": (HIDDEN,)}
    return named | {"model.mm_projector.2.weight": (HIDDEN, HIDDEN), "model.mm_projector.2.bias": (HIDDEN,)}


def write(folder: Path, layers: int, suffix: str) -> None:
    """The checkpoint in two shards, beside its vision tower."""
    shutil.copytree(GOLDEN / "clip-tiny-56", folder.parent / "clip-tiny-56", dirs_exist_ok=True)
    shutil.copytree(GOLDEN / "llava-v1.5-tiny", folder, ignore=shutil.ignore_patterns("pytorch_model*", "mm_projector.bin"))
    config = json.loads((folder / "config.json").read_text())
    sizes = {"hidden_size": HIDDEN, "intermediate_size": INTERMEDIATE, "num_hidden_layers": layers, "vocab_size": VOCABULARY}
    heads = {"num_attention_heads": HIDDEN // 128, "num_key_value_heads": HIDDEN // 128}
    (folder / "config.json").write_text(json.dumps({**config, **sizes, **heads}))
    named = shapes(layers)
    names, weight_map = list(named), {}
    for i, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), 1):
        state = {name: torch.randn(named[name]).mul_(0.02).half() for name in part}
        stem = "model" if suffix == "safetensors" else "pytorch_model"
        file = f"{stem}-0000{i}-of-00002.{suffix}"
        if suffix == "safetensors":
            from safetensors.torch import save_file

            save_file(state, folder / file)
        else:
            torch.save(state, folder / file)
        weight_map.update(dict.fromkeys(part, file))
    index = "model.safetensors.index.json" if suffix == "safetensors" else "pytorch_model.bin.index.json"
    (folder / index).write_text(json.dumps({"weight_map": weight_map}))


def measure(folder: Path, dtype: str) -> dict[str, float]:
    """Load in this process: MiB resident after the imports, at the peak, of weights; seconds."""
    from llava.model.builder import load

    before, start = _memory("VmRSS"), time.perf_counter()
    loaded = load(str(folder), device="cpu", dtype=dtype)
    seconds = time.perf_counter() - start
    weights = sum(p.nbytes for p in loaded.model.parameters()) / 2**20
    return {"imports": before, "peak": _memory("VmHWM"), "weights": weights, "seconds": seconds}


def _memory(field: str) -> float:
    """MiB from Linux's account of this process; `getrusage` would count the peak of the process that started it, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 2**10


def main() -> None:
    """Write, load, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=1.5, help="size of the weights as float16 (default 1.5)")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.dtype)))
        return
    per_layer = sum(torch.Size(shape).numel() for shape in LAYER.values())
    layers = max(1, round((options.gib * 2**30 / 2 - 2 * VOCABULARY * HIDDEN) / per_layer))
    for suffix in ("bin", "safetensors"):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "llava-random"
            write(folder, layers, suffix)
            command = [sys.executable, "-m", "scripts.bench_load", "--dtype", options.dtype, "--measure", str(folder)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        extra = found["peak"] - found["imports"]
        print(
            f".{suffix}: weights {found['weights']:.0f} MiB in {options.dtype}, loading took {extra:.0f} MiB at its peak "
            f"({extra / found['weights']:.2f} x the weights; imports {found['imports']:.0f} MiB) and {found['seconds']:.1f} s"
        )


if __name__ == "__main__":
    main()
