"""Python that is TorchScript, too, which torch runs without Python.

Between any two of its operations Python gives its lock away and takes it again, and model threads of several lanes, with all who wait for
their words, stand in line for it at each of hundreds of small ones. What is scripted is one operation.
"""

import logging
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar, cast

import torch
from torch import nn

log = logging.getLogger(__name__)
T = TypeVar("T")


def scripted(code: T) -> T:
    """A function, or a module on a CPU, as TorchScript; as it is where that cannot be, and then it does the same in more time. Torch has
    given TorchScript up for what compiles at run time; that needs a compiler, and minutes for each new shape."""
    if isinstance(code, nn.Module) and any(weight.device.type != "cpu" for weight in code.parameters()):
        return code
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return cast("T", torch.jit.script(code))
    except Exception as failure:  # noqa: BLE001 - whatever a version of Python or torch, or a layer of another kind, cannot do
        log.debug("%s runs without TorchScript: %s", type(code).__name__, failure)
        return code


def as_written() -> AbstractContextManager[None]:
    """On this thread TorchScript runs as it is: sizes change with each pass, and to fit it to them takes more than it saves."""
    optimized = getattr(torch.jit, "optimized_execution", None)
    return nullcontext() if optimized is None else optimized(False)
