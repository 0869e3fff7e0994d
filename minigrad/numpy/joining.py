"""Joining and splitting: concatenation, blocks, insertion, padding."""

from __future__ import annotations

import contextlib
import itertools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

import numpy as np

from ..errors import DtypeError, ShapeError, TraceError, at_user_line
from ..graph import constant_of, dtype_of
from ..ops import elementwise as ew
from ..ops import shape as shapes
from ..ops.constants import iota
from ..sizes import Size, shown, unwrap
from ..symbolic import Dim, differs
from ..traced_array import TABLE, Array, ArrayLike, as_array
from ..tracing import guard_equal_shapes, number
from .arguments import Axes, Casting, as_axis, as_int, as_ints, broadcast_node, checked_cast, numbers, several
from .data_types import result_type, same_dtype
from .dispatch import any_traced, implements
from .elementwise import clip
from .manipulation import at_least, broadcast_to, expand_dims, flat_along, index_along, moveaxis, ravel, reshape

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

# -- joining -------------------------------------------------------------------------------------------------


def _arrays(arrays: Iterable[ArrayLike], name: str) -> list[Array]:
    xs = [as_array(a) for a in arrays]
    if not xs:
        raise ShapeError(at_user_line(f"np.{name} of no arrays"))
    return xs


@implements(np.concatenate)
def concatenate(arrays: Sequence[ArrayLike] | Array, axis: int | None = 0, out: None = None, *,
                dtype: DTypeLike | None = None,
                casting: Casting = "same_kind") -> Array:
    """Join arrays end to end along an axis."""
    xs = _arrays(arrays, "concatenate")
    if axis is None:
        common = result_type(*xs)  # along no axis, the dtypes of Python's numbers give way
        xs, axis = [ravel(x.astype(common)) for x in xs], 0
    if xs[0].ndim == 0:
        raise ShapeError(at_user_line("np.concatenate of scalars: use np.stack"))
    nodes = same_dtype(xs)
    if dtype is not None:
        if not all(np.can_cast(n.dtype, dtype, casting) for n in nodes):
            raise DtypeError(at_user_line(f"np.concatenate: {nodes[0].type} cannot be cast to {np.dtype(dtype)} by "
                                          f"casting={casting!r}. Write x.astype({np.dtype(dtype)}) first"))
        nodes = [ew.cast_to(n, dtype_of(dtype)) for n in nodes]
    return Array(shapes.concatenate(*nodes, axis=as_axis(axis, xs[0].ndim, "concatenate")))


@implements(np.stack)
def stack(arrays: Sequence[ArrayLike], axis: int = 0, out: None = None, *, dtype: DTypeLike | None = None,
          casting: Casting = "same_kind") -> Array:
    """Join arrays along a new axis."""
    xs = _arrays(arrays, "stack")
    if not all(guard_equal_shapes(x._node.shape, xs[0]._node.shape) for x in xs):
        raise ShapeError(at_user_line(f"np.stack: shapes differ: {', '.join(str(x._node.type) for x in xs)}"))
    a = as_axis(axis, xs[0].ndim + 1, "stack")
    return concatenate([expand_dims(x, a) for x in xs], a, dtype=dtype, casting=casting)


@implements(np.hstack)
def hstack(tup: Sequence[ArrayLike], *, dtype: DTypeLike | None = None, casting: Casting = "same_kind") -> Array:
    """Join along axis 1 (0 for vectors)."""
    xs = [at_least(1, a) for a in tup]
    return concatenate(xs, 0 if xs[0].ndim == 1 else 1, dtype=dtype, casting=casting)


@implements(np.vstack)
def vstack(tup: Sequence[ArrayLike], *, dtype: DTypeLike | None = None, casting: Casting = "same_kind") -> Array:
    """Join along axis 0; vectors are rows."""
    return concatenate([at_least(2, a) for a in tup], 0, dtype=dtype, casting=casting)


@implements(np.column_stack)
def column_stack(tup: Sequence[ArrayLike]) -> Array:
    """Join vectors as columns."""
    return concatenate([x if x.ndim > 1 else reshape(x, (-1, 1)) for x in map(as_array, tup)], 1)


@implements(np.dstack)
def dstack(tup: Sequence[ArrayLike]) -> Array:
    """Join along the third axis."""
    return concatenate([at_least(3, a) for a in tup], 2)


if hasattr(np, "row_stack"):  # gone from NumPy's later versions
    @implements(name="row_stack")
    def row_stack(tup: Sequence[ArrayLike]) -> Array:
        """Join along axis 0; the older name of ``np.vstack``."""
        return vstack(tup)


@implements(np.block)
def block(arrays: object) -> Array:
    """Join blocks in nested lists."""
    def depth(b: object) -> int:
        return 1 + max(map(depth, b)) if isinstance(b, list) else 0

    def leaves(b: Any) -> list[Array]:
        return [x for part in b for x in leaves(part)] if isinstance(b, list) else [as_array(b)]

    levels = depth(arrays)
    rank = max([levels, *(x.ndim for x in leaves(arrays))])

    def join(b: Any, level: int) -> Array:
        if not isinstance(b, list):
            x = as_array(b)
            return reshape(x, (1,) * (rank - x.ndim) + x.shape)
        return concatenate([join(part, level + 1) for part in b], rank - levels + level)

    return join(arrays, 0)


class Brackets:
    """``r_`` and ``c_``: the items in brackets end to end as rows, or as columns."""

    def __init__(self, numpys: Any, columns: bool):
        self._numpys, self._columns = numpys, columns

    def __getitem__(self, key: Any) -> Any:
        items = key if isinstance(key, tuple) else (key,)
        if not any_traced(items):
            return self._numpys[key]
        if any(isinstance(x, str) for x in items):
            raise TraceError(at_user_line("np.r_ and np.c_ of traced values with a string: write np.concatenate with "
                                          "axis="))
        arrays = [as_array(self._numpys[x] if isinstance(x, slice) else x) for x in items]
        common = result_type(*arrays)  # the dtypes of Python's numbers give way
        parts = [at_least(1, x.astype(common)) for x in arrays]
        if not self._columns:
            return concatenate(parts, 0)
        return concatenate([x[:, None] if x.ndim == 1 else x for x in parts], -1)


# -- splitting -----------------------------------------------------------------------------------------------


@implements(np.array_split)
def array_split(ary: ArrayLike, indices_or_sections: int | Sequence[int] | np.ndarray, axis: int = 0,
                _even: bool = False) -> list[Array]:
    """Cut into parts of nearly equal size along an axis, or at the given indices."""
    x = as_array(ary)._node
    a = as_axis(axis, x.ndim, "split")
    n = x.shape[a]
    if differs(n) and several(indices_or_sections):
        cuts = [as_int(i, "split", "indices_or_sections") for i in indices_or_sections]
        bounds = [0, *(i if i >= 0 else n + i for i in cuts), n]
        return [Array(shapes.section(x, a, low, high - low)) for low, high in itertools.pairwise(bounds)]
    if differs(n) and not _even:
        k = as_int(indices_or_sections, "split", "indices_or_sections")
        each, more = divmod(as_array(shown(n)), k)
        cuts_ = [each * i + TABLE[np.minimum](more, i) for i in range(k + 1)]
        return [index_along(Array(x), a, slice(low, high)) for low, high in itertools.pairwise(cuts_)]
    n = number(n)
    if not several(indices_or_sections):
        k = as_int(indices_or_sections, "split", "indices_or_sections")
        if k <= 0 or (_even and n % k):
            raise ShapeError(at_user_line(f"np.split: an axis of {n} cannot be cut into {k} equal parts"))
        ends = [0, *itertools.accumulate(n // k + (i < n % k) for i in range(k))]
    else:
        ends = [0, *(min(max(i + (n if i < 0 else 0), 0), n) for i in (
            as_int(i, "split", "indices_or_sections") for i in indices_or_sections)), n]
    return [Array(shapes.section(x, a, low, max(high - low, 0))) for low, high in itertools.pairwise(ends)]


@implements(np.split)
def split(ary: ArrayLike, indices_or_sections: int | Sequence[int] | np.ndarray, axis: int = 0) -> list[Array]:
    """Cut into equal parts along an axis, or at the given indices."""
    return array_split(ary, indices_or_sections, axis, _even=True)


def _split(function: Callable[..., object], axis: Callable[[int], int]) -> None:
    @implements(function, doc=f"Cut along one axis, as ``np.{function.__name__}``.")
    def cut(ary: ArrayLike, indices_or_sections: int | Sequence[int] | np.ndarray) -> list[Array]:
        x = as_array(ary)
        return split(x, indices_or_sections, axis(x.ndim))


_split(np.hsplit, lambda n: 1 if n > 1 else 0)
_split(np.vsplit, lambda n: 0)
_split(np.dsplit, lambda n: 2)


@implements(np.unstack)
def unstack(x: ArrayLike, /, *, axis: int = 0) -> tuple[Array, ...]:
    """Return the slices along an axis."""
    x = moveaxis(x, axis, 0)
    return tuple(x[i] for i in range(len(x)))


# -- insertion and deletion ----------------------------------------------------------------------------------


@implements(np.append)
def append(arr: ArrayLike, values: ArrayLike, axis: int | None = None) -> Array:
    """Append `values` to an array."""
    if axis is None:
        arr, values, axis = ravel(arr), ravel(values), 0
    return concatenate([arr, values], axis)


@implements(np.insert)
def insert(arr: ArrayLike, obj: ArrayLike | slice, values: ArrayLike, axis: int | None = None) -> Array:
    """Insert values before known places."""
    x, a = flat_along(arr, axis, "insert")
    if differs(x._node.shape[a]) and isinstance(obj, int):
        before, after = array_split(x, [obj], a)
        values = Array(checked_cast(values, x.dtype))
        one = tuple(1 if i == a else m for i, m in enumerate(x._node.shape))
        return concatenate([before, Array(broadcast_node(values._node, one)), after], a)
    n = number(x._node.shape[a])
    values = Array(checked_cast(values, x.dtype))
    places = _places("insert", obj, n)
    if ((places < -n) | (places > n)).any():
        raise ShapeError(at_user_line(f"np.insert: {obj!s} is out of range for an axis of {n}"))
    places = np.where(places < 0, places + n, places)
    values = reshape(values, (1,) * (x.ndim - values.ndim) + values.shape)
    if places.size == 1:
        if not places.ndim:
            values = moveaxis(values, 0, a)  # one number means, as in x[:, 1], that a row is meant
        places = np.full(number(values._node.shape[a]), places.ravel()[0])
    others = [m for i, m in enumerate(x._node.shape) if i != a]
    new = Array(broadcast_node(values._node, (*others[:a], len(places), *others[a:])))
    order = np.argsort(places, kind="stable")
    target = np.empty(len(places), int)
    target[order] = places[order] + np.arange(len(places))
    source = np.full(n + len(places), -1)
    source[target] = n + np.arange(len(places))
    source[source < 0] = np.arange(n)
    return index_along(concatenate([x, new], a), a, source)


@implements(np.delete)
def delete(arr: ArrayLike, obj: ArrayLike | slice, axis: int | None = None) -> Array:
    """Remove known places."""
    x, a = flat_along(arr, axis, "delete")
    n = x._node.shape[a]
    if differs(n) and isinstance(obj, int):
        place = obj if obj >= 0 else n + obj
        before, after = shapes.section(x._node, a, 0, place), shapes.section(x._node, a, place + 1, n - place - 1)
        return Array(shapes.concatenate(before, after, axis=a))
    n = number(n)
    return index_along(x, a, np.delete(np.arange(n), obj if isinstance(obj, slice) else _places("delete", obj, n)))


def _places(name: str, obj: ArrayLike | slice, n: int) -> np.ndarray:
    obj = numbers(obj)
    if isinstance(obj, Array) and not obj.ndim:
        with contextlib.suppress(TraceError):
            obj = operator.index(obj)
    if any_traced([obj]):
        raise TraceError(at_user_line(f"np.{name} at traced places: their number and order must be known. Index with "
                                      "an array of known length instead"))
    if isinstance(obj, slice):
        return np.arange(n)[obj]
    places = np.asarray(obj)
    if places.dtype == np.bool_:
        return np.flatnonzero(places) if name == "insert" else places
    return as_ints(obj, name, "obj")


# -- cutting and joining again -------------------------------------------------------------------------------


@implements(np.roll)
def roll(a: ArrayLike, shift: ArrayLike, axis: Axes = None) -> Array:
    """Shift cyclically along axes."""
    x = as_array(a)
    if axis is None:
        return reshape(roll(ravel(x), shift, 0), x.shape)
    traced = isinstance(shift, Array) or (isinstance(shift, (list, tuple)) and any_traced(shift))
    shifts = [*cast("Iterable[Array]", ravel(shift) if isinstance(shift, Array) else shift)] if traced else as_ints(
        shift, "roll", "shift").ravel().tolist()
    axes = np.ravel(axis).tolist()
    for s, a_ in zip(*(v * max(len(shifts), len(axes)) if len(v) == 1 else v for v in (shifts, axes)), strict=True):
        a_ = as_axis(a_, x.ndim, "roll")
        n = x._node.shape[a_]
        if isinstance(n, Dim) or isinstance(s, Array):
            index = ((Array(iota(size=n)) if isinstance(n, Dim) else np.arange(n)) - s) % shown(n)
            x = moveaxis(moveaxis(x, a_, 0)[index], 0, a_)
            continue
        n = number(n)
        cut = -s % n if n else 0
        if cut:
            before, after = array_split(x, [cut], a_)
            x = concatenate([after, before], a_)
    return x


# -- padding -------------------------------------------------------------------------------------------------


def _pad_widths(pad_width: object, ndim: int) -> np.ndarray:
    """Return how far each axis is padded before and after, from all forms that NumPy takes."""
    if isinstance(pad_width, dict):
        each = {as_axis(a, ndim, "pad"): n for a, n in pad_width.items()}
        pad_width = [np.broadcast_to(each.get(a, 0), 2) for a in range(ndim)]
    try:
        width = np.broadcast_to(as_ints(pad_width, "pad", "pad_width"), (ndim, 2))
    except ValueError:
        raise ShapeError(at_user_line(f"np.pad with pad_width={pad_width!r}: an array of {ndim} axes needs a number, "
                                      f"a pair, {ndim} pairs, or a dict of pairs by axis")) from None
    if (width < 0).any():
        raise ShapeError(at_user_line(f"np.pad with pad_width={pad_width!r}: widths must not be negative"))
    return width


def _reflected(n: int | Size, low: int, high: int, mode: str) -> Array:
    """Return the rows of an axis of any size that ``np.pad`` repeats, by its period."""
    place = Array(iota(size=unwrap(n + low + high))) - low
    if mode == "edge":
        return clip(place, 0, n - 1)
    if mode == "wrap":
        return place % n
    period = TABLE[np.maximum](2 * n - 2, 1) if mode == "reflect" else as_array(2 * n)
    place = place % period
    return TABLE[np.minimum](place, period - place - (mode == "symmetric"))


_Padding: TypeAlias = Literal["constant", "edge", "reflect", "symmetric", "wrap"]


@implements(np.pad)
def pad(array: ArrayLike, pad_width: object, mode: _Padding = "constant", *, constant_values: ArrayLike = 0,
        reflect_type: str = "even") -> Array:
    """Pad with a constant, or by ``edge``, ``reflect``, ``symmetric`` and ``wrap``."""
    x = as_array(array)
    if mode not in get_args(_Padding):
        raise TraceError(at_user_line(f"np.pad with mode={mode!r}: use constant, edge, reflect, symmetric or wrap"))
    if reflect_type != "even":
        raise TraceError(at_user_line(f"np.pad with reflect_type={reflect_type!r}: use 'even', or np.concatenate with "
                                      "2 * edge - x[::-1]"))
    width = _pad_widths(pad_width, x.ndim)
    if mode != "constant":
        for a, (low, high) in enumerate(width):
            n = x._node.shape[a]
            if (low or high) and differs(n):
                x = index_along(x, a, _reflected(shown(n), int(low), int(high), mode))
            elif low or high:
                x = index_along(x, a, np.pad(np.arange(number(n)), (low, high), mode))
        return x
    values = as_array(constant_values)
    if constant_of(values._node) == 0:
        known = width * np.array([not differs(n) for n in x._node.shape], int).reshape(-1, 1)
        low_, high_ = (tuple(map(int, w)) for w in known.reshape(-1, 2).T)
        x = Array(shapes.pad(x._node, low=low_, high=high_, interior=(0,) * x.ndim))
        width = width - known
    values = broadcast_to(values.astype(x.dtype), (x.ndim, 2))
    for a, widths in enumerate(width):
        if not widths.any():
            continue
        before, after = (broadcast_to(values[a, side], (*x.shape[:a], int(n), *x.shape[a + 1:]))
                         for side, n in enumerate(widths))
        x = concatenate([before, x, after], a)
    return x
