"""`checkpoint`, and `chunked`, the loop of `microbatch`; and `barrier`, which orders work."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .. import interpreters
from ..budgets import Budget
from ..graph import PRIMITIVES, ArrayType, Graph, Node, Params, TupleType, zeros_like
from ..primitive import ArrayNamespace, Primitive, Sample, broadcast_leading, fail, free, placeholder
from ..symbolic import Dim, Shape, Symbol, size_of, value
from ..tracing import guard_equal_shapes
from ..views import SAME
from .accumulators import Chains, accumulator
from .constants import proj
from .cuts import Limit, Span, along, by_memory, by_number, sizes_of, spans_between, symbol_of
from .evaluated_bytes import evaluated_bytes
from .subgraph import (
    apply_graph,
    batch_graph,
    jvp_graph,
    part,
    result_types,
    vjp_graph,
    without_effects,
)


def parts(node: Node) -> list[Node]:
    """Return the results of a tuple-valued node."""
    return [proj(node, index=i) for i in range(len(node.types))]


# -- barrier -------------------------------------------------------------------------------------------


def _barrier_batch(size: int | Dim, mapped: Sequence[bool], x: Node, after: Node) -> Node:
    return barrier(x if mapped[0] else broadcast_leading(x, size), after)


barrier = Primitive(
    "barrier", lambda x, after: x, lambda xp, x, after: x, vjp=lambda g, out, x, after: [g, None],
    jvp=lambda ts, out, x, after: zeros_like(out) if ts[0] is None else ts[0], batch=_barrier_batch,
    flops=free, view=SAME, distinct=True,
    samples=lambda: [Sample((np.array([1.5, -2.0]), np.array(3.0)))])


# -- checkpoint ----------------------------------------------------------------------------------------


def _checkpoint_type(*types: ArrayType, graph: Graph) -> TupleType:
    for t, i in zip(types, graph.inputs, strict=True):
        if t.dtype != i.dtype or not guard_equal_shapes(t.shape, i.shape):
            raise fail("checkpoint", f"expected {i.type}", t)
    return TupleType(result_types(graph))


def _checkpoint_vjp(g: Sequence[Node | None], out: Node, *xs: Node, graph: Graph) -> list[Node | None]:
    # The body is computed again from its inputs. The barrier makes these wait for the cotangent, so that the second
    # computation is neither merged with the first nor scheduled too early.
    after = next(c for c in g if c is not None)
    again = [barrier(x, after) for x in xs]
    outputs = apply_graph(without_effects(graph), again)
    pairs = [(o, c) for o, c in zip(outputs, g, strict=True) if c is not None]
    floats = [a for a, x in zip(again, xs, strict=True) if x.type.floating and interpreters.wanted(x)]
    back = dict(zip(floats, interpreters.backward([o for o, _ in pairs], [c for _, c in pairs], floats), strict=True))
    return [back.get(x) for x in again]


def _checkpoint_jvp(ts: Sequence[Node | None], out: Node, *xs: Node, graph: Graph) -> tuple[Node | None, ...]:
    outputs = apply_graph(without_effects(graph), xs)
    return tuple(interpreters.forward(outputs, {x: t for x, t in zip(xs, ts, strict=True) if t is not None}))


def _checkpoint_batch(size: int | Dim, mapped: Sequence[bool], *xs: Node, graph: Graph) -> Node:
    return checkpoint(*xs, graph=batch_graph(graph, mapped, size, [True] * len(graph.outputs))[0])


checkpoint = Primitive(
    "checkpoint", _checkpoint_type, lambda xp, *xs, graph: tuple(interpreters.evaluate(graph, xs, xp=xp)),
    _checkpoint_vjp, _checkpoint_jvp, _checkpoint_batch, inline=True,
    flops=lambda node, value, count: count(node.params["graph"]), samples=lambda: [_checkpoint_sample()])


def _checkpoint_sample() -> Sample:
    x, w, i = (placeholder(ArrayType(s, np.dtype(d))) for s, d in (((3,), "f8"), ((3,), "f8"), ((2,), "i8")))
    h = PRIMITIVES["sin"](x * w)
    body = Graph((x, w, i), (PRIMITIVES["gather"](h * h, i), i, PRIMITIVES["sum"](h, axes=(0,))))
    return Sample((np.array([0.3, -0.4, 1.2]), np.array([1.1, 0.7, -0.2]), np.array([2, 0])), {"graph": body})


# -- chunked -------------------------------------------------------------------------------------------
#
# chunked(*inputs, graph, dim, size, total, in_axes, out_axes, packed) runs `graph` on slices along the axes
# `in_axes` of its inputs (None: the input is shared): on chunks of at most `size` of the `total` examples.
# `dim` is the number of examples inside the graph. A packed axis is cut between the same examples: `packed` has
# its length inside the graph and in all, and the first inputs count its rows, one per entry of `packed`.
# An output with None in `out_axes` is summed over the chunks; the others are concatenated along that axis. This
# form is closed under every transform: the cotangent of a shared input is a sum over chunks, and that of a sliced
# input is concatenated.


def _chunked_type(*types: ArrayType, graph: Graph, dim: Dim, size: int | Budget, total: int | Dim,
                  in_axes: Axes, out_axes: Axes,
                  packed: tuple[tuple[Dim, int | Dim], ...]) -> TupleType:
    totals = {symbol_of(d): n for d, n in ((dim, total), *packed)}
    for t, i, axis in zip(types, graph.inputs, in_axes, strict=True):
        shape = _resized(i.shape, axis, totals)
        if t.dtype != i.dtype or not guard_equal_shapes(t.shape, shape):
            raise fail("chunked", f"expected {ArrayType(shape, i.dtype)}", t)
    return TupleType(tuple(ArrayType(_resized(o.shape, axis, totals), o.dtype)
                           for o, axis in zip(graph.outputs, out_axes, strict=True)))


def _resized(shape: Shape, axis: int | None, sizes: Mapping[Symbol, int | Dim]) -> Shape:
    """Return a shape with sizes put in for the symbols of one of its axes."""
    if axis is None or isinstance(n := shape[axis], int):
        return shape
    return (*shape[:axis], n.replace(sizes), *shape[axis + 1:])


Axes = tuple[int | None, ...]


def section_of(span: Span, n: Dim, sizes: Mapping[Symbol, int] | None = None) -> slice:
    """Return the section of an axis that one chunk takes; `n` is its length in the graph."""
    if (symbol := n.symbol) is not None:
        return slice(*(end[symbol] for end in span))
    return slice(*(n.value({**sizes, **end} if sizes else end) for end in span))


def _section(x: np.ndarray, axis: int, section: slice) -> np.ndarray:
    return x[along(axis, section)]


def _chunked_eval(xp: ArrayNamespace, *xs: np.ndarray, graph: Graph, dim: Dim, size: int | Budget, total: int,
                  in_axes: Axes, out_axes: Axes, packed: tuple[tuple[Dim, int], ...]) -> tuple[np.ndarray, ...]:
    sums: list[Chains[np.ndarray]] = [Chains(operator.add) for _ in out_axes]
    pieces: list[list[np.ndarray]] = [[] for _ in out_axes]
    params = {"packed": packed, "dim": dim, "size": size}
    counts = xs[:len(packed)]
    edges = by_number(total, size) if isinstance(size, int) else _eager_edges(xs, graph, params, total, out_axes)
    spans = spans_between(edges, params, counts)
    none = dict.fromkeys((symbol_of(dim), *(symbol_of(d) for d, _ in packed)), 0)
    lengths = [None if axis is None else n.shape[axis] for n, axis in zip(graph.inputs, in_axes, strict=True)]
    different = [n for n in dict.fromkeys(lengths) if isinstance(n, Dim)]
    places = [different.index(n) if isinstance(n, Dim) else None for n in lengths]
    for span in spans or [(none, none)]:  # without rows there is one empty chunk, whose sums are zeros
        sections = [section_of(span, n) for n in different]
        arrays = [x if axis is None or k is None else _section(x, axis, sections[k])
                  for x, k, axis in zip(xs, places, in_axes, strict=True)]
        with part(dim, range(*(end[symbol_of(dim)] for end in span))):
            values = interpreters.evaluate(graph, arrays, sizes_of(span), xp)
        for i, axis in enumerate(out_axes):
            if axis is not None:
                view = xp is np and values[i].base is not None  # of memory that is larger
                pieces[i].append(values[i].copy() if view else values[i])
            else:
                wide = accumulator(graph.outputs[i].dtype)
                sums[i].take(xp.astype(xp.asarray(values[i]), getattr(xp, wide.name), copy=False))
        del arrays, values  # before the next pass
    return tuple(xp.concat(p, axis=axis) if axis is not None else
                 xp.astype(xp.asarray(s.total()), getattr(xp, o.dtype.name))
                 for s, p, o, axis in zip(sums, pieces, graph.outputs, out_axes, strict=True))


def _eager_edges(xs: Sequence[np.ndarray], graph: Graph, params: Params, total: int, out_axes: Axes) -> list[int]:
    """Return the cut into passes whose memory, evaluated node by node, fits into the budget of a loop."""
    counts = xs[:len(params["packed"])]
    whole = {symbol_of(params["dim"]): total, **{symbol_of(d): n for d, n in params["packed"]}}
    sums, rows = (sum(value(size_of(o.shape), whole) * o.dtype.itemsize for o, axis in zip(
        graph.outputs, out_axes, strict=True) if (axis is None) == summed) for summed in (True, False))
    budget = params["size"].nbytes
    return by_memory(total, params, counts, Limit(budget, budget - rows - sums, sums),
                     lambda sizes: evaluated_bytes(graph, sizes), f"microbatch({graph.name})")


def _chunked_vjp(g: Sequence[Node | None], out: Node, *xs: Node, graph: Graph, in_axes: Axes, out_axes: Axes,
                 **others: object) -> list[Node | None]:
    wrt = [i for i, x in enumerate(xs) if x.type.floating and interpreters.wanted(x)]
    live = {k: c for k, c in enumerate(g) if c is not None}
    body = vjp_graph(graph, [*live], wrt).replace(names=(*graph.names, *(f"d{graph.out_names[k]}" for k in live)))
    node = chunked(*xs, *live.values(), graph=body, in_axes=(*in_axes, *(out_axes[k] for k in live)),
                   out_axes=tuple(in_axes[i] for i in wrt), **others)
    results = dict(zip(wrt, parts(node), strict=True))
    return [results.get(i) for i in range(len(xs))]


def _chunked_jvp(ts: Sequence[Node | None], out: Node, *xs: Node, graph: Graph, in_axes: Axes, out_axes: Axes,
                 **others: object) -> tuple[Node | None, ...]:
    moving = {i: t for i, t in enumerate(ts) if t is not None}
    body, live = jvp_graph(graph, [*moving])
    if not live:
        return (None,) * len(out_axes)
    node = chunked(*xs, *moving.values(), graph=body, in_axes=(*in_axes, *(in_axes[i] for i in moving)),
                   out_axes=tuple(out_axes[k] for k in live), **others)
    results = dict(zip(live, parts(node), strict=True))
    return tuple(results.get(k) for k in range(len(out_axes)))


def _chunked_batch(batch_size: int | Dim, mapped: Sequence[bool], *xs: Node, graph: Graph, in_axes: Axes,
                   out_axes: Axes, packed: tuple[tuple[Dim, int | Dim], ...], **others: object
                   ) -> Node | tuple[Node, ...]:
    # `others` holds the size of a chunk, hence the name of the size of the batch.
    if any(mapped[:len(packed)]):  # each batch has rows of its own, so that no cut fits all
        whole = _as_one_chunk(graph, {"packed": packed, **others})
        return tuple(apply_graph(batch_graph(whole, mapped, batch_size, [True] * len(out_axes))[0], xs))
    body, _ = batch_graph(graph, mapped, batch_size, [True] * len(out_axes))
    in_axes = tuple(a if a is None else a + m for a, m in zip(in_axes, mapped, strict=True))
    return chunked(*xs, graph=body, in_axes=in_axes, packed=packed,
                   out_axes=tuple(a if a is None else a + 1 for a in out_axes), **others)


def _as_one_chunk(graph: Graph, params: Params) -> Graph:
    """Return the program of a chunk for the whole batch."""
    sizes = {symbol_of(d): n for d, n in ((params["dim"], params["total"]), *params["packed"])}
    return interpreters.specialise(graph, sizes)


def written_out(node: Node) -> list[Node]:
    """Return the results of a `checkpoint`, or of a `chunked` node in one chunk, inlined."""
    graph = node.params["graph"]
    body = _as_one_chunk(graph, node.params) if node.prim is chunked else graph
    return apply_graph(body, node.inputs)


def _chunked_flops(node: Node, value: Callable[..., int], count: Callable[..., float]) -> float:
    p = node.params
    total = value(p["total"])
    size = p["size"] if isinstance(p["size"], int) else max(total, 1)
    whole, last = divmod(total, size)
    rows = {d.symbol: value(n) / max(total, 1) for d, n in p["packed"]}  # as if each example had as many
    return sum(times * count(p["graph"], {p["dim"].symbol: n, **{s: round(m * n) for s, m in rows.items()}})
               for times, n in ((whole, size), (1, last)) if times and n)


chunked = Primitive("chunked", _chunked_type, _chunked_eval, _chunked_vjp, _chunked_jvp, _chunked_batch,
                    flops=_chunked_flops,
                    hidden_params=frozenset({"packed"}),
                    samples=lambda: [make(size) for make in (_chunked_sample, _packed_sample) for size in (1, 2, 5)])


def _chunked_sample(size: int) -> Sample:
    dim = Dim.new("chunk")
    w, x, k = (placeholder(ArrayType(s, np.dtype(d))) for s, d in (((3,), "f8"), ((3, dim), "f8"), ((dim,), "i8")))
    h = PRIMITIVES["sin"](PRIMITIVES["einsum"](w, x, subscripts="i,ij->j"))
    picked = PRIMITIVES["gather"](w, k)
    total = PRIMITIVES["sum"](h * picked, axes=(0,))
    wide = PRIMITIVES["einsum"](h, w, subscripts="j,i->ij")
    rng = np.random.default_rng(6)
    return Sample((rng.normal(size=3), rng.normal(size=(3, 5)), np.array([0, 2, 1, 1, -1])), {
        "graph": Graph((w, x, k), (total, wide, k)), "dim": dim, "size": size, "total": 5,
        "in_axes": (None, 1, 0), "out_axes": (None, 1, 0), "packed": ()})


def _packed_sample(size: int) -> Sample:
    dim, rows = Dim.new("chunk"), Dim.new("rows", rows=True)
    n, w, x, k = (placeholder(ArrayType(s, np.dtype(d))) for s, d in (
        ((dim,), "i8"), ((2,), "f8"), ((rows, 2), "f8"), ((dim,), "i8")))
    h = PRIMITIVES["sin"](PRIMITIVES["einsum"](x, w, subscripts="ij,j->i"))
    return Sample((np.array([2, 0, 3, 1]), np.array([0.3, -0.7]), np.random.default_rng(7).normal(size=(6, 2)),
                   np.array([0, 1, 1, 0])), {
        "graph": Graph((n, w, x, k), (PRIMITIVES["sum"](h * h, axes=(0,)), PRIMITIVES["gather"](w, k), h)),
        "dim": dim, "size": size, "total": 4, "in_axes": (0, None, 0, 0), "out_axes": (None, 0, 0),
        "packed": ((rows, 6),)})
