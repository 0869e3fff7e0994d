"""Data types: casts, promotion, and the limits of a type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..graph import Node, dtype_of
from ..ops import elementwise as ew
from ..sizes import Size
from ..traced_array import Array, ArrayLike, as_array
from .arguments import Casting
from .dispatch import implements

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


@implements(np.astype)
def astype(x: ArrayLike, dtype: DTypeLike, /, *, copy: bool | None = True, order: str = "K", casting: str = "unsafe",
           subok: bool = True, device: str | None = None) -> Array:
    """Cast to a dtype."""
    return Array(ew.cast_to(as_array(x)._node, dtype_of(dtype)))


@implements(np.result_type)
def result_type(*arrays_and_dtypes: Any) -> np.dtype:
    """Return the dtype that a mix of values and dtypes promotes to."""
    return np.result_type(*((x.dtype if not x._weak else 0.0 if x.dtype.kind == "f" else 0)
                            if isinstance(x, Array) else 0 if isinstance(x, Size) else x for x in arrays_and_dtypes))


def same_dtype(xs: Sequence[Array]) -> list[Node]:
    # Only ufuncs let a Python scalar's dtype give way: the functions that come here make an array of it first.
    dtype = np.result_type(*(x.dtype for x in xs))
    return [ew.cast_to(x._node, dtype) for x in xs]


def as_floating(*values: ArrayLike) -> list[Array]:
    xs = [as_array(v) for v in values]
    return [x if x.dtype.kind == "f" else x.astype(float) for x in xs]


@implements(np.can_cast)
def can_cast(from_: ArrayLike | DTypeLike, to: DTypeLike, casting: Casting = "safe") -> bool:
    """Return whether a dtype, or that of an array, can be cast."""
    return np.can_cast(_dtype(from_), to, casting)


@implements(np.common_type)
def common_type(*arrays: ArrayLike) -> np.dtype:
    """Return the floating dtype common to all arrays."""
    dtype: np.dtype = np.dtype(np.common_type(*(np.empty(0, _dtype(a)) for a in arrays)))
    return dtype


def _dtype(x: ArrayLike | DTypeLike) -> Any:
    """Return the dtype of an array, a number of Python for a size, and other values unchanged."""
    if isinstance(x, Size):
        return 0
    return x.dtype if isinstance(x, (Array, np.ndarray, np.generic)) else x


@implements(name="finfo")
def finfo(type: ArrayLike | DTypeLike, /) -> np.finfo[Any]:
    """Return the limits of a floating dtype, or of that of an array."""
    return np.finfo(_dtype(type))


@implements(name="iinfo")
def iinfo(type: ArrayLike | DTypeLike, /) -> np.iinfo[Any]:
    """Return the limits of an integer dtype, or of that of an array."""
    return np.iinfo(_dtype(type))


@implements(np.iscomplexobj)
def iscomplexobj(x: ArrayLike) -> bool:
    """Return False: traced arrays are real."""
    return False


@implements(np.isrealobj)
def isrealobj(x: ArrayLike) -> bool:
    """Return True: traced arrays are real."""
    return True
