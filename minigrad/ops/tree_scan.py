"""`tree_scan`: a loop over the nodes of trees, level by level; a node reads its children, or gives to them.

tree_scan(parent, heights, *shared, *own, *child, *states; graph, dim, counts, outs, reverse): `graph` is the program of
one node, with `dim` children. `own` operands have a row for each node, and the program takes the row of its node.
`child` operands have rows, too, and the program takes those of the children. States are rows of nodes that the loop
computes. Forwards, from the leaves to the roots, a node reads the states of its children and adds to its own; in
`reverse`, from the roots to the leaves, it reads its own and adds to those of its children. So each row is complete
when a step reads it, and a derivative reads the same rows from the result. Further results are sums over the nodes,
rows of nodes, and rows of children; `outs` counts them. This form is closed under derivatives of any order: the
cotangent of one direction is the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from .. import interpreters
from ..families import discrete
from ..graph import CALLS, PRIMITIVES, ArrayType, Graph, Node, TupleType, full, zeros_like
from ..primitive import ArrayNamespace, Primitive, Sample, broadcast_leading, fail, on_host, placeholder
from ..symbolic import Dim, Shape, Symbol
from ..tracing import guard_equal_shapes
from .accumulators import accumulator
from .broadcast import broadcast_along
from .constants import iota, size_scalar
from .control import parts
from .elementwise import lt, where
from .reduce import sum_
from .refusals import require_ints
from .shape import reshape
from .subgraph import without_effects

T = TypeVar("T")
_INT = np.dtype(np.int64)


# -- the order of the nodes ------------------------------------------------------------------------------------


def _heights_type(parent: ArrayType, row: ArrayType, example: ArrayType) -> ArrayType:
    require_ints("tree_heights", parent, row, example)
    if parent.ndim != 1 or row.shape != parent.shape or example.shape != parent.shape:
        raise fail("tree_heights", "needs one parent per node", parent, row, example)
    return ArrayType(parent.shape, _INT)


def _heights_eval(xp: ArrayNamespace, parent: np.ndarray, row: np.ndarray, example: np.ndarray) -> np.ndarray:
    parents = on_host(parent)
    if len(bad := np.flatnonzero((parents < -1) | (parents >= len(parents)))):
        k = int(bad[0])
        raise IndexError(f"example {int(example[k])}: the parent of node {int(row[k])} is {parents[k]}, which is not "
                         "a node; a root has the parent -1")
    waits = np.bincount(parents[parents >= 0], minlength=len(parents))  # children without a height
    heights = np.full(len(parents), -1, np.int64)
    level, height = np.flatnonzero(waits == 0), 0
    while len(level):
        heights[level] = height
        above = parents[level]
        above, count = np.unique(above[above >= 0], return_counts=True)
        waits[above] -= count
        level, height = above[waits[above] == 0], height + 1
    if len(rest := np.flatnonzero(heights < 0)):
        node = int(rest[0])
        for _ in rest:  # an ancestor after so many steps is on the cycle
            node = int(parents[node])
        raise ValueError(f"example {int(example[node])}: node {int(row[node])} is its own ancestor: the parents of a "
                         "tree have no cycle")
    return xp.asarray(heights)


def _heights_batch(size: int | Dim, mapped: Sequence[bool], *xs: Node) -> Node:
    parent, row, example = (x if m else broadcast_leading(x, size) for x, m in zip(xs, mapped, strict=True))
    shape = parent.shape
    flat = (size * shape[1],)
    example = broadcast_along(iota(size=size), shape, (1,)) if not any(mapped[1:]) else example
    heights = tree_heights(flat_parents(parent), *(reshape(x, shape=flat) for x in (row, example)))
    return reshape(heights, shape=shape)


# The steps from each node to the deepest leaf below it. The row within its example, and the example, are for errors.
tree_heights = discrete("tree_heights", _heights_type, _heights_eval, batch=_heights_batch)


def flat_parents(parent: Node) -> Node:
    """Return the parents in a forest, from those in trees of as many nodes (B, N)."""
    size, n = parent.shape
    starts = iota(size=size) * broadcast_along(size_scalar(n, _INT), (size,), (0,))
    moved = parent + broadcast_along(starts, parent.shape, (1,))
    none = full(-1, parent.shape, _INT)
    return reshape(where(lt(parent, full(0, parent.shape, _INT)), none, moved), shape=(size * n,))


class Levels:
    """The nodes of a forest by height, and the children of each level.

    Attributes
    ----------
    heights : ndarray
        The level of each node.
    nodes : list of ndarray
        The nodes of each level.
    children : list of ndarray
        Their children, in the order of their parents.
    lengths : list of ndarray
        The number of children of each node of a level.
    owners : list of ndarray
        The place of each child's parent in its level.
    """

    def __init__(self, parent: np.ndarray, heights: np.ndarray):
        self.heights = heights
        order = np.argsort(heights, kind="stable")
        ends = np.cumsum(np.bincount(heights, minlength=1)) if len(heights) else np.zeros(0, np.int64)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        below = np.flatnonzero(parent >= 0)
        below = below[np.argsort(rank[parent[below]], kind="stable")]
        counts = np.bincount(parent[below], minlength=len(parent))[order]
        child_ends = np.concatenate([[0], np.cumsum(counts)])[ends]
        self.nodes = np.split(order, ends[:-1]) if len(ends) else []
        self.children = np.split(below, child_ends[:-1]) if len(ends) else []
        self.lengths = np.split(counts, ends[:-1]) if len(ends) else []
        self.owners = [np.repeat(np.arange(len(n)), n) for n in self.lengths]

    def order(self, reverse: bool) -> range:
        """Return the levels in the order in which a loop takes them: from the leaves on, or from the roots."""
        return range(len(self.nodes) - 1, -1, -1) if reverse else range(len(self.nodes))


# -- the loop --------------------------------------------------------------------------------------------------


class Counts(NamedTuple):
    """The numbers of operands by role, after the parents and heights."""

    shared: int
    own: int
    child: int
    states: int

    def split(self, operands: Sequence[T]) -> tuple[list[T], list[T], list[T], list[T]]:
        """Return the operands of each role."""
        a, b, c = self.shared, self.shared + self.own, self.shared + self.own + self.child
        return list(operands[:a]), list(operands[a:b]), list(operands[b:c]), list(operands[c:])


class Outs(NamedTuple):
    """The numbers of results after the states, by role."""

    sums: int
    own: int
    child: int

    def split(self, results: Sequence[T]) -> tuple[list[T], list[T], list[T], list[T]]:
        """Return the states, sums, rows of nodes and rows of children."""
        n = len(results) - sum(self)
        return Counts(n, self.sums, self.own, self.child).split(results)


def _row(t: ArrayType) -> ArrayType:
    return ArrayType(t.shape[1:], t.dtype)


def _type(*types: ArrayType, graph: Graph, dim: Dim, counts: tuple[int, ...], outs: tuple[int, ...], reverse: bool
          ) -> TupleType:
    (parent, heights, *operands), roles = types, Counts(*counts)
    require_ints("tree_scan", parent, heights)
    n: Shape = parent.shape
    expected: list[ArrayType] = []
    shared, own, child, states = roles.split([i.types[0] for i in graph.inputs])
    expected += shared
    expected += [ArrayType((*n, *t.shape), t.dtype) for t in own]
    expected += [ArrayType((*n, *t.shape[1:]), t.dtype) for t in child]
    expected += [ArrayType((*n, *(t.shape if reverse else t.shape[1:])), t.dtype) for t in states]
    for t, e in zip(operands, expected, strict=True):
        if t.dtype != e.dtype or not guard_equal_shapes(t.shape, e.shape):
            raise fail("tree_scan", f"expected {e}", t)
    new, sums, own, child = Outs(*outs).split([o.types[0] for o in graph.outputs])
    return TupleType((*expected[len(expected) - len(new):], *sums,
                      *(ArrayType((*n, *t.shape), t.dtype) for t in own),
                      *(ArrayType((*n, *t.shape[1:]), t.dtype) for t in child)))


Call = Callable[[Sequence[np.ndarray], Mapping[str, int]], Sequence[np.ndarray]]


def run(xp: ArrayNamespace, call: Call, specs: Sequence[tuple[tuple[int, ...], np.dtype]], *xs: np.ndarray,
        counts: tuple[int, ...], outs: tuple[int, ...], reverse: bool) -> tuple[np.ndarray, ...]:
    """Return the results of a loop over trees.

    Parameters
    ----------
    xp : namespace
    call : callable
        Runs the program of a level, given the numbers of its nodes and of their children.
    specs : sequence of (shape, dtype)
        Those of the results.
    """
    (parent, heights, *operands), ends = xs, Outs(*outs)
    levels, roles = Levels(on_host(parent), on_host(heights)), Counts(*counts).split(operands)
    _, sum_specs, own_specs, child_specs = ends.split(specs)
    zeros = ([xp.zeros(shape, dtype=getattr(xp, (accumulator(t) if k == 0 else t).name)) for shape, t in part]
             for k, part in enumerate((sum_specs, own_specs, child_specs)))  # roots are no children, and keep them
    results = [[xp.asarray(s, copy=True) for s in roles[3]], *zeros]
    for k in levels.order(reverse):
        results = run_level(xp, call, levels, k, roles, results, ends, reverse)
    states, totals, *rows = results
    wanted = [xp.astype(x, getattr(xp, t.name), copy=False) for x, (_, t) in zip(totals, sum_specs, strict=True)]
    return (*states, *wanted, *(x for part in rows for x in part))


def run_level(xp: ArrayNamespace, call: Call, levels: Levels, k: int, roles: Sequence[Sequence[np.ndarray]],
              results: Sequence[Sequence[np.ndarray]], ends: Outs, reverse: bool) -> list[list[np.ndarray]]:
    """Return the results after a level, given its operands by role and the results before it.

    NumPy's arrays of rows are written in place.
    """
    (shared, own, child, _), (states, totals, *others) = roles, results
    nodes, children = levels.nodes[k], levels.children[k]
    at, below = xp.asarray(nodes), xp.asarray(children)
    reads, writes = (at, children) if reverse else (below, nodes)
    new, sums, *rows = ends.split(call(
        [xp.asarray(levels.lengths[k]), xp.asarray(levels.owners[k]), *shared, *(xp.take(x, at, axis=0) for x in own),
         *(xp.take(x, below, axis=0) for x in child), *(xp.take(s, reads, axis=0) for s in states),
         *(xp.take(s, xp.asarray(writes), axis=0) for s in states)],
        {"nodes": len(nodes), "children": len(children)}))
    return [[_with_rows(xp, s, writes, x) for s, x in zip(states, new, strict=True)],
            [total + x for total, x in zip(totals, sums, strict=True)],
            *([_with_rows(xp, r, index, x) for r, x in zip(old, part, strict=True)]
              for old, part, index in zip(others, rows, (nodes, children), strict=True))]


def _with_rows(xp: ArrayNamespace, x: np.ndarray, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return an array with other values in some rows: itself, where the library can."""
    if xp is np:
        x[rows] = values
        return x
    places = np.full(x.shape[0], len(rows))
    places[rows] = np.arange(len(rows))
    padded = xp.concat([values, xp.zeros((1, *x.shape[1:]), dtype=x.dtype)], axis=0)
    new = xp.reshape(xp.asarray(places < len(rows)), (-1,) + (1,) * (x.ndim - 1))
    out: np.ndarray = xp.where(new, xp.take(padded, xp.asarray(places), axis=0), x)
    return out


def level_of(graph: Graph, dim: Dim, counts: tuple[int, ...], outs: tuple[int, ...], reverse: bool
             ) -> tuple[Graph, dict[str, Symbol]]:
    """Return the program of a level, and its sizes ``nodes`` and ``children``.

    Its first inputs are the number of children of each node, and the place of each child's parent; its last ones are
    the rows of the states that it writes, as they are before.
    """
    level: tuple[Graph, dict[str, Symbol]] = CALLS["tree_level"](graph, dim, counts, outs, reverse)
    return level


def _eval(xp: ArrayNamespace, *xs: np.ndarray, graph: Graph, dim: Dim, counts: tuple[int, ...], outs: tuple[int, ...],
          reverse: bool) -> tuple[np.ndarray, ...]:
    level, names = level_of(graph, dim, counts, outs, reverse)

    def call(operands: Sequence[np.ndarray], sizes: Mapping[str, int]) -> list[np.ndarray]:
        return interpreters.evaluate(level, operands, {names[k]: n for k, n in sizes.items()}, xp)

    dtypes = [_INT, _INT, *(n.dtype for n in graph.inputs)]
    types = _type(*(ArrayType(x.shape, t) for x, t in zip(xs, dtypes, strict=True)), graph=graph, dim=dim,
                  counts=counts, outs=outs, reverse=reverse)
    specs = [(tuple(n for n in t.shape if isinstance(n, int)), t.dtype) for t in types.parts]
    return run(xp, call, specs, *xs, counts=counts, outs=outs, reverse=reverse)


# -- derivatives -----------------------------------------------------------------------------------------------


def _companion(out: Node, xs: Sequence[Node], more: Counts, extra: Sequence[Sequence[tuple[Node, Node]]],
               start: Sequence[Node], outputs: Sequence[Node], outs: Outs, states: Sequence[Node], name: str,
               reverse: bool) -> Node:
    """Return a loop that reads the operands of the loop `out`, and its states as they are when they are read.

    Parameters
    ----------
    extra : sequence of sequence of (Node, Node)
        By role (shared, own, child): inputs of one node's program, and their operands.
    states : sequence of Node
        The inputs for the new states, which begin as `start`.
    outputs : sequence of Node
        The results of one node.
    """
    p = out.params
    old, new = Counts(*p["counts"]).split(p["graph"].inputs), Counts(*p["counts"]).split(xs[2:])
    pairs = [[*zip(a, b, strict=True), *e] for a, b, e in zip(old[:3], new[:3], extra, strict=True)]
    pairs[1 if p["reverse"] else 2] += zip(old[3], parts(out)[:len(old[3])], strict=True)
    flat = [pair for role in pairs for pair in role]
    graph = without_effects(Graph((*(a for a, _ in flat), *states), tuple(outputs), name=name), p["graph"])
    return tree_scan(*xs[:2], *(b for _, b in flat), *start, graph=graph, dim=p["dim"],
                     counts=(*map(len, pairs), len(states)), outs=tuple(outs), reverse=reverse)


def _vjp(g: Sequence[Node | None], out: Node, *xs: Node, graph: Graph, counts: tuple[int, ...], outs: tuple[int, ...],
         reverse: bool, **others: object) -> list[Node | None]:
    roles, ends = Counts(*counts), Outs(*outs)
    new, *results = ends.split(list(zip(graph.outputs, g, strict=True)))
    inputs, operands = roles.split(graph.inputs), roles.split(xs[2:])
    moving = [(n, d, k) for k, (n, d) in enumerate(new) if n.type.floating]
    arriving = [[(n, d) for n, d in role if d is not None and n.type.floating] for role in results]
    d_states = [placeholder(n.types[0]) for n, _, _ in moving]
    d_others = [[(placeholder(n.types[0]), d) for n, d in role] for role in arriving]
    wanted = [[i for i, (n, x) in enumerate(zip(a, b, strict=True)) if n.type.floating and interpreters.wanted(x)]
              for a, b in zip(inputs[:3], operands[:3], strict=True)]
    flat = [a[i] for a, own in zip(inputs[:3], wanted, strict=True) for i in own]
    back = interpreters.backward(
        [n for n, _, _ in moving] + [n for role in arriving for n, _ in role],
        [*d_states, *(d for role in d_others for d, _ in role)], [*(inputs[3][k] for _, _, k in moving), *flat])
    start = [zeros_like(operands[3][k]) if d is None else d for _, d, k in moving]
    node = _companion(out, xs, roles, d_others, start, back, Outs(*map(len, wanted)), d_states, f"{graph.name}_vjp",
                      not reverse)
    of_states, *of_others = _placed([operands[3], *operands[:3]], [[k for _, _, k in moving], *wanted], parts(node))
    return [None, None, *(c for role in of_others for c in role), *of_states]


def _jvp(ts: Sequence[Node | None], out: Node, *xs: Node, graph: Graph, counts: tuple[int, ...], outs: tuple[int, ...],
         reverse: bool, **others: object) -> tuple[Node | None, ...]:
    roles, ends = Counts(*counts), Outs(*outs)
    inputs, tangents, operands = roles.split(graph.inputs), roles.split(ts[2:]), roles.split(xs[2:])
    extra = [[(n, placeholder(n.types[0]), t) for n, t in zip(a, b, strict=True) if t is not None]
             for a, b in zip(inputs[:3], tangents[:3], strict=True)]
    moving = [k for k, n in enumerate(inputs[3]) if n.type.floating]
    d_states = [placeholder(inputs[3][k].types[0]) for k in moving]
    starts = {n: d for role in extra for n, d, _ in role} | {inputs[3][k]: d for k, d in zip(moving, d_states,
                                                                                            strict=True)}
    pushed = interpreters.forward(graph.outputs, starts)
    states, *results = ends.split(list(zip(graph.outputs, pushed, strict=True)))
    live = [[i for i, (_, t) in enumerate(role) if t is not None] for role in results]
    outputs = [zeros_like(n) if t is None else t for n, t in (states[k] for k in moving)]
    outputs += [t for role in results for _, t in role if t is not None]
    start = [zeros_like(operands[3][k]) if (t := tangents[3][k]) is None else t for k in moving]
    node = _companion(out, xs, roles, [[(d, t) for _, d, t in role] for role in extra], start, outputs,
                      Outs(*map(len, live)), d_states, f"{graph.name}_jvp", reverse)
    found = _placed([states, *results], [moving, *live], parts(node))
    return tuple(t for role in found for t in role)


def _placed(roles: Sequence[Sequence[object]], chosen: Sequence[Sequence[int]], values: Sequence[Node]
            ) -> list[list[Node | None]]:
    """Return values at the positions `chosen` of each role, in order, and None at the others."""
    rest = iter(values)
    found = [{i: next(rest) for i in own} for own in chosen]
    return [[own.get(i) for i in range(len(role))] for role, own in zip(roles, found, strict=True)]


# -- batch -----------------------------------------------------------------------------------------------------


def with_roles(graph: Graph, counts: Counts, outs: Outs, apart: Sequence[bool], summed: bool
               ) -> tuple[Graph, Counts, Outs, list[int], list[int]]:
    """Return a program with the shared inputs in `apart` as rows of nodes, and sums as rows if not `summed`.

    The last two results are the old position of each input and of each output.
    """
    shared, own, child, states = counts.split(range(len(graph.inputs)))
    order = [*(i for i in shared if not apart[i]), *own, *(i for i in shared if apart[i]), *child, *states]
    moved = sum(apart)
    new, sums, rows, below = outs.split(range(len(graph.outputs)))
    places = [*new, *sums, *rows, *below] if summed else [*new, *rows, *sums, *below]
    graph = graph.replace(inputs=tuple(graph.inputs[i] for i in order), names=tuple(graph.names[i] for i in order),
                          outputs=tuple(graph.outputs[i] for i in places), out_names=())
    return (graph, Counts(counts.shared - moved, counts.own + moved, counts.child, counts.states),
            outs if summed else Outs(0, outs.own + outs.sums, outs.child), order, places)


def _batch(size: int | Dim, mapped: Sequence[bool], *xs: Node, graph: Graph, counts: tuple[int, ...],
           outs: tuple[int, ...], **others: object) -> tuple[Node, ...]:
    parent = xs[0] if mapped[0] else broadcast_leading(xs[0], size)
    n, old_counts, old_outs = parent.shape[1], Counts(*counts), Outs(*outs)
    apart = mapped[2:2 + old_counts.shared]
    graph, new_counts, new_outs, order, places = with_roles(graph, old_counts, old_outs, apart, summed=False)
    flat: list[Node] = []
    for k, i in enumerate(order):
        x, m = xs[2 + i], mapped[2 + i]
        if k < new_counts.shared:
            flat.append(x)
            continue
        if i < old_counts.shared:  # each node of an example has its example's value
            x = broadcast_along(x, (size, n, *x.shape[1:]), (1,))
        elif not m:
            x = broadcast_leading(x, size)
        flat.append(reshape(x, shape=(size * n, *x.shape[2:])))
    heights = xs[1] if mapped[1] else broadcast_leading(xs[1], size)
    node = tree_scan(flat_parents(parent), reshape(heights, shape=(size * n,)), *flat, graph=graph,
                     counts=tuple(new_counts), outs=tuple(new_outs), **others)
    results: dict[int, Node] = {}
    sums = old_outs.split(range(len(places)))[1]
    for i, x in zip(places, parts(node), strict=True):
        x = reshape(x, shape=(size, n, *x.shape[1:]))
        results[i] = sum_(x, axes=(1,)) if i in sums else x
    return tuple(results[i] for i in range(len(places)))


def _flops(node: Node, value: Callable[..., int], count: Callable[..., float]) -> float:
    """Count the program of a node with one child, for each node."""
    nodes = value(node.inputs[0].shape[0])
    return nodes * count(node.params["graph"], dict.fromkeys(node.params["dim"].symbols, 1))


def _samples() -> list[Sample]:
    dim = Dim.new("child", rows=True)
    w, x, keys, own, kids = (placeholder(ArrayType(s, np.dtype("f8"))) for s in ((2,), (2,), (dim, 2), (2,), (dim, 2)))
    parents, rng = np.array([-1, 0, 0, 2, 2, -1]), np.random.default_rng(11)
    heights = np.array([2, 0, 1, 0, 0, 0])
    arrays = (parents, heights, rng.normal(size=2), rng.normal(size=(6, 2)), rng.normal(size=(6, 2)),
              rng.normal(size=(6, 2)))
    sin, mul = PRIMITIVES["sin"], PRIMITIVES["mul"]
    new = sin(sum_(mul(kids, keys), axes=(0,)) + x * w)
    up = Graph((w, x, keys, kids), (new, new * new, sum_(kids, axes=(1,))))
    wide = broadcast_along(sin(own * w) + x, keys.shape, (0,))
    down = Graph((w, x, keys, own), (wide * keys, own * x, sum_(wide, axes=(1,))))
    return [Sample(arrays, {"graph": g, "dim": dim, "counts": (1, 1, 1, 1), "outs": (1, 0, 1), "reverse": r})
            for g, r in ((up, False), (down, True))]


tree_scan = Primitive("tree_scan", _type, _eval, _vjp, _jvp, _batch, flops=_flops, samples=_samples)
