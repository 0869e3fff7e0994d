"""Arguments that NumPy's functions share: shapes, axes, integers, operands that broadcast."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal, SupportsIndex, TypeAlias, TypeGuard, TypeVar, cast

import numpy as np
from numpy._globals import _NoValueType

from ..errors import DtypeError, IntegerRangeError, ShapeError, TraceError, at_user_line
from ..graph import ArrayType, Node
from ..ops import overflow
from ..ops.broadcast import broadcast_along
from ..ops.constants import iota, size_scalar
from ..ops.control import barrier
from ..ops.elementwise import cast_to
from ..ops.segments import nonempty
from ..ops.shape import reshape
from ..sizes import Size
from ..symbolic import Dim, Shape, format_shape, size_of
from ..traced_array import Array, ArrayLike, as_array
from ..tracing import guard_equal, number

T = TypeVar("T")
Casting: TypeAlias = Literal["no", "equiv", "safe", "same_kind", "unsafe"]
Axes: TypeAlias = int | Sequence[int] | None
ShapeLike: TypeAlias = int | Size | Dim | Sequence[int | Size | Dim]


def checked_cast(x: ArrayLike, dtype: np.dtype) -> Node:
    """Cast to a dtype, with a check of Python ints, which the dtype must hold as in NumPy.

    Raises
    ------
    IntegerRangeError
        If the dtype cannot hold the int; the program checks an int that it alone knows.
    """
    x = as_array(x)
    node = cast_to(x._node, dtype)
    if node is x._node or not x._weak or {x.dtype.kind, dtype.kind} - {"i", "u"}:
        return node
    if not x._node.is_constant:
        return overflow.held(node, x._node, dtype)
    if node.params["value"] != x._node.params["value"]:
        raise IntegerRangeError(overflow.message(x._node.params["value"], dtype, at_user_line("")))
    return node


def broadcast_shapes(name: str, operands: Sequence[Node | ArrayType]) -> Shape:
    """Return the shape that operands broadcast to by NumPy's rules, or raise `ShapeError`."""
    shapes = [x.shape for x in operands]
    if all(s == shapes[0] for s in shapes[1:]):
        return shapes[0]
    out: list[int | Dim] = []
    for back in range(1, max(map(len, shapes)) + 1):
        size: int | Dim = 1
        for s in shapes:
            n = s[-back] if back <= len(s) else 1
            if n == 1:
                continue
            if size == 1:
                size = n
            elif guard_equal(size, n) or _is_one(n):
                continue
            elif _is_one(size):
                size = n
            else:
                types = " and ".join(str(x.type if isinstance(x, Node) else x) for x in operands)
                raise ShapeError(at_user_line(
                    f"{name}: {types} do not broadcast: sizes differ ({size}, {n}) at axis -{back}."
                    + (of_several_axes([size, n]) or _suggest(shapes))))
        out.append(size)
    return tuple(reversed(out))


def of_several_axes(sizes: Sequence[int | Dim]) -> str:
    """Return the sentence of an error on sizes of two selections, or of an axis in two batches."""
    if all(isinstance(n, Dim) and str(n).startswith("kept_row") for n in sizes):
        return (" Two masks select two axes: index all arrays by one selection, rows = mg.select(mask), or by "
                "mg.select(a & b)")
    if all(isinstance(n, Dim) and re.fullmatch(r"part\d*", str(n)) for n in sizes):
        return (" Each slice has a length that the program computes: slice the result of whole arrays, as in "
                "(x * y)[::2], or make the arrays fields of one example")
    if len({*map(str, sizes)}) == len({*sizes}):
        return ""
    return (" Sizes of one name belong to different batches, whose examples may differ in length: make the arrays "
            "fields of one example")


def _is_one(n: int | Dim) -> bool:
    """Return whether a symbolic size is 1 in the example at hand.

    A guard then fixes the size.
    """
    return isinstance(n, Dim) and n.hint == 1 and number(n) == 1


def _suggest(shapes: Sequence[Shape]) -> str:
    if len(shapes) == 2:
        a, b = shapes
        if len(a) == len(b) == 2 and a == b[::-1]:
            return " Did you mean .T of one of them?"
        if len(b) == 1 and len(a) > 1 and a[0] == b[0]:
            return " Did you mean b[:, None]?"
        if len(a) == 1 and len(b) > 1 and b[0] == a[0]:
            return " Did you mean a[:, None]?"
    return ""


def broadcast_node(x: Node, shape: Shape) -> Node:
    """Return `x` broadcast to `shape`: its axes of size 1 are dropped, then expanded."""
    if x.shape == shape:
        return x
    lead = len(shape) - x.ndim
    if lead < 0:
        raise ShapeError(at_user_line(f"{x.type} cannot be broadcast to {format_shape(shape)}"))
    ones = tuple(a for a, (n, m) in enumerate(zip(x.shape, shape[lead:], strict=True))
                 if not (n is m or n == m) and (n == 1 or (_is_one(n) and not guard_equal(n, m))))
    for a, (n, m) in enumerate(zip(x.shape, shape[lead:], strict=True)):
        if a not in ones and not guard_equal(n, m):
            raise ShapeError(at_user_line(f"{x.type} cannot be broadcast to {format_shape(shape)}"))
    if ones:
        x = reshape(x, shape=tuple(n for a, n in enumerate(x.shape) if a not in ones))
    return broadcast_along(x, shape, (*range(lead), *(a + lead for a in ones)))


def given(value: ArrayLike | None) -> TypeGuard[ArrayLike]:
    """Return whether an optional argument has a value: it is neither None nor NumPy's mark of an absent one."""
    return value is not None and not isinstance(value, _NoValueType)


def as_shape(shape: ShapeLike | None, least: int = 0) -> Shape:
    """Return a shape argument as a tuple of sizes, or raise an error; numbers are `least` or more."""
    items = shape if isinstance(shape, (tuple, list)) else (shape,)
    for n in items:
        if not (isinstance(n, Dim) or hasattr(n, "__index__")):
            raise DtypeError(at_user_line(f"a shape must hold whole numbers, got {n!r} in {shape!r}"))
    sizes = tuple(n if isinstance(n, Dim) else n.dim if isinstance(n, Size) else int(n.__index__()) for n in items)
    if any(isinstance(n, int) and n < least for n in sizes):
        raise ShapeError(at_user_line(f"the shape {format_shape(sizes)}: a size must not be negative"))
    return sizes


class MissingAxis(ShapeError):
    """An axis, or an index along one, that an array does not have."""


def as_axis(axis: SupportsIndex, ndim: int, name: str) -> int:
    """Return an axis argument as a non-negative int, or raise `ShapeError`."""
    try:
        a = operator.index(axis)
    except TypeError:
        if isinstance(axis, Array):
            raise
        raise ShapeError(at_user_line(f"{name}: an axis is an int, not {axis!r}")) from None
    if not -ndim <= a < ndim:
        raise MissingAxis(at_user_line(f"{name}: no axis {a} in an array of {ndim} axes"))
    return a % ndim if ndim else 0


def as_int(value: Any, name: str, parameter: str) -> int:
    """Return an integer argument as an int, or raise an error: NumPy would cut a fraction off, or fail later."""
    try:
        return operator.index(value)
    except TypeError:
        if isinstance(value, Array) and value._node.dtype.kind in "iu" and not value.ndim:
            raise TraceError(at_user_line(
                f"np.{name}: {parameter} is a traced value ({value._node.type}), and its number is known only when the "
                "program runs. Give an ordinary int: a static argument, or a number from outside of the loop or batch"
            )) from None
        if isinstance(value, Array):
            raise
        raise DtypeError(at_user_line(f"np.{name}: {parameter} must be an integer, not {value!r}")) from None


def as_count(value: Any, name: str, parameter: str) -> int:
    """Return an argument that counts as an int of 0 or more, or raise an error."""
    count = as_int(value, name, parameter)
    if count < 0:
        raise ShapeError(at_user_line(f"np.{name}: {parameter} must not be negative, got {count}"))
    return count


def as_ints(values: object, name: str, parameter: str) -> np.ndarray:
    """Return an argument of integers, of any shape, as an array of int64, or raise `DtypeError`."""
    integers = np.asarray(values)
    if integers.dtype.kind == "O":
        return np.array([as_int(v, name, parameter) for v in integers.flat], np.int64).reshape(integers.shape)
    if integers.dtype.kind not in "iub" and integers.size:
        raise DtypeError(at_user_line(f"np.{name}: {parameter} must be an integer, or several, not {values!r}"))
    return integers.astype(np.int64)


def numbers(x: T) -> T:
    """Return a value with the numbers of the sizes in it, and in its lists; guards fix these."""
    found: object = int(x) if isinstance(x, Size) else x
    if isinstance(x, (list, tuple)):
        found = [*map(numbers, x)] if isinstance(x, list) else (*map(numbers, x),)
    return cast("T", found)


def counted(n: int | Dim) -> Array | np.ndarray:
    """Return the integers below a size, traced if it is symbolic."""
    return Array(iota(size=n)) if isinstance(n, Dim) else np.arange(n)


def at_least_rows(x: Array, n: int | Dim, least: int, name: str) -> Array:
    """Return `x`; the program checks that `n`, a size that differs between examples, is `least` or more."""
    count = size_scalar(n - (least - 1), np.dtype(np.int64))
    rows = "no rows" if least == 1 else f"fewer than {least} rows"
    return Array(barrier(x._node, nonempty(count, message=f"{name}: example {{}} has {rows}")))


def masks(where: ArrayLike) -> bool:
    """Return whether the argument `where` of a reduction may leave elements out."""
    return where is not True and given(where)


def several(value: object) -> TypeGuard[Iterable[int]]:
    """Return whether an argument is several values; an array without axes is one."""
    return np.iterable(value)


def as_sequence(value: T | Sequence[T]) -> Sequence[T]:
    """Return an argument that is one value or several as several."""
    return value if isinstance(value, (tuple, list)) else (value,)


def as_axes(axis: Axes, ndim: int, name: str) -> tuple[int, ...]:
    """Return an axis argument (None: all) as a sorted tuple."""
    if axis is None:
        return tuple(range(ndim))
    axes = tuple(as_axis(a, ndim, name) for a in as_sequence(axis))
    if len(set(axes)) != len(axes):
        raise ShapeError(at_user_line(f"{name}: duplicate axis in {axis}"))
    return tuple(sorted(axes))


def one_axis(a: ArrayLike, axis: int | None, name: str) -> tuple[Node, int]:
    x = as_array(a)._node
    if axis is None:
        return reshape(x, shape=(size_of(x.shape),)), 0
    return x, as_axis(axis, x.ndim, name)
