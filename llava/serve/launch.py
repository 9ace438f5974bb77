"""Controller, model worker and guarding gateway in one command, on loopback: `llava serve`. One Ctrl-C stops all of them.

    llava serve                                              # the embedded model, guarded, at http://127.0.0.1:8000/v1
    llava serve --model-path path/to/llava-v1.5-7b           # a checkpoint
    llava serve --engine http://localhost:8001/v1            # a server that runs already: only the gateway is started, in front of it

Controller and worker are processes of their own on free ports, behind a secret that only this gateway knows: nobody on this machine goes
round the guard. To add workers, set LLAVA_CLUSTER_SECRET before and read the controller's address from the log.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # before what may not be installed is imported
    from llava.cli import program

    sys.exit(program("serve", "python -m llava.serve.launch"))

import argparse
import asyncio
from contextlib import closing

from llava.cli import pair
from llava.engines import is_server, known
from llava.errors import UserError
from llava.serve import api_server
from llava.serve.gateway.service import Config
from llava.serve.local_cluster import cluster_secret, model_words, serve_before
from llava.serve.worker import Bounds


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the gateway's options and --model-path."""
    api_server.arguments(parser)
    parser.set_defaults(engine=None, wait=None)
    parser.add_argument("--model-path", metavar="TARGET", help="a checkpoint folder or a hub id; the same as --engine TARGET")


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop, or until one of the processes ends."""
    if options.engine is not None and options.model_path is not None:
        raise UserError("--engine and --model-path both name the model: give one of them.")
    options.engine = options.engine or options.model_path or "mini"
    known(options.engine, **dict(pair(text) for text in options.engine_option))
    if is_server(options.engine):
        options.wait = api_server.WAIT if options.wait is None else options.wait
        return api_server.run(options)
    if options.wait is not None:
        raise UserError("--wait is for a server behind: a model of llava serve's own is waited for as long as it loads. Leave it out.")
    if options.model is not None:
        raise UserError("--model chooses among the models of a server behind: leave it out, or give --engine http://host:port/v1.")
    api_server.start_log()
    with closing(api_server.checked(options)) as ready, cluster_secret():
        words = [*model_words(options.engine, options.engine_option), *_room(ready.config)]
        asyncio.run(serve_before(words, lambda address: api_server.serve_gateway(_before(options, address), ready)))
    return 0


def _room(config: Config) -> list[str]:
    """What the worker is told, so that it takes what the gateway has let in: the images and texts of each request, and all its calls."""
    limits, usual = config.limits, Bounds()
    # A step adds its own words and the answer; and the gateway knows best how long a request may wait.
    wanted = {"images": limits.images, "pixels": limits.pixels, "text": 2 * limits.text, "patience": config.seconds}
    caps = [word for name, most in wanted.items() for word in ("--cap", f"{name}={max(most, getattr(usual, name))}")]
    return [*caps, "--max-waiting", str(config.most_running * max(limits.n, limits.inputs))]


def _before(options: argparse.Namespace, controller: str) -> argparse.Namespace:
    """The options of a gateway before that controller. It waits as long as the model loads, and has the request's own deadline only."""
    seconds = [f"{name}={options.timeout}" for name in ("timeout", "first_timeout", "idle_timeout")]
    return argparse.Namespace(**{**vars(options), "engine": f"controller://{controller}", "engine_option": seconds, "wait": float("inf")})
