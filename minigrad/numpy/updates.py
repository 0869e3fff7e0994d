"""Functional updates: ``x.at[i].set(v)`` is `x` with other elements in some places.

The places are found by indexing the positions of the elements, so a key may be anything that indexing takes:
integers, slices, index arrays, masks, None and an ellipsis, traced or not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import numpy as np

from ..errors import DtypeError, ShapeError, at_user_line
from ..graph import Node, constant_of, full
from ..ops import elementwise as ew
from ..ops.broadcast import broadcast_along
from ..ops.constants import const, constant, iota
from ..ops.index import gather, scatter_add
from ..ops.scatter import scatter_max, scatter_min
from ..ops.shape import reshape
from ..ops.sort import argsort
from ..symbolic import Dim, Shape, size_of
from ..tracebacks import boundary
from ..traced_array import TABLE, Array, ArrayLike, as_array, hooks
from ..tracing import number
from .arguments import as_axis, broadcast_node, checked_cast
from .data_types import result_type
from .dispatch import any_traced, implements
from .indexing import getitem
from .joining import concatenate
from .reductions import slice_along
from .selections import coordinates

R = TypeVar("R")  # the type of an updated array

_LONG = np.dtype(np.int64)


class At(Generic[R]):
    """``x.at``: index it, and call an update.

    ``minigrad.numpy.at(x)`` is the same for ordinary arrays.
    """

    __slots__ = ("_x",)

    def __init__(self, x: ArrayLike):
        self._x = x

    def __getitem__(self, key: object) -> Update[R]:
        return Update(self._x, key)

    def __repr__(self) -> str:
        return f"<{self._x!r}.at: index it, as in x.at[i].set(v)>"


class Update(Generic[R]):
    """The indexed elements of an array, for an update.

    Every method returns a new array of the shape and dtype of the old one. Values broadcast to the shape of
    ``x[key]``. Where a key names one place several times, `set` leaves the last value there and the others
    apply every value.
    """

    __slots__ = ("_key", "_x")

    def __init__(self, x: ArrayLike, key: object):
        self._x, self._key = x, key

    def __repr__(self) -> str:
        return f"<{self._x!r}.at[{self._key!r}]: call set, add, subtract, multiply, divide, min, max, apply or get>"

    def get(self) -> R:
        """Return ``x[key]``."""
        x: Any = self._x
        return cast(R, x[self._key])

    def set(self, values: ArrayLike) -> R:
        """Set the elements to `values`, cast to the array's dtype."""
        return self._apply("set", values, None, _put)

    def add(self, values: ArrayLike) -> R:
        """Add `values`."""
        return self._apply("add", values, np.add, _add)

    def subtract(self, values: ArrayLike) -> R:
        """Subtract `values`."""
        return self._apply("subtract", values, np.subtract, lambda x, p, v: _add(x, p, v, negative=True))

    def multiply(self, values: ArrayLike) -> R:
        """Multiply by `values`."""
        return self._apply("multiply", values, np.multiply, _multiply)

    mul = multiply

    def divide(self, values: ArrayLike) -> R:
        """Divide by `values`; the array must be floating."""
        x = self._x if isinstance(self._x, Array) else np.asarray(self._x)
        if x.dtype.kind != "f":
            raise DtypeError(at_user_line(f"x.at[...].divide of {x.dtype}: cast x to float first"))
        return self._apply("divide", values, np.divide, lambda x, p, v: _multiply(x, p, 1.0 / v))

    def max(self, values: ArrayLike) -> R:
        """Set each element to its maximum with `values`; ties share the gradient."""
        return self._apply("max", values, np.maximum, lambda x, p, v: ew.maximum(x, scatter_max(v, p, shape=x.shape)))

    def min(self, values: ArrayLike) -> R:
        """Set each element to its minimum with `values`; ties share the gradient."""
        return self._apply("min", values, np.minimum, lambda x, p, v: ew.minimum(x, scatter_min(v, p, shape=x.shape)))

    def apply(self, function: Callable[[R], ArrayLike]) -> R:
        """Set the elements to ``function(x[key])``."""
        return self.set(function(self.get()))

    def _apply(self, name: str, values: ArrayLike, ufunc: np.ufunc | None,
               on_rows: Callable[[Node, Node, Node], Node]) -> R:
        """Combine the elements with `values` by a ufunc (None: replace them), whose form on rows is `on_rows`."""
        if not any_traced([self._x, values, self._key]):
            out = np.array(self._x)
            key: Any = self._key
            plain: Any = values
            if ufunc is None:
                out[key] = plain
            else:
                ufunc.at(out, key, plain)
            return cast(R, out)
        x, v = as_array(self._x), as_array(values)
        if ufunc is not None and not np.can_cast(result_type(x.dtype, v), x.dtype, "same_kind"):
            raise DtypeError(at_user_line(f"x.at[...].{name} of {v._node.type} to {x._node.type}: the result would not "
                                          "have x's dtype. Cast one of them first."))
        v = Array(checked_cast(v, x.dtype))
        mask = _traced_mask(self._key)
        if mask is not None:
            return cast(R, _where_mask(x, mask, v, ufunc, name))
        places, axes = _places(x._node, self._key)
        row = x._node.shape[axes:]
        wide = _broadcast(v._node, (*places.shape, *row), name)
        if any(n == 0 for n in wide.shape):
            return cast(R, x)
        rows = reshape(x._node, shape=(size_of(x._node.shape[:axes]), *row))
        count = size_of(places.shape)
        updated = on_rows(rows, reshape(places, shape=(count,)), reshape(wide, shape=(count, *row)))
        return cast(R, Array(reshape(updated, shape=x._node.shape)))


for _name in ("set", "add", "subtract", "multiply", "divide", "max", "min", "apply", "get"):
    setattr(Update, _name, boundary(getattr(Update, _name)))


def _broadcast(v: Node, shape: Shape, name: str) -> Node:
    while v.ndim > len(shape) and v.shape[0] == 1:  # as NumPy's assignment does
        v = reshape(v, shape=v.shape[1:])
    try:
        return broadcast_node(v, shape)
    except ShapeError:
        raise ShapeError(at_user_line(f"x.at[...].{name}: values of {v.type} do not fit the {list(shape)} elements "
                                      "that the index names")) from None


def _traced_mask(key: object) -> Array | None:
    if isinstance(key, tuple) and len(key) == 1:
        key = key[0]
    return key if isinstance(key, Array) and key.dtype == np.bool_ else None


def _where_mask(x: Array, mask: Array, v: Array, ufunc: np.ufunc | None, name: str) -> Array:
    lead, shape = mask._node.shape, x._node.shape
    if mask.ndim > x.ndim or lead != shape[:mask.ndim]:
        raise ShapeError(at_user_line(f"x.at[mask].{name}: the mask {mask._node.type} does not fit {x._node.type}"))
    full_mask = broadcast_along(mask._node, shape, tuple(range(mask.ndim, x.ndim)))
    if v.ndim > x.ndim - mask.ndim:  # a value for each element that the mask selects
        places = coordinates(mask._node)
        if v._node.shape[:1] != places[0]._node.shape:
            raise ShapeError(at_user_line(
                f"x.at[mask].{name} with a traced mask: how many elements it names depends on data, so the values must "
                f"be one for all places, or those of y[mask], not {v._node.type}. Use np.where(mask, new, x), with new "
                "of the shape of x"))
        v = Array(full(1, shape, v.dtype)).at[places].set(v)
    wide = Array(broadcast_node(v._node, shape))
    new = wide if ufunc is None else TABLE[ufunc](x, wide)
    return Array(ew.where(full_mask, ew.cast_to(new._node, x.dtype), x._node))


def _places(x: Node, key: object) -> tuple[Node, int]:
    """Return the indexed rows of `x`, its first axes taken as one, and how many axes."""
    items = list(key) if isinstance(key, tuple) else [key]
    if items and items[-1] is Ellipsis:
        items.pop()
    from_behind = any(k is Ellipsis for k in items)  # then the last item is of the last axis
    while items and not from_behind and isinstance(items[-1], slice) and items[-1] == slice(None):
        items.pop()
    axes = x.ndim if from_behind else sum(map(_axes_of, items))
    if axes > x.ndim:
        getitem(Array(x), key)  # raises, with the reason
    lead = x.shape[:axes]
    size = size_of(lead)
    positions = Array(reshape(iota(size=size), shape=lead))
    named = getitem(positions, tuple(items))._node
    if isinstance(size, int) and not any_traced(items) and all(isinstance(n, int) for n in lead):
        indices: Any = tuple(items)
        named = constant(np.arange(size).reshape([number(n) for n in lead])[indices])
    return named, axes


def _axes_of(k: object) -> int:
    if k is None:
        return 0
    if isinstance(k, (slice, Array, int, np.integer)) and not isinstance(k, bool):
        return 1
    k = np.asarray(k) if not any_traced([k]) else k
    return k.ndim if isinstance(k, np.ndarray) and k.dtype == np.bool_ else 1


def _last(places: Node, n: int | Dim) -> Node:
    """Return for each of `n` places the number of its last update, or a negative number."""
    if places.prim is const:
        last = np.full(number(n), -1)
        np.maximum.at(last, places.params["value"], np.arange(number(places.shape[0])))
        return constant(last)
    return scatter_max(iota(size=places.shape[0]), places, shape=(n,))


def _pick(last: Node, v: Node, otherwise: Node) -> Node:
    """Return row ``v[last]``, or where `last` is negative the row of `otherwise`."""
    zero = full(0, last.shape, _LONG)
    updated = ew.ge(last, zero)
    if (value := constant_of(v)) is not None:
        rows = full(value, otherwise.shape, v.dtype)
    elif isinstance(v.shape[0], int):
        rows = gather(v, ew.where(updated, last, zero))
    else:  # an empty `v` has no row 0: elements without an update take a row behind the last
        behind = concatenate([Array(v), Array(full(0, (1, *v.shape[1:]), v.dtype))])._node
        rows = gather(behind, ew.where(updated, last, full(-1, last.shape, _LONG)))
    return ew.where(broadcast_along(updated, otherwise.shape, tuple(range(1, otherwise.ndim))), rows, otherwise)


def _put(x: Node, places: Node, v: Node) -> Node:
    return _pick(_last(places, x.shape[0]), v, x)


def _add(x: Node, places: Node, v: Node, negative: bool = False) -> Node:
    if x.dtype == np.bool_:
        raise DtypeError(at_user_line("x.at[...].add of bools: use set, max (or) or min (and)"))
    total = scatter_add(v, places, shape=x.shape)
    return x - total if negative else x + total


def _multiply(x: Node, places: Node, v: Node) -> Node:
    # Values that meet are multiplied up first: in order of place, by doubling the reach of each product. Products
    # of the values themselves have exact derivatives of every order, zeros included.
    value = places.params["value"] if places.prim is const else None
    if value is None or len(np.unique(value)) < len(value):
        order = argsort(places, axis=0)
        places, v = gather(places, order), gather(v, order)
        m, reach = number(places.shape[0]), 1
        while reach < m:
            meet = ew.eq(slice_along(places, 0, reach, m), slice_along(places, 0, 0, m - reach))
            later = slice_along(v, 0, reach, m)
            later = ew.where(broadcast_along(meet, later.shape, tuple(range(1, v.ndim))),
                             later * slice_along(v, 0, 0, m - reach), later)
            v = concatenate([Array(slice_along(v, 0, 0, reach)), Array(later)])._node
            reach *= 2
    return x * _pick(_last(places, x.shape[0]), v, full(1, x.shape, x.dtype))


@implements(name="at")
def at(x: ArrayLike) -> At[Any]:
    """Return ``x.at``, of an ordinary array too: ``at(x)[i].set(v)`` runs inside and outside a trace."""
    return At(x)


@implements(name="put_along_axis")
def put_along_axis(arr: ArrayLike, indices: ArrayLike, values: ArrayLike, axis: int = -1) -> Array:
    """Return a new array with `values` at the indices along an axis.

    NumPy's function writes into `arr` instead.
    """
    x = as_array(arr)
    a = as_axis(axis, x.ndim, "put_along_axis")
    i = as_array(indices)
    grid = [i if b == a else np.arange(number(x._node.shape[b])).reshape((1,) * b + (-1,) + (1,) * (x.ndim - b - 1))
            for b in range(x.ndim)]
    return x.at[tuple(grid)].set(values)


hooks.at = At
