"""The position and value of the first element that an evaluation refuses."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..primitive import ArrayNamespace, on_host


def first_where(xp: ArrayNamespace, mask: np.ndarray, *arrays: np.ndarray) -> list[Any] | None:
    """Return the first position where `mask` holds and the elements there, or None."""
    if not bool(xp.any(mask)):
        return None
    mask, *values = np.broadcast_arrays(*map(on_host, (mask, *arrays)))
    position = int(np.flatnonzero(mask)[0])
    return [position, *(v.ravel()[position] for v in values)]
