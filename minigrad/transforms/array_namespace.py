"""Arrays on a GPU: how they are told apart, and what computes on them where no program was compiled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..errors import MinigradError, at_user_line


def is_on_device(x: Any) -> bool:
    """Tell whether `x` is an array on a GPU: CuPy's, or another one that CuPy can look at."""
    return not isinstance(x, (np.ndarray, type)) and hasattr(x, "__cuda_array_interface__")


def on_device(leaves: Iterable[Any]) -> bool:
    """Tell whether any of `leaves` is an array on a GPU."""
    return any(map(is_on_device, leaves))


def namespace(leaves: Iterable[Any]) -> Any:
    """Return the namespace that computes on `leaves`: NumPy, or CuPy's where one of them is on a GPU.

    Raises
    ------
    MinigradError
        If CuPy, or the package that makes it a standard namespace, is not installed.
    """
    if not on_device(leaves):
        return np
    try:
        import array_api_compat.cupy
    except ImportError as error:
        raise MinigradError(at_user_line(f"arrays on a GPU need {error.name}: pip install 'minigrad[cuda]'")) from None
    return array_api_compat.cupy


def own_on_device(values: Sequence[Any], arrays: Sequence[Any]) -> list[Any]:
    """Return values as the caller's own arrays: nothing in them is shared, with the inputs or each other."""
    taken = {id(a) for a in arrays}
    out = []
    for v in values:
        if v.base is not None or id(v) in taken:
            v = v.copy()
        taken.add(id(v))
        out.append(v)
    return out
