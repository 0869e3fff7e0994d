"""`while` and `scan`: a held graph, run again and again.

The held graphs are those of one example. Under `vmap` a `while` runs until the last example is done, and an
example that is done keeps its state; a `scan` has the batch inside its steps.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any

import numpy as np

from .. import walk
from ..dims import Dim
from ..errors import Unsupported
from ..graph import PRIMITIVES, ArrayType, Graph, Node, TupleType, zeros_like
from ..primitive import Primitive, Sample, fail, placeholder, spread
from ..tracing import guard_equal
from .constants import proj
from .control import parts
from .elementwise import where
from .held import batch_graph, copy_graph, fits, placeholders
from .layout import move_axis
from .spread import any_, expand_to

# -- while ---------------------------------------------------------------------------------------------
#
# while(*shared, *state, test, body, count): `test` and `body` take the shared values (`count` of them) and
# the state; the loop runs as long as the test holds.


def _while_type(*types: ArrayType, test: Graph, body: Graph, count: int) -> TupleType:
    fits("while_loop", "the test", types, test.inputs)
    fits("while_loop", "the body", types, body.inputs)
    state = types[count:]
    result = tuple(n.type for n in body.outputs)
    if [n.type for n in test.outputs] != [ArrayType((), np.dtype(bool))]:
        raise fail("while_loop", "the test must return one bool", *(n.type for n in test.outputs))
    if result != tuple(state):
        raise fail("while_loop", f"the body must return the state's types, got {TupleType(result)}", *state)
    return TupleType(tuple(state))


def _while_eval(xp: Any, *xs: Any, test: Graph, body: Graph, count: int) -> tuple[Any, ...]:
    shared, state = xs[:count], list(xs[count:])
    while bool(walk.evaluate(test, (*shared, *state), xp=xp)[0]):
        state = walk.evaluate(body, (*shared, *state), xp=xp)
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
        n, i = placeholders((), (), dtype="i8")
        graphs.append(Graph((n, i), (end(n, i),)))
    return Sample((np.array(11), np.array(1)), {"test": graphs[0], "body": graphs[1], "count": 1}, order=0)


while_ = Primitive(
    "while", _while_type, _while_eval, batch=_while_batch, jvp=_while_jvp,
    flops=lambda node, value, count: count(node.params["test"]) + count(node.params["body"]),  # of one turn
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
        if not t.ndim or not guard_equal(t.shape[0], length):
            raise fail("scan", f"expected {length} steps along axis 0", t)
    fits("scan", "the step", (*types[:n_shared + n_carry], *(ArrayType(t.shape[1:], t.dtype) for t in slices)),
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
        out = walk.evaluate(body, (*shared, *carry, *(x[t, ...] for x in slices)), xp=xp)
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


def _by_role(operands: Iterable[int], counts: tuple[int, int]) -> tuple[list[int], list[int], list[int]]:
    """Return those of a scan's operands that its steps share, that they carry on, and that they take slices of."""
    n_shared, n_carry = counts
    roles: tuple[list[int], list[int], list[int]] = ([], [], [])
    for i in operands:
        roles[(i >= n_shared) + (i >= n_shared + n_carry)].append(i)
    return roles


def _read_of(body: Graph, back: Sequence[Node], cotangents: Container[Node]) -> list[Node]:
    """Return the values of a step forwards that the step backwards reads."""
    forward = set(walk.dependent(body.outputs, body.inputs))
    steps = walk.reachable(back)
    forward |= {n for n in steps if n.prim is proj and n.inputs[0] in forward}
    read = [i for n in steps if n not in forward and n not in cotangents for i in n.inputs]
    return list(dict.fromkeys(n for n in (*read, *back) if n in forward))


def _scan_vjp(g: Sequence[Node | None], out: Node, *xs: Node, body: Graph, counts: tuple[int, int], length: Any,
              reverse: bool) -> list[Node | None]:
    n_shared, n_carry = counts
    inputs, outputs = list(body.inputs), list(body.outputs)
    first_slice = n_shared + n_carry
    floats = [i for i, n in enumerate(inputs)
              if n.type.floating and (n_shared <= i < first_slice or walk.wanted(xs[i]))]
    shared, carried, slices = _by_role(floats, counts)
    made = [k for k in range(n_carry, len(outputs)) if g[k] is not None and outputs[k].type.floating]
    # One step backwards, from the cotangents of what the step returned to those of what it took.
    d_carry = {i: placeholder(inputs[i].type) for i in carried}
    d_made = {k: placeholder(outputs[k].type) for k in made}
    ends = [outputs[i - n_shared] for i in carried] + [outputs[k] for k in made]
    back = dict(zip(floats, walk.backward(ends, [*d_carry.values(), *d_made.values()], [inputs[i] for i in floats]),
                    strict=True))
    # The step forwards is run once more, and returns what the step backwards reads of it, too.
    known = {*inputs[:n_shared], *inputs[first_slice:]}
    kept = [n for n in _read_of(body, [*back.values()], {*d_carry.values(), *d_made.values()}) if n not in known]
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
    shared, carried, slices = _by_role(tangents, counts)
    made = [k for k in range(n_carry, len(outputs)) if pushed[k] is not None]
    moved = [zeros_like(outputs[k]) if pushed[k] is None else pushed[k] for k in (i - n_shared for i in carried)]
    step = Graph(
        (*inputs[:n_shared], *(tangents[i] for i in shared), *inputs[n_shared:first_slice],
         *(tangents[i] for i in carried), *inputs[first_slice:], *(tangents[i] for i in slices)),
        (*outputs[:n_carry], *moved, *outputs[n_carry:], *(pushed[k] for k in made)), name=f"{body.name}_jvp")
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
    w, h, x = placeholders((2, 2), (2,), (2,))
    new = PRIMITIVES["sin"](PRIMITIVES["einsum"](w, h, subscripts="ij,j->i") + x)
    body = Graph((w, h, x), (new, PRIMITIVES["sum"](new * x, axes=(0,))))
    rng = np.random.default_rng(9)
    arrays = rng.normal(size=(2, 2)), rng.normal(size=2), rng.normal(size=(4, 2))
    return [Sample(arrays, {"body": body, "counts": (1, 1), "length": 4, "reverse": r}) for r in (False, True)]


scan = Primitive("scan", _scan_type, _scan_eval, _scan_vjp, _scan_jvp, _scan_batch,
                 flops=lambda node, value, count: value(node.params["length"]) * count(node.params["body"]),
                 samples=_scan_samples)
