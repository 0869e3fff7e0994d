"""Operators whose other operand is neither an array nor a number."""

from __future__ import annotations

from numbers import Number

import numpy as np

from ..graph import full
from ..traced_array import Array, as_array, hooks
from .dispatch import any_traced
from .manipulation import broadcast_arrays

_ARRAYS = ("__array__", "__array_interface__", "__array_struct__", "__cuda_array_interface__", "__dlpack__", "tocoo")


def foreign(ufunc: np.ufunc, array: Array, other: object) -> Array | None:
    """Return an operator's value, NotImplemented where Python asks the other operand, or None of an array-like.

    As in NumPy, a class without ufuncs decides itself, and no element equals an object that is not a number.
    """
    compares = ufunc in (np.equal, np.not_equal)
    if (getattr(type(other), "__array_ufunc__", ufunc) is None
            or (not compares and (other is None or isinstance(other, str)))
            or (ufunc is np.multiply and isinstance(other, (list, tuple)) and not array.ndim
                and array.dtype.kind in "iu")):  # a list repeats
        return NotImplemented  # type: ignore[no-any-return]
    if not compares:
        return None
    if any(hasattr(other, name) for name in _ARRAYS) or (isinstance(other, (list, tuple)) and any_traced(other)):
        return None
    try:
        values = np.asarray(other)
    except ValueError:  # of lists of different length
        return None
    if values.dtype.kind in "biufc" or any(isinstance(v, Number) or (v == 0.0) is not False for v in values.flat):
        return None  # of numbers, or of objects that numbers may equal
    answer = Array(full(ufunc is np.not_equal, array._node.shape, np.dtype(bool)))
    same, _ = broadcast_arrays(answer, as_array(np.zeros(values.shape)))
    return same


hooks.foreign = foreign
