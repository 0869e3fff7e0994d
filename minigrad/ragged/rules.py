"""What a batch of examples of different size makes of each primitive: the rules of packed arrays, beside each other.

A value whose shape for one example has ragged sizes is packed: those axes are merged into one, in front
(`Rows`); every other value is stacked, or shared by all examples, as under any `vmap`. Elementwise work does not ask
which; what adds or removes a ragged axis does, and becomes a gather or a scatter by the rows' owners.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from .. import interpreters
from ..axes import ORDERED, PARALLEL, PERMUTED, REDUCE, AxisRule, axis_rule
from ..combiners import ADD, ALL, ANY, ARGMAX, MAX, MIN
from ..errors import BatchError, ShapeError, Unsupported
from ..graph import PRIMITIVES, Graph, Node, full, moment, reachable
from ..ops.accumulators import accumulator
from ..ops.block_einsum import block_einsum
from ..ops.broadcast import broadcast_along
from ..ops.checks import in_range, picked
from ..ops.constants import iota, size_scalar
from ..ops.control import barrier, written_out
from ..ops.custom import Later, ruled
from ..ops.einsum import LETTERS, contract, parse
from ..ops.elementwise import cast_to, eq, isnan, logical_not, logical_or, lt, where
from ..ops.index import counts_along, gather, scatter_add
from ..ops.mean import per_count
from ..ops.reduce import max_, min_, min_or_largest, sum_
from ..ops.scatter import scatter_max, scatter_min
from ..ops.segments import checked_index, nonempty, segment_argsort, segment_cumsum
from ..ops.shape import concatenate, reshape, transpose
from ..ops.sort import argsort
from ..ops.strict_index import place
from ..primitive import Combiner, broadcast_leading, placeholder
from ..symbolic import Dim, Shape, Symbol, size_of
from .rows import Domain, Rows, lengths_as, spread_rows

_INT = np.dtype(np.int64)
_ALL = -1  # since when nodes are rewritten: held graphs have constants of their own, made at any time
Inputs = tuple[Node, ...]
Rule = Callable[["Batching", Node, Inputs], Node]
RULES: dict[str, Rule] = {}


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def enter(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
        return function

    return enter


class Batching:
    """The batching of one program for examples of different size.

    Attributes
    ----------
    rows : Rows
    made : dict of Node to Node
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

    in_rule = False

    def __init__(self, rows: Rows, made: Mapping[Node, Node], mapped: Iterable[Node], targets: Mapping[Node, Symbol],
                 packed_indices: Mapping[Node, Node], nullable: Iterable[Node] = ()):
        self.rows = rows
        self.made = dict(made)
        self.mapped = set(mapped)
        self.targets = dict(targets)
        self.packed_indices = dict(packed_indices)
        self.nullable = set(nullable)

    def run(self, outputs: Sequence[Node], since: int) -> list[tuple[Node, bool]]:
        """Return the batch of the outputs, and whether each differs between examples."""
        interpreters.batch_nodes(reachable(outputs, since), self.made, self.mapped, self.rows.size, self._batch)
        return [(self.made.get(n, n), n in self.mapped) for n in outputs]

    def _batch(self, node: Node, inputs: tuple[Node, ...]) -> Node | None:
        """Return the batch of a node that has or reads ragged axes; None for others."""
        _follow_targets(self, node)
        if node.prim is place and node.inputs[0] in self.targets:  # the batch has been checked
            return self._same(node, node.inputs[0])
        if not self._touches_ragged(node):
            return None
        if node.prim.kind == "elementwise":
            return PRIMITIVES[node.prim.name](*inputs, **node.params)
        axes = axis_rule(node)
        if (new := _parallel(self, node, inputs, axes)) is not None:
            return new
        rule = RULES.get(node.prim.name) or _rule_of_axes(self, node, axes)
        return rule(self, node, inputs)

    def _same(self, node: Node, index: Node) -> Node:
        """Return the batch of an index that `node` is equal to."""
        if index in self.packed_indices:
            self.packed_indices[node] = self.packed_indices[index]
        return self.made[index]

    def _touches_ragged(self, node: Node) -> bool:
        return any(map(self.is_ragged, (node, *node.inputs))) or any(map(self.ragged_param, node.params.values()))

    def ragged_param(self, v: object) -> bool:
        """Return whether a static parameter holds a size that differs between examples."""
        return any(map(self.ragged_param, v)) if isinstance(v, tuple) else isinstance(v, Dim) and self.rows.ragged(v)

    def is_ragged(self, node: Node) -> bool:
        """Return whether a value of one example has a ragged axis."""
        return any(self.rows.ragged(n) for t in node.types for n in t.shape)

    def composed(self, node: Node, since: int) -> Node:
        """Return the batch of a composition of nodes for one example, created from serial `since` on."""
        return self.run([node], since)[0][0]

    def each(self, node: Node) -> Node:
        """Return a value without ragged axes as (B, ...), repeated where all examples share it."""
        new = self.made.get(node, node)
        return new if node in self.mapped else broadcast_leading(new, self.rows.size)

    def at_rows(self, node: Node, domain: Domain, kept: tuple[int, ...] | None = None) -> Node:
        """Return a value at each row of `domain`; its own ragged axes are those in `kept`, in order.

        A value that all examples share has no rows, and is returned unchanged.
        """
        new = self.made.get(node, node)
        if not self.is_ragged(node):
            return gather(new, self.rows.owner(domain)) if node in self.mapped else new
        return new if kept is None or kept == tuple(range(len(domain))) else gather(new, self.rows.within(domain, kept))


def refuse(node: Node, why: str, instead: str) -> Unsupported:
    """Return the error of an operation that has no meaning, or no rule, along ragged axes."""
    types = ", ".join(str(i.type) for i in node.inputs)
    return Unsupported(f"{node.where}: {node.prim.name}({types}): {why}. {instead}")


def _places(rows: Rows, shape: Shape) -> tuple[list[int], dict[int, int]]:
    """Return the ragged axes of a shape, and for each dense axis the one that it is in the packed array."""
    ragged = [a for a, n in enumerate(shape) if rows.ragged(n)]
    dense = [a for a in range(len(shape)) if a not in ragged]
    return ragged, {a: i + 1 for i, a in enumerate(dense)}


# -- leaves --------------------------------------------------------------------------------------------------


@_rule("full")
def _full(b: Batching, node: Node, xs: Inputs) -> Node:
    return full(node.params["value"], b.rows.packed(node.shape), node.dtype)


@_rule("iota")
def _iota(b: Batching, node: Node, xs: Inputs) -> Node:
    return b.rows.position((node.params["size"],))


@_rule("size")
def _size(b: Batching, node: Node, xs: Inputs) -> Node:
    return lengths_as(b.rows, node.params["size"], node.dtype)


# -- expand and the reductions -------------------------------------------------------------------------------


@_rule("expand")
def _expand(b: Batching, node: Node, xs: Inputs) -> Node:
    (old,), shape, axes = node.inputs, node.shape, node.params["axes"]
    ragged, place = _places(b.rows, shape)
    domain = b.rows.domain(shape)
    x = b.at_rows(old, domain, tuple(i for i, a in enumerate(ragged) if a not in axes))
    new = tuple(place[a] for a in axes if a in place)
    if old not in b.mapped and not b.is_ragged(old):
        new = (0, *new)  # all examples share it: the rows are repetitions
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
    ragged, place = _places(b.rows, old.shape)
    domain = b.rows.domain(old.shape)
    kept = tuple(i for i, a in enumerate(ragged) if a not in axes)
    dense = tuple(place[a] for a in axes if a in place)
    x = node.prim(x, axes=dense) if dense else x
    out = _collect(b, x, domain, kept, SEGMENT_REDUCTIONS[node.prim.combiner])
    if node.prim not in (max_, min_):
        return out
    # An extreme of no element raises an error, as in NumPy, but when the program runs.
    gone, left = (tuple(n for i, n in enumerate(domain) if (i in kept) == side) for side in (False, True))
    lengths = b.rows.length(gone)
    if left:
        one = full(1, (b.rows.size,), _INT)
        lengths = where(eq(b.rows.length(left), full(0, (b.rows.size,), _INT)), one, lengths)
    what = f"{node.prim.name} of nothing: example {{}} has no rows. Give it initial="
    return barrier(out, nonempty(lengths, what=what))


def _collect(b: Batching, x: Node, domain: Domain, kept: tuple[int, ...], reduction: Callable[..., Node]) -> Node:
    """Reduce rows of `domain` to the rows of its sizes in `kept`, or to one value per example."""
    smaller = tuple(domain[i] for i in kept)
    ids = b.rows.within(domain, kept) if kept else b.rows.owner(domain)
    return reduction(x, ids, shape=(b.rows.total(smaller) if kept else b.rows.size, *x.shape[1:]))


@_rule("mean")
def _mean(b: Batching, node: Node, xs: Inputs) -> Node:
    (x,), axes, since = node.inputs, node.params["axes"], moment()
    total = sum_(cast_to(x, accumulator(node.dtype)), axes=axes)
    count = broadcast_along(size_scalar(size_of(x.shape[a] for a in axes), _INT), total.shape, tuple(range(total.ndim)))
    return b.composed(cast_to(per_count(total, count), node.dtype), since)


@_rule("argmax", "argmin")
def _arg(b: Batching, node: Node, xs: Inputs) -> Node:
    (x,), axis, since = node.inputs, node.params["axis"], moment()
    best = (max_ if node.prim.combiner is ARGMAX else min_)(x, axes=(axis,))
    position = broadcast_along(iota(size=x.shape[axis]), x.shape, tuple(a for a in range(x.ndim) if a != axis))
    hit = eq(x, broadcast_along(best, x.shape, (axis,)))
    hit = logical_or(hit, isnan(x)) if x.type.floating else hit
    never = full(np.iinfo(_INT).max, x.shape, _INT)
    return b.composed(min_or_largest(where(hit, position, never), axes=(axis,)), since)


# -- contraction ---------------------------------------------------------------------------------------------


@_rule("einsum")
def _einsum(b: Batching, node: Node, xs: Inputs) -> Node:
    terms, out = parse(node.params["subscripts"])
    sizes = {c: n for t, i in zip(terms, node.inputs, strict=True) for c, n in zip(t, i.shape, strict=True)}
    ragged = {c for c, n in sizes.items() if b.rows.ragged(n)}
    if _in_blocks(b, node, terms, out, ragged):
        return _block_einsum(b, node, out, ragged, sizes)
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
    """Tell whether one product per example is better than rows side by side, where these would be larger than what
    goes in and comes out: an outer product of rows that is summed, pairs of rows, a matrix for each example.
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
        xs.append(b.made.get(i, i))
    letters = "".join(c for c in sizes if c in ragged)
    left = tuple(sizes[c] for c in out if c in ragged)
    return block_einsum(*xs, *(b.rows.length((sizes[c],)) for c in letters), subscripts=node.params["subscripts"],
                        ragged=letters, kinds=tuple(kinds), size=b.rows.total(left) if left else b.rows.size)


def _row_order(terms: Sequence[str], out: str, ragged: set[str]) -> str:
    """Return an order of the ragged subscripts: that of an operand, or of the result, that has them all."""
    orders = ["".join(c for c in t if c in ragged) for t in (*terms, out)]
    whole = [o for o in orders if len(o) == len(ragged)]
    if whole:
        # What has the rows in the result's order needs no second look at where they go.
        return next((o for o in whole if o.startswith(orders[-1])), whole[0])
    return "".join(dict.fromkeys(orders[-1] + "".join(orders)))


# -- layout --------------------------------------------------------------------------------------------------


@_rule("reshape")
def _reshape(b: Batching, node: Node, xs: Inputs) -> Node:
    (old,), shape = node.inputs, node.shape
    (x,) = xs
    # Leading dense axes that stay are taken out of the way; behind them both sides must begin with the ragged axes.
    lead = 0
    while lead < min(old.ndim, node.ndim) and old.shape[lead] == shape[lead] and not b.rows.ragged(shape[lead]):
        lead += 1
    before, after = (tuple(n for n in s[lead:] if n != 1) for s in (old.shape, shape))
    if not (_rows_lead(b, before) and _rows_lead(b, after)):
        raise refuse(node, "it would move a fixed axis into or out of a ragged axis that stands behind it",
                     "Bring the ragged axis to the front first, with np.moveaxis or .T")
    if b.rows.total(b.rows.domain(before)) != b.rows.total(b.rows.domain(after)) and lead:
        k = lead + 1
        x = transpose(x, perm=(*range(1, k), 0, *range(k, x.ndim)))
        x = reshape(x, shape=(*shape[:lead], *b.rows.packed(shape[lead:])))
        return transpose(x, perm=(lead, *range(lead), *range(k, x.ndim)))
    return reshape(x, shape=b.rows.packed(shape))


def _rows_lead(b: Batching, shape: Shape) -> bool:
    n = len(b.rows.domain(shape))
    return all(map(b.rows.ragged, shape[:n]))


@_rule("transpose")
def _transpose(b: Batching, node: Node, xs: Inputs) -> Node:
    (old,), perm = node.inputs, node.params["perm"]
    ragged, place = _places(b.rows, old.shape)
    (x,) = xs
    order = tuple(ragged.index(a) for a in perm if a in ragged)
    dense = (0, *(place[a] for a in perm if a in place))
    # Another order of the rows: those of the result, looked up where they were.
    domain = b.rows.domain(node.shape)
    x = gather(x, b.rows.within(domain, tuple(int(i) for i in np.argsort(order))))
    return transpose(x, perm=dense) if dense != tuple(range(x.ndim)) else x


@_rule("concatenate")
def _concatenate(b: Batching, node: Node, xs: Inputs) -> Node:
    axis = node.params["axis"]
    ragged, _ = _places(b.rows, node.shape)
    # All parts of all examples end to end, and from there row by row in the order of the examples.
    domain, which = b.rows.domain(node.shape), ragged.index(axis)
    owner, at = b.rows.owner(domain), [b.rows.coordinate(domain, i) for i in range(len(ragged))]
    parts, source, before = [], None, 0
    end = full(0, (b.rows.size,), _INT)
    for old in node.inputs:
        x = b.made.get(old, old)
        if not b.rows.ragged(old.shape[axis]):  # as many rows in each example: they are rows like any other
            if len(ragged) > 1:
                raise refuse(node, "it joins a fixed number of rows to a block of two ragged axes",
                             "Join what the block is made of")
            x = b.each(old)
            x = transpose(x, perm=(0, axis + 1, *(a + 1 for a in range(old.ndim) if a != axis)))
            x = reshape(x, shape=(x.shape[0] * x.shape[1], *x.shape[2:]))
        mine = tuple(old.shape[a] for a in ragged)
        begin = gather(end, owner)
        there = [c - begin if i == which else c for i, c in enumerate(at)]
        here = _plus(b.rows.row(mine, there, owner), before)
        source = here if source is None else where(lt(at[which], begin), source, here)
        parts.append(x)
        end = end + b.rows.length((old.shape[axis],))
        before = before + x.shape[0]
    return gather(concatenate(*parts, axis=0) if len(parts) > 1 else parts[0], source)


def _plus(x: Node, n: int | Dim) -> Node:
    return x + broadcast_along(size_scalar(n, x.dtype), x.shape, tuple(range(x.ndim)))


@_rule("flip")
def _flip(b: Batching, node: Node, xs: Inputs) -> Node:
    (old,), axes = node.inputs, node.params["axes"]
    ragged, place = _places(b.rows, old.shape)
    (x,) = xs
    dense = tuple(place[a] for a in axes if a in place)
    x = node.prim(x, axes=dense) if dense else x
    turned = [i for i, a in enumerate(ragged) if a in axes]
    domain = b.rows.domain(old.shape)
    coordinates = []
    for i, n in enumerate(domain):
        c = b.rows.coordinate(domain, i)
        coordinates.append(b.rows.of_owner(b.rows.length((n,)), domain) - c - 1 if i in turned else c)
    return gather(x, b.rows.row(domain, coordinates, b.rows.owner(domain)))


# -- gather and scatter --------------------------------------------------------------------------------------


def _pointers(b: Batching, node: Node, indices: Sequence[Node], shape: Shape) -> list[Node]:
    """Return the indices into the packed (or stacked) array that name what `indices` do in one of shape `shape`."""
    k = len(indices)
    common = indices[0].shape
    named, rest = shape[:k], shape[k:]
    domain = (*b.rows.domain(common), *b.rows.domain(rest))
    own = len(b.rows.domain(common))
    at = tuple(range(own))
    dense = b.rows.dense(common)
    wide = (b.rows.total(domain) if domain else b.rows.size, *dense)
    owner = b.rows.owner(domain) if domain else iota(size=b.rows.size)
    owner = spread_rows(owner, wide)
    for n, i in zip(named, indices, strict=True):
        target = b.targets.get(i)
        if target is not None and n != Dim((((target,), 1),)):
            raise _wrong_axis(node, i, target, n)
        if i in b.nullable:
            raise BatchError(f"{node.where}: {node.prim.name}: this index into {target} is declared with null=-1, and "
                             "-1 is the last row to NumPy. Write mg.gather(x, index), which has zeros there, and "
                             "mg.segment_sum(x, index, size, null=-1), which leaves them out")

    def pointer(i: Node) -> Node:
        if not domain:
            return b.each(i)
        x = b.at_rows(i, domain, at)
        return x if i in b.mapped or b.is_ragged(i) else broadcast_along(x, wide, (0,))

    into = b.rows.domain(shape)
    if len(into) == 1 and b.rows.ragged(named[0] if k == 1 else 0) and indices[0] in b.packed_indices and domain == (
            b.rows.domain(common)):
        return [b.packed_indices[indices[0]]]
    coordinates, plain = [], []
    for n, i in zip(named, indices, strict=True):
        if b.rows.ragged(n):
            length = gather(_long_enough(b, i, n) if domain else b.rows.length((n,)), owner)
            x = pointer(i)
            coordinates.append(x if counts_along(n, i) is not None else checked_index(x, length))
        else:
            plain.append(pointer(i))
    coordinates += [spread_rows(b.rows.coordinate(domain, own + j), wide) for j in range(len(b.rows.domain(rest)))]
    if not coordinates:
        return [owner, *plain]
    return [b.rows.row(into, coordinates, owner), *plain]


def _long_enough(b: Batching, i: Node, n: int | Dim) -> Node:
    """Return each example's number of rows, checked against an index that consists of numbers.

    Where the rows are empty themselves, there is no element at which it would be checked.
    """
    lengths = b.rows.length((n,))
    value = i.params["value"] if i.prim.name in ("const", "full") else ()
    if not np.size(value):
        return lengths
    far = max(int(k) if k >= 0 else -1 - int(k) for k in np.ravel(value))
    more = full(far, (b.rows.size,), lengths.dtype)
    return nonempty(lengths - more, what=f"an index is out of range: example {{}} has fewer than {far + 1} rows") + more


def _wrong_axis(node: Node, index: Node, target: Symbol, n: int | Dim) -> ShapeError:
    what = "indexes" if node.prim is gather else "adds up along"
    return ShapeError(f"{node.where}: {node.prim.name}: an index into {target} (of type {index.type}) {what} an axis "
                      f"of size {n}. It points at the rows of {target}: use it for an array that has that axis")


@_rule("gather")
def _gather(b: Batching, node: Node, xs: Inputs) -> Node:
    old, *indices = node.inputs
    if not b.is_ragged(old) and old not in b.mapped:
        return gather(*xs)  # the indices have one shape, and so have rows, all of them
    pointers = _pointers(b, node, indices, old.shape)
    x = xs[0] if b.is_ragged(old) else b.each(old)
    return gather(x, *pointers)


@_rule("scatter_add", "scatter_max", "scatter_min")
def _scatter(b: Batching, node: Node, xs: Inputs) -> Node:
    old, *indices = node.inputs
    shape = node.params["shape"]
    pointers = _pointers(b, node, indices, shape)
    u = xs[0] if b.is_ragged(old) else b.each(old)
    return node.prim(u, *pointers, shape=b.rows.packed(shape))


@_rule("in_range")
def _in_range(b: Batching, node: Node, xs: Inputs) -> Node:
    (index,), n = node.inputs, node.params["size"]
    if not b.rows.ragged(n):
        return in_range(xs[0], size=n)
    if index in b.targets:  # the batch has been checked
        return xs[0]
    x, owner = b.each(index), iota(size=b.rows.size)
    if b.is_ragged(index):
        x, owner = xs[0], b.rows.owner(b.rows.domain(index.shape))
    return checked_index(x, spread_rows(gather(_long_enough(b, index, n), owner), x.shape))


# -- order ---------------------------------------------------------------------------------------------------


@_rule("cumsum", "argsort")
def _ordered(b: Batching, node: Node, xs: Inputs) -> Node:
    """Apply the segment form along the last ragged axis: in a block each row is a segment."""
    domain = b.rows.domain(node.shape)
    if node.params["axis"] != _places(b.rows, node.shape)[0][-1]:
        raise refuse(node, "it runs along the first of two ragged axes", "Transpose the block first")
    ids = b.rows.within(domain, tuple(range(len(domain) - 1))) if len(domain) > 1 else b.rows.owner(domain)
    return segment_argsort(xs[0], ids) if node.prim is argsort else segment_cumsum(xs[0], ids, reverse=False)


# -- what the batches within a batch of batches are made of --------------------------------------------------------


@_rule("segment_ids")
def _segment_ids(b: Batching, node: Node, xs: Inputs) -> Node:
    domain = b.rows.domain(node.shape)
    owner = PRIMITIVES["segment_ids"](xs[0], size=b.rows.total(domain))
    return owner - b.rows.of_owner(b.rows.offset(b.rows.domain(node.inputs[0].shape)), domain)


@_rule("segment_cumsum", "segment_argsort")
def _segments(b: Batching, node: Node, xs: Inputs) -> Node:
    # Neighbours of different batches differ in the last "digit".
    ids = xs[1] * broadcast_along(size_scalar(b.rows.size, _INT), xs[1].shape, (0,)) + b.rows.owner(
        b.rows.domain(node.inputs[1].shape))
    return node.prim(xs[0], ids, **node.params)


@_rule("block_einsum")
def _inner_block_einsum(b: Batching, node: Node, xs: Inputs) -> Node:
    examples = b.rows.domain(node.inputs[2].shape)
    xs, kinds = [*xs], [*node.params["kinds"]]
    for i, (old, kind) in enumerate(zip(node.inputs[:2], kinds, strict=True)):
        if kind == "shared" and old in b.mapped:
            xs[i], kinds[i] = b.rows.of_owner(xs[i], examples), "stacked"
    return block_einsum(*xs, **{**node.params, "kinds": tuple(kinds), "size": b.rows.packed(node.shape)[0]})


# -- everything else -----------------------------------------------------------------------------------------

@_rule("checkpoint", "chunked")
def _checkpoint(b: Batching, node: Node, xs: Inputs) -> tuple[Node, ...]:
    """Write the held program out: its nodes are rewritten like any other."""
    return tuple(new if mapped else broadcast_leading(new, b.rows.size)
                 for new, mapped in b.run(written_out(node), _ALL))


@_rule("custom")
def _custom(b: Batching, node: Node, xs: Inputs) -> Node:
    """Rewrite the function that it holds, and its rule; sizes, and what is made of them, become inputs too."""
    p = node.params
    given = [(i, x, i in b.mapped) for i, x in zip(node.inputs, xs, strict=True)]
    inputs, outputs, more = _within(b, p["graph"], given, [True] * len(p["graph"].outputs))
    results = [(old, new, True) for old, new in zip(p["graph"].outputs, outputs, strict=True)]
    which = "vjp" if p["vjp"] is not None else "jvp"
    rule = p[which]
    if isinstance(rule, Later) and not b.in_rule:
        rule = rule.graph
    if isinstance(rule, Later):  # a rule within itself: its batch would not end
        return node.prim(*xs, *more, **{"graph": _closed(p["graph"], inputs, more, outputs), "vjp": None, "jvp": None,
                                        which: Later(rule.name)})
    moving, made = ([entry for entry in of if entry[0].type.floating] for of in (given, results))
    moving = moving[:ruled(p["graph"], *((rule, None) if which == "vjp" else (None, rule)))]
    pushed, pulled = (made, moving) if which == "vjp" else (moving, made)
    held, back, others = _within(b, rule, [*pushed, *results, *given], [has for *_, has in pulled], in_rule=True)
    extra = list(dict.fromkeys([*more, *others]))
    return node.prim(*xs, *extra, **{"graph": _closed(p["graph"], inputs, extra, outputs), "vjp": None, "jvp": None,
                                     which: _closed(rule, held, extra, back)})


def _within(b: Batching, graph: Graph, given: Sequence[tuple[Node, Node, bool]], mapped: Sequence[bool],
            in_rule: bool = False) -> tuple[list[Node], list[Node], list[Node]]:
    """Return a held graph's inputs and outputs for a batch, and the nodes of outside that the outputs depend on.

    Parameters
    ----------
    given : sequence of (node, node, bool)
        Of each input: something of its type for one example, something of its type for the batch, and whether it
        differs from example to example.
    mapped : sequence of bool
        Whether each output is to differ; what is pulled back to something shared is added up.
    in_rule : bool
        Whether the graph is a derivative rule.
    """
    olds, news = [placeholder(i.type) for i, _, _ in given], [placeholder(x.type) for _, x, _ in given]
    since = moment()
    outputs = interpreters.substitute(graph.outputs, dict(zip(graph.inputs, olds, strict=True)))
    pairs = list(zip(olds, given, strict=True))
    inner = Batching(b.rows, dict(zip(olds, news, strict=True)), [o for o, (_, _, has) in pairs if has],
                    {o: b.targets[i] for o, (i, _, _) in pairs if i in b.targets},
                    {o: b.packed_indices[i] for o, (i, _, _) in pairs if i in b.packed_indices},
                    [o for o, (i, _, _) in pairs if i in b.nullable])
    inner.in_rule = in_rule or b.in_rule
    found = [new if has == want else broadcast_leading(new, b.rows.size) if want else sum_(new, axes=(0,))
             for (new, has), want in zip(inner.run(outputs, _ALL), mapped, strict=True)]
    made = set(reachable(found, since))
    outside = dict.fromkeys([i for n in (*made, *found) for i in (n.inputs if n in made else (n,))
                             if i not in made and i not in news])
    return news, found, sorted(outside, key=lambda n: n.serial)


def _closed(graph: Graph, inputs: Sequence[Node], extra: Sequence[Node], outputs: Sequence[Node]) -> Graph:
    """Return a graph like `graph`, in which the nodes `extra` are inputs behind the others."""
    own = [placeholder(n.type) for n in extra]
    return Graph(
        (*inputs, *own), tuple(interpreters.substitute(outputs, dict(zip(extra, own, strict=True)))), name=graph.name
    )


_ALONG = {ORDERED: ("it runs along a ragged axis", "Run it along another axis, or use mg.segment_max"),
          PERMUTED: ("it moves elements along a ragged axis", "Move them along another axis, or index the rows with "
                     "an array of positions")}


@_rule("proj")
def _proj(b: Batching, node: Node, xs: Inputs) -> Node:
    return xs[0][node.params["index"]] if isinstance(xs[0], tuple) else node.prim(*xs, **node.params)


@_rule("barrier")
def _barrier(b: Batching, node: Node, xs: Inputs) -> Node:
    first = node.inputs[0]
    return barrier(xs[0] if b.is_ragged(first) else b.each(first), xs[1])


def _rule_of_axes(b: Batching, node: Node, rule: AxisRule | None) -> Rule:
    """Return the batching rule that a node's axis rule implies along its ragged axes, or raise the reason."""
    if node.prim.kind == "matrix":
        raise refuse(node, "a matrix of ragged size has no such decomposition in a batch",
                     "Matrices of fixed size, one per row, have")
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
    placed = node.prim.axes and node.prim.axes.placed
    if rule is None or placed is None or node.prim is reshape or not all(map(b.is_ragged, node.inputs)):
        return None  # the parameters of a reshape do not say which axis is which
    types = [*(i.type for i in node.inputs), *node.types]
    rows = [tuple([axis for axis, n in zip(axes, t.shape, strict=True) if b.rows.ragged(n)])
            for axes, t in zip(rule.operands + rule.results, types, strict=True)]
    if any(r != rows[0] for r in rows) or any(f.kind is not PARALLEL for axis in rows[0] for f in axis):
        return None
    dense = [a for a, n in enumerate(node.inputs[0].shape) if not b.rows.ragged(n)]
    params = placed(node.params, (None, *dense), xs[0].shape[0])
    return None if any(map(b.ragged_param, params.values())) else node.prim(*xs, **params)


def _follow_targets(b: Batching, node: Node) -> None:
    """Keep in mind into which axis an index points, as far as its values stay the same."""
    if b.targets.keys().isdisjoint(node.inputs):
        return
    sources = picked(node)
    targets = {b.targets.get(i) for i in sources}
    if len(targets) == 1 and None not in targets and node.dtype.kind in "iu":
        b.targets[node] = targets.pop()
        if any(i in b.nullable for i in sources):
            b.nullable.add(node)
