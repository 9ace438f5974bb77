"""Every test runs as if on a bare machine: no keys, no proxies, no hub, one thread per library."""

import os

for name in list(os.environ):
    if name.startswith(("OPENAI_", "LLAVA_", "HF_", "TRANSFORMERS_")) or name.lower().endswith("_proxy"):
        del os.environ[name]
# Set before anything imports torch or transformers; subprocesses inherit it.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1")
