"""The namespace ``minigrad.numpy.linalg``: the table's functions, else NumPy's own."""

from typing import Any

import numpy as _numpy

from .dispatch import LINALG


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return LINALG[name] if name in LINALG else getattr(_numpy.linalg, name)


def __dir__() -> list[str]:
    return sorted(LINALG)
