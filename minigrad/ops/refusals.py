"""Refusals of indices: types that are not integers, and the first element that an evaluation refuses."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import ArrayType
from ..primitive import ArrayNamespace, fail, on_host


def require_ints(name: str, *types: ArrayType) -> ArrayType:
    """Return the first type, or raise `ShapeError` unless all are of integers."""
    for t in types:
        if t.dtype.kind not in "iu":
            raise fail(name, "needs integers", *types)
    return types[0]


def first_where(xp: ArrayNamespace, mask: np.ndarray, *arrays: np.ndarray) -> list[Any] | None:
    """Return the first position where `mask` holds and the elements there, or None."""
    if not bool(xp.any(mask)):
        return None
    mask, *values = np.broadcast_arrays(*map(on_host, (mask, *arrays)))
    position = int(np.flatnonzero(mask)[0])
    return [position, *(v.ravel()[position] for v in values)]
