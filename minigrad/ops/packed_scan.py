"""`packed_scan`: a scan over examples of different length, each step on the examples that still run.

packed_scan(*shared, *carry, *slices, body, counts, packed, reverse, once): the roles are those of `scan`. `body` is the
step of the examples that run: values that differ between examples have the rows of these examples along axis 0, whose
size holds a symbol of `packed`. The entries of `packed` belong to the first operands: the number of running examples to
the lengths (B,) of all, and the rows along a further axis to its lengths (B,). Outside, a carry and a shared value have
the rows of all examples, and slices and stacked results those of all steps, example by example. A result of the step
without rows is summed over the steps. `once`: an example has at most one step, and slices and stacked results have rows
for a step of each example, zeros where it has none. This form is closed under derivatives of any order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .. import interpreters
from ..errors import Unsupported, at_user_line
from ..graph import PRIMITIVES, ArrayType, Graph, Node, TupleType, zeros_like
from ..primitive import (
    ArrayNamespace,
    Primitive,
    Sample,
    broadcast_leading,
    broadcast_operands,
    fail,
    move_axis,
    on_host,
    placeholder,
)
from ..symbolic import Dim, Shape, Symbol, size_of, value
from ..tracing import guard_equal_shapes
from .accumulators import accumulator
from .control import parts
from .cuts import symbol_of
from .loops import jvp_of_loop, residuals, scan
from .packed_steps import Packed, Size, Steps, inside, of_batch, of_steps
from .subgraph import (
    Flags,
    Signature,
    batch_graph,
    fixed_point,
    part,
    result_types,
    signature,
    without_effects,
)


def rows_of(t: ArrayType, symbols: set[Symbol]) -> Dim | None:
    """Return the size of a value's axis of rows inside a step, or None if it has none."""
    n = t.shape[0] if t.ndim else None
    return n if isinstance(n, Dim) and not n.symbols.isdisjoint(symbols) else None


def outside(t: ArrayType, packed: Packed, sizes: Mapping[Symbol, Size]) -> ArrayType:
    """Return the type outside of the loop of a value inside a step, by the sizes outside."""
    n = rows_of(t, inside(packed))
    if n is None:
        return t
    if missing := sorted(s.name for s in n.symbols & inside(packed) if s not in sizes):
        raise Unsupported(at_user_line(
            f"scan: it keeps a value of type {t} for each step, but the batch does not know the number of rows of all "
            f"steps along {', '.join(missing)}. Reduce the value to a fixed size in the step, or give the examples a "
            "field with both axes"))
    return ArrayType((n.replace(sizes), *t.shape[1:]), t.dtype)


def _type(*types: ArrayType, body: Graph, counts: tuple[int, int], packed: Packed, reverse: bool,
          once: bool) -> TupleType:
    roles, whole, steps = Signature(*counts), of_batch(packed), of_steps(packed)
    _, carry, slices = roles.split(body.inputs)
    sliced = set(slices)
    for t, n in zip(types, body.inputs, strict=True):
        expected = outside(n.types[0], packed, steps if n in sliced else whole)
        if t.dtype != expected.dtype or not guard_equal_shapes(t.shape, expected.shape):
            raise fail("packed_scan", f"expected {expected}", t)
    new, others = roles.ends(result_types(body))
    if list(new) != [n.types[0] for n in carry]:
        raise fail("packed_scan", f"the step must return the carry's types, got {TupleType(tuple(new))}",
                   *(n.types[0] for n in carry))
    return TupleType((*(outside(t, packed, whole) for t in new), *(outside(t, packed, steps) for t in others)))


# -- evaluation ----------------------------------------------------------------------------------------

Call = Callable[[Sequence[np.ndarray], Mapping[Symbol, int], np.ndarray], Sequence[np.ndarray]]


def run(xp: ArrayNamespace, call: Call, shapes: Sequence[tuple[int, ...]], *xs: np.ndarray, body: Graph,
        counts: tuple[int, int], packed: Packed, reverse: bool, once: bool) -> tuple[np.ndarray, ...]:
    """Return the results of a packed scan.

    Parameters
    ----------
    xp : namespace
    call : callable
        Runs a step on arrays, given the sizes inside the step and the examples that run.
    shapes : sequence of tuple of int
        The shapes of the results.
    """
    roles, symbols = Signature(*counts), inside(packed)
    steps = Steps(packed, [on_host(x) for x in xs[:len(packed)]], once)
    places = [rows_of(n.types[0], symbols) for n in body.inputs]
    n_whole = roles.n_shared + roles.n_carry
    sizes_of_results = [rows_of(n.types[0], symbols) for n in roles.ends(body.outputs)[1]]
    whole = {n: steps.whole(n) for n in places[:n_whole] if n is not None}
    sliced = {n: steps.sliced(n) for n in (*places[n_whole:], *sizes_of_results) if n is not None}
    values = [x if n is None else xp.take(x, xp.asarray(whole[n]), axis=0)
              for x, n in zip(xs[:n_whole], places, strict=False)]
    others = zip(roles.ends(body.outputs)[1], sizes_of_results, shapes[roles.n_carry:], strict=True)
    stacks = [_Stack(xp, shape, o.dtype, None if n is None else sliced[n], reverse) for o, n, shape in others]
    for t in range(steps.length - 1, -1, -1) if reverse else range(steps.length):
        sizes = steps.sizes(int(steps.active[t]))
        operands = [x if n is None else x[:n.value(sizes), ...] for x, n in zip(values, places, strict=False)]
        for x, n in zip(xs[n_whole:], places[n_whole:], strict=True):
            assert n is not None
            index, first = sliced[n]
            operands.append(xp.take(x, xp.asarray(index[first[t]:first[t + 1]]), axis=0))
        out = call(operands, sizes, steps.order[:steps.active[t]])
        if xp is np:  # results that are views of the values, which the step overwrites
            out = [y if y.base is None else y.copy() for y in out]
        new, results = roles.ends(out)
        for i, y in enumerate(new, roles.n_shared):
            if xp is np:
                values[i][:len(y)] = y
            else:
                values[i] = xp.concat([y, values[i][y.shape[0]:, ...]], axis=0)
        for stack, y in zip(stacks, results, strict=True):
            stack.take(t, y)
    ends = [xp.take(values[i], xp.asarray(inverse(whole[n])), axis=0)
            for i, n in enumerate(places[:n_whole]) if i >= roles.n_shared and n is not None]
    return (*ends, *(stack.result() for stack in stacks))


class _Stack:
    """A result of the steps: the sum over them, or the rows of all. NumPy writes rows where they belong.

    Parameters
    ----------
    xp : namespace
    shape : tuple of int
    dtype : numpy.dtype
    rows : (ndarray, ndarray) or None
        The place of each row, step by step, and the first row of each step; None of a sum.
    reverse : bool
    """

    def __init__(self, xp: ArrayNamespace, shape: tuple[int, ...], dtype: np.dtype,
                 rows: tuple[np.ndarray, np.ndarray] | None, reverse: bool):
        self._xp, self._shape, self._dtype, self._rows, self._reverse = xp, shape, dtype, rows, reverse
        self._steps: list[np.ndarray] = []
        self._whole = np.zeros(shape, dtype) if rows is not None and xp is np else None

    def take(self, t: int, y: np.ndarray) -> None:
        """Take the result of step `t`."""
        if self._rows is None:
            own = self._xp.astype(y, getattr(self._xp, accumulator(self._dtype).name))
            self._steps = [self._steps[0] + own if self._steps else own]
        elif self._whole is None:
            self._steps.append(y)
        else:
            places, first = self._rows
            self._whole[places[first[t]:first[t + 1]]] = y

    def result(self) -> np.ndarray:
        """Return the result of all steps."""
        xp, dtype = self._xp, getattr(self._xp, self._dtype.name)
        if self._whole is not None:
            return self._whole
        if not self._steps:
            return xp.zeros(self._shape, dtype=dtype)
        if self._rows is None:
            return xp.astype(self._steps[0], dtype)
        steps = self._steps[::-1] if self._reverse else self._steps
        rows = xp.concat([*steps, xp.zeros((1, *self._shape[1:]), dtype=dtype)], axis=0)
        return xp.take(rows, xp.asarray(inverse(self._rows[0], self._shape[0])), axis=0)


def kept_bytes(node: Node, sizes: Mapping[Symbol, int]) -> int:
    """Return the bytes that `run` keeps beside the results: values of all examples, and the places of rows."""
    packed, body, roles = node.params["packed"], node.params["body"], signature(node)
    symbols, whole, steps = inside(packed), of_batch(packed), of_steps(packed)
    n_whole = roles.n_shared + roles.n_carry
    rows = [rows_of(n.types[0], symbols) for n in body.inputs]
    total = sum(value(size_of(outside(n.types[0], packed, whole).shape), sizes) * n.dtype.itemsize
                for n, own in zip(body.inputs[:n_whole], rows, strict=False) if own is not None)
    each = value(packed[0][1], sizes), value(steps[symbol_of(packed[0][0])], sizes)
    others = dict.fromkeys((*rows[n_whole:], *(rows_of(n.types[0], symbols) for n in roles.ends(body.outputs)[1])))
    places = sum(value(n.replace(steps), sizes) for n in others if n is not None)
    places += sum(value(n.replace(whole), sizes) for n in dict.fromkeys(rows[:n_whole]) if n is not None)
    return int(total + 8 * (places + 2 * each[1] + (3 + 2 * len(packed)) * each[0]))


def inverse(order: np.ndarray, size: int | None = None) -> np.ndarray:
    """Return the place of each of `size` rows in `order`; of rows that are not there, the end."""
    places = np.full(len(order) if size is None else size, len(order))
    places[order] = np.arange(len(order))
    return places


def _eval(xp: ArrayNamespace, *xs: np.ndarray, body: Graph, counts: tuple[int, int], packed: Packed, reverse: bool,
          once: bool) -> tuple[np.ndarray, ...]:
    def call(operands: Sequence[np.ndarray], sizes: Mapping[Symbol, int], examples: np.ndarray) -> list[np.ndarray]:
        with part(packed[0][0], examples):
            return interpreters.evaluate(body, operands, sizes, xp)

    types = _type(*(ArrayType(x.shape, n.dtype) for x, n in zip(xs, body.inputs, strict=True)), body=body,
                  counts=counts, packed=packed, reverse=reverse, once=once)
    shapes = [tuple(int(n) for n in t.shape if isinstance(n, int)) for t in types.parts]
    return run(xp, call, shapes, *xs, body=body, counts=counts, packed=packed, reverse=reverse, once=once)


# -- derivatives ---------------------------------------------------------------------------------------


def _vjp(g: Sequence[Node | None], out: Node, *xs: Node, body: Graph, counts: tuple[int, int], packed: Packed,
         reverse: bool, once: bool) -> list[Node | None]:
    roles, symbols, body = Signature(*counts), inside(packed), without_effects(body)
    inputs, outputs = body.inputs, body.outputs
    (fixed, _, each), (outer, _, arrays) = roles.split(inputs), roles.split(xs)
    carry = roles.carry(range(len(xs)))
    shared, carried, slices = (
        [i for i in role if inputs[i].type.floating and (i in carry or interpreters.wanted(xs[i]))]
        for role in roles.split(range(len(xs))))
    # A shared value with rows gathers its cotangent in the carry; one without has a sum over the steps.
    gathered = [i for i in shared if rows_of(inputs[i].types[0], symbols) is not None]
    floats = [*carried, *gathered, *slices, *(i for i in shared if i not in gathered)]
    after = dict(zip(carry, outputs, strict=False))
    arriving = [(n, d) for n, d in zip(*(roles.ends(r)[1] for r in (outputs, g)), strict=True)
                if d is not None and n.type.floating]
    arriving.sort(key=lambda pair: rows_of(pair[0].types[0], symbols) is not None)  # the sums over the steps first
    n_sums = sum(rows_of(n.types[0], symbols) is None for n, _ in arriving)
    d_carry = [placeholder(inputs[i].types[0]) for i in carried]
    d_others = [placeholder(n.types[0]) for n, _ in arriving]
    ends = [after[i] for i in carried] + [n for n, _ in arriving]
    pulled = interpreters.backward(ends, [*d_carry, *d_others], [inputs[i] for i in floats])
    fresh, kept, stacks = _kept(xs, out, body, pulled, {*d_carry, *d_others})
    totals = [placeholder(inputs[i].types[0]) for i in gathered]
    results = dict(zip(floats, interpreters.substitute(pulled, fresh), strict=True))
    step = Graph(
        (*(fresh[n] for n in fixed), *d_others[:n_sums], *d_carry, *totals, *(fresh[n] for n in each),
         *d_others[n_sums:], *kept),
        (*(results[i] for i in carried), *(t + results[i] for t, i in zip(totals, gathered, strict=True)),
         *(results[i] for i in floats[len(carried) + len(gathered):])), name=f"{body.name}_vjp")
    of_carry = dict(zip(carry, g, strict=False))
    start = [zeros_like(xs[i]) if (d := of_carry.get(i)) is None else d for i in (*carried, *gathered)]
    others = [d for _, d in arriving]
    node = packed_scan(*outer, *others[:n_sums], *start, *arrays, *others[n_sums:], *stacks, body=step, packed=packed,
                       counts=(len(outer) + n_sums, len(start)), reverse=not reverse, once=once)
    of_inputs = dict(zip(floats, parts(node), strict=True))
    return [of_inputs.get(i) for i in range(len(xs))]


def _kept(xs: Sequence[Node], out: Node, body: Graph, back: Sequence[Node], cotangents: set[Node]
          ) -> tuple[dict[Node, Node], list[Node], list[Node]]:
    """Return the values of the forward step that the backward step reads, from a forward scan that stacks them.

    Returns
    -------
    fresh : dict of Node to Node
        The value in the backward step of each input and kept value.
    own, stacks : list of Node
        The inputs of the backward step for the kept values, and the operands.
    """
    roles, symbols, inputs = signature(out), inside(out.params["packed"]), body.inputs
    known = dict.fromkeys((*roles.split(inputs)[0], *roles.split(inputs)[2]))
    forward = {n for n in interpreters.dependent(body.outputs, inputs[roles.n_shared:])
               if isinstance(n.type, TupleType) or _row_axis(n, symbols) is not None}
    kept = [n for n in residuals(forward, back, cotangents) if n not in known]
    axes = {n: a for n in _dearest(kept, forward, known) if (a := _row_axis(n, symbols)) is not None}
    more = [move_axis(n, a, 0) for n, a in axes.items()]
    ahead = packed_scan(*xs, **out.params | {"body": body.replace(outputs=(*body.outputs, *more), out_names=())})
    own = [placeholder(n.types[0]) for n in more]
    fresh = {n: placeholder(n.types[0]) for n in known}
    fresh |= {n: move_axis(o, 0, a) for o, (n, a) in zip(own, axes.items(), strict=True)}
    return fresh, own, parts(ahead)[len(body.outputs):]


def _dearest(kept: Sequence[Node], forward: set[Node], known: Mapping[Node, None]) -> list[Node]:
    """Return the kept values without those that a little arithmetic on others gives: memory costs more than it."""
    left, cheap = dict.fromkeys(kept), set(known)
    for n in sorted(forward, key=lambda n: n.serial):
        if n.prim.kind == "elementwise" and "(" not in n.prim.kernel and all(  # no call of a function
                i in left or i in cheap or i not in forward for i in n.inputs):
            cheap.add(n)
    return [n for n in kept if n not in cheap]


def _row_axis(n: Node, symbols: set[Symbol]) -> int | None:
    """Return the axis of rows of a value inside a step, or None if it has none."""
    return next((a for a, size in enumerate(n.shape) if isinstance(size, Dim) and not size.symbols.isdisjoint(symbols)),
                None)


def _jvp(ts: Sequence[Node | None], out: Node, *xs: Node, body: Graph, counts: tuple[int, int], **others: object
         ) -> tuple[Node | None, ...]:
    def loop(step: Graph, inputs: Sequence[Node], roles: Signature, operands: Sequence[Node]) -> Node:
        return packed_scan(*operands, body=step, counts=tuple(roles), **others)

    return jvp_of_loop(Signature(*counts), body, ts, xs, loop)


# -- batch ---------------------------------------------------------------------------------------------


def _batch(size: int | Dim, mapped: Sequence[bool], *xs: Node, body: Graph, counts: tuple[int, int], packed: Packed,
           **others: object) -> tuple[Node, ...]:
    if any(mapped[:len(packed)]):  # each batch has lengths of its own
        return _one_by_one(size, mapped, *xs, body=body, counts=counts, packed=packed, **others)
    roles, symbols = Signature(*counts), inside(packed)

    def widen(flags: list[bool]) -> tuple[list[bool], Flags]:
        _, out = batch_graph(body, flags, size)
        return roles.grown(flags, out), out

    flags, out = fixed_point(widen, list(mapped))
    widened = [*roles.carry(flags), *roles.ends(out)[1]]
    batched, _ = batch_graph(body, flags, size, widened)
    lead = [f and rows_of(n.types[0], symbols) is not None for n, f in zip(body.inputs, flags, strict=True)]
    behind = [f and rows_of(n.types[0], symbols) is not None for n, f in zip(body.outputs, widened, strict=True)]
    inputs, new = [], {}  # the rows lead, then the batch
    for n, swap in zip(batched.inputs, lead, strict=True):
        (t,) = n.types
        own = placeholder(ArrayType((t.shape[1], t.shape[0], *t.shape[2:]), t.dtype) if swap else t)
        inputs.append(own)
        new[n] = move_axis(own, 1, 0) if swap else own
    outputs = [move_axis(o, 0, 1) if swap else o
               for o, swap in zip(interpreters.substitute(batched.outputs, new), behind, strict=True)]
    operands = broadcast_operands(xs, [m or not f for f, m in zip(flags, mapped, strict=True)], size)
    node = packed_scan(*(move_axis(x, 0, 1) if swap else x for x, swap in zip(operands, lead, strict=True)),
                       body=batched.replace(inputs=tuple(inputs), outputs=tuple(outputs)), counts=counts,
                       packed=packed, **others)
    return tuple(broadcast_leading(p, size) if not f else move_axis(p, 1, 0) if swap else p
                 for p, f, swap in zip(parts(node), widened, behind, strict=True))


def _one_by_one(size: int | Dim, mapped: Sequence[bool], *xs: Node, **params: object) -> tuple[Node, ...]:
    """Return the results for several batches of as many rows, one after the other."""
    inputs = [placeholder(ArrayType(x.shape[1:], x.dtype) if m else x.types[0])
              for x, m in zip(xs, mapped, strict=True)]
    order = sorted(range(len(xs)), key=lambda i: mapped[i])
    step = Graph(tuple(inputs[i] for i in order), tuple(parts(packed_scan(*inputs, **params))))
    return tuple(parts(scan(*(xs[i] for i in order), body=step, counts=(len(xs) - sum(mapped), 0), length=size,
                            reverse=False)))


def _flops(node: Node, value: Callable[..., int], count: Callable[..., float]) -> float:
    """Count one step with the rows of all steps."""
    return count(node.params["body"], {s: value(n) for s, n in
                                       {**of_batch(node.params["packed"]), **of_steps(node.params["packed"])}.items()})


def _samples() -> list[Sample]:
    n, rows = Dim.new("running"), Dim.new("rows", rows=True)
    shapes: tuple[Shape, ...] = ((n,), (n,), (2, 2), (n, 2), (rows,), (n, 2), (n, 2))
    length, widths, w, shift, keys, h, x = (
        placeholder(ArrayType(s, np.dtype("i8" if i < 2 else "f8"))) for i, s in enumerate(shapes))
    new = PRIMITIVES["sin"](PRIMITIVES["einsum"](h, w, subscripts="ni,ji->nj") + x * shift)
    ids = PRIMITIVES["segment_ids"](widths, size=rows)
    own = PRIMITIVES["scatter_add"](keys, ids, shape=(n,))
    y = PRIMITIVES["sum"](new * x, axes=(1,)) * own
    body = Graph((length, widths, w, shift, keys, h, x), (new, y, PRIMITIVES["sum"](new * new, axes=(0,))))
    rng = np.random.default_rng(9)
    # All lengths are equal, so that a test which permutes integers keeps their sums.
    arrays = (np.array([2, 2, 2]), np.array([1, 1, 1]), rng.normal(size=(2, 2)), rng.normal(size=(3, 2)),
              rng.normal(size=3), rng.normal(size=(3, 2)), rng.normal(size=(6, 2)))
    packed = ((n, 3, 6), (rows, 3, None))
    return [Sample(arrays, {"body": body, "counts": (5, 1), "packed": packed, "reverse": r, "once": False})
            for r in (False, True)]


packed_scan = Primitive("packed_scan", _type, _eval, _vjp, _jvp, _batch, flops=_flops,
                        hidden_params=frozenset({"packed"}), samples=_samples)
