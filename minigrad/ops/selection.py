"""Selections of rows: `defined_size`, whose value is that of a size, and `flatnonzero`, the true rows of a mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .. import interpreters
from ..defined_sizes import symbols_of_node
from ..errors import Unsupported
from ..families import discrete
from ..graph import ArrayType, Node, full, note_read, reachable
from ..primitive import ArrayNamespace, Sample, broadcast_leading, fail
from ..symbolic import Dim, Symbol
from .broadcast import broadcast_along
from .constants import iota, size_scalar
from .elementwise import cast_to
from .reduce import sum_
from .refusals import require_ints
from .shape import reshape

_INT = np.dtype(np.int64)
_HELD = Unsupported("within a loop, a branch or a function with a rule of its own, examples cannot keep different "
                    "numbers of rows. Select the rows before it")


def _size_type(count: ArrayType, *, size: Dim) -> ArrayType:
    note_read()  # a program that uses the size keeps its definition
    if count.shape:
        raise fail("defined_size", "a size is one number", count)
    return require_ints("defined_size", count)


# The count of a derived axis: `size` is the symbol that stands for it in shapes.
defined_size = discrete(
    "defined_size", _size_type, lambda xp, count, *, size: count, batch=_HELD, params={"size": Dim}, defines="size")


def _rows_type(mask: ArrayType, count: ArrayType, *, size: int | Dim) -> ArrayType:
    if mask.ndim != 1 or mask.dtype.kind != "b":
        raise fail("flatnonzero", "a mask has one bool per row", mask)
    require_ints("flatnonzero", count)
    return ArrayType((size,), _INT)


def _rows_eval(xp: ArrayNamespace, mask: np.ndarray, count: np.ndarray, *, size: int) -> np.ndarray:
    return xp.astype(xp.nonzero(mask)[0], xp.int64, copy=False)


def _rows_batch(batch: int | Dim, mapped: Sequence[bool], mask: Node, count: Node, *, size: int | Dim) -> Node:
    """Batch examples that keep as many rows each."""
    masks = mask if mapped[0] else broadcast_leading(mask, batch)
    n, shape = masks.shape[1], (batch, size)
    total = sum_(count if mapped[1] else broadcast_leading(count, batch), axes=(0,))
    rows = reshape(flatnonzero(reshape(masks, shape=(batch * n,)), total, size=batch * size), shape=shape)
    starts = iota(size=batch) * broadcast_along(size_scalar(n, _INT), (batch,), (0,))
    return rows - broadcast_along(starts, shape, (1,))


# The positions of the true elements of a mask; `count` is their number.
flatnonzero = discrete(
    "flatnonzero", _rows_type, _rows_eval, batch=_rows_batch, hidden_params=frozenset({"size"}),
    samples=lambda: [Sample((np.array([True, False, True]), np.array(2)), {"size": 2}, order=0)])


def _steps_type(first: ArrayType, count: ArrayType, *, size: int | Dim, step: int, within: int | Dim | None
                ) -> ArrayType:
    if first.shape or count.shape:
        raise fail("steps", "the first number and the count are one number each", first, count)
    require_ints("steps", first, count)
    return ArrayType((size,), _INT)


def _steps_batch(batch: int | Dim, mapped: Sequence[bool], first: Node, count: Node, *, size: int | Dim, step: int,
                 within: int | Dim | None) -> Node:
    shape = (batch, size)
    own = first if mapped[0] else broadcast_leading(first, batch)
    turn = broadcast_along(iota(size=size) * full(step, (size,), _INT), shape, (0,))
    return cast_to(broadcast_along(own, shape, (1,)), _INT) + turn


# `count` numbers from the first on, in steps: the positions of a slice `within` an axis, or those of a range (None).
steps = discrete(
    "steps", _steps_type,
    lambda xp, first, count, *, size, step, within: xp.astype(xp.asarray(first), xp.int64) + step * xp.arange(
        size, dtype=xp.int64),
    batch=_steps_batch, hidden_params=frozenset({"size", "within"}),
    samples=lambda: [Sample((np.array(1), np.array(3)), {"size": 3, "step": 2, "within": None}, order=0)])


def define_size(count: Node, name: str) -> tuple[Dim, Node]:
    """Return a new size whose number is `count`, and the node that defines it, which its users must depend on."""
    size = Dim.new(name, rows=True)
    return size, defined_size(count, size=size)


def selected(mask: Node, name: str) -> Node:
    """Return the positions of the true elements of a vector, as many as there are."""
    size, count = define_size(sum_(cast_to(mask, _INT), axes=(0,)), name)
    return flatnonzero(mask, count, size=size)


def with_own_sizes(outputs: Sequence[Node], defined: Mapping[Symbol, Node]) -> list[Node]:
    """Return a copy of outputs with new sizes in place of those that the nodes `defined` define in the original."""
    if not defined:
        return list(outputs)
    own = {s: Dim.new(s.name, s.hint, s.rows) for s in defined}
    new: dict[Node, Node] = {}
    for n in reachable(outputs, min(n.serial for n in defined.values())):
        inputs = tuple(new.get(i, i) for i in n.inputs)
        if inputs != n.inputs or not symbols_of_node(n).isdisjoint(own):
            new[n] = interpreters.retyped(n, inputs, interpreters.concrete(n.params, own))
    return [new.get(n, n) for n in outputs]
