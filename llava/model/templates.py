"""Which conversation template a model was trained with: by option, else by name. Knows no weights."""

from __future__ import annotations

from llava.conversation import Conversation, conv_templates
from llava.errors import UserError

DEFAULT_TEMPLATE = "vicuna_v1"
NAME_RULES = (
    # part of a model's name in lower case, its template; the first that matches (LLaVA's command line and evaluation scripts)
    ("llama-2", "llava_llama_2"),
    ("mistral", "mistral_instruct"),
    ("v1.6-34b", "chatml_direct"),
    ("mpt", "mpt"),
)


def template_for(name: str, conv_mode: str | None = None) -> Conversation:
    """The template called `conv_mode`, or the one that a model of this name was trained with; raises `UserError`."""
    if conv_mode is None:
        conv_mode = next((template for part, template in NAME_RULES if part in name.lower()), DEFAULT_TEMPLATE)
    if conv_mode not in conv_templates:
        raise UserError(f"Unknown conv_mode {conv_mode!r}: use one of {', '.join(sorted(conv_templates))}.")
    return conv_templates[conv_mode]
