"""Models behind a controller and its workers, LLaVA's, FastChat's or ours."""

from llava.engines.controller.engine import ControllerEngine

__all__ = ["ControllerEngine"]
