"""Primitives that choose or repeat a held graph: `switch`, `while`, `scan`.

The held graphs are those of one example. Under `vmap`:

- A `switch` on a number per example sends each example to its own branch: every branch runs once, on the
  rows that take it. What the other branch would have computed there (inf, nan) never exists.
- A `while` runs until the last example is done; an example that is done keeps its state.
- A `scan` has the batch inside its steps.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import walk
from ..dims import Dim, same
from ..errors import Unsupported
from ..graph import PRIMITIVES, ArrayType, Graph, Node, TupleType, zeros_like
from ..primitive import Primitive, Sample, fail, spread
from .control import parts, placeholder
from .elementwise import where
from .layout import move_axis, reshape
from .spread import any_, expand_to, sum_

Flags = tuple[bool, ...]


def _run(xp: Any, graph: Graph, arrays: Sequence[Any], sizes: dict | None = None) -> list[Any]:
    return walk.evaluate(graph, arrays, sizes, xp)


def _fits(name: str, what: str, types: Sequence[ArrayType], inputs: Sequence[Node]) -> None:
    for t, n in zip(types, inputs, strict=True):
        if t != n.type:
            raise fail(name, f"{what} expects {n.type}", t)


def copy_graph(graph: Graph) -> tuple[list[Node], list[Node]]:
    """Return the graph's program on fresh inputs: the inputs and the outputs."""
    inputs = [placeholder(n.type) for n in graph.inputs]
    return inputs, walk.substitute(graph.outputs, dict(zip(graph.inputs, inputs, strict=True)))


def batch_graph(graph: Graph, mapped: Sequence[bool], size: int | Dim, out: Sequence[bool] | None = None
                ) -> tuple[Graph, Flags]:
    """Return the graph with a batch axis on the inputs in `mapped`; and which outputs have it.

    Where `out` is given, outputs in it have the axis whether or not the batch reaches them.
    """
    inputs = [placeholder(ArrayType((size, *n.shape), n.dtype) if m else n.type)
              for n, m in zip(graph.inputs, mapped, strict=True)]
    pairs = list(zip(graph.inputs, inputs, mapped, strict=True))
    results = walk.batch(graph.outputs, {a: b for a, b, m in pairs if not m}, {a: b for a, b, m in pairs if m}, size)
    want = [has for _, has in results] if out is None else out
    outputs = tuple(walk.with_axis(o, has, size) if w else o for (o, has), w in zip(results, want, strict=True))
    return graph.replace(inputs=tuple(inputs), outputs=outputs), tuple(want)


# -- switch --------------------------------------------------------------------------------------------
#
# switch(index, *operands, graphs, rows, sums): `index` is one integer, or one per example; `rows` says which
# operands have one row per example, and `sums` which results are added up over the examples. With one
# integer all entries of both are False.


def _switch_type(index: ArrayType, *types: ArrayType, graphs: tuple[Graph, ...], rows: Flags, sums: Flags) -> TupleType:
    if index.dtype.kind != "i" or index.ndim > 1:
        raise fail("switch", "the branch's number must be an integer", index)
    lead = index.shape
    for graph in graphs:
        plain = [ArrayType(t.shape[1:], t.dtype) if r else t for t, r in zip(types, rows, strict=True)]
        _fits("switch", f"branch {graph.name}", plain, graph.inputs)
    first = [n.type for n in graphs[0].outputs]
    for graph in graphs[1:]:
        if [n.type for n in graph.outputs] != first:
            raise fail("switch", "branches return different types: " + " and ".join(
                str(TupleType(tuple(n.type for n in g.outputs))) for g in (graphs[0], graph)))
    return TupleType(tuple(t if s else ArrayType((*lead, *t.shape), t.dtype) for t, s in zip(first, sums, strict=True)))


@functools.lru_cache(maxsize=256)
def rows_graph(graph: Graph, rows: Flags, sums: Flags) -> tuple[Graph, Dim]:
    """Return a branch for the rows that take it, any number of them, and that number's symbol."""
    n = Dim.new("rows")
    batched, _ = batch_graph(graph, rows, n, [True] * len(sums))
    outputs = tuple(sum_(o, axes=(0,)) if s else o for o, s in zip(batched.outputs, sums, strict=True))
    return batched.replace(outputs=outputs), n


def taken(xp: Any, index: Any, branch: int, count: int) -> Any:
    """Tell which examples take a branch; the first and the last take what is beyond them."""
    return xp.logical_and(xp.logical_or(index >= branch, branch == 0), xp.logical_or(index <= branch, branch == count - 1))


def _switch_eval(xp: Any, index: Any, *xs: Any, graphs: tuple[Graph, ...], rows: Flags, sums: Flags) -> tuple[Any, ...]:
    if index.ndim == 0:
        return tuple(_run(xp, graphs[min(max(int(index), 0), len(graphs) - 1)], xs))
    count = index.shape[0]
    types = [n.type for n in graphs[0].outputs]
    out = [xp.zeros(t.shape if s else (count, *t.shape), dtype=getattr(xp, t.dtype.name))
           for t, s in zip(types, sums, strict=True)]
    for i, graph in enumerate(graphs):
        mask = taken(xp, index, i, len(graphs))
        (at,) = xp.nonzero(mask)
        if not at.shape[0]:
            continue
        body, n = rows_graph(graph, rows, sums)
        arrays = [xp.take(x, at, axis=0) if r else x for x, r in zip(xs, rows, strict=True)]
        for k, value in enumerate(_run(xp, body, arrays, {n.symbol: at.shape[0]})):
            if sums[k]:
                out[k] = out[k] + value
            elif xp is np:
                out[k][at] = value
            else:  # without a scatter in the standard: every row takes its result or keeps what it has
                place = xp.cumulative_sum(xp.astype(mask, xp.int64)) - 1
                spread_out = xp.take(value, xp.clip(place, 0, at.shape[0] - 1), axis=0)
                wide = xp.reshape(mask, (count,) + (1,) * (value.ndim - 1))
                out[k] = xp.where(wide, spread_out, out[k])
    return tuple(out)


def _switch_vjp(g: Sequence[Node | None], out: Node, index: Node, *xs: Node, graphs: tuple[Graph, ...], rows: Flags,
                sums: Flags) -> list[Node | None]:
    live = [k for k, c in enumerate(g) if c is not None]
    wrt = [i for i, x in enumerate(xs) if x.type.floating]
    branches = []
    for graph in graphs:
        inputs, outputs = copy_graph(graph)
        cotangents = [placeholder(graph.outputs[k].type) for k in live]
        back = walk.backward([outputs[k] for k in live], cotangents, [inputs[i] for i in wrt])
        branches.append(Graph((*inputs, *cotangents), tuple(back), name=f"{graph.name}_vjp"))
    batched = index.ndim == 1
    node = switch(index, *xs, *(g[k] for k in live), graphs=tuple(branches),
                  rows=(*rows, *(batched and not sums[k] for k in live)),
                  sums=tuple(batched and not rows[i] for i in wrt))
    found = dict(zip(wrt, parts(node), strict=True))
    return [None, *(found.get(i) for i in range(len(xs)))]


def _switch_jvp(ts: Sequence[Node | None], out: Node, index: Node, *xs: Node, graphs: tuple[Graph, ...], rows: Flags,
                sums: Flags) -> tuple[Node | None, ...]:
    moving = [i for i, t in enumerate(ts[1:]) if t is not None]
    floats = [k for k, n in enumerate(graphs[0].outputs) if n.type.floating]
    branches = []
    for graph in graphs:
        inputs, outputs = copy_graph(graph)
        tangents = [placeholder(inputs[i].type) for i in moving]
        pushed = walk.forward([outputs[k] for k in floats], {inputs[i]: t for i, t in zip(moving, tangents, strict=True)})
        branches.append(Graph((*inputs, *tangents), tuple(
            zeros_like(outputs[k]) if t is None else t for k, t in zip(floats, pushed, strict=True)),
            name=f"{graph.name}_jvp"))
    node = switch(index, *xs, *(ts[1 + i] for i in moving), graphs=tuple(branches),
                  rows=(*rows, *(rows[i] for i in moving)), sums=tuple(sums[k] for k in floats))
    found = dict(zip(floats, parts(node), strict=True))
    return tuple(found.get(k) for k in range(len(graphs[0].outputs)))


def _switch_batch(size: Any, mapped: Sequence[bool], index: Node, *xs: Node, graphs: tuple[Graph, ...], rows: Flags,
                  sums: Flags) -> Node | tuple[Node, ...]:
    if not mapped[0] and index.ndim == 0:  # one branch for all: the batch is inside it
        bodies = tuple(batch_graph(g, mapped[1:], size, [True] * len(g.outputs))[0] for g in graphs)
        return switch(index, *xs, graphs=bodies, rows=rows, sums=sums)
    index = index if mapped[0] else spread(index, size)
    if index.ndim == 1:
        return switch(index, *xs, graphs=graphs, rows=tuple(mapped[1:]), sums=sums)
    # A batch of batches: its rows end to end are one batch. What was added up over the inner batch is added
    # up afterwards, once per outer example.
    inner = index.shape[1]

    def flat(x: Node, m: bool, r: bool) -> tuple[Node, bool]:
        if not m and not r:
            return x, False
        if not m:
            x = spread(x, size)
        if not r:
            x = expand_to(x, (size, inner, *x.shape[1:]), (1,))
        return reshape(x, shape=(size * inner, *x.shape[2:])), True

    operands = [flat(x, m, r) for x, m, r in zip(xs, mapped[1:], rows, strict=True)]
    node = switch(reshape(index, shape=(size * inner,)), *(x for x, _ in operands), graphs=graphs,
                  rows=tuple(r for _, r in operands), sums=(False,) * len(sums))
    out = [reshape(p, shape=(size, inner, *p.shape[1:])) for p in parts(node)]
    return tuple(sum_(p, axes=(1,)) if s else p for p, s in zip(out, sums, strict=True))


def _inputs(*shapes: tuple[int, ...], dtype: str = "f8") -> list[Node]:
    return [placeholder(ArrayType(s, np.dtype(dtype))) for s in shapes]


def _switch_samples() -> list[Sample]:
    graphs = []
    for name in ("sin", "exp", "square"):
        w, x = _inputs((3,), (3,))
        y = PRIMITIVES[name](x) * w
        graphs.append(Graph((w, x), (y, PRIMITIVES["sum"](y * x, axes=(0,))), name=name))
    rng = np.random.default_rng(8)
    w, x, many = rng.normal(size=3), rng.normal(size=3), rng.normal(size=(5, 3))
    return [Sample((np.array(1), w, x), {"graphs": tuple(graphs), "rows": (False, False), "sums": (False, False)}),
            Sample((np.array([2, 0, -1, 9, 1]), w, many),
                   {"graphs": tuple(graphs), "rows": (False, True), "sums": (True, False)})]


switch = Primitive("switch", _switch_type, _switch_eval, _switch_vjp, _switch_jvp, _switch_batch,
                   samples=_switch_samples)


# -- while ---------------------------------------------------------------------------------------------
#
# while(*shared, *state, test, body, count): `test` and `body` take the shared values (`count` of them) and
# the state; the loop runs as long as the test holds.


def _while_type(*types: ArrayType, test: Graph, body: Graph, count: int) -> TupleType:
    _fits("while_loop", "the test", types, test.inputs)
    _fits("while_loop", "the body", types, body.inputs)
    state = types[count:]
    result = tuple(n.type for n in body.outputs)
    if [n.type for n in test.outputs] != [ArrayType((), np.dtype(bool))]:
        raise fail("while_loop", "the test must return one bool", *(n.type for n in test.outputs))
    if result != tuple(state):
        raise fail("while_loop", f"the body must return the state's types, got {TupleType(result)}", *state)
    return TupleType(tuple(state))


def _while_eval(xp: Any, *xs: Any, test: Graph, body: Graph, count: int) -> tuple[Any, ...]:
    shared, state = xs[:count], list(xs[count:])
    while bool(_run(xp, test, (*shared, *state))[0]):
        state = _run(xp, body, (*shared, *state))
    return tuple(state)


def _while_jvp(ts: Sequence[Node | None], out: Node, *xs: Node, test: Graph, body: Graph, count: int
               ) -> tuple[Node | None, ...]:
    # Which parts of the state move: the smallest set that the body maps into itself.
    shared = [i for i in range(count) if ts[i] is not None]
    moving = {i for i in range(count, len(xs)) if ts[i] is not None}
    while True:
        inputs, outputs = copy_graph(body)
        order = [*shared, *sorted(moving)]
        tangents = {i: placeholder(inputs[i].type) for i in order}
        pushed = walk.forward(outputs, {inputs[i]: t for i, t in tangents.items()})
        more = {count + k for k, t in enumerate(pushed) if t is not None} - moving
        if not more:
            break
        moving |= more
    state = sorted(moving)
    if not state:
        return (None,) * (len(xs) - count)
    whole = (*inputs[:count], *(tangents[i] for i in shared), *inputs[count:], *(tangents[i] for i in state))
    results = [zeros_like(outputs[i - count]) if pushed[i - count] is None else pushed[i - count] for i in state]
    body2 = Graph(whole, (*outputs, *results), name=f"{body.name}_jvp")
    test_inputs = [placeholder(n.type) for n in whole]
    own = test_inputs[:count] + test_inputs[count + len(shared):count + len(shared) + len(xs) - count]
    test2 = Graph(tuple(test_inputs), tuple(walk.substitute(test.outputs, dict(zip(test.inputs, own, strict=True)))),
                  name=test.name)
    start = [zeros_like(xs[i]) if ts[i] is None else ts[i] for i in state]
    node = while_(*xs[:count], *(ts[i] for i in shared), *xs[count:], *start, test=test2, body=body2,
                  count=count + len(shared))
    found = dict(zip(state, parts(node)[len(xs) - count:], strict=True))
    return tuple(found.get(i) for i in range(count, len(xs)))


def _while_batch(size: Any, mapped: Sequence[bool], *xs: Node, test: Graph, body: Graph, count: int) -> Node | tuple:
    flags = list(mapped)
    while True:  # a state that starts shared is mapped as soon as the body makes it so
        _, out = batch_graph(body, flags, size)
        (test_mapped,) = batch_graph(test, flags, size)[1]
        wider = flags[:count] + [f or o or test_mapped for f, o in zip(flags[count:], out, strict=True)]
        if wider == flags:
            break
        flags = wider
    new_body, _ = batch_graph(body, flags, size, flags[count:])
    new_test, (test_mapped,) = batch_graph(test, flags, size)
    if test_mapped:
        inputs, outputs = copy_graph(new_body)
        (running,) = walk.substitute(new_test.outputs, dict(zip(new_test.inputs, inputs, strict=True)))
        kept = [where(expand_to(running, o.shape, tuple(range(1, o.ndim))), o, i)
                for o, i in zip(outputs, inputs[count:], strict=True)]
        new_body = Graph(tuple(inputs), tuple(kept), name=body.name)
        new_test = new_test.replace(outputs=(any_(new_test.outputs[0], axes=(0,)),))
    xs = [spread(x, size) if f and not m else x for x, f, m in zip(xs, flags, mapped, strict=True)]
    node = while_(*xs, test=new_test, body=new_body, count=count)
    return tuple(p if f else spread(p, size) for p, f in zip(parts(node), flags[count:], strict=True))


def _while_sample() -> Sample:
    """Return a loop on integers: as long as n > i, i doubles. (Of floats, it has no reverse rule to be tested.)"""
    graphs = []
    for end in (lambda n, i: PRIMITIVES["gt"](n, i), lambda n, i: i + i):
        n, i = _inputs((), (), dtype="i8")
        graphs.append(Graph((n, i), (end(n, i),)))
    return Sample((np.array(11), np.array(1)), {"test": graphs[0], "body": graphs[1], "count": 1}, order=0)


while_ = Primitive(
    "while", _while_type, _while_eval, batch=_while_batch, jvp=_while_jvp,
    vjp=Unsupported("the number of steps is known only when the program runs, so reverse mode cannot keep them. Use "
                    "mg.scan or mg.fori_loop with a fixed number of steps, or forward mode (mg.jvp)"),
    samples=lambda: [_while_sample()])


# -- scan ----------------------------------------------------------------------------------------------
#
# scan(*shared, *carry, *xs, body, counts, length, reverse): `body` takes the shared values, the carry and one
# slice of each of xs, and returns the carry and one slice of each result; results are stacked along axis 0.
# `counts` are the numbers of shared values and of carried ones.


def _scan_type(*types: ArrayType, body: Graph, counts: tuple[int, int], length: int | Dim, reverse: bool) -> TupleType:
    n_shared, n_carry = counts
    slices = types[n_shared + n_carry:]
    for t in slices:
        if not t.ndim or not same(t.shape[0], length):
            raise fail("scan", f"expected {length} steps along axis 0", t)
    _fits("scan", "the step", (*types[:n_shared + n_carry], *(ArrayType(t.shape[1:], t.dtype) for t in slices)),
          body.inputs)
    carry = tuple(types[n_shared:n_shared + n_carry])
    result = tuple(n.type for n in body.outputs)
    if result[:n_carry] != carry:
        raise fail("scan", f"the step must return the carry's types, got {TupleType(result[:n_carry])}", *carry)
    return TupleType((*carry, *(ArrayType((length, *t.shape), t.dtype) for t in result[n_carry:])))


def _scan_eval(xp: Any, *xs: Any, body: Graph, counts: tuple[int, int], length: int, reverse: bool) -> tuple[Any, ...]:
    n_shared, n_carry = counts
    shared, carry, slices = xs[:n_shared], list(xs[n_shared:n_shared + n_carry]), xs[n_shared + n_carry:]
    stacked: list[list[Any]] = [[] for _ in body.outputs[n_carry:]]
    for t in (reversed(range(length)) if reverse else range(length)):
        out = _run(xp, body, (*shared, *carry, *(x[t, ...] for x in slices)))
        carry = out[:n_carry]
        for s, y in zip(stacked, out[n_carry:], strict=True):
            s.append(y)
    results = []
    for s, n in zip(stacked, body.outputs[n_carry:], strict=True):
        if s:
            results.append(xp.stack([xp.asarray(y) for y in (reversed(s) if reverse else s)]))
        else:
            results.append(xp.zeros((0, *n.shape), dtype=getattr(xp, n.dtype.name)))
    return (*carry, *results)


def _scan_vjp(g: Sequence[Node | None], out: Node, *xs: Node, body: Graph, counts: tuple[int, int], length: Any,
              reverse: bool) -> list[Node | None]:
    n_shared, n_carry = counts
    inputs, outputs = list(body.inputs), list(body.outputs)
    first_slice = n_shared + n_carry
    floats = [i for i, n in enumerate(inputs) if n.type.floating]
    shared = [i for i in floats if i < n_shared]
    carried = [i for i in floats if n_shared <= i < first_slice]
    slices = [i for i in floats if i >= first_slice]
    made = [k for k in range(n_carry, len(outputs)) if g[k] is not None and outputs[k].type.floating]
    # One step backwards, from the cotangents of what the step returned to those of what it took.
    d_carry = {i: placeholder(inputs[i].type) for i in carried}
    d_made = {k: placeholder(outputs[k].type) for k in made}
    ends = [outputs[i - n_shared] for i in carried] + [outputs[k] for k in made]
    back = dict(zip(floats, walk.backward(ends, [*d_carry.values(), *d_made.values()], [inputs[i] for i in floats]),
                    strict=True))
    # What the step backwards reads of the step forwards: the second is run once more, and returns that too.
    forward = set(walk.dependent(outputs, inputs))
    forward |= {n for n in walk.reachable([*back.values()]) if n.prim.name == "proj" and n.inputs[0] in forward}
    fresh = {*d_carry.values(), *d_made.values()}
    read = []
    for n in walk.reachable([*back.values()]):
        if n not in forward and n not in fresh:
            read += [i for i in n.inputs if i in forward and i not in read]
    read += [n for n in back.values() if n in forward and n not in read]
    shared_inputs = set(inputs[:n_shared])
    kept = [n for n in read if n not in shared_inputs and n not in inputs[first_slice:]]
    ahead = scan(*xs, body=body.replace(outputs=(*outputs, *kept), out_names=()), counts=counts, length=length,
                 reverse=reverse)
    stacks = parts(ahead)[len(outputs):]
    stand_in = {n: placeholder(n.type) for n in (*inputs[:n_shared], *inputs[first_slice:], *kept)}
    totals = {i: placeholder(inputs[i].type) for i in shared}
    results = walk.substitute([back[i] for i in (*shared, *carried, *slices)], stand_in)
    sums = [totals[i] + results[k] for k, i in enumerate(shared)]
    step = Graph(
        (*(stand_in[n] for n in inputs[:n_shared]), *d_carry.values(), *totals.values(),
         *(stand_in[n] for n in inputs[first_slice:]), *d_made.values(), *(stand_in[n] for n in kept)),
        (*results[len(shared):len(shared) + len(carried)], *sums, *results[len(shared) + len(carried):]),
        name=f"{body.name}_vjp")
    start = [zeros_like(xs[i]) if g[i - n_shared] is None else g[i - n_shared] for i in carried]
    node = scan(*xs[:n_shared], *start, *(zeros_like(xs[i]) for i in shared), *xs[first_slice:], *(g[k] for k in made),
                *stacks, body=step, counts=(n_shared, len(carried) + len(shared)), length=length, reverse=not reverse)
    found = dict(zip((*carried, *shared, *slices), parts(node), strict=True))
    return [found.get(i) for i in range(len(xs))]


def _scan_jvp(ts: Sequence[Node | None], out: Node, *xs: Node, body: Graph, counts: tuple[int, int], length: Any,
              reverse: bool) -> tuple[Node | None, ...]:
    n_shared, n_carry = counts
    first_slice = n_shared + n_carry
    moving = {i for i, t in enumerate(ts) if t is not None}
    while True:
        inputs, outputs = copy_graph(body)
        tangents = {i: placeholder(inputs[i].type) for i in sorted(moving)}
        pushed = walk.forward(outputs, {inputs[i]: t for i, t in tangents.items()})
        more = {n_shared + k for k in range(n_carry) if pushed[k] is not None} - moving
        if not more:
            break
        moving |= more
    shared = [i for i in tangents if i < n_shared]
    carried = [i for i in tangents if n_shared <= i < first_slice]
    slices = [i for i in tangents if i >= first_slice]
    made = [k for k in range(n_carry, len(outputs)) if pushed[k] is not None]
    step = Graph(
        (*inputs[:n_shared], *(tangents[i] for i in shared), *inputs[n_shared:first_slice],
         *(tangents[i] for i in carried), *inputs[first_slice:], *(tangents[i] for i in slices)),
        (*outputs[:n_carry],
         *(zeros_like(outputs[i - n_shared]) if pushed[i - n_shared] is None else pushed[i - n_shared] for i in carried),
         *outputs[n_carry:], *(pushed[k] for k in made)), name=f"{body.name}_jvp")
    node = scan(
        *xs[:n_shared], *(ts[i] for i in shared), *xs[n_shared:first_slice],
        *(zeros_like(xs[i]) if ts[i] is None else ts[i] for i in carried), *xs[first_slice:], *(ts[i] for i in slices),
        body=step, counts=(n_shared + len(shared), n_carry + len(carried)), length=length, reverse=reverse)
    results = parts(node)
    found = dict(zip((i - n_shared for i in carried), results[n_carry:n_carry + len(carried)], strict=True))
    found |= dict(zip(made, results[len(outputs) + len(carried):], strict=True))
    return tuple(found.get(k) for k in range(len(outputs)))


def _scan_batch(size: Any, mapped: Sequence[bool], *xs: Node, body: Graph, counts: tuple[int, int], length: Any,
                reverse: bool) -> tuple[Node, ...]:
    n_shared, n_carry = counts
    first_slice = n_shared + n_carry
    flags = list(mapped)
    while True:
        _, out = batch_graph(body, flags, size)
        wider = [f or (n_shared <= i < first_slice and out[i - n_shared]) for i, f in enumerate(flags)]
        if wider == flags:
            break
        flags = wider
    step, out = batch_graph(body, flags, size, [*flags[n_shared:first_slice], *out[n_carry:]])
    arranged = []
    for i, (x, f, m) in enumerate(zip(xs, flags, mapped, strict=True)):
        x = spread(x, size) if f and not m else x
        arranged.append(move_axis(x, 0, 1) if f and i >= first_slice else x)  # time leads, then the batch
    node = scan(*arranged, body=step, counts=counts, length=length, reverse=reverse)
    results = []
    for k, (p, has) in enumerate(zip(parts(node), out, strict=True)):
        results.append(spread(p, size) if not has else p if k < n_carry else move_axis(p, 1, 0))
    return tuple(results)


def _scan_samples() -> list[Sample]:
    w, h, x = _inputs((2, 2), (2,), (2,))
    new = PRIMITIVES["sin"](PRIMITIVES["einsum"](w, h, subscripts="ij,j->i") + x)
    body = Graph((w, h, x), (new, PRIMITIVES["sum"](new * x, axes=(0,))))
    rng = np.random.default_rng(9)
    arrays = rng.normal(size=(2, 2)), rng.normal(size=2), rng.normal(size=(4, 2))
    return [Sample(arrays, {"body": body, "counts": (1, 1), "length": 4, "reverse": r}) for r in (False, True)]


scan = Primitive("scan", _scan_type, _scan_eval, _scan_vjp, _scan_jvp, _scan_batch, samples=_scan_samples)
