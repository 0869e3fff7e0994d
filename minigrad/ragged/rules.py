"""What a batch of examples of different size makes of each primitive: the rules of packed arrays, beside each other.

A value whose shape for one example has ragged sizes is packed: those axes are merged into one, in front
(`Rows`); every other value is stacked, or shared by all examples, as under any `vmap`. Elementwise work does not ask
which; what adds or removes a ragged axis does, and becomes a gather or a scatter by the rows' owners.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import interpreters
from ..axes import ORDERED, PARALLEL, PERMUTED, axis_rule
from ..errors import BatchError, ShapeError, Unsupported
from ..graph import PRIMITIVES, ArrayType, Graph, Node, full, moment, reachable
from ..ops.accumulators import accumulator
from ..ops.block_einsum import block_einsum
from ..ops.checks import in_range, picked
from ..ops.constants import iota, size_scalar
from ..ops.control import barrier, written_out
from ..ops.custom import Later, ruled
from ..ops.einsum import LETTERS, contract, parse
from ..ops.elementwise import cast_to, eq, logical_not, lt, where
from ..ops.index import counts_along, gather, scatter_add
from ..ops.reduce import expand_to, per_count, sum_
from ..ops.scatter import scatter_max, scatter_min
from ..ops.segments import checked_index, nonempty, segment_argsort, segment_cumsum
from ..ops.shape import concatenate, reshape, transpose
from ..ops.strict_index import place
from ..primitive import placeholder, rule, spread
from ..symbolic import Dim, Shape, Symbol, size_of
from ..tracing import made_by
from .rows import Domain, Rows, lengths_as, spread_rows

_INT = np.dtype(np.int64)
_ALL = -1  # since when nodes are rewritten: held graphs have constants of their own, made at any time
Rule = Callable[["Rewrite", Node, list[Node]], Node]
RULES: dict[str, Rule] = {}


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def enter(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
        return function

    return enter


class Rewrite:
    """The rewriting of one program for one example to that of a batch.

    Attributes
    ----------
    rows : Rows
    made : dict of Node to Node
        What each node of the program for one example has become.
    mapped : set of Node
        Those that differ from example to example: stacked, or packed.
    targets : dict of Node to Symbol
        The axis that an index points into.
    moved : dict of Node to Node
        An index that points into the packed rows already.
    nullable : set of Node
        Indices that may point nowhere.
    in_rule : bool
        Whether the program is the derivative rule of a function.
    """

    in_rule = False

    def __init__(self, rows: Rows, made: Mapping[Node, Node], mapped: Iterable[Node], targets: Mapping[Node, Symbol],
                 moved: Mapping[Node, Node], nullable: Iterable[Node] = ()):
        self.rows = rows
        self.made = dict(made)
        self.mapped = set(mapped)
        self.targets = dict(targets)
        self.moved = dict(moved)
        self.nullable = set(nullable)

    def run(self, outputs: Sequence[Node], since: int) -> list[tuple[Node, bool]]:
        """Return the outputs of the batch, and whether each differs from example to example."""
        with made_by("vmap") as working_on:
            for node in reachable(outputs, since):
                if node not in self.made:
                    working_on(node)
                    self._visit(node)
        return [(self.made.get(n, n), n in self.mapped) for n in outputs]

    def _visit(self, node: Node) -> None:
        inputs = [self.made.get(i, i) for i in node.inputs]
        _follow_targets(self, node)
        if node.prim is place and node.inputs[0] in self.targets:  # the batch has been checked
            self._same(node, node.inputs[0])
            return
        if self._touches_ragged(node):
            self.made[node] = self._packed(node, inputs)
            self.mapped.add(node)
            return
        flags = [i in self.mapped for i in node.inputs]
        if any(flags):
            self.made[node] = rule(node, "batch")(self.rows.size, flags, *inputs, **node.params)
            self.mapped.add(node)
        elif tuple(inputs) != node.inputs:
            self.made[node] = interpreters.rebuilt(node, tuple(inputs))

    def _same(self, node: Node, index: Node) -> None:
        """Take `node` for an index that it is equal to."""
        self.made[node] = self.made[index]
        self.mapped.add(node)
        if index in self.moved:
            self.moved[node] = self.moved[index]

    def _packed(self, node: Node, inputs: list[Node]) -> Node:
        if node.prim.kind == "elementwise":
            return PRIMITIVES[node.prim.name](*inputs, **node.params)
        if (made := _parallel(self, node, inputs)) is not None:
            return made
        if node.prim.name in RULES:
            return RULES[node.prim.name](self, node, inputs)
        return _row_by_row(self, node, inputs)

    def _touches_ragged(self, node: Node) -> bool:
        return any(map(self.is_ragged, (node, *node.inputs))) or any(map(self.ragged_param, node.params.values()))

    def ragged_param(self, v: Any) -> bool:
        """Tell whether a static parameter holds a size that differs from example to example."""
        return any(map(self.ragged_param, v)) if isinstance(v, tuple) else self.rows.ragged(v)

    def is_ragged(self, node: Node) -> bool:
        """Tell whether a value of the program for one example has a ragged axis."""
        return any(self.rows.ragged(n) for t in node.types for n in t.shape)

    def each(self, node: Node) -> Node:
        """Return a value without ragged axes as (B, ...), repeated where all examples share it."""
        new = self.made.get(node, node)
        return new if node in self.mapped else spread(new, self.rows.size)

    def at_rows(self, node: Node, domain: Domain, kept: tuple[int, ...] | None = None) -> Node:
        """Return a value at each row of `domain`, of which its own ragged axes are those in `kept`, in order.

        Where all examples share it, it is returned as it is: it has no rows.
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
def _full(rw: Rewrite, node: Node, xs: list[Node]) -> Node:
    return full(node.params["value"], rw.rows.packed(node.shape), node.dtype)


@_rule("iota")
def _iota(rw: Rewrite, node: Node, xs: list[Node]) -> Node:
    return rw.rows.position((node.params["size"],))


@_rule("size")
def _size(rw: Rewrite, node: Node, xs: list[Node]) -> Node:
    return lengths_as(rw.rows, node.params["size"], node.dtype)


# -- expand and the reductions -------------------------------------------------------------------------------


@_rule("expand")
def _expand(rw: Rewrite, node: Node, xs: list[Node]) -> Node:
    (old,), shape, axes = node.inputs, node.shape, node.params["axes"]
    ragged, place = _places(rw.rows, shape)
    domain = rw.rows.domain(shape)
    x = rw.at_rows(old, domain, tuple(i for i, a in enumerate(ragged) if a not in axes))
    new = tuple(place[a] for a in axes if a in place)
    if old not in rw.mapped and not rw.is_ragged(old):
        new = (0, *new)  # all examples share it: the rows are repetitions
    return expand_to(x, rw.rows.packed(shape), new)


def _split_axes(rw: Rewrite, node: Node) -> tuple[Domain, tuple[int, ...], tuple[int, ...]]:
    """Return a reduction's domain, the positions in it that are left, and the dense axes that go, packed."""
    (old,), axes = node.inputs, node.params["axes"]
    ragged, place = _places(rw.rows, old.shape)
    kept = tuple(i for i, a in enumerate(ragged) if a not in axes)
    return rw.rows.domain(old.shape), kept, tuple(place[a] for a in axes if a in place)


def _collect(rw: Rewrite, x: Node, domain: Domain, kept: tuple[int, ...], scatter: Callable[..., Node]) -> Node:
    """Bring rows of `domain` together at what is left of it: at their example, or at the rows that they project to."""
    if len(kept) == len(domain):
        return x
    smaller = tuple(domain[i] for i in kept)
    to = rw.rows.within(domain, kept) if kept else rw.rows.owner(domain)
    return scatter(x, to, shape=(rw.rows.total(smaller) if kept else rw.rows.size, *x.shape[1:]))


@_rule("sum")
def _sum(rw: Rewrite, node: Node, xs: list[Node]) -> Node:
    domain, kept, axes = _split_axes(rw, node)
    (x,) = xs
    return _collect(rw, sum_(x, axes=axes) if axes else x, domain, kept, scatter_add)


@_rule("mean")
def _mean(rw: Rewrite, node: Node, xs: list[Node]) -> Node:
    (old,), axes = node.inputs, node.params["axes"]
    n = size_of(old.shape[a] for a in axes)
    total = _sum(rw, node, [cast_to(xs[0], accumulator(node.dtype))])
    count = rw.rows.length((n,))
    left = rw.rows.domain(node.shape)
    count = spread_rows(gather(count, rw.rows.owner(left)) if left else count, total.shape)
    return cast_to(per_count(total, count), node.dtype)


@_rule("max", "min", "max_or_least", "min_or_largest")
def _extreme(rw: Rewrite, node: Node, xs: list[Node]) -> Node:
    domain, kept, axes = _split_axes(rw, node)
    (x,) = xs
    x = node.prim(x, axes=axes) if axes else x
    out = _collect(rw, x, domain, kept, scatter_max if node.prim.name.startswith("max") else scatter_min)
    if node.prim.name not in ("max", "min"):
        return out
    # Nothing to take the largest of: as NumPy, this raises, but when the program runs.
    gone = tuple(n for i, n in enumerate(domain) if i not in kept)
    there = rw.rows.length(domain) if not kept else _gone_but_needed(rw, gone, tuple(domain[i] for i in kept))
    what = f"{node.prim.name} of nothing: example {{}} has no rows. Give it initial="
    return barrier(out, nonempty(there, what=what))


def _gone_but_needed(rw: Rewrite, gone: Domain, left: Domain) -> Node:
    """Return a number per example that is 0 where a result is asked for that nothing goes into."""
    none_asked = eq(rw.rows.length(left), full(0, (rw.rows.size,), _INT))
    return where(none_asked, full(1, (rw.rows.size,), _INT), rw.rows.length(gone))


@_rule("any", "all")
def _truth(rw: Rewrite, node: Node, xs: list[Node]) -> Node:
    domain, kept, axes = _split_axes(rw, node)
    (x,) = xs
    x = node.prim(x, axes=axes) if axes else x
    wanted = x if node.prim.name == "any" else logical_not(x)
    found = _collect(rw, cast_to(wanted, _INT), domain, kept, scatter_add)
    none = eq(found, full(0, found.shape, _INT))
    return logical_not(none) if node.prim.name == "any" else none


@_rule("argmax", "argmin")
def _arg(rw: Rewrite, node: Node, xs: list[Node]) -> Node:
    (old,), axis = node.inputs, node.params["axis"]
    ragged, _ = _places(rw.rows, old.shape)
    largest = node.prim.name == "argmax"
    best_of = PRIMITIVES["max" if largest else "min"]
    reduction = Node(best_of, node.inputs, {"axes": (axis,)}, ArrayType(node.shape, old.dtype), like=node)
    domain, kept, _ = _split_axes(rw, reduction)
    best = _extreme(rw, reduction, xs)
    to = rw.rows.within(domain, kept) if kept else rw.rows.owner(domain)
    at = spread_rows(rw.rows.coordinate(domain, ragged.index(axis)), xs[0].shape)
    hit = _same_or_nan(xs[0], gather(best, to))
    never = full(np.iinfo(_INT).max, at.shape, _INT)
    return scatter_min(where(hit, at, never), to, shape=best.shape)


def _same_or_nan(x: Node, best: Node) -> Node:
    hit = eq(x, best)
    return PRIMITIVES["logical_or"](hit, PRIMITIVES["isnan"](x)) if x.type.floating else hit


# -- contraction ---------------------------------------------------------------------------------------------


@_rule("einsum")
def _einsum(rw: Rewrite, node: Node, xs: list[Node]) -> Node:
    terms, out = parse(node.params["subscripts"])
    sizes = {c: n for t, i in zip(terms, node.inputs, strict=True) for c, n in zip(t, i.shape, strict=True)}
    ragged = {c for c, n in sizes.items() if rw.rows.ragged(n)}
    if _in_blocks(rw, node, terms, out, ragged):
        return _block_einsum(rw, node, out, ragged, sizes)
    order = _row_order(terms, out, ragged)
    domain = tuple(sizes[c] for c in order)
    row = next(c for c in LETTERS if c not in sizes)
    operands = []
    for t, old in zip(terms, node.inputs, strict=True):
        x = rw.at_rows(old, domain, tuple(order.index(c) for c in t if c in ragged))
        has_rows = old in rw.mapped or rw.is_ragged(old)
        operands.append((row * has_rows + "".join(c for c in t if c not in ragged), x))
    result = contract(operands, row + "".join(c for c in out if c not in ragged))
    kept = tuple(order.index(c) for c in out if c in ragged)
    if kept == tuple(range(len(domain))):
        return result
    return _collect(rw, result, domain, kept, scatter_add)


def _in_blocks(rw: Rewrite, node: Node, terms: Sequence[str], out: str, ragged: set[str]) -> bool:
    """Tell whether one product per example is better than rows side by side, where these would be larger than what
    goes in and comes out: an outer product of rows that is summed, pairs of rows, a matrix for each example.
    """
    if len(terms) != 2:
        return False
    dense = [set(t) - ragged for t in terms]
    if any(i in rw.mapped and not rw.is_ragged(i) and len(d) > 1 for i, d in zip(node.inputs, dense, strict=True)):
        return True
    if len(ragged) > 1:
        return bool(dense[0] | dense[1])
    return not set(out) & ragged and len(set(out)) > max(map(len, dense))


def _block_einsum(rw: Rewrite, node: Node, out: str, ragged: set[str], sizes: Mapping[str, int | Dim]) -> Node:
    xs, kinds = [], []
    for i in node.inputs:
        kinds.append("packed" if rw.is_ragged(i) else "stacked" if i in rw.mapped else "shared")
        xs.append(rw.made.get(i, i))
    letters = "".join(c for c in sizes if c in ragged)
    left = tuple(sizes[c] for c in out if c in ragged)
    return block_einsum(*xs, *(rw.rows.length((sizes[c],)) for c in letters), subscripts=node.params["subscripts"],
                        ragged=letters, kinds=tuple(kinds), size=rw.rows.total(left) if left else rw.rows.size)


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
def _reshape(rw: Rewrite, node: Node, xs: list[Node]) -> Node:
    (old,), shape = node.inputs, node.shape
    (x,) = xs
    # Leading dense axes that stay are taken out of the way; behind them both sides must begin with the ragged axes.
    lead = 0
    while lead < min(old.ndim, node.ndim) and old.shape[lead] == shape[lead] and not rw.rows.ragged(shape[lead]):
        lead += 1
    before, after = (tuple(n for n in s[lead:] if n != 1) for s in (old.shape, shape))
    if not (_rows_lead(rw, before) and _rows_lead(rw, after)):
        raise refuse(node, "it would move a fixed axis into or out of a ragged axis that stands behind it",
                     "Bring the ragged axis to the front first, with np.moveaxis or .T")
    if rw.rows.total(rw.rows.domain(before)) != rw.rows.total(rw.rows.domain(after)) and lead:
        k = lead + 1
        x = transpose(x, perm=(*range(1, k), 0, *range(k, x.ndim)))
        x = reshape(x, shape=(*shape[:lead], *rw.rows.packed(shape[lead:])))
        return transpose(x, perm=(lead, *range(lead), *range(k, x.ndim)))
    return reshape(x, shape=rw.rows.packed(shape))


def _rows_lead(rw: Rewrite, shape: Shape) -> bool:
    n = len(rw.rows.domain(shape))
    return all(map(rw.rows.ragged, shape[:n]))


@_rule("transpose")
def _transpose(rw: Rewrite, node: Node, xs: list[Node]) -> Node:
    (old,), perm = node.inputs, node.params["perm"]
    ragged, place = _places(rw.rows, old.shape)
    (x,) = xs
    order = tuple(ragged.index(a) for a in perm if a in ragged)
    dense = (0, *(place[a] for a in perm if a in place))
    # Another order of the rows: those of the result, looked up where they were.
    domain = rw.rows.domain(node.shape)
    x = gather(x, rw.rows.within(domain, tuple(int(i) for i in np.argsort(order))))
    return transpose(x, perm=dense) if dense != tuple(range(x.ndim)) else x


@_rule("concatenate")
def _concatenate(rw: Rewrite, node: Node, xs: list[Node]) -> Node:
    axis = node.params["axis"]
    ragged, _ = _places(rw.rows, node.shape)
    # All parts of all examples end to end, and from there row by row in the order of the examples.
    domain, which = rw.rows.domain(node.shape), ragged.index(axis)
    owner, at = rw.rows.owner(domain), [rw.rows.coordinate(domain, i) for i in range(len(ragged))]
    parts, source, before = [], None, 0
    end = full(0, (rw.rows.size,), _INT)
    for old in node.inputs:
        x = rw.made.get(old, old)
        if not rw.rows.ragged(old.shape[axis]):  # as many rows in each example: they are rows like any other
            if len(ragged) > 1:
                raise refuse(node, "it joins a fixed number of rows to a block of two ragged axes",
                             "Join what the block is made of")
            x = rw.each(old)
            x = transpose(x, perm=(0, axis + 1, *(a + 1 for a in range(old.ndim) if a != axis)))
            x = reshape(x, shape=(x.shape[0] * x.shape[1], *x.shape[2:]))
        mine = tuple(old.shape[a] for a in ragged)
        begin = gather(end, owner)
        there = [c - begin if i == which else c for i, c in enumerate(at)]
        here = _plus(rw.rows.row(mine, there, owner), before)
        source = here if source is None else where(lt(at[which], begin), source, here)
        parts.append(x)
        end = end + rw.rows.length((old.shape[axis],))
        before = before + x.shape[0]
    return gather(concatenate(*parts, axis=0) if len(parts) > 1 else parts[0], source)


def _plus(x: Node, n: int | Dim) -> Node:
    return x + expand_to(size_scalar(n, x.dtype), x.shape, tuple(range(x.ndim)))


@_rule("flip")
def _flip(rw: Rewrite, node: Node, xs: list[Node]) -> Node:
    (old,), axes = node.inputs, node.params["axes"]
    ragged, place = _places(rw.rows, old.shape)
    (x,) = xs
    dense = tuple(place[a] for a in axes if a in place)
    x = node.prim(x, axes=dense) if dense else x
    turned = [i for i, a in enumerate(ragged) if a in axes]
    domain = rw.rows.domain(old.shape)
    coordinates = []
    for i, n in enumerate(domain):
        c = rw.rows.coordinate(domain, i)
        coordinates.append(rw.rows.of_owner(rw.rows.length((n,)), domain) - c - 1 if i in turned else c)
    return gather(x, rw.rows.row(domain, coordinates, rw.rows.owner(domain)))


# -- gather and scatter --------------------------------------------------------------------------------------


def _pointers(rw: Rewrite, node: Node, indices: Sequence[Node], shape: Shape) -> list[Node]:
    """Return the indices into the packed (or stacked) array that name what `indices` do in one of shape `shape`."""
    k = len(indices)
    common = indices[0].shape
    named, rest = shape[:k], shape[k:]
    domain = (*rw.rows.domain(common), *rw.rows.domain(rest))
    own = len(rw.rows.domain(common))
    at = tuple(range(own))
    dense = rw.rows.dense(common)
    wide = (rw.rows.total(domain) if domain else rw.rows.size, *dense)
    owner = rw.rows.owner(domain) if domain else iota(size=rw.rows.size)
    owner = spread_rows(owner, wide)
    for n, i in zip(named, indices, strict=True):
        target = rw.targets.get(i)
        if target is not None and n != Dim((((target,), 1),)):
            raise _wrong_axis(node, i, target, n)
        if i in rw.nullable:
            raise BatchError(f"{node.where}: {node.prim.name}: this index into {target} is declared with null=-1, and "
                             "-1 is the last row to NumPy. Write mg.gather(x, index), which has zeros there, and "
                             "mg.segment_sum(x, index, size, null=-1), which leaves them out")

    def pointer(i: Node) -> Node:
        if not domain:
            return rw.each(i)
        x = rw.at_rows(i, domain, at)
        return x if i in rw.mapped or rw.is_ragged(i) else expand_to(x, wide, (0,))

    into = rw.rows.domain(shape)
    if len(into) == 1 and rw.rows.ragged(named[0] if k == 1 else 0) and indices[0] in rw.moved and domain == (
            rw.rows.domain(common)):
        return [rw.moved[indices[0]]]
    coordinates, plain = [], []
    for n, i in zip(named, indices, strict=True):
        if rw.rows.ragged(n):
            length = gather(_long_enough(rw, i, n) if domain else rw.rows.length((n,)), owner)
            x = pointer(i)
            coordinates.append(x if counts_along(n, i) is not None else checked_index(x, length))
        else:
            plain.append(pointer(i))
    coordinates += [spread_rows(rw.rows.coordinate(domain, own + j), wide) for j in range(len(rw.rows.domain(rest)))]
    if not coordinates:
        return [owner, *plain]
    return [rw.rows.row(into, coordinates, owner), *plain]


def _long_enough(rw: Rewrite, i: Node, n: int | Dim) -> Node:
    """Return each example's number of rows, checked against an index that consists of numbers.

    Where the rows are empty themselves, there is no element at which it would be checked.
    """
    lengths = rw.rows.length((n,))
    value = i.params["value"] if i.prim.name in ("const", "full") else ()
    if not np.size(value):
        return lengths
    far = max(int(k) if k >= 0 else -1 - int(k) for k in np.ravel(value))
    more = full(far, (rw.rows.size,), lengths.dtype)
    return nonempty(lengths - more, what=f"an index is out of range: example {{}} has fewer than {far + 1} rows") + more


def _wrong_axis(node: Node, index: Node, target: Symbol, n: int | Dim) -> ShapeError:
    what = "indexes" if node.prim.name == "gather" else "adds up along"
    return ShapeError(f"{node.where}: {node.prim.name}: an index into {target} (of type {index.type}) {what} an axis "
                      f"of size {n}. It points at the rows of {target}: use it for an array that has that axis")


@_rule("gather")
def _gather(rw: Rewrite, node: Node, xs: list[Node]) -> Node:
    old, *indices = node.inputs
    if not rw.is_ragged(old) and old not in rw.mapped:
        return gather(*xs)  # the indices have one shape, and so have rows, all of them
    pointers = _pointers(rw, node, indices, old.shape)
    x = xs[0] if rw.is_ragged(old) else rw.each(old)
    return gather(x, *pointers)


@_rule("scatter_add", "scatter_max", "scatter_min")
def _scatter(rw: Rewrite, node: Node, xs: list[Node]) -> Node:
    old, *indices = node.inputs
    shape = node.params["shape"]
    pointers = _pointers(rw, node, indices, shape)
    u = xs[0] if rw.is_ragged(old) else rw.each(old)
    return node.prim(u, *pointers, shape=rw.rows.packed(shape))


@_rule("in_range")
def _in_range(rw: Rewrite, node: Node, xs: list[Node]) -> Node:
    (index,), n = node.inputs, node.params["size"]
    if not rw.rows.ragged(n):
        return in_range(xs[0], size=n)
    if index in rw.targets:  # the batch has been checked
        return xs[0]
    x, owner = rw.each(index), iota(size=rw.rows.size)
    if rw.is_ragged(index):
        x, owner = xs[0], rw.rows.owner(rw.rows.domain(index.shape))
    return checked_index(x, spread_rows(gather(_long_enough(rw, index, n), owner), x.shape))


# -- order ---------------------------------------------------------------------------------------------------


@_rule("cumsum")
def _cumsum(rw: Rewrite, node: Node, xs: list[Node]) -> Node:
    return _in_segments(rw, node, xs[0], lambda x, ids: segment_cumsum(x, ids, reverse=False))


@_rule("argsort")
def _argsort(rw: Rewrite, node: Node, xs: list[Node]) -> Node:
    if len(rw.rows.domain(node.shape)) > 1:
        raise refuse(node, "it sorts along one of two ragged axes", "Sort before they are paired")
    return segment_argsort(xs[0], rw.rows.owner(rw.rows.domain(node.shape)))


def _in_segments(rw: Rewrite, node: Node, x: Node, work: Callable[[Node, Node], Node]) -> Node:
    """Apply `work` along a ragged axis; where there are two, each row of a block is a segment of its own."""
    (old,), axis = node.inputs, node.params["axis"]
    ragged, _ = _places(rw.rows, old.shape)
    domain = rw.rows.domain(old.shape)
    if len(ragged) == 1:
        return work(x, rw.rows.owner(domain))
    if axis != ragged[-1]:
        raise refuse(node, "it runs along the first of two ragged axes", "Transpose the block first")
    return work(x, rw.rows.within(domain, tuple(range(len(domain) - 1))))


# -- what the batches within a batch of batches are made of --------------------------------------------------------


@_rule("segment_ids")
def _segment_ids(rw: Rewrite, node: Node, xs: list[Node]) -> Node:
    domain = rw.rows.domain(node.shape)
    owner = PRIMITIVES["segment_ids"](xs[0], size=rw.rows.total(domain))
    return owner - rw.rows.of_owner(rw.rows.offset(rw.rows.domain(node.inputs[0].shape)), domain)


@_rule("segment_cumsum", "segment_argsort")
def _segments(rw: Rewrite, node: Node, xs: list[Node]) -> Node:
    # Neighbours of different batches differ in the last "digit".
    ids = xs[1] * expand_to(size_scalar(rw.rows.size, _INT), xs[1].shape, (0,)) + rw.rows.owner(
        rw.rows.domain(node.inputs[1].shape))
    return node.prim(xs[0], ids, **node.params)


@_rule("block_einsum")
def _inner_block_einsum(rw: Rewrite, node: Node, xs: list[Node]) -> Node:
    examples = rw.rows.domain(node.inputs[2].shape)
    kinds = list(node.params["kinds"])
    for i, (old, kind) in enumerate(zip(node.inputs[:2], kinds, strict=True)):
        if kind == "shared" and old in rw.mapped:
            xs[i], kinds[i] = rw.rows.of_owner(xs[i], examples), "stacked"
    return block_einsum(*xs, **{**node.params, "kinds": tuple(kinds), "size": rw.rows.packed(node.shape)[0]})


# -- everything else -----------------------------------------------------------------------------------------

@_rule("checkpoint", "chunked")
def _checkpoint(rw: Rewrite, node: Node, xs: list[Node]) -> tuple[Node, ...]:
    """Write the held program out: its nodes are rewritten like any other."""
    return tuple(new if mapped else spread(new, rw.rows.size) for new, mapped in rw.run(written_out(node), _ALL))


@_rule("custom")
def _custom(rw: Rewrite, node: Node, xs: list[Node]) -> Node:
    """Rewrite the function that it holds, and its rule; sizes, and what is made of them, become inputs too."""
    p = node.params
    given = [(i, x, i in rw.mapped) for i, x in zip(node.inputs, xs, strict=True)]
    inputs, outputs, more = _within(rw, p["graph"], given, [True] * len(p["graph"].outputs))
    results = [(old, new, True) for old, new in zip(p["graph"].outputs, outputs, strict=True)]
    which = "vjp" if p["vjp"] is not None else "jvp"
    rule = p[which]
    if isinstance(rule, Later) and not rw.in_rule:
        rule = rule.graph
    if isinstance(rule, Later):  # a rule within itself: its batch would not end
        return node.prim(*xs, *more, **{"graph": _closed(p["graph"], inputs, more, outputs), "vjp": None, "jvp": None,
                                        which: Later(rule.name)})
    moving, made = ([entry for entry in of if entry[0].type.floating] for of in (given, results))
    moving = moving[:ruled(p["graph"], *((rule, None) if which == "vjp" else (None, rule)))]
    pushed, pulled = (made, moving) if which == "vjp" else (moving, made)
    held, back, others = _within(rw, rule, [*pushed, *results, *given], [has for *_, has in pulled], in_rule=True)
    extra = list(dict.fromkeys([*more, *others]))
    return node.prim(*xs, *extra, **{"graph": _closed(p["graph"], inputs, extra, outputs), "vjp": None, "jvp": None,
                                     which: _closed(rule, held, extra, back)})


def _within(rw: Rewrite, graph: Graph, given: Sequence[tuple[Node, Node, bool]], mapped: Sequence[bool],
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
    inner = Rewrite(rw.rows, dict(zip(olds, news, strict=True)), [o for o, (_, _, has) in pairs if has],
                    {o: rw.targets[i] for o, (i, _, _) in pairs if i in rw.targets},
                    {o: rw.moved[i] for o, (i, _, _) in pairs if i in rw.moved},
                    [o for o, (i, _, _) in pairs if i in rw.nullable])
    inner.in_rule = in_rule or rw.in_rule
    found = [new if has == want else spread(new, rw.rows.size) if want else sum_(new, axes=(0,))
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


def _row_by_row(rw: Rewrite, node: Node, xs: list[Node]) -> Node:
    """Treat what works on the last axes of each row by itself: the rows are its batch."""
    name = node.prim.name
    if name == "proj":
        return xs[0][node.params["index"]] if isinstance(xs[0], tuple) else node.prim(*xs, **node.params)
    if name == "barrier":
        first, after = node.inputs[0], xs[1]
        return node.prim(xs[0] if rw.is_ragged(first) else rw.each(first), after)
    if node.prim.kind == "matrix":
        raise refuse(node, "a matrix of ragged size has no such decomposition in a batch",
                     "Matrices of fixed size, one per row, have")
    if (rule := axis_rule(node)) is not None:
        along = (f.kind for axis, n in zip(rule.operands[0], node.inputs[0].shape, strict=True) if rw.rows.ragged(n)
                 for f in axis)
        if (reason := next((_ALONG[kind] for kind in along if kind in _ALONG), None)) is not None:
            raise refuse(node, *reason)
    raise refuse(node, "it has no rule for ragged axes", "Write it with sums, gathers and the segment functions, or on "
                 "rows of fixed size")


def _parallel(rw: Rewrite, node: Node, xs: list[Node]) -> Node | None:
    """Return the same operation on packed rows, where its axis rule says that the rows keep apart; None elsewhere."""
    rule, placed = axis_rule(node), node.prim.axes and node.prim.axes.placed
    if rule is None or placed is None or node.prim is reshape or not all(map(rw.is_ragged, node.inputs)):
        return None  # the parameters of a reshape do not say which axis is which
    types = [*(i.type for i in node.inputs), *node.types]
    rows = [tuple(axis for axis, n in zip(axes, t.shape, strict=True) if rw.rows.ragged(n))
            for axes, t in zip(rule.operands + rule.results, types, strict=True)]
    if len(set(rows)) > 1 or any(f.kind is not PARALLEL for axis in rows[0] for f in axis):
        return None
    dense = [a for a, n in enumerate(node.inputs[0].shape) if not rw.rows.ragged(n)]
    params = placed(node.params, (None, *dense), xs[0].shape[0])
    return None if any(map(rw.ragged_param, params.values())) else node.prim(*xs, **params)


def _follow_targets(rw: Rewrite, node: Node) -> None:
    """Keep in mind into which axis an index points, as far as its values stay the same."""
    if rw.targets.keys().isdisjoint(node.inputs):
        return
    sources = picked(node)
    targets = {rw.targets.get(i) for i in sources}
    if len(targets) == 1 and None not in targets and node.dtype.kind in "iu":
        rw.targets[node] = targets.pop()
        if any(i in rw.nullable for i in sources):
            rw.nullable.add(node)
