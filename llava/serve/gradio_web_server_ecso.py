"""The ECSO page: a picture and a question, the method's four steps one by one or all at once, and the answer without and with it.

    python -m llava.serve.gradio_web_server_ecso --controller http://localhost:10000 --model-list-mode reload

It asks the workers of a controller; `llava demo` starts these too. Needs gradio: pip install 'llava[demo]'.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # before what may not be installed is imported
    from llava.cli import program

    sys.exit(program("ecso-page", "python -m llava.serve.gradio_web_server_ecso"))

import argparse
import asyncio
from typing import TYPE_CHECKING

from llava.serve.web import options as web

if TYPE_CHECKING:
    from socket import socket

    import gradio as gr

    from llava.serve.web.models import Models
    from llava.serve.web.options import Settings
    from llava.serve.web.pictures import Pictures


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare LLaVA's options, and a few of ours."""
    web.arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop."""
    settings = web.settings(options)
    web.prepare()
    asyncio.run(serve(settings))
    return 0


async def serve(settings: Settings, listener: socket | None = None) -> None:
    """Serve the page until told to stop, at `listener` where there is one already; raises `UserError`."""
    from llava.serve.web import site
    from llava.serve.web.ecso.page import EcsoPage
    from llava.serve.web.moderation import Moderator

    moderator = Moderator.from_environment() if settings.moderate else None

    def page(settings: Settings, models: Models, pictures: Pictures) -> gr.Blocks:
        return EcsoPage(settings, models, pictures, moderator).blocks()

    await site.serve(page, settings, "the ECSO page", listener)
