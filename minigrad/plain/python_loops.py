"""NumPy's loops over elements in Python: `vectorize`, `fromiter`, `ndenumerate`, `fromfunction`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import cast

import numpy as np

from .. import numpy as ours
from ..numpy.dispatch import any_traced
from ..traced_array import Array
from .elements import known_shape
from .mutable_array import MutableArray, mutable, plain

Function = Callable[..., object]


class Vectorized:
    """A function of numbers, called for all elements of its arguments one by one."""

    def __init__(self, function: np.vectorize):
        self._function = function

    def __call__(self, *args: object, **options: object) -> object:
        given = [plain(x) for x in args]
        if not any_traced(given) or options or self._function.signature is not None:
            return mutable(cast(Function, self._function)(*given, **options))
        wide = [ours.array(x) for x in ours.broadcast_arrays(*given)]
        shape = known_shape(wide[0])
        rows = [cast(Function, self._function.pyfunc)(*(MutableArray(x[place]) for x in wide))
                for place in np.ndindex(*shape)]
        kinds = list(self._function.otypes or ())
        if rows and isinstance(rows[0], tuple):
            columns = zip(*rows, strict=True)
            return tuple(_array(list(c), shape, *kinds[k:k + 1]) for k, c in enumerate(columns))
        return _array(rows, shape, *kinds[:1])


def _array(values: list[object], shape: tuple[int, ...], dtype: object = None) -> object:
    return mutable(ours.reshape(ours.array(plain(values), dtype=dtype), shape))


def vectorized(pyfunc: Function | None = None, **options: object) -> object:
    """Return ``np.vectorize(...)``, for traced values too; without a function, a decorator."""
    if pyfunc is None:
        return lambda f: vectorized(f, **options)
    return Vectorized(cast("Callable[..., np.vectorize]", np.vectorize)(pyfunc, **options))


def from_iterable(iter: Iterable[object], dtype: object, count: int = -1, *, like: object = None) -> object:
    """Return an array of the numbers of an iterable."""
    values = [v for k, v in enumerate(iter) if count < 0 or k < count]
    return mutable(ours.array(plain(values), dtype=dtype))


def enumerated(arr: Array) -> Iterator[tuple[tuple[int, ...], object]]:
    """Yield each index and its element."""
    array = arr if isinstance(arr, Array) else np.asarray(arr)
    return ((place, array[place]) for place in np.ndindex(*known_shape(cast(Array, plain(array)))))


def from_function(function: Function, shape: tuple[int, ...], *, dtype: object = float, like: object = None,
                  **options: object) -> object:
    """Return a function of the coordinates of an array."""
    return function(*(MutableArray(x) for x in np.indices(shape, dtype=cast(type, dtype))), **options)


LOOPS: dict[object, Function] = {np.vectorize: vectorized, np.fromiter: from_iterable, np.ndenumerate: enumerated,
                                 np.fromfunction: from_function}
