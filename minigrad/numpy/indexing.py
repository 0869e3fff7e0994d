"""Indexing: ``x[key]`` by NumPy's rules, and the functions that take elements."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex, TypeAlias, TypeGuard

import numpy as np

from ..errors import DtypeError, IndexRangeError, ShapeError, TraceError, at_user_line
from ..graph import ArrayType, Node, TupleType, full
from ..ops import elementwise as ew
from ..ops import index as gathering
from ..ops import shape as shapes
from ..ops.constants import constant, known
from ..ops.strict_index import checked, place
from ..primitive import move_axis
from ..sizes import Size, shown, unwrap
from ..symbolic import Dim, differs, divide, format_shape
from ..traced_array import TABLE, Array, ArrayLike, as_array, hooks
from ..tracing import guard_equal, guard_equal_shapes, number
from .arguments import MissingAxis, as_axis, as_int, broadcast_node, broadcast_shapes, counted
from .dispatch import any_traced, implements
from .elementwise import clip, where
from .joining import concatenate, stack
from .manipulation import expand_dims, flat_along, index_along, moveaxis, ravel, reshape
from .protocols import follows_examples, known_array
from .selections import coordinates, slice_positions

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

# -- x[key] --------------------------------------------------------------------------------------------------


Item: TypeAlias = int | slice | EllipsisType | Array | np.ndarray | None  # of an index


def _items(key: object, node: Node) -> tuple[list[Item], bool]:
    """Return the key with one item per axis (None apart), and whether an ellipsis stands between two of its indices.

    Ellipsis and masks are written out. An ellipsis that stands for no axis separates index arrays too.
    """
    ndim, kind = node.ndim, node.type
    items = [_item(k, kind) for k in (key if isinstance(key, tuple) else (key,))]
    if sum(k is Ellipsis for k in items) > 1:
        raise ShapeError(at_user_line("an index can have only one ellipsis"))
    used = sum(_takes(k) for k in items)
    if used > ndim:
        raise MissingAxis(at_user_line(f"{used} indices into {kind}, which has {ndim} axes"))
    ellipsis = next((i for i, k in enumerate(items) if k is Ellipsis), len(items))
    split = any(map(_is_index, items[:ellipsis])) and any(map(_is_index, items[ellipsis + 1:]))
    items = items[:ellipsis] + [slice(None)] * (ndim - used) + items[ellipsis + 1:]
    out: list[Item] = []
    axis = 0
    for k in items:
        if _is_mask(k):
            shape = k._node.shape if isinstance(k, Array) else k.shape
            if not guard_equal_shapes(shape, node.shape[axis:axis + k.ndim]):
                raise ShapeError(at_user_line(
                    f"a mask of shape {format_shape(shape)} does not fit {kind} at axis {axis}"))
            out.extend(coordinates(k._node) if isinstance(k, Array) else np.nonzero(k))
        else:
            out.append(k)
        axis += _takes(k)
    return out, split


def _item(k: Any, kind: ArrayType | TupleType) -> Item:
    """Return one item of a key: None, an ellipsis, a slice, an int, or an array of ints or bools."""
    if k is None or k is Ellipsis or isinstance(k, slice):
        return k
    if isinstance(k, Array):
        if k.dtype == np.bool_ and not k.ndim:
            raise TraceError(at_user_line("indexing with one traced bool: use np.where(flag, x, 0)"))
        return k
    if isinstance(k, Size) and differs(k.dim):
        return as_array(k)
    if isinstance(k, (int, np.integer, Size)) and not isinstance(k, (bool, np.bool_)):
        return int(k)
    if isinstance(k, (list, tuple)) and any(isinstance(v, Array) for v in k):
        return as_array(k)
    array = np.asarray(k)
    if array.dtype == object:
        whole = all(isinstance(v, (int, Size)) for v in array.flat)
        array = array.astype(np.int64) if whole else _refuse(k, kind)
    if array.dtype == np.bool_ and array.ndim:
        return array
    return array.astype(np.int64) if array.dtype.kind in "iu" or array.size == 0 else _refuse(k, kind)


def _is_index(k: Item) -> bool:
    return k is not None and not isinstance(k, slice)


def _is_mask(k: Item) -> TypeGuard[np.ndarray | Array]:
    return isinstance(k, (np.ndarray, Array)) and k.dtype == np.bool_


def _takes(k: Item) -> int:
    """Return the number of axes that an item of a key is an index of."""
    return 0 if k is None or k is Ellipsis else k.ndim if _is_mask(k) else 1


def _refuse(k: object, kind: ArrayType | TupleType) -> NoReturn:
    raise DtypeError(at_user_line(f"cannot index {kind} with {type(k).__name__} {k!r}: use integers, slices, None, "
                                  "..., or arrays of integers"))


@implements(name="getitem")
def getitem(x: ArrayLike, key: object) -> Array:
    """Return ``x[key]``."""
    node = as_array(x)._node
    items, split = _items(key, node)
    items, node = _with_symbolic_sizes(items, node)
    arrays = [k for k in items if isinstance(k, (Array, np.ndarray))]
    # An integer beside index arrays takes part in their broadcast, as in NumPy.
    advanced = [_is_index(k) and bool(arrays) for k in items]
    axis = 0
    cuts: list[tuple[int, int | Dim, int]] = []  # the start, stop and step along each axis
    reverse: list[int] = []
    shape: list[int | Dim] = []
    for k, is_advanced in zip(items, advanced, strict=True):
        if k is None:
            shape.append(1)
            continue
        n = node.shape[axis]
        if isinstance(k, slice):
            cut, kept, backwards = _cut(k, n, node.type)
            reverse += [axis] * backwards
        elif isinstance(k, int) and not is_advanced:
            size, kept = number(n), None
            if not -size <= k < size:
                raise IndexRangeError(at_user_line(f"index {k} is out of range for axis {axis} of {node.type}"))
            cut = k % size, k % size + 1, 1
        else:
            cut, kept = (0, n, 1), n
        cuts.append(cut)
        if kept is not None:
            shape.append(kept)
        axis += 1
    if any(a != 0 or b != n or s != 1 for (a, b, s), n in zip(cuts, node.shape, strict=True)
           if not (isinstance(n, Dim) and b == n)):
        start, stop, step = zip(*cuts, strict=True)
        node = shapes.slice_(node, start=start, stop=stop, step=step)
    if reverse:
        node = shapes.flip(node, axes=tuple(reverse))
    if node.shape != tuple(shape):
        node = shapes.reshape(node, shape=tuple(shape))
    return _advanced(node, items, advanced, split) if arrays else Array(node)


def _cut(k: slice, n: int | Dim, kind: ArrayType | TupleType) -> tuple[tuple[int, int | Dim, int], int | Dim, bool]:
    """Return a slice of an axis as (start, stop, step) forwards, how many elements it has, and whether to flip them."""
    if k in (slice(None), slice(None, None, -1)):  # the whole axis, of any size
        return (0, n, 1), n, k.step is not None
    plain = slice(*(None if v is None else _known_bound(v) for v in (k.start, k.stop, k.step)))
    if plain.step == 0:
        raise ShapeError(at_user_line(f"the slice [{k.start}:{k.stop}:0] of {kind}: its step is 0"))
    low, high, by = plain.indices(number(n))
    kept = len(range(low, high, by))
    if by > 0:
        return (low, max(low, high), by), kept, False
    return (low + (kept - 1) * by, low + 1, -by) if kept else (0, 0, 1), kept, True


def _with_symbolic_sizes(items: list[Item], node: Node) -> tuple[list[Item], Node]:
    """Apply slices whose size differs from example to example.

    An integer becomes an index array, which is checked when the program runs; a slice is taken of the node.
    """
    out, axis = [], 0
    for k in items:
        if k is not None:
            n = node.shape[axis]
            if isinstance(k, slice) and isinstance(k.step, Array):
                k = slice(k.start, k.stop, _known_bound(k.step))
            if isinstance(k, int) and isinstance(n, Dim) and n.hint is None:
                k = np.array(k)
            elif isinstance(k, slice) and _follows_data(k, n):
                node, k = _symbolic_slice(node, axis, k), slice(None)
            axis += 1
        out.append(k)
    return out, node


def _follows_data(k: slice, n: int | Dim) -> bool:
    """Return whether the number of elements of a slice differs between examples."""
    if k.start is None and k.stop is None and (k.step is None or (isinstance(k.step, int) and k.step == -1)):
        return False
    bounds = (k.start, k.stop)
    return differs(n) or any(_is_traced(v) or (isinstance(v, Size) and differs(v.dim)) for v in bounds)


def _symbolic_slice(node: Node, axis: int, k: slice) -> Node:
    """Return a slice whose number of elements differs between examples, or follows from data."""
    low, high = (v if v is None or _is_traced(v) else v.dim if isinstance(v, Size) and differs(v.dim) else
                 _known_bound(v) for v in (k.start, k.stop))
    n, by = node.shape[axis], 1 if k.step is None else _known_bound(k.step)
    if by == 0:
        raise ShapeError(at_user_line(f"the slice [{k.start}:{k.stop}:0] of {node.type}: its step is 0"))
    if not isinstance(low, Array) and not isinstance(high, Array):
        if by == 1 and (index := _fixed_rows(low, high)) is not None:
            if not len(index):
                return full(0, (*node.shape[:axis], 0, *node.shape[axis + 1:]), node.dtype)
            return _taken(node, axis, index)
        if (run := _run(low, high, by, n)) is not None:
            out = _stepped(node, axis, *run, abs(by))
            return shapes.flip(out, axes=(axis,)) if by < 0 else out
    for v in (low, high):
        if isinstance(v, Array) and (v.ndim or v.dtype.kind not in "iu"):
            raise DtypeError(at_user_line(f"a slice of {node.type} with the bound {v._node.type}: it is one integer"))
    positions = slice_positions(low, high, by, n)
    return move_axis(gathering.gather(move_axis(node, axis, 0), positions), 0, axis)


def _fixed_rows(low: int | Dim | None, high: int | Dim | None) -> np.ndarray | None:
    """Return the places of a slice with as many elements in each example: both bounds count from one end."""
    if isinstance(low, int) and low < 0 and high is None:
        return np.arange(low, 0)
    if isinstance(high, int) and (low is None or isinstance(low, int)) and ((low or 0) < 0) == (high < 0):
        return np.arange(low or 0, high)
    return None


def _run(low: int | Dim | None, high: int | Dim | None, by: int, n: int | Dim
         ) -> tuple[int | Dim, int | Dim] | None:
    """Return the least place of a slice of `n` elements, and their number; None if rounding decides it."""
    if by > 0:
        begin, end = _from_start(low or 0, n), (n if high is None else _from_start(high, n))
        count = _count(end - begin, by)
        return None if count is None else (begin, count)
    first, last = (n - 1 if low is None else _from_start(low, n)), (-1 if high is None else _from_start(high, n))
    count = _count(first - last, -by)
    return None if count is None else (first + (count - 1) * by, count)


def _from_start(bound: int | Dim, n: int | Dim) -> int | Dim:
    """Return the bound of a slice of `n` elements, counted from the first one."""
    return n + bound if isinstance(bound, int) and bound < 0 else bound


def _count(length: int | Dim, step: int) -> int | Dim | None:
    """Return the number of steps in a length; None if rounding decides it, or more rows mean fewer steps."""
    count = divide(length, step)
    return None if isinstance(count, Dim) and any(factor < 0 for symbols, factor in count.terms if symbols) else count


def _stepped(node: Node, axis: int, begin: int | Dim, count: int | Dim, step: int) -> Node:
    """Return `count` elements along an axis from `begin` on, in steps."""
    if step == 1:
        return shapes.section(node, axis, begin, count)
    start = Array(constant(np.int64(begin))) if isinstance(begin, int) else as_array(Size(begin))
    index = checked(place, (as_array(counted(count)) * step + start)._node, node.shape[axis])
    return move_axis(gathering.gather(move_axis(node, axis, 0), index), 0, axis)


def _taken(node: Node, axis: int, index: np.ndarray) -> Node:
    """Return the elements along an axis that `index` names."""
    front = move_axis(node, axis, 0)
    return move_axis(gathering.gather(front, constant(index)), 0, axis)


def _is_traced(v: object) -> TypeGuard[Array]:
    """Return whether the bound of a slice is known to the program alone."""
    return isinstance(v, Array) and (follows_examples(v) or known_array(v) is None)


def _known_bound(v: SupportsIndex) -> int:
    if _is_traced(v):
        raise TraceError(at_user_line("a slice whose step is traced: it must be a plain int. Use "
                                      "x[start + step * np.arange(length)]"))
    return operator.index(v)


def _advanced(node: Node, items: list[Item], advanced: list[bool], split: bool) -> Array:
    """Gather by the index arrays among `items`; the other items are applied already.

    The indices' axes stand where the indices do if these are neighbours (not `split` by an ellipsis), else in front.
    """
    places = [i for i, flag in enumerate(advanced) if flag]
    indices = [as_array(items[i])._node for i in places]
    for i in indices:
        if i.dtype.kind not in "iu":
            raise DtypeError(at_user_line(f"an index must be an integer array, got {i.type}. "
                                          "Convert it with .astype(int)"))
    shape = broadcast_shapes("indexing", indices)
    for i, a in zip(indices, places, strict=True):
        _check_range(i, node.shape[a], a)
    indices = [broadcast_node(ew.cast_to(i, np.dtype(np.int64)), shape) for i in indices]
    others = [a for a in range(node.ndim) if a not in places]
    perm = (*places, *others)
    if perm != tuple(range(node.ndim)):
        node = shapes.transpose(node, perm=perm)
    out = gathering.gather(node, *indices)
    adjacent = not split and places == list(range(places[0], places[-1] + 1))
    to = places[0] if adjacent else 0
    if to and shape:
        k = len(shape)
        perm = (*range(k, k + to), *range(k), *range(k + to, out.ndim))
        out = shapes.transpose(out, perm=perm)
    return Array(out)


def _check_range(i: Node, n: int | Dim, axis: int) -> None:
    """Check a known index against a known size."""
    if isinstance(n, Dim):
        return
    value = known(i)
    if value is not None and np.size(value) and not (-n <= np.min(value) and np.max(value) < n):
        raise IndexRangeError(at_user_line(f"index {np.min(value)}..{np.max(value)} is out of range for axis {axis} of "
                                           f"size {n}"))


# -- elements along axes -------------------------------------------------------------------------------------


@implements(np.take)
def take(a: ArrayLike, indices: ArrayLike, axis: int | None = None, out: None = None, mode: str = "raise") -> Array:
    """Take elements along an axis."""
    if mode != "raise":
        raise TraceError(at_user_line(f"np.take with mode={mode!r}: use np.clip or % on the indices"))
    x, a_ = flat_along(a, axis, "take")
    return getitem(x, (slice(None),) * a_ + (as_array(indices) if not isinstance(indices, int) else indices,))


@implements(np.take_along_axis)
def take_along_axis(arr: ArrayLike, indices: ArrayLike, axis: int = -1) -> Array:
    """Take at each place the element with the index there."""
    if axis is None:
        arr, axis = ravel(arr), 0
    x, i = as_array(arr)._node, as_array(indices)._node
    if i.dtype.kind not in "iu":
        raise DtypeError(at_user_line(f"take_along_axis: an index must be an integer array, got {i.type}. "
                                      "Convert it with .astype(int)"))
    if x.ndim != i.ndim:
        raise ShapeError(at_user_line(f"take_along_axis({x.type}, {i.type}): needs as many axes in both"))
    a_ = as_axis(axis, x.ndim, "take_along_axis")
    shape = broadcast_shapes("take_along_axis", [
        ArrayType(tuple(1 if a == a_ else n for a, n in enumerate(t.shape)), t.dtype) for t in (x, i)])
    x = broadcast_node(x, tuple(x.shape[a] if a == a_ else n for a, n in enumerate(shape)))
    i = broadcast_node(i, tuple(i.shape[a] if a == a_ else n for a, n in enumerate(shape)))
    return Array(gathering.take_along_axis(x, ew.cast_to(i, np.dtype(np.int64)), a_))


@implements(np.compress)
def compress(condition: ArrayLike, a: ArrayLike, axis: int | None = None, out: None = None) -> Array:
    """Return the slices for which a condition holds."""
    x, axis = flat_along(a, axis, "compress")
    if any_traced([condition]):
        mask = as_array(condition)
        if mask.ndim != 1 or not guard_equal_shapes(mask._node.shape, x._node.shape[axis:axis + 1]):
            raise ShapeError(at_user_line(f"np.compress: the condition {mask._node.type} does not fit axis {axis} of "
                                          f"{x._node.type}"))
        return index_along(x, axis, mask if mask.dtype == np.bool_ else mask != 0)
    return index_along(x, axis, np.flatnonzero(np.asarray(condition)))


@implements(np.extract)
def extract(condition: ArrayLike, arr: ArrayLike) -> Array:
    """Return the elements for which a condition holds."""
    return compress(ravel(condition) if any_traced([condition]) else np.ravel(np.asarray(condition)), arr)


# -- diagonals -----------------------------------------------------------------------------------------------


def _above_below(offset: int | Size, name: str) -> tuple[int | Dim, int | Dim]:
    """Return how far a diagonal lies above and below the main one; a symbolic size is none of a known sign."""
    size = unwrap(offset)
    if isinstance(size, Dim) and len({factor > 0 for _, factor in size.terms}) == 1:
        return (size, 0) if size.terms[0][1] > 0 else (0, -size)
    k = as_int(offset, name, "the offset")
    return max(k, 0), max(-k, 0)


@implements(np.diagonal)
def diagonal(a: ArrayLike, offset: int | Size = 0, axis1: int = 0, axis2: int = 1) -> Array:
    """Return the diagonal of two axes, as the last axis."""
    x = moveaxis(a, (axis1, axis2), (-2, -1))
    above, below = _above_below(offset, "diagonal")
    n, m = x._node.shape[-2:]
    if isinstance(n, Dim) and guard_equal(n, m):
        places = counted(n - above - below) + shown(below)
        return x[..., places, places + shown(above - below)]
    above, below = number(above), number(below)
    rows = np.arange(max(0, min(number(n) - below, number(m) - above))) + below
    return x[..., rows, rows + above - below]


@implements(np.trace)
def trace(a: ArrayLike, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: DTypeLike | None = None,
          out: None = None) -> Array:
    """Return the sum of the diagonal."""
    return diagonal(a, offset, axis1, axis2).sum(axis=-1, dtype=dtype)


@implements(np.diag)
def diag(v: ArrayLike, k: int | Size = 0) -> Array:
    """Return the diagonal of a matrix, or the matrix of a diagonal."""
    x = as_array(v)
    if x.ndim != 1:
        return diagonal(x, k)
    k = as_int(k, "diag", "k")
    n = x._node.shape[0]
    if isinstance(n, Dim):
        place = counted(n + abs(k))
        column = concatenate([np.zeros(max(-k, 0), x.dtype), x, np.zeros(max(k, 0), x.dtype)])
        return where(place[:, None] + k == place, expand_dims(column, 1), as_array(0).astype(x.dtype))
    n = number(n) + abs(k)
    column = concatenate([np.zeros(max(-k, 0), x.dtype), x, np.zeros(max(k, 0), x.dtype)])
    return Array(ew.where(constant(np.eye(n, k=k, dtype=bool)), broadcast_node(expand_dims(column, 1)._node, (n, n)),
                          full(0, (n, n), x.dtype)))


@implements(np.diagflat)
def diagflat(v: ArrayLike, k: int = 0) -> Array:
    """Return the matrix with the flattened array on its diagonal."""
    return diag(ravel(v), k)


# -- choice by conditions ------------------------------------------------------------------------------------


@implements(np.select)
def select(condlist: Sequence[ArrayLike], choicelist: Sequence[ArrayLike], default: ArrayLike = 0) -> Array:
    """Choose for each element by the first condition that holds."""
    if len(condlist) != len(choicelist) or not condlist:
        raise ShapeError(at_user_line(f"np.select: {len(condlist)} conditions for {len(choicelist)} choices"))
    choices = _same_dtype_weakly([*choicelist, default])
    out = choices[-1]
    for condition, choice in zip(reversed(condlist), reversed(choices[:-1]), strict=True):
        out = where(condition, choice, out)
    shape = broadcast_shapes("np.select", [as_array(x)._node for x in (*condlist, *choices)])
    return Array(broadcast_node(out._node, shape))


def _same_dtype_weakly(values: Sequence[Any]) -> list[Array]:
    xs = [as_array(v) for v in values]
    dtype = np.result_type(*xs) if any_traced(values) else np.result_type(*values)
    return [x.astype(dtype) for x in xs]


@implements(np.choose)
def choose(a: ArrayLike, choices: ArrayLike, out: None = None, mode: str = "raise") -> Array:
    """Choose for each element by a number; the program checks its range."""
    numbers = as_array(a)
    options = _same_dtype_weakly(choices if isinstance(choices, (list, tuple)) else list(as_array(choices)))
    shape = broadcast_shapes("np.choose", [numbers._node, *(c._node for c in options)])
    n = len(options)
    numbers = clip(numbers, 0, n - 1) if mode == "clip" else numbers % n if mode == "wrap" else numbers
    stacked = stack([Array(broadcast_node(c._node, shape)) for c in options])
    numbers = Array(broadcast_node(numbers._node, shape))
    return take_along_axis(stacked, expand_dims(numbers, 0), 0)[0]


# -- indices -------------------------------------------------------------------------------------------------


@implements(np.ix_)
def ix_(*args: ArrayLike) -> tuple[Array, ...]:
    """Return the index arrays of an open mesh."""
    xs = [as_array(a) for a in args]
    for x in xs:
        if x.ndim != 1 or (x.dtype == np.bool_):
            raise ShapeError(at_user_line(f"np.ix_: needs vectors of integers, got {x._node.type}"))
    return tuple(reshape(x, (1,) * i + (-1,) + (1,) * (len(xs) - i - 1)) for i, x in enumerate(xs))


def _of_triangle(function: Callable[..., tuple[np.ndarray, ...]], indices: Callable[..., object]) -> None:
    name = function.__name__

    @implements(function, doc=f"Return ``np.{name}`` of an array of this shape.")
    def positions(arr: ArrayLike, k: int = 0) -> Any:
        x = as_array(arr)._node
        if x.ndim != 2:
            raise ShapeError(at_user_line(f"np.{name} of {x.type}: it takes a matrix"))
        rows, columns = (shown(n) if differs(n) else number(n) for n in x.shape)
        return TABLE[indices](rows, k, columns)


_of_triangle(np.tril_indices_from, np.tril_indices)
_of_triangle(np.triu_indices_from, np.triu_indices)


@implements(np.diag_indices_from)
def diag_indices_from(arr: ArrayLike) -> tuple[np.ndarray, ...]:
    """Return the indices of the diagonal of an array of this shape."""
    return np.diag_indices_from(np.empty(tuple(map(number, as_array(arr)._node.shape)), bool))


def _whole(name: str, x: ArrayLike) -> Array:
    x = as_array(x)
    if x.dtype.kind not in "iu":
        raise DtypeError(at_user_line(f"np.{name}: needs integers, got {x._node.type}"))
    return x


@implements(np.unravel_index)
def unravel_index(indices: ArrayLike, shape: Sequence[int | Size], order: str = "C") -> tuple[Array, ...]:
    """Return index arrays from an index into the flattened array."""
    x = _whole("unravel_index", indices)
    parts = []
    for n in (reversed(tuple(shape)) if order == "C" else tuple(shape)):
        size = n if isinstance(n, Size) and differs(n.dim) else int(n)
        parts.append(x % size)
        x = x // size
    return tuple(reversed(parts)) if order == "C" else tuple(parts)


@implements(np.ravel_multi_index)
def ravel_multi_index(multi_index: Sequence[ArrayLike], dims: Sequence[int], mode: str = "raise",
                      order: str = "C") -> Array:
    """Return the index into the flattened array.

    An index out of range passes unnoticed, unless `mode` clips or wraps it.
    """
    flat: Array | int = 0
    modes = mode if isinstance(mode, tuple) else (mode,) * len(dims)
    pairs = list(zip(multi_index, dims, modes, strict=True))
    for i, n, bound in pairs if order == "C" else reversed(pairs):
        i = _whole("ravel_multi_index", i)
        i = clip(i, 0, n - 1) if bound == "clip" else i % n if bound == "wrap" else i
        flat = flat * n + i
    return as_array(flat)


hooks.getitem = getitem
