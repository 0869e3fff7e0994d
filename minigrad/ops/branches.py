"""`switch`: one of several held graphs, or each of them on the examples that take it.

The held graphs are those of one example. Under `vmap`, with one number per example, every branch runs once, on
the rows that take it, so that inf and nan of the other branch never exist.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from .. import interpreters
from ..graph import PRIMITIVES, ArrayType, Graph, Node, TupleType
from ..primitive import ArrayNamespace, Primitive, Sample, broadcast_leading, fail, move_axis
from ..symbolic import Dim, size_of
from .broadcast import broadcast_along
from .control import parts
from .reduce import sum_
from .subgraph import Flags, batch_graph, fits, jvp_graph, part, placeholders, result_types, vjp_graph

# switch(index, *operands, graphs, rows, sums): `index` is one integer, or one per example, along any number of axes;
# `rows` says which operands have these axes in front, and `sums` which results are added up over them. With one
# integer all entries of both are False.


def _switch_type(index: ArrayType, *types: ArrayType, graphs: tuple[Graph, ...], rows: Flags, sums: Flags) -> TupleType:
    if index.dtype.kind != "i":
        raise fail("switch", "the branch's number must be an integer", index)
    lead = index.shape
    for graph in graphs:
        plain = [ArrayType(t.shape[len(lead):], t.dtype) if r else t for t, r in zip(types, rows, strict=True)]
        fits("switch", f"branch {graph.name}", plain, graph.inputs)
    first = result_types(graphs[0])
    for graph in graphs[1:]:
        if result_types(graph) != first:
            raise fail("switch", "branches return different types: " + " and ".join(
                str(TupleType(result_types(g))) for g in (graphs[0], graph)))
    return TupleType(tuple(t if s else ArrayType((*lead, *t.shape), t.dtype) for t, s in zip(first, sums, strict=True)))


@functools.lru_cache(maxsize=256)
def rows_graph(graph: Graph, rows: Flags, sums: Flags) -> tuple[Graph, Dim]:
    """Return the graph of a branch on any number of rows, and the symbol of that number."""
    n = Dim.new("rows")
    batched, _ = batch_graph(graph, rows, n, [True] * len(sums))
    outputs = tuple(sum_(o, axes=(0,)) if s else o for o, s in zip(batched.outputs, sums, strict=True))
    return batched.replace(outputs=outputs), n


def taken(xp: ArrayNamespace, index: np.ndarray, branch: int, count: int) -> np.ndarray:
    """Return the mask of the examples that take a branch, the first and last included."""
    above = xp.logical_or(index >= branch, branch == 0)
    return xp.logical_and(above, xp.logical_or(index <= branch, branch == count - 1))


def _switch_eval(xp: ArrayNamespace, index: np.ndarray, *xs: np.ndarray, graphs: tuple[Graph, ...], rows: Flags,
                 sums: Flags) -> tuple[np.ndarray, ...]:
    if index.ndim == 0:
        return tuple(interpreters.evaluate(graphs[min(max(int(index), 0), len(graphs) - 1)], xs, xp=xp))
    lead, index = index.shape, xp.reshape(index, (-1,))
    count = index.shape[0]
    xs = tuple(xp.reshape(x, (count, *x.shape[len(lead):])) if r else x for x, r in zip(xs, rows, strict=True))
    types = result_types(graphs[0])
    out = [xp.zeros(t.shape if s else (count, *t.shape), dtype=getattr(xp, t.dtype.name))
           for t, s in zip(types, sums, strict=True)]
    for i, graph in enumerate(graphs):
        mask = taken(xp, index, i, len(graphs))
        (positions,) = xp.nonzero(mask)
        chosen: int = positions.shape[0]
        if not chosen:
            continue
        body, n = rows_graph(graph, rows, sums)
        arrays = [xp.take(x, positions, axis=0) if r else x for x, r in zip(xs, rows, strict=True)]
        with part(n, positions if len(lead) == 1 else None):
            values = interpreters.evaluate(body, arrays, dict.fromkeys(n.symbols, chosen), xp)
        for k, value in enumerate(values):
            if sums[k]:
                out[k] = out[k] + value
            elif xp is np:
                out[k][positions] = value
            else:  # the standard has no scatter: every row takes its result or keeps its value
                place = xp.cumulative_sum(xp.astype(mask, xp.int64)) - 1
                spread_out = xp.take(value, xp.clip(place, 0, positions.shape[0] - 1), axis=0)
                wide = xp.reshape(mask, (count,) + (1,) * (value.ndim - 1))
                out[k] = xp.where(wide, spread_out, out[k])
    return tuple(o if s else xp.reshape(o, (*lead, *o.shape[1:])) for o, s in zip(out, sums, strict=True))


def _switch_vjp(g: Sequence[Node | None], out: Node, index: Node, *xs: Node, graphs: tuple[Graph, ...], rows: Flags,
                sums: Flags) -> list[Node | None]:
    live = {k: c for k, c in enumerate(g) if c is not None}
    wrt = [i for i, x in enumerate(xs) if x.type.floating and interpreters.wanted(x)]
    batched = index.ndim > 0
    node = switch(index, *xs, *live.values(), graphs=tuple(vjp_graph(graph, [*live], wrt) for graph in graphs),
                  rows=(*rows, *(batched and not sums[k] for k in live)),
                  sums=tuple(batched and not rows[i] for i in wrt))
    cotangents = dict(zip(wrt, parts(node), strict=True))
    return [None, *(cotangents.get(i) for i in range(len(xs)))]


def _switch_jvp(ts: Sequence[Node | None], out: Node, index: Node, *xs: Node, graphs: tuple[Graph, ...], rows: Flags,
                sums: Flags) -> tuple[Node | None, ...]:
    moving = {i: t for i, t in enumerate(ts[1:]) if t is not None}
    floats = [k for k, n in enumerate(graphs[0].outputs) if n.type.floating]
    branches = tuple(jvp_graph(graph, [*moving], floats)[0] for graph in graphs)
    node = switch(index, *xs, *moving.values(), graphs=branches,
                  rows=(*rows, *(rows[i] for i in moving)), sums=tuple(sums[k] for k in floats))
    tangents = dict(zip(floats, parts(node), strict=True))
    return tuple(tangents.get(k) for k in range(len(graphs[0].outputs)))


def _switch_batch(size: int | Dim, mapped: Sequence[bool], index: Node, *xs: Node, graphs: tuple[Graph, ...],
                  rows: Flags, sums: Flags) -> Node | tuple[Node, ...]:
    if not mapped[0]:  # one choice for all: the batch is inside the branches, behind the axes of the choices
        bodies = tuple(batch_graph(g, mapped[1:], size, [True] * len(g.outputs))[0] for g in graphs)
        xs = tuple(move_axis(x, 0, index.ndim) if m and r else x for x, m, r in zip(xs, mapped[1:], rows, strict=True))
        node = switch(index, *xs, graphs=bodies, rows=rows, sums=sums)
        return tuple(p if s else move_axis(p, index.ndim, 0) for p, s in zip(parts(node), sums, strict=True))
    inner = tuple(range(1, index.ndim))

    def along(x: Node, m: bool, r: bool) -> Node:
        """Return an operand with all axes of the choices, if it has any of them."""
        if m and not r:
            return broadcast_along(x, (*index.shape, *x.shape[1:]), inner)
        return broadcast_leading(x, size) if r and not m else x

    node = switch(index, *map(along, xs, mapped[1:], rows), graphs=graphs,
                  rows=tuple(m or r for m, r in zip(mapped[1:], rows, strict=True)),
                  sums=tuple(s and not inner for s in sums))
    # Sums over the inner axes come after the switch, once per outer example.
    return tuple(sum_(p, axes=inner) if s and inner else p for p, s in zip(parts(node), sums, strict=True))


def _switch_samples() -> list[Sample]:
    graphs = []
    for name in ("sin", "exp", "square"):
        w, x = placeholders((3,), (3,))
        y = PRIMITIVES[name](x) * w
        graphs.append(Graph((w, x), (y, PRIMITIVES["sum"](y * x, axes=(0,))), name=name))
    rng = np.random.default_rng(8)
    weights, one, many = rng.normal(size=3), rng.normal(size=3), rng.normal(size=(5, 3))
    return [Sample((np.array(1), weights, one),
                   {"graphs": tuple(graphs), "rows": (False, False), "sums": (False, False)}),
            Sample((np.array([2, 0, -1, 9, 1]), weights, many),
                   {"graphs": tuple(graphs), "rows": (False, True), "sums": (True, False)})]


switch = Primitive("switch", _switch_type, _switch_eval, _switch_vjp, _switch_jvp, _switch_batch,
                   flops=lambda node, value, count: value(size_of(node.inputs[0].shape)) * max(
                       map(count, node.params["graphs"])),  # the longest branch
                   samples=_switch_samples)
