"""Functions of NumPy that write into their first argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np

from .. import numpy as ours
from ..numpy.updates import At, Update
from ..traced_array import Array
from .mutable_array import MutableArray, applied, holds_traced, is_empty, plain

Function = Callable[..., object]

_UPDATES = {np.add: Update.add, np.subtract: Update.subtract, np.multiply: Update.multiply, np.divide: Update.divide,
            np.maximum: Update.max, np.minimum: Update.min}


def at(ufunc: np.ufunc, array: object, indices: object, *values: object) -> None:
    """Apply a ufunc to elements of an array, in place."""
    key, given = plain(indices), [plain(v) for v in values]
    known = array.known() if isinstance(array, MutableArray) else array
    if not isinstance(array, MutableArray) or ufunc not in _UPDATES or (
            known is not None and not holds_traced(key) and not holds_traced(given)):
        cast(Function, ufunc.at)(known, key, *given)
    else:
        array[...] = cast(Function, _UPDATES[ufunc])(At[Array](array.traced())[key], *given)


def _fill_diagonal(a: MutableArray, val: object, wrap: bool = False) -> None:
    places = np.arange(min(map(int, a.shape)))
    a[(places,) * a.ndim] = val


def _copyto(dst: MutableArray, src: object, casting: str = "same_kind", where: object = True) -> None:
    dst[...] = src if where is True else applied(ours.where, (where, src, dst), {})


def _put_along_axis(arr: MutableArray, indices: object, values: object, axis: int = -1) -> None:
    arr[...] = applied(ours.put_along_axis, (arr, indices, values, axis), {})


def _putmask(a: MutableArray, mask: object, values: object) -> None:
    if is_empty(values):
        return
    a[...] = applied(ours.where, (mask, applied(np.resize, (values, a.shape), {}), a), {})


def _place(arr: MutableArray, mask: object, vals: object) -> None:
    """Write values one after the other to the elements of a mask."""

    def placed(array: Array, mask: object, values: object) -> object:
        flat = ours.ravel(values)
        places = (ours.cumsum(mask).reshape(array.shape) - 1) % flat.size
        return ours.where(mask, ours.take(flat, places), array)

    arr[...] = applied(placed, (arr, mask, vals), {})


WRITERS: dict[Function, Function] = {
    np.fill_diagonal: _fill_diagonal, np.copyto: _copyto, np.put_along_axis: _put_along_axis,
    np.put: MutableArray.put, np.putmask: _putmask, np.place: _place}
