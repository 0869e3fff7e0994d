"""Batching rules for packed (ragged) arrays.

A value with ragged sizes is packed: its ragged axes are merged into one leading axis (`Rows`). Other values are
stacked, or shared by all examples, as under any `vmap`. Axis rules imply most of the batching: operations along fixed
axes apply to packed rows unchanged, reductions along ragged axes become segment reductions, and indices are shifted by
their example's offset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import interpreters
from ..axes import ORDERED, PARALLEL, PERMUTED, REDUCE, AxisRule, axis_rule
from ..combiners import ADD, ALL, ANY, ARGMAX, MAX, MIN
from ..defined_sizes import after_definitions, defines_sizes
from ..errors import BatchError, ShapeError, Unsupported
from ..graph import PRIMITIVES, Graph, Node, full, moment, reachable
from ..ops.accumulators import accumulator
from ..ops.block_einsum import block_einsum
from ..ops.broadcast import broadcast_along, expand
from ..ops.checks import in_range, picked
from ..ops.constants import iota, proj, size_, size_scalar
from ..ops.control import barrier, checkpoint, chunked, written_out
from ..ops.custom import Later, Opaque, PerExample, custom, effect, ruled
from ..ops.einsum import LETTERS, contract, einsum, parse
from ..ops.elementwise import cast, cast_to, eq, floor_divide, isnan, logical_not, logical_or, lt, mod, where
from ..ops.index import counts_along, gather, scatter_add
from ..ops.mean import mean
from ..ops.random import random_at, random_bits
from ..ops.recurrence import recurrence, segment_recurrence, segment_shift, shift
from ..ops.reduce import argmax, argmin, max_, min_, min_or_largest, sum_
from ..ops.scatter import scatter_max, scatter_min
from ..ops.segments import (
    checked_index,
    nonempty,
    segment_argsort,
    segment_cumfmax,
    segment_cumfmin,
    segment_cummax,
    segment_cummin,
    segment_cumsum,
    segment_ids,
)
from ..ops.selection import defined_size, flatnonzero, steps
from ..ops.shape import concatenate, flip, reshape, section, transpose
from ..ops.sort import argsort, cumfmax, cumfmin, cummax, cummin, cumsum
from ..ops.strict_index import place
from ..ops.subgraph import symbols_of
from ..primitive import Combiner, Primitive, broadcast_leading, placeholder
from ..symbolic import Dim, Shape, Symbol, size_of
from ..views import window
from .rows import Domain, Rows, spread_rows

_INT = np.dtype(np.int64)
EVERY = -1  # the serial from which nodes are batched: a held graph may contain constants of any age
Inputs = tuple[Node, ...]
Rule = Callable[["Batching", Node, Inputs], Node]
SegmentForm = Callable[["Batching", Domain, Node, Sequence[Node]], Node]


@dataclass(eq=False, repr=False)
class Batching:
    """The batching of one program for examples of different size.

    Attributes
    ----------
    rows : Rows
    batched : dict of Node to Node
        The batch of each node of the program for one example.
    mapped : set of Node
        The nodes that differ between examples: stacked or packed.
    targets : dict of Node to Symbol
        The axis that an index points into.
    packed_indices : dict of Node to Node
        Indices that count the packed rows already.
    nullable : set of Node
        Indices that may be null.
    in_rule : bool
        Whether the program is the derivative rule of a function.
    """

    rows: Rows
    batched: dict[Node, Node] = field(default_factory=dict)
    mapped: set[Node] = field(default_factory=set)
    targets: dict[Node, Symbol] = field(default_factory=dict)
    packed_indices: dict[Node, Node] = field(default_factory=dict)
    nullable: set[Node] = field(default_factory=set)
    in_rule: bool = False

    def run(self, outputs: Sequence[Node], since: int, end: Sequence[Node] = ()) -> list[tuple[Node, bool]]:
        """Return the batch of the outputs, and whether each differs between examples.

        The program begins after serial `since` and the nodes in `end`, which are batched already.
        """
        nodes = after_definitions(reachable(outputs, since, end))
        interpreters.batch_nodes(nodes, self.batched, self.mapped, self.rows.size, self._batch)
        return [(self.batched.get(n, n), n in self.mapped) for n in outputs]

    def _batch(self, node: Node, inputs: tuple[Node, ...]) -> Node | None:
        """Return the batch of a node that has or reads ragged axes; None for others."""
        _follow_targets(self, node)
        if node.prim is place and (index := node.inputs[0]) in self.targets:  # the batch has been checked
            if index in self.packed_indices:
                self.packed_indices[node] = self.packed_indices[index]
            return self.batched[index]
        if node.prim is defined_size and node.inputs[0] in self.mapped:
            self.rows.define(node.params["size"].symbol, inputs[0])
            return inputs[0]
        if node.prim.inline and defines_sizes(node) and not self.mapped.isdisjoint(node.inputs):
            return RULES[node.prim](self, node, inputs)
        if node.prim in (barrier, proj) or not self._touches_ragged(node):
            return None
        if node.prim is cast and node.inputs[0] in self.packed_indices and node.dtype == _INT:
            self.packed_indices[node] = cast_to(self.packed_indices[node.inputs[0]], _INT)
        if node.prim.kind == "elementwise":
            return PRIMITIVES[node.prim.name](*inputs, **node.params)
        axes = axis_rule(node)
        if (new := _parallel(self, node, inputs, axes)) is not None:
            return new
        rule = RULES.get(node.prim) or _rule_of_axes(self, node, axes)
        return rule(self, node, inputs)

    def _touches_ragged(self, node: Node) -> bool:
        return any(map(self.is_ragged, (node, *node.inputs))) or any(map(self.ragged_param, node.params.values()))

    def ragged_param(self, v: object) -> bool:
        """Return whether a static parameter is, or a held graph reads, a size that differs between examples."""
        if isinstance(v, tuple):
            return any(map(self.ragged_param, v))
        if isinstance(v, Graph):
            return not symbols_of(v).isdisjoint(self.rows.lengths)
        return isinstance(v, Dim) and self.rows.ragged(v)

    def is_ragged(self, node: Node) -> bool:
        """Return whether a value of one example has a ragged axis."""
        return any(self.rows.ragged(n) for t in node.types for n in t.shape)

    def points_into(self, index: Node, n: int | Dim) -> bool:
        """Return whether an index counts the rows of the axis of size `n`, in which `batch` has checked it."""
        return index in self.targets and n == Dim.of(self.targets[index])

    def composed(self, node: Node, since: int) -> Node:
        """Return the batch of a composition of nodes for one example, created from serial `since` on."""
        return self.run([node], since)[0][0]

    def each(self, node: Node) -> Node:
        """Return a value without ragged axes as (B, ...), repeated where all examples share it."""
        new = self.batched.get(node, node)
        return new if node in self.mapped else broadcast_leading(new, self.rows.size)

    def at_rows(self, node: Node, domain: Domain, kept: tuple[int, ...] | None = None) -> Node:
        """Return a value at each row of `domain`; its own ragged axes are those in `kept`, in order.

        A value that all examples share has no rows, and is returned unchanged.
        """
        new = self.batched.get(node, node)
        if not self.is_ragged(node):
            return gather(new, self.rows.owner(domain)) if node in self.mapped else new
        return new if kept is None or kept == tuple(range(len(domain))) else gather(new, self.rows.within(domain, kept))


def refuse(node: Node, reason: str, instead: str) -> Unsupported:
    """Return the error of an operation without a rule along ragged axes."""
    types = ", ".join(str(i.type) for i in node.inputs)
    return Unsupported(f"{node.where}: {node.prim.name}({types}): {reason}. {instead}")


def _places(rows: Rows, shape: Shape) -> tuple[list[int], dict[int, int]]:
    """Return the ragged axes of a shape, and the axis of the packed array for each dense axis."""
    ragged = [a for a, n in enumerate(shape) if rows.ragged(n)]
    dense = [a for a in range(len(shape)) if a not in ragged]
    return ragged, {a: i + 1 for i, a in enumerate(dense)}


def _on_dense(b: Batching, node: Node, x: Node) -> Node:
    """Return the operation of a node along the dense axes of packed rows alone."""
    declared = node.prim.axes
    assert declared is not None
    assert declared.placed is not None
    assert declared.still is not None
    dense = [a for a, n in enumerate(node.inputs[0].shape) if not b.rows.ragged(n)]
    params = declared.placed(node.params, (None, *dense), x.shape[0])
    return x if declared.still(params, x.shape, x.shape) else node.prim(x, **params)


# -- leaves --------------------------------------------------------------------------------------------------


def _full(b: Batching, node: Node, xs: Inputs) -> Node:
    return full(node.params["value"], b.rows.packed(node.shape), node.dtype)


# -- expand and the reductions -------------------------------------------------------------------------------


def _expand(b: Batching, node: Node, xs: Inputs) -> Node:
    (old,), shape, axes = node.inputs, node.shape, node.params["axes"]
    ragged, place = _places(b.rows, shape)
    domain = b.rows.domain(shape)
    x = b.at_rows(old, domain, tuple(i for i, a in enumerate(ragged) if a not in axes))
    new = tuple(place[a] for a in axes if a in place)
    if old not in b.mapped and not b.is_ragged(old):
        new = (0, *new)  # a shared value repeats along the rows
    return broadcast_along(x, b.rows.packed(shape), new)


def _none(x: Node, ids: Node, *, shape: Shape) -> Node:
    """Return whether no row of a segment is true."""
    count = scatter_add(cast_to(x, _INT), ids, shape=shape)
    return eq(count, full(0, count.shape, _INT))


SEGMENT_REDUCTIONS: dict[Combiner, Callable[..., Node]] = {
    ADD: scatter_add, MAX: scatter_max, MIN: scatter_min,
    ANY: lambda x, ids, *, shape: logical_not(_none(x, ids, shape=shape)),
    ALL: lambda x, ids, *, shape: _none(logical_not(x), ids, shape=shape)}


def _reduce(b: Batching, node: Node, xs: Inputs) -> Node:
    """Reduce dense axes by the operation itself, and ragged axes by the segment form of its combiner."""
    (x,), (old,), axes = xs, node.inputs, node.params["axes"]
    ragged, _ = _places(b.rows, old.shape)
    domain = b.rows.domain(old.shape)
    kept = tuple(i for i, a in enumerate(ragged) if a not in axes)
    assert node.prim.combiner is not None
    out = _collect(b, _on_dense(b, node, x), domain, kept, SEGMENT_REDUCTIONS[node.prim.combiner])
    if node.prim not in (max_, min_):
        return out
    # An extreme of no element raises an error, as in NumPy (of no extremes, too), but when the program runs.
    lengths = b.rows.length(tuple(n for i, n in enumerate(domain) if i not in kept))
    message = f"{node.prim.name} of nothing: example {{}} has no rows. Give it initial="
    return barrier(out, nonempty(lengths, message=message))


def _collect(b: Batching, x: Node, domain: Domain, kept: tuple[int, ...], reduction: Callable[..., Node]) -> Node:
    """Reduce rows of `domain` to the rows of its sizes in `kept`, or to one value per example."""
    smaller = tuple(domain[i] for i in kept)
    ids = b.rows.within(domain, kept) if kept else b.rows.owner(domain)
    return reduction(x, ids, shape=(b.rows.total(smaller) if kept else b.rows.size, *x.shape[1:]))


def _mean(b: Batching, node: Node, xs: Inputs) -> Node:
    (x,), axes, since = node.inputs, node.params["axes"], moment()
    total = sum_(cast_to(x, accumulator(node.dtype)), axes=axes)
    count = broadcast_along(size_scalar(size_of(x.shape[a] for a in axes), _INT), total.shape, tuple(range(total.ndim)))
    return b.composed(cast_to(total / cast_to(count, total.dtype), node.dtype), since)


def _arg(b: Batching, node: Node, xs: Inputs) -> Node:
    (x,), axis, since = node.inputs, node.params["axis"], moment()
    best = (max_ if node.prim.combiner is ARGMAX else min_)(x, axes=(axis,))
    position = broadcast_along(iota(size=x.shape[axis]), x.shape, tuple(a for a in range(x.ndim) if a != axis))
    hit = eq(x, broadcast_along(best, x.shape, (axis,)))
    hit = logical_or(hit, isnan(x)) if x.type.floating else hit
    never = full(np.iinfo(_INT).max, x.shape, _INT)
    return b.composed(min_or_largest(where(hit, position, never), axes=(axis,)), since)


# -- contraction ---------------------------------------------------------------------------------------------


def _einsum(b: Batching, node: Node, xs: Inputs) -> Node:
    terms, out = parse(node.params["subscripts"])
    sizes = {c: n for t, i in zip(terms, node.inputs, strict=True) for c, n in zip(t, i.shape, strict=True)}
    ragged = {c for c, n in sizes.items() if b.rows.ragged(n)}
    if _in_blocks(b, node, terms, out, ragged):
        return _block_einsum(b, node, out, ragged, sizes)
    if len(ragged) > 2:  # a product of matrices of ragged size
        return EACH["matrix"](b, node, xs)
    order = _row_order(terms, out, ragged)
    domain = tuple(sizes[c] for c in order)
    row = next(c for c in LETTERS if c not in sizes)
    operands = []
    for t, old in zip(terms, node.inputs, strict=True):
        x = b.at_rows(old, domain, tuple(order.index(c) for c in t if c in ragged))
        has_rows = old in b.mapped or b.is_ragged(old)
        operands.append((row * has_rows + "".join(c for c in t if c not in ragged), x))
    result = contract(operands, row + "".join(c for c in out if c not in ragged))
    kept = tuple(order.index(c) for c in out if c in ragged)
    if kept == tuple(range(len(domain))):
        return result
    return _collect(b, result, domain, kept, scatter_add)


def _in_blocks(b: Batching, node: Node, terms: Sequence[str], out: str, ragged: set[str]) -> bool:
    """Return whether a product per example needs less memory than rows of all operands.

    So it is for an outer product of rows that is summed, for pairs of rows, and for a matrix per example.
    """
    if len(terms) != 2:
        return False
    dense = [set(t) - ragged for t in terms]
    if any(i in b.mapped and not b.is_ragged(i) and len(d) > 1 for i, d in zip(node.inputs, dense, strict=True)):
        return True
    if len(ragged) > 1:
        return bool(dense[0] | dense[1])
    return not set(out) & ragged and len(set(out)) > max(map(len, dense))


def _block_einsum(b: Batching, node: Node, out: str, ragged: set[str], sizes: Mapping[str, int | Dim]) -> Node:
    xs, kinds = [], []
    for i in node.inputs:
        kinds.append("packed" if b.is_ragged(i) else "stacked" if i in b.mapped else "shared")
        xs.append(b.batched.get(i, i))
    letters = "".join(c for c in sizes if c in ragged)
    left = tuple(sizes[c] for c in out if c in ragged)
    return block_einsum(*xs, *(b.rows.length((sizes[c],)) for c in letters), subscripts=node.params["subscripts"],
                        ragged=letters, kinds=tuple(kinds), size=b.rows.total(left) if left else b.rows.size)


def _row_order(terms: Sequence[str], out: str, ragged: set[str]) -> str:
    """Return an order of the ragged subscripts: that of an operand, or of the result, that has them all."""
    orders = ["".join(c for c in t if c in ragged) for t in (*terms, out)]
    whole = [o for o in orders if len(o) == len(ragged)]
    if whole:  # preferably in the result's order, where the rows of the sum are the rows of the result
        return next((o for o in whole if o.startswith(orders[-1])), whole[0])
    return "".join(dict.fromkeys(orders[-1] + "".join(orders)))


# -- layout --------------------------------------------------------------------------------------------------


def _reshape(b: Batching, node: Node, xs: Inputs) -> Node:
    (old,), shape = node.inputs, node.shape
    (x,) = xs
    # Both shapes must begin with the ragged axes, after the leading dense axes that the reshape keeps.
    lead = 0
    while lead < min(old.ndim, node.ndim) and old.shape[lead] == shape[lead] and not b.rows.ragged(shape[lead]):
        lead += 1
    before, after = (tuple(n for n in s[lead:] if n != 1) for s in (old.shape, shape))
    if not (_rows_lead(b, before) and _rows_lead(b, after)):
        return _by_elements(b, node, x)
    if b.rows.total(b.rows.domain(before)) != b.rows.total(b.rows.domain(after)) and lead:
        k = lead + 1
        x = transpose(x, perm=(*range(1, k), 0, *range(k, x.ndim)))
        x = reshape(x, shape=(*shape[:lead], *b.rows.packed(shape[lead:])))
        return transpose(x, perm=(lead, *range(lead), *range(k, x.ndim)))
    return reshape(x, shape=b.rows.packed(shape))


def _by_elements(b: Batching, node: Node, x: Node) -> Node:
    """Gather each element of a reshape from its place in row-major order, where an axis moves past a ragged one."""
    (old,), domain, wide = node.inputs, b.rows.domain(node.shape), b.rows.packed(node.shape)
    owner = b.rows.owner(domain)
    place = _place_in_example(b, node.shape, domain, wide)
    coordinates: list[Node] = []
    for n in reversed(old.shape[1:]):
        size = gather(b.rows.length((n,)), owner) if b.rows.ragged(n) else broadcast_along(
            size_scalar(n, _INT), wide[:1], (0,))
        size = spread_rows(size, wide)
        coordinates.append(mod(place, size))
        place = floor_divide(place, size)
    coordinates = [place, *reversed(coordinates)]
    ragged, dense = _places(b.rows, old.shape)
    rows = b.rows.row(b.rows.domain(old.shape), [coordinates[a] for a in ragged], spread_rows(owner, wide))
    return gather(x, rows, *(coordinates[a] for a in dense))


def _place_in_example(b: Batching, shape: Shape, domain: Domain, wide: Shape, lead: int = 0) -> Node:
    """Return the place of each element of packed rows in its example's row-major order, `lead` axes left out."""
    ragged, dense = _places(b.rows, shape)
    place = full(0, wide, _INT)
    for a, n in enumerate(shape[lead:], lead):
        if a in dense:
            size = broadcast_along(size_scalar(n, _INT), wide[:1], (0,))
            own = broadcast_along(iota(size=n), wide, tuple(i for i in range(len(wide)) if i != dense[a]))
        else:
            size = gather(b.rows.length((n,)), b.rows.owner(domain))
            own = spread_rows(b.rows.coordinate(domain, ragged.index(a)), wide)
        place = place * spread_rows(size, wide) + own
    return place


def _rows_lead(b: Batching, shape: Shape) -> bool:
    """Return whether the ragged axes of a shape precede the dense ones."""
    n = len(b.rows.domain(shape))
    return all(map(b.rows.ragged, shape[:n]))


def _concatenate(b: Batching, node: Node, xs: Inputs) -> Node:
    axis = node.params["axis"]
    ragged, _ = _places(b.rows, node.shape)
    # Concatenate the packed operands, and gather the rows of the result, example by example.
    domain, position = b.rows.domain(node.shape), ragged.index(axis)
    owner, coordinates = b.rows.owner(domain), [b.rows.coordinate(domain, i) for i in range(len(ragged))]
    operands: list[Node] = []
    source: Node | None = None
    preceding: int | Dim = 0  # rows of the operands so far
    end = full(0, (b.rows.size,), _INT)  # of the operands so far in each example
    for old in node.inputs:
        if old.shape[axis] == 0:
            continue
        x = b.batched.get(old, old)
        if not b.rows.ragged(old.shape[axis]):  # of fixed size: as many rows in each example
            if len(ragged) > 1:
                raise refuse(node, "it joins a fixed number of rows to a block of two ragged axes",
                             "Join the operands of the block")
            x = b.each(old)
            x = transpose(x, perm=(0, axis + 1, *(a + 1 for a in range(old.ndim) if a != axis)))
            x = reshape(x, shape=(x.shape[0] * x.shape[1], *x.shape[2:]))
        begin = gather(end, owner)
        own = [c - begin if i == position else c for i, c in enumerate(coordinates)]
        rows = b.rows.row(tuple(old.shape[a] for a in ragged), own, owner)
        rows = rows + broadcast_along(size_scalar(preceding, _INT), rows.shape, tuple(range(rows.ndim)))
        source = rows if source is None else where(lt(coordinates[position], begin), source, rows)
        operands.append(x)
        end = end + b.rows.length((old.shape[axis],))
        preceding = preceding + x.shape[0]
    assert source is not None
    return gather(concatenate(*operands, axis=0) if len(operands) > 1 else operands[0], source)


def _view(b: Batching, node: Node, xs: Inputs) -> Node:
    """Gather the rows of a view that permutes or reverses ragged axes, and view their dense axes."""
    (old,), (x,), part = node.inputs, xs, window(node)
    assert part is not None
    ragged, _ = _places(b.rows, node.shape)
    domain, coordinates = b.rows.domain(node.shape), []
    for n, a, step in zip(old.shape, part.axes, part.step, strict=True):
        if b.rows.ragged(n):
            c = b.rows.coordinate(domain, ragged.index(a))
            coordinates.append(c if step > 0 else b.rows.of_owner(b.rows.length((n,)), domain) - c - 1)
    rows = b.rows.row(b.rows.domain(old.shape), coordinates, b.rows.owner(domain))
    return gather(_on_dense(b, node, x), rows)


# -- gather and scatter --------------------------------------------------------------------------------------


def _packed_indices(b: Batching, node: Node, indices: Sequence[Node], shape: Shape) -> list[Node]:
    """Return indices into a packed (or stacked) array, from indices into an example's array of `shape`."""
    indexed, trailing = shape[:len(indices)], shape[len(indices):]
    for n, i in zip(indexed, indices, strict=True):
        _check_target(b, node, i, n)
    common = b.rows.domain(indices[0].shape)
    domain = (*common, *b.rows.domain(trailing))
    into = b.rows.domain(shape)
    if len(indices) == len(into) == 1 and domain == common and b.points_into(indices[0], indexed[0]) and (
            indices[0] in b.packed_indices):
        return [b.packed_indices[indices[0]]]
    wide = (b.rows.total(domain) if domain else b.rows.size, *b.rows.dense(indices[0].shape))
    owner = spread_rows(b.rows.owner(domain) if domain else iota(size=b.rows.size), wide)

    def at_rows(i: Node) -> Node:
        if not domain:
            return b.each(i)
        x = b.at_rows(i, domain, tuple(range(len(common))))
        return x if i in b.mapped or b.is_ragged(i) else broadcast_along(x, wide, (0,))

    coordinates: list[Node] = []
    dense: list[Node] = []
    for n, i in zip(indexed, indices, strict=True):
        if b.rows.ragged(n):
            length = gather(_long_enough(b, i, n) if domain else b.rows.length((n,)), owner)
            x = at_rows(i)
            valid = counts_along(n, i) is not None or (i.prim is steps and i.params["within"] == n)
            coordinates.append(x if valid else checked_index(x, length))
        else:
            dense.append(at_rows(i))
    coordinates += [spread_rows(b.rows.coordinate(domain, k), wide) for k in range(len(common), len(domain))]
    return [b.rows.row(into, coordinates, owner) if coordinates else owner, *dense]


def _check_target(b: Batching, node: Node, index: Node, n: int | Dim) -> None:
    """Raise the error of an index into another axis than `n`, or of one that may be null.

    An axis of the same name is that of another batch.
    """
    target = b.targets.get(index)
    if target is not None and n != Dim.of(target) and str(n) != target.name:
        verb = "indexes" if node.prim is gather else "adds up along"
        raise ShapeError(f"{node.where}: {node.prim.name}: an index into {target} (of type {index.type}) {verb} an "
                         f"axis of size {n}. It points at the rows of {target}: use it for an array that has that axis")
    if index in b.nullable:
        raise BatchError(f"{node.where}: {node.prim.name}: this index into {target} is declared with null=-1, and "
                         "-1 is the last row to NumPy. Write mg.gather(x, index), which has zeros there, and "
                         "mg.segment_sum(x, index, size, null=-1), which leaves them out")


def _long_enough(b: Batching, i: Node, n: int | Dim) -> Node:
    """Return each example's number of rows, checked against an index of constants.

    An index that has no elements in the batch would not be checked itself.
    """
    lengths = b.rows.length((n,))
    value = i.params["value"] if i.prim.name in ("const", "full") else ()
    if not np.size(value):
        return lengths
    far = max(int(k) if k >= 0 else -1 - int(k) for k in np.ravel(value))
    more = full(far, (b.rows.size,), lengths.dtype)
    message = f"an index is out of range: example {{}} has fewer than {far + 1} rows"
    return nonempty(lengths - more, message=message) + more


def _gather(b: Batching, node: Node, xs: Inputs) -> Node:
    old, *indices = node.inputs
    if not b.is_ragged(old) and old not in b.mapped:
        return gather(*xs)  # all indices have one shape, and so the same rows
    x = xs[0] if b.is_ragged(old) else b.each(old)
    return gather(x, *_packed_indices(b, node, indices, old.shape))


def _scatter(b: Batching, node: Node, xs: Inputs) -> Node:
    old, *indices = node.inputs
    shape = node.params["shape"]
    pointers = _packed_indices(b, node, indices, shape)
    u = xs[0] if b.is_ragged(old) else b.each(old)
    return node.prim(u, *pointers, shape=b.rows.packed(shape))


def _effect(b: Batching, node: Node, xs: Inputs) -> Node:
    """Call the function once for each example, with its rows."""
    if node.params["batches"]:
        raise refuse(node, "it is in a batch within the example", "Call it outside of that batch")
    operands: list[Node] = []
    mapped: list[bool] = []
    ragged: list[tuple[bool, ...] | None] = []
    for x, old in zip(xs, node.inputs, strict=True):
        operands.append(x)
        domain = b.rows.domain(old.shape)
        ragged.append(tuple(map(b.rows.ragged, old.shape)) if domain else None)
        mapped.append(not domain and old in b.mapped)
        if domain:
            operands += [b.rows.offset(domain), *(b.rows.length((n,)) for n in domain)]
            mapped += [True] * (1 + len(domain))
    function = Opaque(PerExample(node.params["function"], tuple(ragged)))
    return effect(*operands, function=function, batches=((b.rows.size, tuple(mapped)),), order=node.params["order"])


def _in_range(b: Batching, node: Node, xs: Inputs) -> Node:
    (index,), n = node.inputs, node.params["size"]
    if not b.rows.ragged(n):
        return in_range(xs[0], size=n)
    if b.points_into(index, n):  # the batch has been checked
        return xs[0]
    x, owner, lengths = b.each(index), iota(size=b.rows.size), b.rows.length((n,))
    if b.is_ragged(index):
        x, owner, lengths = xs[0], b.rows.owner(b.rows.domain(index.shape)), _long_enough(b, index, n)
    return checked_index(x, spread_rows(gather(lengths, owner), x.shape))


# -- selections ----------------------------------------------------------------------------------------------


def _flatnonzero(b: Batching, node: Node, xs: Inputs) -> Node:
    """Return the positions of true elements within each example, from those of all examples."""
    (old, _), (mask, _), domain = node.inputs, xs, b.rows.domain(node.shape)
    (symbol,) = node.params["size"].symbols
    total, count = b.rows.total(domain), b.rows.definitions[(symbol,)]
    if not b.is_ragged(old):
        flat = (size_of(mask.shape),)
        places = reshape(broadcast_along(iota(size=old.shape[0]), mask.shape, (0,)), shape=flat)
        return gather(places, flatnonzero(reshape(mask, shape=flat), count, size=total))
    into = b.rows.domain(old.shape)
    rows = flatnonzero(mask, count, size=total)
    if (axis := into[0].symbol if isinstance(into[0], Dim) else None) is not None:
        b.targets[node], b.packed_indices[node] = axis, rows
    return rows - b.rows.of_owner(b.rows.offset(into), domain)


def _steps(b: Batching, node: Node, xs: Inputs) -> Node:
    domain, place = b.rows.domain(node.shape), b.rows.position((node.params["size"],))
    place = place * full(node.params["step"], place.shape, _INT)
    return place + gather(b.each(node.inputs[0]), b.rows.owner(domain))


# -- random numbers ------------------------------------------------------------------------------------------


def _random_bits(b: Batching, node: Node, xs: Inputs) -> Node:
    """Draw the number of each element at its place among those of its example."""
    (key,), shape = node.inputs, node.shape
    domain, wide, lead = b.rows.domain(shape), b.rows.packed(shape), key.ndim - 1
    ragged, dense = _places(b.rows, shape)
    place = _place_in_example(b, shape, domain, wide, lead)  # the leading axes have keys of their own
    words = b.at_rows(key, domain, tuple(i for i, a in enumerate(ragged) if a < lead))
    rows = key in b.mapped or b.is_ragged(key)
    own_axes = {*([0] if rows else []), *(dense[a] for a in range(lead) if a in dense)}
    halves = []
    for k in (0, 1):
        half = section(words, words.ndim - 1, k, 1)
        half = cast_to(reshape(half, shape=half.shape[:-1]), _INT)
        halves.append(broadcast_along(half, wide, tuple(i for i in range(len(wide)) if i not in own_axes)))
    return random_at(*halves, place, stream=node.params["stream"])


# -- order ---------------------------------------------------------------------------------------------------


def _ordered(b: Batching, node: Node, xs: Inputs) -> Node:
    """Apply the segment form along a ragged axis, which is made the last one: in a block each line is a segment."""
    domain, k = b.rows.domain(node.shape), _places(b.rows, node.shape)[0].index(node.params["axis"])
    last = len(domain) - 1
    if k == last:
        return _SEGMENT_FORMS[node.prim](b, domain, node, xs)
    order = [i for i in range(len(domain)) if i != k] + [k]
    moved = tuple(domain[i] for i in order)

    def rows(source: Domain, to: Domain, order: Sequence[int]) -> Node:
        return b.rows.row(to, [b.rows.coordinate(source, i) for i in order], b.rows.owner(source))

    there = rows(moved, domain, [order.index(i) for i in range(len(domain))])
    out = _SEGMENT_FORMS[node.prim](b, moved, node, [gather(x, there) for x in xs])
    return gather(out, rows(domain, moved, order))


def _line(b: Batching, domain: Domain) -> Node:
    """Return the segment ids of the rows of a domain along its last axis."""
    return b.rows.within(domain, tuple(range(len(domain) - 1))) if len(domain) > 1 else b.rows.owner(domain)


def _by_segment(prim: Primitive, **own: bool) -> SegmentForm:
    """Return the form of an operation along an axis that `prim` computes within segments, with its other parameters."""
    return lambda b, domain, node, xs: prim(
        *xs, _line(b, domain), **own, **{p: v for p, v in node.params.items() if p != "axis"})


_SEGMENT_FORMS: dict[Primitive, SegmentForm] = {
    argsort: _by_segment(segment_argsort), cumsum: _by_segment(segment_cumsum, reverse=False),
    cummax: _by_segment(segment_cummax), cummin: _by_segment(segment_cummin), cumfmax: _by_segment(segment_cumfmax),
    cumfmin: _by_segment(segment_cumfmin), shift: _by_segment(segment_shift),
    recurrence: _by_segment(segment_recurrence)}


# -- batches of batches --------------------------------------------------------------------------------------


def _segment_ids(b: Batching, node: Node, xs: Inputs) -> Node:
    (old,), (lengths,), domain = node.inputs, xs, b.rows.domain(node.shape)
    if b.is_ragged(old):
        before = b.rows.offset(b.rows.domain(old.shape))
    else:  # as many segments in each example
        lengths = reshape(b.each(old), shape=(b.rows.size * old.shape[0],))
        before = iota(size=b.rows.size) * broadcast_along(size_scalar(old.shape[0], _INT), (b.rows.size,), (0,))
    return segment_ids(lengths, size=b.rows.total(domain)) - b.rows.of_owner(before, domain)


def _segments(b: Batching, node: Node, xs: Inputs) -> Node:
    # The batch is the last digit of the new ids, which are the last operand.
    *values, ids = xs
    ids = ids * broadcast_along(size_scalar(b.rows.size, _INT), ids.shape, (0,)) + b.rows.owner(
        b.rows.domain(node.inputs[-1].shape))
    return node.prim(*values, ids, **node.params)


def _inner_block_einsum(b: Batching, node: Node, xs: Inputs) -> Node:
    examples = b.rows.domain(node.inputs[2].shape)
    operands, kinds = [*xs], [*node.params["kinds"]]
    for i, (old, kind) in enumerate(zip(node.inputs[:2], kinds, strict=True)):
        if kind == "shared" and old in b.mapped:
            operands[i], kinds[i] = b.rows.of_owner(xs[i], examples), "stacked"
    return block_einsum(*operands, **{**node.params, "kinds": tuple(kinds), "size": b.rows.packed(node.shape)[0]})


# -- held programs -------------------------------------------------------------------------------------------


def _checkpoint(b: Batching, node: Node, xs: Inputs) -> Any:
    """Write the held program out, and batch its nodes; return the batch of each result, which `proj` takes."""
    return tuple(new if mapped else broadcast_leading(new, b.rows.size)
                 for new, mapped in b.run(written_out(node), EVERY, node.inputs))


def _custom(b: Batching, node: Node, xs: Inputs) -> Node:
    """Batch the held function and its derivative rule; the nodes of outside that they need become inputs, too."""
    p = node.params
    operands = [(i, x, i in b.mapped) for i, x in zip(node.inputs, xs, strict=True)]
    inputs, outputs, more = _within(b, p["graph"], operands, [True] * len(p["graph"].outputs))
    results = [(old, new, True) for old, new in zip(p["graph"].outputs, outputs, strict=True)]
    which = "vjp" if p["vjp"] is not None else "jvp"
    derivative = p[which]
    if isinstance(derivative, Later) and not b.in_rule:
        derivative = derivative.graph
    if isinstance(derivative, Later):  # a recursive rule, whose batch would not end
        return node.prim(*xs, *more, **{"graph": _closed(p["graph"], inputs, more, outputs), "vjp": None, "jvp": None,
                                        which: Later(derivative.name)})
    moving, produced = ([entry for entry in values if entry[0].type.floating] for values in (operands, results))
    moving = moving[:ruled(p["graph"], *((derivative, None) if which == "vjp" else (None, derivative)))]
    pushed, pulled = (produced, moving) if which == "vjp" else (moving, produced)
    held, back, others = _within(b, derivative, [*pushed, *results, *operands], [has for *_, has in pulled],
                                 in_rule=True)
    extra = list(dict.fromkeys([*more, *others]))
    return node.prim(*xs, *extra, **{"graph": _closed(p["graph"], inputs, extra, outputs), "vjp": None, "jvp": None,
                                     which: _closed(derivative, held, extra, back)})


def _within(b: Batching, graph: Graph, operands: Sequence[tuple[Node, Node, bool]], mapped: Sequence[bool],
            in_rule: bool = False) -> tuple[list[Node], list[Node], list[Node]]:
    """Return a held graph's inputs and outputs for a batch, and the nodes of outside that the outputs depend on.

    Parameters
    ----------
    operands : sequence of (node, node, bool)
        Per input: a node of its type for one example, a node of its type for the batch, and whether it differs between
        examples.
    mapped : sequence of bool
        Whether each output must differ between examples; cotangents of shared values are summed.
    in_rule : bool
        Whether the graph is a derivative rule.
    """
    olds, news = ([placeholder(pair[k].types[0]) for *pair, _ in operands] for k in (0, 1))
    since = moment()
    outputs = interpreters.substitute(graph.outputs, dict(zip(graph.inputs, olds, strict=True)))
    pairs = list(zip(olds, operands, strict=True))
    inner = Batching(b.rows, dict(zip(olds, news, strict=True)), {o for o, (_, _, has) in pairs if has},
                     {o: b.targets[i] for o, (i, _, _) in pairs if i in b.targets},
                     {o: b.packed_indices[i] for o, (i, _, _) in pairs if i in b.packed_indices},
                     {o for o, (i, _, _) in pairs if i in b.nullable}, in_rule or b.in_rule)
    results = [new if has == must else broadcast_leading(new, b.rows.size) if must else sum_(new, axes=(0,))
               for (new, has), must in zip(inner.run(outputs, EVERY), mapped, strict=True)]
    inside = set(reachable(results, since))
    outside = dict.fromkeys([i for n in (*inside, *results) for i in (n.inputs if n in inside else (n,))
                             if i not in inside and i not in news])
    return news, results, sorted(outside, key=lambda n: n.serial)


def _closed(graph: Graph, inputs: Sequence[Node], extra: Sequence[Node], outputs: Sequence[Node]) -> Graph:
    """Return a graph of `outputs`, whose inputs are `inputs` and then the nodes `extra`."""
    own = [placeholder(n.types[0]) for n in extra]
    results = interpreters.substitute(outputs, dict(zip(extra, own, strict=True)))
    return Graph((*inputs, *own), tuple(results), name=graph.name)


RULES: dict[Primitive, Rule] = {
    PRIMITIVES["full"]: _full, iota: lambda b, node, xs: b.rows.position((node.params["size"],)),
    size_: lambda b, node, xs: cast_to(b.rows.value((node.params["size"],)), node.dtype),
    expand: _expand, mean: _mean, argmax: _arg, argmin: _arg, einsum: _einsum, reshape: _reshape, transpose: _view,
    concatenate: _concatenate, flip: _view, gather: _gather, scatter_add: _scatter, scatter_max: _scatter,
    scatter_min: _scatter, in_range: _in_range, flatnonzero: _flatnonzero, steps: _steps, segment_ids: _segment_ids,
    **dict.fromkeys(_SEGMENT_FORMS, _ordered),
    **dict.fromkeys((segment_cumsum, segment_argsort, segment_cummax, segment_cummin, segment_cumfmax, segment_cumfmin,
                     segment_shift, segment_recurrence), _segments), block_einsum: _inner_block_einsum,
    random_bits: _random_bits, checkpoint: _checkpoint, chunked: _checkpoint, custom: _custom, effect: _effect}
EACH: dict[str, Rule] = {}  # the rules of operations that run for one example after the other, by their kind
_ALONG = {ORDERED: ("it runs along a ragged axis", "Run it along another axis, or write it with cumsum and gathers"),
          PERMUTED: ("it moves elements along a ragged axis", "Move them along another axis, or index the rows with "
                     "an array of positions")}


def _rule_of_axes(b: Batching, node: Node, rule: AxisRule | None) -> Rule:
    """Return the batching rule that a node's axis rule implies along its ragged axes, or raise the reason."""
    if node.prim.kind in EACH:
        return EACH[node.prim.kind]
    if rule is not None:
        kinds = {f.kind for axis, n in zip(rule.operands[0], node.inputs[0].shape, strict=True) if b.rows.ragged(n)
                 for f in axis}
        if node.prim.combiner in SEGMENT_REDUCTIONS and kinds <= {REDUCE, PARALLEL}:
            return _reduce
        if (reason := next((_ALONG[kind] for kind in kinds if kind in _ALONG), None)) is not None:
            raise refuse(node, *reason)
    raise refuse(node, "it has no rule for ragged axes", "Write it with sums, gathers and the segment functions, or on "
                 "rows of fixed size")


def _parallel(b: Batching, node: Node, xs: Inputs, rule: AxisRule | None) -> Node | None:
    """Return the same operation on packed rows, if its axis rule is parallel along all ragged axes; else None."""
    placed = node.prim.axes.placed if node.prim.axes is not None else None
    if rule is None or placed is None or node.prim is reshape or not all(map(b.is_ragged, node.inputs)):
        return None  # the parameters of a reshape do not say which axis is which
    types = [*(t for i in node.inputs for t in i.types), *node.types]
    rows = [tuple([axis for axis, n in zip(axes, t.shape, strict=True) if b.rows.ragged(n)])
            for axes, t in zip(rule.operands + rule.results, types, strict=True)]
    if any(r != rows[0] for r in rows) or any(f.kind is not PARALLEL for axis in rows[0] for f in axis):
        return None
    dense = [a for a, n in enumerate(node.inputs[0].shape) if not b.rows.ragged(n)]
    params = placed(node.params, (None, *dense), xs[0].shape[0])
    return None if any(map(b.ragged_param, params.values())) else node.prim(*xs, **params)


def _follow_targets(b: Batching, node: Node) -> None:
    """Record the axis that `node` indexes, if its elements are those of an index."""
    if b.targets.keys().isdisjoint(node.inputs):
        return
    sources = picked(node)
    targets = {b.targets.get(i) for i in sources}
    target = targets.pop() if len(targets) == 1 else None
    if target is not None and node.dtype.kind in "iu":
        b.targets[node] = target
        if any(i in b.nullable for i in sources):
            b.nullable.add(node)
