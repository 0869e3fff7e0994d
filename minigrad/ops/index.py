"""``gather ⇄ scatter_add``: indexing with integer arrays, and its adjoint.

Both index the leading axes with as many index arrays, all of one shape, as NumPy's ``x[i, j]`` does.
An index may be negative, as in NumPy; one that is out of range raises when the program runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ..axes import INDEXED, REDUCE, Axis, AxisRule, Declared, Factor, parallel, subscripts
from ..combiners import ADD
from ..errors import DtypeError, at_user_line
from ..families import linear
from ..graph import PRIMITIVES, ArrayType, Node, note_read
from ..primitive import FIRST, ArrayNamespace, Primitive, Sample, broadcast_leading, broadcast_operands, fail
from ..symbolic import Dim, Shape
from ..tracing import guard_equal_shapes
from .broadcast import broadcast_along
from .constants import iota
from .strict_index import Reading
from .sum_rows import as_read, flat_index, sum_gathered, sum_rows


def _check_indices(name: str, x: ArrayType, indices: Sequence[ArrayType]) -> None:
    note_read()
    if not indices:
        raise fail(name, "no index", x)
    for i in indices:
        if i.dtype.kind not in "iu":
            raise DtypeError(at_user_line(f"{name}: an index must be an integer array, got {i}. "
                                          "Convert it with .astype(int)"))
        if not guard_equal_shapes(i.shape, indices[0].shape):
            raise fail(name, "index arrays of different shape", x, *indices)


def _gather_type(x: ArrayType, *indices: ArrayType) -> ArrayType:
    _check_indices("gather", x, indices)
    if len(indices) > x.ndim:
        raise fail("gather", "more indices than axes", x, *indices)
    return ArrayType(indices[0].shape + x.shape[len(indices):], x.dtype)


def _gather_eval(xp: ArrayNamespace, x: np.ndarray, *indices: np.ndarray, read: Sequence[Reading] = ()) -> Any:
    if xp is np:
        return x[as_read(indices, x.shape, read)]
    # The standard takes along one axis: index the flattened leading axes instead.
    k = len(indices)
    rows = xp.reshape(x, (math.prod(x.shape[:k]), *x.shape[k:]))
    flat = xp.reshape(flat_index(xp, indices, x.shape), (-1,))
    return xp.reshape(xp.take(rows, flat, axis=0), indices[0].shape + x.shape[k:])


def gather_batch(size: int | Dim, mapped: Sequence[bool], x: Node, *indices: Node) -> Node:
    """Batch a gather."""
    if not mapped[0]:
        return gather(x, *broadcast_operands(indices, mapped[1:], size))
    return gather(x, *_lockstep(size, mapped[1:], indices))


def _lockstep(size: int | Dim, mapped: Sequence[bool], indices: Sequence[Node]) -> list[Node]:
    """Return the indices of a batch: example b of each index goes with example b of the array."""
    stacked = broadcast_operands(indices, mapped, size)
    shape = stacked[0].shape
    return [broadcast_along(iota(size=size), shape, tuple(range(1, len(shape)))), *stacked]


def unexpanded(x: Node) -> tuple[Node, list[int]]:
    """Return the array that `x` repeats, and the axes of `x` that it has."""
    axes = list(range(x.ndim))
    while x.prim.name == "expand":
        axes = [axis for a, axis in enumerate(axes) if a not in x.params["axes"]]
        (x,) = x.inputs
    return x, axes


def counts_along(size: int | Dim, index: Node) -> int | None:
    """Return the axis of an index along which it counts up to `size`; None if there is none."""
    index, axes = unexpanded(index)
    return axes[0] if index.prim is iota and index.params["size"] == size else None


def lockstep(node: Node) -> bool:
    """Tell whether a gather or scatter pairs rows with indices: ``x[arange(B), y]``."""
    array = node.inputs[0] if node.prim is gather else node
    return counts_along(array.shape[0], node.inputs[1]) == 0


def counting_indices(node: Node) -> list[Node]:
    """Return the indices of a gather or scatter that count along the axis they index."""
    if node.prim.axes is not INDEXED_AXES:
        return []
    whole = node.inputs[0].shape if node.prim is gather else node.shape
    return [i for n, i in zip(whole, node.inputs[1:], strict=False) if counts_along(n, i) is not None]


def _indexed_axes(node: Node) -> AxisRule:
    """Return the rule of a gather, or of the scatter that is its adjoint.

    An axis that an index counts along is parallel; any other one is indexed.
    """
    x, *indices = node.inputs
    whole = x if node.prim is gather else node
    kept, drawn = parallel(whole.ndim - len(indices)), parallel(indices[0].ndim)
    places: list[Axis] = []
    for k, (n, index) in enumerate(zip(whole.shape, indices, strict=False), 1):
        axis = counts_along(n, index)
        places.append((Factor(INDEXED, k),) if axis is None else drawn[axis])
    array = (*places, *kept)
    if node.prim is gather:
        return AxisRule((array, *(tuple(drawn) for _ in indices)), ((*drawn, *kept),))
    assert node.prim.combiner is not None
    summed = [factors if factors in places else (Factor(REDUCE, node.prim.combiner.name),) for factors in drawn]
    return AxisRule(((*summed, *kept), *(tuple(summed) for _ in indices)), (array,))


INDEXED_AXES = Declared(_indexed_axes)


def _index_samples(adjoint: bool) -> list[Sample]:
    rng = np.random.default_rng(2)
    i, j = np.array([[0, 2], [2, -1]]), np.array([[1, 1], [0, 3]])
    if adjoint:
        return [Sample((rng.normal(size=(2, 2, 4)), i), {"shape": (3, 4)}),
                Sample((rng.normal(size=(2, 2)), i, j), {"shape": (3, 4)})]
    return [Sample((rng.normal(size=(3, 4)), i)), Sample((rng.normal(size=(3, 4)), i, j))]


gather = linear("gather", _gather_type, _gather_eval,
                lambda g, x, *indices: scatter_add(g, *indices, shape=x.shape), gather_batch,
                axes=INDEXED_AXES, picks=FIRST,
                samples=partial(_index_samples, adjoint=False))


def _scatter_type(u: ArrayType, *indices: ArrayType, shape: Shape) -> ArrayType:
    _check_indices("scatter_add", u, indices)
    if not guard_equal_shapes(u.shape, indices[0].shape + tuple(shape[len(indices):])):
        raise fail("scatter_add", f"updates do not fit an array of shape {shape}", u, *indices)
    return ArrayType(tuple(shape), u.dtype)


def _scatter_eval(xp: ArrayNamespace, u: np.ndarray, *indices: np.ndarray, shape: tuple[int, ...],
                  read: Sequence[Reading] = ()) -> np.ndarray:
    if xp is np:
        return sum_rows(u, indices, np.empty(shape, u.dtype), read)
    # Without a scatter in the standard: a product with the indices' one-hot rows.
    k = len(indices)
    flat = flat_index(xp, indices, shape)
    rows = xp.arange(math.prod(shape[:k]), dtype=xp.int64)
    hot = xp.astype(xp.reshape(flat, (1, -1)) == xp.expand_dims(rows, axis=1), u.dtype)
    return xp.reshape(xp.matmul(hot, xp.reshape(u, (math.prod(flat.shape), math.prod(shape[k:])))), shape)


def scatter_batch(name: str, size: int | Dim, mapped: Sequence[bool], u: Node, *indices: Node, shape: Shape) -> Node:
    """Batch the scatter called `name`."""
    u = u if mapped[0] else broadcast_leading(u, size)
    return PRIMITIVES[name](u, *_lockstep(size, mapped[1:], indices), shape=(size, *shape))


scatter_add: Primitive = linear(
    "scatter_add", _scatter_type, _scatter_eval, lambda g, u, *indices, shape: gather(g, *indices),
    partial(scatter_batch, "scatter_add"), axes=INDEXED_AXES, combiner=ADD, hidden_params=frozenset({"shape"}),
    samples=partial(_index_samples, adjoint=True))


def take_along_axis(x: Node, index: Node, axis: int) -> Node:
    """Return ``x[.., index[..], ..]``: a gather whose other axes count along."""
    grid = [index if a == axis else
            broadcast_along(iota(size=n), index.shape, tuple(b for b in range(x.ndim) if b != a))
            for a, n in enumerate(x.shape)]
    return gather(x, *grid)


# -- both at once ---------------------------------------------------------------------------------------------


def _gather_sum_type(x: ArrayType, source: ArrayType, to: ArrayType, *, size: int | Dim) -> ArrayType:
    _check_indices("gather_sum", x, (source, to))
    if source.ndim != 1 or not x.ndim:
        raise fail("gather_sum", "needs rows and vectors of indices", x, source, to)
    return ArrayType((size, *x.shape[1:]), x.dtype)


def _gather_sum_eval(xp: ArrayNamespace, x: np.ndarray, source: np.ndarray, to: np.ndarray, *, size: int,
                     read: Sequence[Reading] = (None, None)) -> np.ndarray:
    shape = (size, *x.shape[1:])
    if xp is np:
        return sum_gathered(x, source, to, np.empty(shape, x.dtype), read)
    return _scatter_eval(xp, _gather_eval(xp, x, source), to, shape=shape)


def _gather_sum_batch(n: int | Dim, mapped: Sequence[bool], x: Node, source: Node, to: Node, *, size: int | Dim
                     ) -> Node:
    rows = gather_batch(n, mapped[:2], x, source) if any(mapped[:2]) else gather(x, source)
    shape = (size, *x.shape[1 + mapped[0]:])
    return scatter_batch("scatter_add", n, (any(mapped[:2]), mapped[2]), rows, to, shape=shape)


gather_sum: Primitive = linear(  # a gather into a scatter_add without the rows between: a pass makes it
    "gather_sum", _gather_sum_type, _gather_sum_eval,
    lambda g, x, source, to, *, size: gather_sum(g, to, source, size=x.shape[0]), _gather_sum_batch,
    axes=subscripts("row@1 ..., edge:add, edge:add -> place@2 ..."), hidden_params=frozenset({"size"}),
    combiner=ADD, samples=lambda: [Sample((np.array([[0.1, -1.2], [0.6, 0.2], [-0.4, 2.1]]), np.array([0, 2, 2, 1]),
                                           np.array([1, 1, 0, 3])), {"size": 4})])
