"""The elements of an array that is written to piece by piece: the pieces, and the place of each element among them."""

from __future__ import annotations

import bisect
import math
from typing import TypeAlias, cast

import numpy as np

from .. import numpy as ours
from ..traced_array import Array, as_array
from ..tracing import number

Either: TypeAlias = "np.ndarray | Array"
_RUNS = 2  # runs of consecutive elements per piece, up to which they are concatenated rather than gathered


def known_shape(value: Either) -> tuple[int, ...]:
    """Return the shape as numbers; a guard fixes symbolic sizes."""
    return value.shape if isinstance(value, np.ndarray) else tuple(map(number, value._node.shape))


class Elements:
    """The pieces that have been written into an array, end to end, and the place of each element among them.

    Views of `places` are the places of NumPy's views of the array: a write to one reaches the other. An index that is
    known costs no operation in the graph.

    Attributes
    ----------
    places : ndarray of int
        In the shape of the array.
    """

    def __init__(self, value: Either):
        shape = known_shape(value)
        self.places = np.arange(math.prod(shape)).reshape(shape)
        self._pieces: list[Either] = [value.reshape(-1)]
        self._starts = [0]
        self._size = self.places.size

    def write(self, places: np.ndarray, key: object, value: Either) -> None:
        """Write a value to elements of an array, or of a view of it, by its `places`."""
        shape = known_shape(value)
        size = math.prod(shape)
        places[cast("int", key)] = np.arange(self._size, self._size + size).reshape(shape)
        if size:
            self._pieces.append(value.reshape(-1))
            self._starts.append(self._size)
            self._size += size

    def read(self, places: np.ndarray) -> Array:
        """Return the elements at `places` as a traced value."""
        flat = places.ravel()
        if not flat.size:
            return as_array(np.zeros(places.shape, self._pieces[0].dtype))
        breaks = np.flatnonzero(np.diff(flat) != 1) + 1
        begins = np.concatenate([[0], breaks])
        firsts, lengths = flat[begins], np.diff([*begins, flat.size])
        pieces = dict.fromkeys(bisect.bisect_right(self._starts, first) - 1 for first in firsts.tolist())
        spread = len(firsts) > _RUNS * len(pieces) + _RUNS
        found = self._gathered(flat) if spread else self._joined(firsts.tolist(), lengths.tolist())
        return found if found._node.shape == places.shape else found.reshape(places.shape)

    def _joined(self, firsts: list[int], lengths: list[int]) -> Array:
        """Return runs of consecutive elements, end to end."""
        parts: list[Either] = []
        for first, length in zip(firsts, lengths, strict=True):
            while length:
                k = bisect.bisect_right(self._starts, first) - 1
                piece, offset = self._pieces[k], first - self._starts[k]
                (size,) = known_shape(piece)
                taken = min(length, size - offset)
                parts.append(piece if taken == size else piece[offset:offset + taken])
                first, length = first + taken, length - taken
        return as_array(parts[0]) if len(parts) == 1 else cast(Array, ours.concatenate(list(map(as_array, parts))))

    def _gathered(self, flat: np.ndarray) -> Array:
        """Return elements in any order, out of all pieces that hold some of them."""
        used = np.unique(np.searchsorted(self._starts, flat, side="right") - 1)
        starts = np.asarray(self._starts)
        sizes = np.diff([*starts, self._size])[used]
        new_starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        which = np.searchsorted(used, np.searchsorted(starts, flat, side="right") - 1)
        pieces = [as_array(self._pieces[k]) for k in used]
        whole = pieces[0] if len(pieces) == 1 else cast(Array, ours.concatenate(pieces))
        return whole[flat - starts[used][which] + new_starts[which]]
