"""LLaVA's constants under LLaVA's names (haotian-liu/LLaVA, `llava/constants.py`). Knows nothing else."""

from __future__ import annotations

# A worker is forgotten this many seconds after its last heart beat; it beats every WORKER_HEART_BEAT_INTERVAL seconds.
CONTROLLER_HEART_BEAT_EXPIRATION = 30
WORKER_HEART_BEAT_INTERVAL = 15

LOGDIR = "."

IGNORE_INDEX = -100  # label of positions that the loss leaves out
IMAGE_TOKEN_INDEX = -200  # stands for a whole image in token ids; never a row of an embedding
DEFAULT_IMAGE_TOKEN = "<image>"
DEFAULT_IMAGE_PATCH_TOKEN = "<im_patch>"
DEFAULT_IM_START_TOKEN = "<im_start>"
DEFAULT_IM_END_TOKEN = "<im_end>"
IMAGE_PLACEHOLDER = "<image-placeholder>"
