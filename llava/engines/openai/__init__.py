"""Models behind OpenAI-compatible servers."""

from llava.engines.openai.engine import OpenAIEngine

__all__ = ["OpenAIEngine"]
