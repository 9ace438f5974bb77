"""LLaVA's chat page, with a guard: several turns and pictures, streaming, votes. It asks the workers of a controller.

    python -m llava.serve.gradio_web_server --controller http://localhost:10000 --model-list-mode reload

With the page's guard switch on, which it is at first, answers go through ECSO and nothing is shown before it is cleared. Needs gradio:
pip install 'llava[demo]'.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # before what may not be installed is imported
    from llava.cli import program

    sys.exit(program("chat-page", "python -m llava.serve.gradio_web_server"))

import argparse
import asyncio
from typing import TYPE_CHECKING

from llava.serve.web import options as web
from llava.serve.web import votes

if TYPE_CHECKING:
    import gradio as gr

    from llava.serve.web.models import Models
    from llava.serve.web.options import Settings
    from llava.serve.web.pictures import Pictures


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare LLaVA's options, and a few of ours."""
    web.arguments(parser)
    votes.arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop."""
    settings = web.settings(options)
    log = votes.VoteLog(options.vote_log)
    web.prepare()

    from llava.serve.web import site
    from llava.serve.web.chat.page import ChatPage
    from llava.serve.web.moderation import Moderator

    moderator = Moderator.from_environment() if settings.moderate else None

    def page(settings: Settings, models: Models, pictures: Pictures) -> gr.Blocks:
        return ChatPage(settings, models, pictures, log, moderator).blocks()

    asyncio.run(site.serve(page, settings, "LLaVA chat"))
    return 0
