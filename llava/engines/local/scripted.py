"""Python that is TorchScript, too, which torch runs without Python.

Between any two of its operations Python gives its lock away and takes it again, and model threads of several lanes, with all who wait for
their words, stand in line for it at each of hundreds of small ones. What is scripted is one operation.
"""

import logging
import threading
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar, cast

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

log = logging.getLogger(__name__)
_warning = threading.Lock()  # what warns is the process's, and two threads that set it aside at once would not put it back
T = TypeVar("T")


def scripted(code: T) -> T:
    """A function, or a module on a CPU, as TorchScript; as it is where that cannot be, and then it does the same in more time. Torch has
    given TorchScript up for what compiles at run time; that needs a compiler, and minutes for each new shape."""
    if isinstance(code, nn.Module) and not _suits(code):
        return code
    try:
        with _warning, warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return cast("T", torch.jit.script(code))
    except Exception as failure:  # noqa: BLE001 - whatever a version of Python or torch, or a layer of another kind, cannot do
        log.debug("%s runs without TorchScript: %s", type(code).__name__, failure)
        return code


def _suits(module: nn.Module) -> bool:
    """Whether it is on a CPU, and computes no weight anew in each call: that would be scripted and then fail."""
    on_cpu = all(weight.device.type == "cpu" for weight in module.parameters())
    return on_cpu and not any(map(is_parametrized, module.modules()))


def as_written() -> AbstractContextManager[None]:
    """On this thread TorchScript runs as it is: sizes change with each pass, and to fit it to them takes more than it saves."""
    optimized = getattr(torch.jit, "optimized_execution", None)
    return nullcontext() if optimized is None else optimized(False)
