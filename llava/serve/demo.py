"""The ECSO page with all that it needs, in one command: a controller, a worker with the embedded model, the page. One Ctrl-C ends all.

    llava demo                                       # then open the address that it tells
    llava demo --model-path path/to/llava-v1.5-7b    # a checkpoint in place of the embedded model

Controller and worker are processes of their own on free ports of this machine, behind a secret that only the page knows.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # before what may not be installed is imported
    from llava.cli import program

    sys.exit(program("demo", "python -m llava.serve.demo"))

import argparse
import asyncio
from dataclasses import replace

from llava.cli import pair
from llava.engines import known
from llava.errors import UserError
from llava.serve import gradio_web_server_ecso
from llava.serve.app import listen
from llava.serve.local_cluster import cluster_secret, model_words, serve_before
from llava.serve.web import options as web

OWN = "http://127.0.0.1"  # until it is known at which port


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the page's options, and which model it shows."""
    web.arguments(parser, controller=None)
    add = parser.add_argument
    add("--model-path", default="mini", metavar="TARGET", help="mini (default), a checkpoint folder or a hub id")
    add("--engine-option", action="append", default=[], metavar="KEY=VALUE", help="of the worker's engine, such as device=cuda")


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop, or until one of the processes ends."""
    if options.controller_url is not None:
        raise UserError("llava demo starts a controller of its own: before one that runs already, start llava ecso-page --controller URL.")
    settings = web.settings(argparse.Namespace(**{**vars(options), "controller_url": OWN}))
    web.prepare()
    known(options.model_path, **dict(pair(text) for text in options.engine_option))

    async def page(controller: str) -> None:
        await gradio_web_server_ecso.serve(replace(settings, controller=f"controller://{controller}"), listener)

    with listen(settings.host, settings.port) as listener, cluster_secret():  # a port that is taken is told before a model is loaded
        asyncio.run(serve_before(model_words(options.model_path, options.engine_option), page))
    return 0
