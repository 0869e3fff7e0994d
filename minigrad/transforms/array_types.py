"""Types as arguments of `trace`: ``mg.f32[784, 10]``, ``mg.i64[()]``, ``mg.f32[mg.dim("B"), 3]``."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from ..errors import ShapeError, at_user_line
from ..graph import ArrayType
from ..ragged.axes import Axis, FieldType, field_shape
from ..sizes import Size
from ..symbolic import Dim


class ArraySpec:
    """A dtype that makes array types: ``f32[784, 10]``.

    Examples
    --------
    >>> print(mg.f32[784, 10], mg.bool_[()])
    f32[784, 10] bool[]
    """

    __array_ufunc__ = None  # an ndarray is not equal to it, and has no sum with it

    def __init__(self, dtype: Any):
        self.dtype = np.dtype(dtype)

    def __getitem__(self, shape: Any) -> ArrayType | FieldType:
        sizes = shape if isinstance(shape, tuple) else (shape,)
        if any(isinstance(n, Axis) for n in sizes):
            return FieldType(self.dtype, field_shape(sizes))
        for n in sizes:
            if not isinstance(n, (Dim, Size)) and (not hasattr(n, "__index__") or n < 0):
                name = isinstance(n, str)
                instead = f": mg.axis({n!r}) for rows of examples, mg.dim({n!r}) for a symbol" if name else ""
                raise ShapeError(at_user_line(f"a shape holds sizes, not {n!r}{instead}"))
        return ArrayType(tuple(n.dim if isinstance(n, Size) else n if isinstance(n, Dim) else int(n) for n in sizes),
                         self.dtype)

    def __array__(self, *_: object, **__: object) -> NoReturn:
        """Refuse to stand for an array: a dtype has no shape."""
        name = f"mg.{str(self[()]).partition('[')[0]}" + "_" * (self.dtype == bool)
        raise ShapeError(at_user_line(f"{name} has no shape: write {name}[()] for one number, {name}[3] for three"))

    def __repr__(self) -> str:
        return f"<array types of {self.dtype}>"


f16, f32, f64 = map(ArraySpec, ("f2", "f4", "f8"))
i8, i16, i32, i64 = map(ArraySpec, ("i1", "i2", "i4", "i8"))
u8, u16, u32, u64 = map(ArraySpec, ("u1", "u2", "u4", "u8"))
bool_ = ArraySpec(bool)


def dim(name: str) -> Dim:
    """Return a fresh symbolic size, to be used in types: ``B = mg.dim("B"); mg.trace(f)(mg.f32[B, 3])``.

    Parameters
    ----------
    name : str

    Returns
    -------
    Dim

    Examples
    --------
    >>> B = mg.dim("B")
    >>> print(mg.trace(lambda x: x.sum(axis=1))(mg.f32[B, 3]).outputs[0].type)
    f32[B]
    """
    return Dim.new(name)
