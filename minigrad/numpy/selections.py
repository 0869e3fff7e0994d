"""Selections: the positions of true elements. The data determine their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..errors import DtypeError, ShapeError, at_user_line
from ..graph import Node, constant_of, full
from ..ops import elementwise as ew
from ..ops import selection
from ..ops.broadcast import broadcast_along
from ..ops.constants import iota, size_, size_scalar
from ..ops.control import barrier
from ..ops.custom import key_of_any
from ..ops.shape import reshape
from ..sizes import shown
from ..symbolic import Dim, size_of
from ..tracebacks import boundary
from ..traced_array import TABLE, Array, ArrayLike, as_array
from ..tracing import thread
from .dispatch import implements

Bound: TypeAlias = Array | int | Dim | None  # of a slice
_INT = np.dtype(np.int64)


@boundary
def select(mask: ArrayLike) -> Any:
    """Return the positions of the true elements of a mask: ``x[mg.select(mask)]`` has the rows that are kept.

    In a traced function the number of positions is a size that the data determine, one for each example: `vmap` takes
    the rows that all examples keep at once, without padding, and one compiled program serves all numbers. No gradient
    flows through the mask; it flows through the rows that are kept.

    Parameters
    ----------
    mask : bool array
        One bool per row, or per element of a block.

    Returns
    -------
    int array (K,), or a tuple of them
        The positions in increasing order. Of a mask with several axes: a tuple of K coordinates along each, as of
        ``numpy.nonzero``.

    Raises
    ------
    DtypeError
        If the mask is not of bools.
    ShapeError
        If the mask has no axis.

    Notes
    -----
    ``x[mask]`` is ``x[mg.select(mask)]``, and ``np.nonzero``, ``np.flatnonzero``, ``np.argwhere`` and
    ``np.where(mask)`` return the same positions. Masks that are computed alike select one axis, so that
    ``x[x > 0] * y[x > 0]`` is a product row by row; other masks select axes of their own. `renumber` maps indices of
    rows to positions among the rows that are kept.

    Examples
    --------
    >>> def loss(x):
    ...     kept = mg.select(x > 0)
    ...     return np.sum(np.log(x[kept]))
    >>> mg.vmap(mg.grad(loss))(np.array([[1.0, -1.0, 2.0], [-1.0, -2.0, 4.0]]))
    array([[1.  , 0.  , 0.5 ],
           [0.  , 0.  , 0.25]])
    >>> mg.select(np.array([[True, False], [True, True]]))
    (array([0, 1, 1]), array([0, 0, 1]))
    """
    if not isinstance(mask, Array):
        known = np.asarray(mask)
        _check("select", known.dtype, known.shape, f"{known.dtype}{list(known.shape)}")
        positions = np.nonzero(known)
        return positions if known.ndim > 1 else positions[0]
    node = mask._node
    _check("select", node.dtype, node.shape, str(node.type))
    arrays = coordinates(node)
    return arrays if len(arrays) > 1 else arrays[0]


def _check(name: str, dtype: np.dtype, shape: Sequence[object], kind: str) -> None:
    if dtype != np.bool_:
        raise DtypeError(at_user_line(f"{name}({kind}): a mask is of bools, and its true elements are kept. Write a "
                                      f"condition, such as {name}(x > 0)"))
    if not shape:
        raise ShapeError(at_user_line(f"{name}({kind}): a mask has one bool per row, and this one has no axis"))


def coordinates(mask: Node) -> tuple[Array, ...]:
    """Return the coordinates of the true elements along each axis of a mask; those of one mask have one size."""
    known = thread.trace.selections
    assert known is not None  # a traced array belongs to a trace
    if mask not in known:
        mask = next((other for other in known if _equal(mask, other, {})), mask)
    if mask not in known:
        flat = mask if mask.ndim == 1 else reshape(mask, shape=(size_of(mask.shape),))
        name = "kept_row" if not known else f"kept_row{len(known) + 1}"
        known[mask] = _unraveled(selection.selected(flat, name), mask)
    return tuple(map(Array, known[mask]))


def _mask_of(name: str, a: ArrayLike) -> Node:
    """Return which elements of an array with axes are not 0."""
    x = as_array(a)._node
    if not x.ndim:
        raise ShapeError(at_user_line(f"np.{name} of {x.type}: a number has no positions. Write np.{name}("
                                      "np.atleast_1d(x))"))
    return x if x.dtype == np.bool_ else ew.ne(x, full(0, x.shape, x.dtype))


@implements(np.nonzero)
def nonzero(a: ArrayLike) -> tuple[Array, ...]:
    """Return the positions of the elements that are not 0 along each axis, as `minigrad.select` does."""
    return coordinates(_mask_of("nonzero", a))


@implements(np.flatnonzero)
def flatnonzero(a: ArrayLike) -> Array:
    """Return the positions of the elements of the flattened array that are not 0, as `minigrad.select` does."""
    mask = _mask_of("flatnonzero", as_array(a).ravel())
    return coordinates(mask)[0]


@implements(np.argwhere)
def argwhere(a: ArrayLike) -> Array:
    """Return the positions of the elements that are not 0, a row of each, as `minigrad.select` does."""
    stacked: Array = TABLE[np.stack](coordinates(_mask_of("argwhere", a)), axis=1)
    return stacked


def _equal(a: Node, b: Node, known: dict[tuple[Node, Node], bool]) -> bool:
    """Return whether two nodes compute the same value from the same nodes, as ``x > 0`` written twice does."""
    if a is b:
        return True
    if (a, b) not in known:
        leaf = not a.inputs and a.prim not in (size_, iota) and constant_of(a) is None
        known[a, b] = (a.prim is b.prim and not a.prim.distinct and not leaf
                       and a.type == b.type and key_of_any(a.params) == key_of_any(b.params)
                       and len(a.inputs) == len(b.inputs)
                       and all(_equal(i, j, known) for i, j in zip(a.inputs, b.inputs, strict=True)))
    return known[a, b]


def differing_sizes(a: int | Dim, b: int | Dim, known: Mapping[Node, Sequence[Node]]) -> tuple[int | Dim, int | Dim]:
    """Return two sizes, or two that differ in their counts where the program computes both from sizes alike."""
    counts = {defined[0].params["size"]: count for count, defined in known.items() if "size" in defined[0].params}
    pairs = [(counts[a], counts[b])] if a in counts and b in counts else []
    apart: list[tuple[int | Dim, int | Dim]] = []
    for x, y in pairs:
        if x.prim is size_ is y.prim:
            apart += [(x.params["size"], y.params["size"])] * (x.params["size"] != y.params["size"])
        elif not _equal(x, y, {}):
            if x.prim is not y.prim or len(x.inputs) != len(y.inputs) or key_of_any(x.params) != key_of_any(y.params):
                return a, b
            pairs += zip(x.inputs, y.inputs, strict=True)
    return apart[0] if apart else (a, b)


def _unraveled(flat: Node, mask: Node) -> list[Node]:
    """Return coordinates from positions in row-major order."""
    out: list[Node] = []
    for n in mask.shape[:0:-1]:
        width = broadcast_along(size_scalar(n, _INT), flat.shape, (0,))
        rows = ew.floor_divide(flat, width)
        out.append(flat - rows * width)
        flat = rows
    return [flat, *reversed(out)]


def sized(x: Node, count: Array) -> tuple[Node, Dim]:
    """Return `x`, which waits for its definition, and a size whose number the program computes: `count`."""
    size, defined = _sized(ew.cast_to(count._node, _INT))
    return barrier(x, defined), size


def _sized(count: Node) -> tuple[Dim, Node]:
    """Return a size whose number the program computes, and the node that defines it: one of equal counts."""
    known = thread.trace.selections
    assert known is not None
    if count not in known:
        count = next((other for other in known if not other.ndim and _equal(count, other, {})), count)
    if count not in known:
        known[count] = [selection.define_size(count, "part" if not known else f"part{len(known) + 1}")[1]]
    (defined,) = known[count]
    size: Dim = defined.params["size"]
    return size, defined


def range_between(first: Array, last: Array, step: int, within: int | Dim | None = None) -> Node:
    """Return ``range(first, last, step)`` of ends that the program computes; `within`: positions along such an axis."""
    reach = _difference(last, first) if step > 0 else _difference(first, last)
    count = TABLE[np.maximum]((reach + (abs(step) - 1)) // abs(step), 0)
    size, defined = _sized(ew.cast_to(count._node, _INT))
    return selection.steps(ew.cast_to(first._node, _INT), defined, size=size, step=step, within=within)


def _difference(a: Array, b: Array) -> Array:
    """Return a - b; of two sizes as one size, by which equal counts are known."""
    sizes = [_size_of(x._node) for x in (a, b)]
    if sizes[0] is None or sizes[1] is None:
        return a - b
    return as_array(shown(sizes[0] - sizes[1]))


def _size_of(x: Node) -> int | Dim | None:
    """Return the size that a scalar is, or None."""
    size = x.params["size"] if x.prim is size_ else constant_of(x)
    return size if isinstance(size, (int, Dim)) else None


def slice_positions(low: Bound, high: Bound, step: int, n: int | Dim) -> Node:
    """Return the positions of a slice of `n` elements whose number the program computes, by Python's rules."""
    forwards = step > 0
    return range_between(_bound(low, n, forwards, not forwards), _bound(high, n, forwards, forwards), step, n)


def _bound(v: Bound, n: int | Dim, forwards: bool, from_end: bool) -> Array:
    """Return the place of a slice's bound; `from_end`: None stands for the end of the axis.

    The place is cut off at the ends of the axis where the number of elements depends on it.
    """
    ends = (0, n) if forwards else (-1, n - 1)
    if v is None:
        v = ends[from_end]
    elif isinstance(v, int) and (v < 0) == from_end:
        v = n + v if v < 0 else v
    else:
        place, low, high = (as_array(shown(e) if isinstance(e, Dim) else e) for e in (v, *ends))
        place = TABLE[np.where](place < 0, place + as_array(shown(n)), place)
        return TABLE[np.minimum](TABLE[np.maximum](place, low), high)
    return as_array(shown(v) if isinstance(v, Dim) else v)


@boundary
def renumber(mask: ArrayLike) -> Any:
    """Return the position of each row among the rows that `select` keeps, and -1 for the others.

    Parameters
    ----------
    mask : bool array (N,)

    Returns
    -------
    int array (N,)

    Raises
    ------
    DtypeError, ShapeError
        If the mask is not a vector of bools.

    Examples
    --------
    The part of a graph between the nodes that are kept:

    >>> x, src, dst = np.array([1.0, 2.0, 3.0]), np.array([0, 1, 2]), np.array([2, 0, 0])
    >>> keep = x != 2
    >>> nodes, new = mg.select(keep), mg.renumber(keep)
    >>> edges = mg.select(keep[src] & keep[dst])
    >>> x[nodes], new[src[edges]], new[dst[edges]]
    (array([1., 3.]), array([0, 1]), array([1, 0]))
    """
    array = as_array(mask) if isinstance(mask, Array) else np.asarray(mask)
    kind = str(array._node.type) if isinstance(array, Array) else f"{array.dtype}{list(array.shape)}"
    _check("renumber", array.dtype, array.shape, kind)
    if array.ndim != 1:
        raise ShapeError(at_user_line(f"renumber({kind}): rows are numbered along one axis"))
    return np.where(array, np.cumsum(array) - 1, -1)
