"""LLaVA's quick start, under its own name and with its flags: one question about pictures, answered by a model as it is, unguarded.

    python -m llava.eval.run_llava --model-path mini --image-file examples/cat.png --query "What is in the picture?"

The same with a guard: `llava ask`, or `ECSO` in a program.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from llava.cli import Parser, concluded
from llava.constants import IMAGE_PLACEHOLDER
from llava.ecso import ECSO
from llava.errors import UserError

_NEEDED = ("model_path", "image_file", "query")
_DEFAULTS: dict[str, Any] = {
    "model_base": None,
    "conv_mode": None,
    "sep": ",",
    "temperature": 0.2,
    "top_p": None,
    "num_beams": 1,
    "max_new_tokens": 512,
}


def eval_model(args: Any) -> None:
    """Print the answer of the model `args.model_path` to `args.query` about pictures `args.image_file` (paths, `args.sep` between them).

    `args` is an object with these attributes, as in LLaVA's README; it may have `conv_mode`, `temperature` (0: greedy; default 0.2),
    `top_p` and `max_new_tokens` (tokens, default 512) too. Raises `UserError` for what is not supported: `model_base`, `num_beams` above 1,
    images at a web address or in the midst of the text; and whatever `ECSO` raises.
    """
    if missing := [name for name in _NEEDED if not getattr(args, name, None)]:
        raise UserError(f"eval_model needs {', '.join(_NEEDED)}; {' and '.join(missing)} is missing or empty.")
    given = {name: getattr(args, name, default) for name, default in _DEFAULTS.items()}
    if given["model_base"]:
        raise UserError("model_base is not supported: merge the model into its base first, and give the merged folder.")
    if given["num_beams"] != 1:
        raise UserError("num_beams above 1 is for load_pretrained_model and model.generate(ids, images=..., num_beams=...): leave it out.")
    if IMAGE_PLACEHOLDER in str(args.query):
        raise UserError(f"Images stand before the question here: leave {IMAGE_PLACEHOLDER} out of the query.")
    options: dict[str, Any] = {"temperature": given["temperature"], "max_tokens": given["max_new_tokens"]}
    options |= {name: given[name] for name in ("top_p", "conv_mode") if given[name] is not None}
    with ECSO(args.model_path, defence="direct", **options) as model:
        answer = model(str(args.image_file).split(given["sep"]), args.query).answer or ""
    print(answer.strip())


def _flags() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m llava.eval.run_llava", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model-path", required=True)
    add("--model-base", help="not supported: merge the model into its base first")
    add("--image-file", required=True, help="a path, or several with --sep between them")
    add("--query", required=True)
    add("--conv-mode", help="conversation template (default: by the model's name)")
    add("--sep", default=",")
    add("--temperature", type=float, default=_DEFAULTS["temperature"])
    add("--top_p", type=float)
    add("--num_beams", type=int, default=1, help="1: beam search is not supported")
    add("--max_new_tokens", type=int, default=_DEFAULTS["max_new_tokens"])
    return parser


def _run() -> int:
    eval_model(_flags().parse_args())
    return 0


if __name__ == "__main__":
    sys.exit(concluded(_run))
