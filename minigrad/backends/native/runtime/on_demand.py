"""Functions of modules that few programs need: a module is imported with the first call of one of its functions."""

from __future__ import annotations

import functools
import importlib
from types import FunctionType

from ....locks import importing

_NATIVE = __name__.rsplit(".", 2)[0]


@functools.cache
def function(path: str) -> FunctionType:
    """Return the function at ``folder.module.name`` within the native backend."""
    module, _, name = path.rpartition(".")
    with importing:
        found: FunctionType = getattr(importlib.import_module(f"{_NATIVE}.{module}"), name)
    return found
