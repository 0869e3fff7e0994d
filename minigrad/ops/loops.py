"""`while` and `scan`: a held graph, run again and again.

The held graphs are those of one example. Under `vmap` a `while` runs until the last example is done, and an
example that is done keeps its state; a `scan` has the batch inside its steps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Sequence

import numpy as np

from .. import interpreters
from ..errors import Unsupported
from ..graph import PRIMITIVES, ArrayType, Graph, Node, TupleType, has_effect, reachable, zeros_like
from ..primitive import (
    ArrayNamespace,
    Primitive,
    Sample,
    broadcast_leading,
    broadcast_operands,
    fail,
    move_axis,
    placeholder,
)
from ..symbolic import Dim
from ..tracing import guard_equal
from .branches import switch
from .broadcast import broadcast_along
from .checks import checks_of
from .constants import known, proj
from .control import parts
from .elementwise import cast_to, logical_and, where
from .merge_scans import value_numbers
from .reduce import any_
from .subgraph import (
    Flags,
    Signature,
    apply_graph,
    batch_graph,
    copy_graph,
    fits,
    fixed_point,
    graphs_of,
    placeholders,
    result_types,
    signature,
    without_effects,
)

# -- while ---------------------------------------------------------------------------------------------
#
# while(*shared, *state, test, body, count): `test` and `body` take the shared values (`count` of them) and
# the state; the loop runs as long as the test holds.


def _while_type(*types: ArrayType, test: Graph, body: Graph, count: int) -> TupleType:
    fits("while_loop", "the test", types, test.inputs)
    fits("while_loop", "the body", types, body.inputs)
    state = types[count:]
    if (result := result_types(test)) != (ArrayType((), np.dtype(bool)),):
        raise fail("while_loop", "the test must return one bool", *result)
    if (result := result_types(body)) != state:
        raise fail("while_loop", f"the body must return the state's types, got {TupleType(result)}", *state)
    return TupleType(state)


def _while_eval(xp: ArrayNamespace, *xs: np.ndarray, test: Graph, body: Graph, count: int) -> tuple[np.ndarray, ...]:
    shared, state = xs[:count], list(xs[count:])
    while bool(interpreters.evaluate(test, (*shared, *state), xp=xp)[0]):
        state = interpreters.evaluate(body, (*shared, *state), xp=xp)
    return tuple(state)


def _while_jvp(ts: Sequence[Node | None], out: Node, *xs: Node, test: Graph, body: Graph, count: int
               ) -> tuple[Node | None, ...]:
    def loop(step: Graph, inputs: Sequence[Node], roles: Signature, operands: Sequence[Node]) -> Node:
        fresh, ends = copy_graph(Graph(step.inputs, tuple(apply_graph(without_effects(test), inputs))))
        return while_(*operands, test=Graph(tuple(fresh), tuple(ends), name=test.name), body=step, count=roles.n_shared)

    return jvp_of_loop(Signature(count, len(xs) - count), body, ts, xs, loop)


Tangents = list[Node | None]  # None stands for zero


def jvp_of_loop(roles: Signature, body: Graph, ts: Sequence[Node | None], xs: Sequence[Node],
                loop: Callable[..., Node]) -> tuple[Node | None, ...]:
    """Return the tangents of a loop's results, from the loop whose steps carry tangents, too.

    ``loop(step, inputs, roles, operands)`` makes that loop; `inputs` are the step's inputs without tangents.
    """
    def push(moving: list[bool]) -> tuple[list[bool], tuple[list[Node], list[Node], Tangents, Tangents]]:
        inputs, outputs = copy_graph(body)
        tangents = [placeholder(n.types[0]) if m else None for n, m in zip(inputs, moving, strict=True)]
        pushed = interpreters.forward(outputs, {n: t for n, t in zip(inputs, tangents, strict=True) if t is not None})
        return roles.grown(moving, [t is not None for t in pushed]), (inputs, outputs, tangents, pushed)

    moving, (inputs, outputs, tangents, pushed) = fixed_point(push, [t is not None for t in ts])
    for k, m in enumerate(roles.carry(moving)):
        if m and pushed[k] is None:
            pushed[k] = zeros_like(outputs[k])
    if all(t is None for t in pushed):
        return tuple(pushed)
    ends = Signature(0, roles.n_carry)
    step = without_effects(
        Graph(roles.beside(inputs, tangents), ends.beside(outputs, pushed), name=f"{body.name}_jvp"), body)
    start = [zeros_like(x) if m and t is None else t for x, t, m in zip(xs, ts, moving, strict=True)]
    both = Signature(*(n + sum(role) for n, role in zip(roles, roles.split(moving), strict=False)))
    results = parts(loop(step, inputs, both, roles.beside(xs, start)))
    order = ends.beside(range(len(outputs)), [None if t is None else ~k for k, t in enumerate(pushed)])
    by_position = dict(zip(order, results, strict=True))
    return tuple(by_position.get(~k) for k in range(len(outputs)))


def _while_batch(size: int | Dim, mapped: Sequence[bool], *xs: Node, test: Graph, body: Graph, count: int
                ) -> tuple[Node, ...]:
    roles = Signature(count, len(xs) - count)

    def widen(flags: list[bool]) -> tuple[list[bool], None]:
        (test_mapped,) = batch_graph(test, flags, size)[1]
        return roles.grown(flags, [o or test_mapped for o in batch_graph(body, flags, size)[1]]), None

    flags, _ = fixed_point(widen, list(mapped))  # a state that starts shared is mapped as soon as the body makes it so
    new_test, (test_mapped,) = batch_graph(test, flags, size)
    kept_already, guarded = not test_mapped, False
    if test_mapped:
        spared = _spared(test, body, count)
        kept_already = spared is not None
        starts = [*(n for n, f in zip(body.inputs, flags, strict=True) if f), *filter(has_effect, body.nodes)]
        varying = interpreters.dependent(body.outputs, starts)
        body, guarded = _for_running(test, body, roles, set(varying) - (spared or set()))
    new_body, _ = batch_graph(body, flags, size, roles.carry(flags))
    if not kept_already and not guarded:
        inputs, outputs = copy_graph(new_body)
        (running,) = apply_graph(new_test, inputs)
        kept = [where(broadcast_along(running, o.shape, tuple(range(1, o.ndim))), o, i)
                for o, i in zip(outputs, roles.carry(inputs), strict=True)]
        new_body = Graph(tuple(inputs), tuple(kept), name=body.name)
    if test_mapped:
        new_test = new_test.replace(outputs=(any_(new_test.outputs[0], axes=(0,)),))
    node = while_(*broadcast_operands(xs, _in_place(flags, mapped), size), test=new_test, body=new_body, count=count)
    return tuple(p if f else broadcast_leading(p, size) for p, f in zip(parts(node), roles.carry(flags), strict=True))


def _for_running(test: Graph, body: Graph, roles: Signature, nodes: set[Node]) -> tuple[Graph, bool]:
    """Return the body of an example that may have ended, and whether it does not run then.

    It does not where some of `nodes` may raise an error; inner loops that may never end take no turn then.
    """
    loops = {n for n in nodes if n.prim is while_ and _needs_guard([n]) and not _needs_guard(n.params["test"].nodes)}
    if _needs_guard(nodes - loops):
        return _while_running(test, body, roles), True
    if not loops:
        return body, False
    (running,) = apply_graph(test, body.inputs)

    def rule(node: Node, inputs: tuple[Node, ...]) -> Node | None:
        return _stopped(node, inputs, running) if node in loops else None

    return interpreters.rewrite(body, rule), False


def _needs_guard(nodes: Collection[Node]) -> bool:
    """Return whether an evaluation of the nodes may, by its values, raise an error or never end."""
    return bool(checks_of(nodes)) or any(
        n.prim.kind == "matrix" or n.prim.name == "callback" or _raises(n) or (n.prim is while_ and not _counts(n))
        or any(_needs_guard(held.nodes) for held, _ in graphs_of(n)) for n in nodes)


def _raises(node: Node) -> bool:
    """Return whether an evaluation may raise: that of integers divided by no positive constant, or of user code."""
    kinds = node.prim.raises
    if not any(t.dtype.kind in kinds for t in node.types):
        return False
    value = None if "f" in kinds else known(node.inputs[-1])
    return value is None or bool(np.any(np.less_equal(value, 0)))


def _counts(node: Node) -> bool:
    """Return whether a loop counts a number up to one that stays, and so ends."""
    test, body, count = (node.params[k] for k in ("test", "body", "count"))
    (running,) = test.outputs
    if running.prim.name != "lt" or not set(running.inputs) <= set(test.inputs):
        return False
    counter, bound = map(test.inputs.index, running.inputs)
    after = dict(enumerate(body.outputs, count))
    if counter < count or after.get(bound, body.inputs[bound]) is not body.inputs[bound]:
        return False
    new, old = after[counter], body.inputs[counter]
    return old.dtype.kind == "i" and new.prim.name == "add" and new.inputs[0] is old and bool(known(new.inputs[1]) == 1)


def _stopped(node: Node, inputs: Sequence[Node], running: Node) -> Node:
    """Return a loop that takes no turn unless `running`."""
    graphs = {}
    for name in ("test", "body"):
        own, outputs = copy_graph(node.params[name])
        outer = placeholder(running.types[0])
        graphs[name] = Graph((outer, *own), tuple(logical_and(outer, o) for o in outputs) if name == "test" else
                             tuple(outputs), name=node.params[name].name)
    return interpreters.retyped(node, (running, *inputs), {**graphs, "count": node.params["count"] + 1})


def _stops(node: Node) -> list[Node]:
    """Return the operands without which a loop takes no turn, as that of :func:`_stopped`."""
    test = node.params["test"]
    running = [test.outputs[0], *_of_examples(test.outputs[0])][-1]
    shared = dict(zip(test.inputs[:node.params["count"]], node.inputs, strict=False))
    return [shared[i] for i in running.inputs if i in shared] if running.prim is logical_and else []


def _of_examples(test: Node) -> list[Node]:
    """Return the tests of the examples of a batched loop, of each batch, from the test whether any of them holds."""
    levels = []
    while test.prim.name == "any":
        (test,) = test.inputs
        levels.append(test)
    return levels


def _while_running(test: Graph, body: Graph, roles: Signature) -> Graph:
    """Return the body of an example that may have ended: it does not run then."""
    inputs, kept = ([placeholder(n.types[0]) for n in body.inputs] for _ in range(2))
    (running,) = apply_graph(test, inputs)
    stay = Graph(tuple(kept), tuple(roles.carry(kept)), name="ended")
    node = switch(cast_to(running, np.dtype(np.int64)), *inputs, graphs=(stay, body), rows=(False,) * len(inputs),
                  sums=(False,) * len(body.outputs))
    return Graph(tuple(inputs), tuple(parts(node)), name=body.name)


def keeps_ended(test: Graph, body: Graph, count: int) -> bool:
    """Return whether the body of a batched loop keeps the state of each example that has ended.

    The test then asks whether any example runs, and the body is that of :func:`_while_batch`, for these examples.
    """
    return _spared(test, body, count) is not None


def _spared(test: Graph, body: Graph, count: int) -> set[Node] | None:
    """Return the nodes of a batched loop's body that compute for running examples only.

    None if the body does not keep the state of each example that has ended.
    """
    levels = _of_examples(test.outputs[0])
    masks = [_mask_of_kept(new, old) for new, old in zip(body.outputs, body.inputs[count:], strict=True)]
    kept = [m for m in masks if m is not None]
    if not levels or not kept or len(kept) < len(masks):
        return None
    loops = [(n, i) for n in body.nodes if n.prim is while_ for i in _stops(n)]
    ids: dict[object, int] = {}
    running = value_numbers(test.replace(outputs=tuple(levels), out_names=()), ids)
    numbers = value_numbers(body.replace(outputs=(*kept, *(i for _, i in loops)), out_names=()), ids)
    if not set(numbers[:len(kept)]) <= set(running):
        return None
    stopped = {n for (n, _), number in zip(loops, numbers[len(kept):], strict=True) if number in running}
    return stopped | {n.inputs[0] for n in body.outputs if n.prim is proj and n.inputs[0].prim is switch}


def _mask_of_kept(new: Node, old: Node) -> Node | None:
    """Return the mask of the examples whose state changes from `old` to `new`, None if there is none."""
    if new.prim.name == "where" and new.inputs[2] is old:
        mask, _, _ = new.inputs
        return mask.inputs[0] if mask.prim.name == "expand" else mask
    if new.prim is proj and (node := new.inputs[0]).params.get("once"):  # a packed scan of the examples that run
        runs, start = node.inputs[0], signature(node).carry(node.inputs)
        kept = new.params["index"] < len(start) and start[new.params["index"]] is old
        return runs.inputs[0] if kept and runs.prim.name == "cast" else None
    if new.prim is proj and (node := new.inputs[0]).prim is switch:
        choice, *operands = node.inputs
        ended = node.params["graphs"][0]
        end = ended.outputs[new.params["index"]]
        if choice.prim.name == "cast" and end in ended.inputs and operands[ended.inputs.index(end)] is old:
            return choice.inputs[0]
    return None


def _in_place(flags: Sequence[bool], mapped: Sequence[bool]) -> list[bool]:
    """Tell for each operand whether it has the batch axis already, or needs none."""
    return [m or not f for f, m in zip(flags, mapped, strict=True)]


def _while_sample() -> Sample:
    """Return a loop that doubles i while n > i; integers need no reverse mode."""
    graphs = []
    for end in (lambda n, i: PRIMITIVES["gt"](n, i), lambda n, i: i + i):
        n, i = placeholders((), (), dtype="i8")
        graphs.append(Graph((n, i), (end(n, i),)))
    return Sample((np.array(11), np.array(1)), {"test": graphs[0], "body": graphs[1], "count": 1}, order=0)


while_ = Primitive(
    "while", _while_type, _while_eval, batch=_while_batch, jvp=_while_jvp,
    flops=lambda node, value, count: count(node.params["test"]) + count(node.params["body"]),  # of one turn
    vjp=Unsupported("the number of steps is known only when the program runs, so reverse mode cannot keep them. Use "
                    "mg.scan or mg.fori_loop with a fixed number of steps (such as an argument in static_argnums of "
                    "mg.compile), or forward mode (mg.jvp). A number of steps n that differs between examples is the "
                    "length of a ragged axis, mg.fori_loop(0, x.shape[0], ...), or that of a loop to the largest n "
                    "that keeps the state from n on: np.where(i < n, new, state)"),
    samples=lambda: [_while_sample()])


# -- scan ----------------------------------------------------------------------------------------------
#
# scan(*shared, *carry, *xs, body, counts, length, reverse): `body` takes the shared values, the carry and one
# slice of each of xs, and returns the carry and one slice of each result; results are stacked along axis 0.
# `counts` are the numbers of shared values and of carried ones.


def _scan_type(*types: ArrayType, body: Graph, counts: tuple[int, int], length: int | Dim, reverse: bool) -> TupleType:
    roles = Signature(*counts)
    shared, carry, slices = roles.split(types)
    for t in slices:
        if not t.ndim or not guard_equal(t.shape[0], length):
            raise fail("scan", f"expected {length} steps along axis 0", t)
    fits("scan", "the step", (*shared, *carry, *(ArrayType(t.shape[1:], t.dtype) for t in slices)), body.inputs)
    new, stacked = roles.ends(result_types(body))
    if new != carry:
        raise fail("scan", f"the step must return the carry's types, got {TupleType(tuple(new))}", *carry)
    return TupleType((*carry, *(ArrayType((length, *t.shape), t.dtype) for t in stacked)))


def _scan_eval(xp: ArrayNamespace, *xs: np.ndarray, body: Graph, counts: tuple[int, int], length: int, reverse: bool
              ) -> tuple[np.ndarray, ...]:
    roles = Signature(*counts)
    shared, carry, slices = roles.split(xs)
    _, each = roles.ends(body.outputs)
    stacked: list[list[np.ndarray]] = [[] for _ in each]
    for t in (reversed(range(length)) if reverse else range(length)):
        carry, values = roles.ends(interpreters.evaluate(body, (*shared, *carry, *(x[t, ...] for x in slices)), xp=xp))
        for s, y in zip(stacked, values, strict=True):
            s.append(y)
    results = []
    for s, n in zip(stacked, each, strict=True):
        if s:
            results.append(xp.stack([xp.asarray(y) for y in (reversed(s) if reverse else s)]))
        else:
            results.append(xp.zeros((0, *n.shape), dtype=getattr(xp, n.dtype.name)))
    return (*carry, *results)


def residuals(forward: set[Node], back: Sequence[Node], cotangents: Container[Node]) -> list[Node]:
    """Return those values of the step, of `forward`, that the backward step reads."""
    steps = reachable(back)
    forward = forward | {n for n in steps if n.prim is proj and n.inputs[0] in forward}
    read = [i for n in steps if n not in forward and n not in cotangents for i in n.inputs]
    return list(dict.fromkeys(n for n in (*read, *back) if n in forward))


def _scan_vjp(g: Sequence[Node | None], out: Node, *xs: Node, body: Graph, counts: tuple[int, int], length: int | Dim,
              reverse: bool) -> list[Node | None]:
    roles = Signature(*counts)
    inputs, outputs = body.inputs, body.outputs
    (fixed, _, each), (outer, _, arrays) = roles.split(inputs), roles.split(xs)
    carry = roles.carry(range(len(xs)))
    shared, carried, slices = (
        [i for i in role if inputs[i].type.floating and (i in carry or interpreters.wanted(xs[i]))]
        for role in roles.split(range(len(xs))))
    floats = [*shared, *carried, *slices]
    after = dict(zip(carry, outputs, strict=False))
    stacked = [(n, d) for n, d in zip(*(roles.ends(r)[1] for r in (outputs, g)), strict=True)
            if d is not None and n.type.floating]
    # The backward step: from the cotangents of the step's results to those of its inputs.
    d_carry = [placeholder(inputs[i].types[0]) for i in carried]
    d_stacked = [placeholder(n.types[0]) for n, _ in stacked]
    ends = [after[i] for i in carried] + [n for n, _ in stacked]
    pulled = interpreters.backward(ends, [*d_carry, *d_stacked], [inputs[i] for i in floats])
    back = dict(zip(floats, pulled, strict=True))
    # The forward scan runs once more, with the values that the backward step reads as further results.
    known = dict.fromkeys((*fixed, *each))
    forward = set(interpreters.dependent(outputs, inputs))
    kept = [n for n in residuals(forward, [*back.values()], {*d_carry, *d_stacked}) if n not in known]
    ahead = scan(*xs, body=without_effects(body.replace(outputs=(*outputs, *kept), out_names=())), counts=counts,
                 length=length, reverse=reverse)
    stacks = parts(ahead)[len(outputs):]
    fresh = {n: placeholder(n.types[0]) for n in (*known, *kept)}
    totals = [placeholder(inputs[i].types[0]) for i in shared]
    results = interpreters.substitute([back[i] for i in floats], fresh)
    sums, others = results[:len(shared)], results[len(shared):]
    step = Graph(
        (*(fresh[n] for n in fixed), *d_carry, *totals, *(fresh[n] for n in each), *d_stacked,
         *(fresh[n] for n in kept)),
        (*others[:len(carried)], *(t + d for t, d in zip(totals, sums, strict=True)), *others[len(carried):]),
        name=f"{body.name}_vjp")
    arriving = dict(zip(carry, g, strict=False))
    start = [zeros_like(xs[i]) if (d := arriving[i]) is None else d for i in carried]
    node = scan(*outer, *start, *(zeros_like(xs[i]) for i in shared), *arrays, *(d for _, d in stacked), *stacks,
                body=step, counts=(roles.n_shared, len(floats) - len(slices)), length=length, reverse=not reverse)
    cotangents = dict(zip((*carried, *shared, *slices), parts(node), strict=True))
    return [cotangents.get(i) for i in range(len(xs))]


def _scan_jvp(ts: Sequence[Node | None], out: Node, *xs: Node, body: Graph, counts: tuple[int, int], length: int | Dim,
              reverse: bool) -> tuple[Node | None, ...]:
    def loop(step: Graph, inputs: Sequence[Node], roles: Signature, operands: Sequence[Node]) -> Node:
        return scan(*operands, body=step, counts=tuple(roles), length=length, reverse=reverse)

    return jvp_of_loop(Signature(*counts), body, ts, xs, loop)


def _scan_batch(size: int | Dim, mapped: Sequence[bool], *xs: Node, body: Graph, counts: tuple[int, int],
                length: int | Dim, reverse: bool) -> tuple[Node, ...]:
    roles = Signature(*counts)

    def widen(flags: list[bool]) -> tuple[list[bool], Flags]:
        _, out = batch_graph(body, flags, size)
        return roles.grown(flags, out), out

    flags, out = fixed_point(widen, list(mapped))
    step, out = batch_graph(body, flags, size, [*roles.carry(flags), *roles.ends(out)[1]])
    operands = broadcast_operands(xs, _in_place(flags, mapped), size)
    shared, carry, slices = roles.split(list(zip(operands, flags, strict=True)))
    node = scan(*(x for x, _ in (*shared, *carry)), *(move_axis(x, 0, 1) if f else x for x, f in slices),
                body=step, counts=counts, length=length, reverse=reverse)  # time leads, then the batch
    ends, stacked = roles.ends(list(zip(parts(node), out, strict=True)))
    return (*(p if has else broadcast_leading(p, size) for p, has in ends),
            *(move_axis(p, 1, 0) if has else broadcast_leading(p, size) for p, has in stacked))


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
