"""Functions with the user's own derivative (`custom`), and `callback`.

One rule is enough: a derivative is linear, and the other mode is its transpose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence

import numpy as np

from .. import interpreters
from ..errors import DtypeError, GradError, ShapeError, Unsupported
from ..graph import PRIMITIVES, ArrayType, Graph, Node, Params, TupleType, dtype_of, zeros_like
from ..immutable import cached_property
from ..primitive import ArrayNamespace, Primitive, Sample, on_host, placeholder
from ..symbolic import Dim, Shape
from .control import parts
from .reduce import sum_
from .subgraph import apply_graph, batch_graph, fits, placeholders, result_types, with_new_effects

# -- transposing a rule ------------------------------------------------------------------------------------


def transpose(name: str, outputs: Sequence[Node], cotangents: Sequence[Node], inputs: Sequence[Node]) -> list[Node]:
    """Return the transpose of the linear map from `inputs` to `outputs`, applied to `cotangents`.

    Raises
    ------
    GradError
        If the map is not linear: then its transpose would depend on where it is taken.
    """
    back = interpreters.backward(outputs, cotangents, inputs)
    if not set(interpreters.dependent(back, inputs)).isdisjoint(back):
        raise GradError(f"the derivative rule of {name} is not linear in the derivative that it is given, so the other "
                        "mode cannot be had from it. Use it linearly, or give the other rule as well.")
    return back


# -- custom ------------------------------------------------------------------------------------------------
#
# custom(*inputs, graph, vjp, jvp): `vjp` takes cotangents of the floating outputs, the outputs, and the inputs, and
# returns cotangents of the floating inputs; `jvp` takes tangents of the floating inputs, the outputs, and the inputs,
# and returns tangents of the floating outputs. Either may be None. The last inputs may be values that the function
# captures: the rule does not cover them, and they have no derivative.


class Later:
    """A derivative rule that calls its own function: it is traced when needed.

    Parameters
    ----------
    name : str
        The function's name.
    make : callable or None
        Returns the rule's graph. A copy in another process has none.
    """

    def __init__(self, name: str, make: Callable[[], Graph] | None = None):
        self.name, self._make = name, make

    @cached_property
    def graph(self) -> Graph:
        if self._make is None:
            raise GradError(f"the derivative rule of {self.name} calls {self.name} itself, and is not known here. Take "
                            "the derivative of one example before the batch, or before the graph is stored")
        return self._make()

    def __repr__(self) -> str:
        return f"rule of {self.name}"

    def __reduce__(self) -> tuple[object, ...]:
        return Later, (self.name,)


Rule = Graph | Later | None


def _floats(nodes: Sequence[Node]) -> list[Node]:
    return [n for n in nodes if n.type.floating]


def _custom_type(*types: ArrayType, graph: Graph, vjp: Graph | Later | None, jvp: Graph | Later | None) -> TupleType:
    fits("custom", graph.name, types, graph.inputs)
    return TupleType(result_types(graph))


def _known(rule: Rule) -> Graph | None:
    return rule.graph if isinstance(rule, Later) else rule


def ruled(graph: Graph, vjp: Graph | None, jvp: Graph | None) -> int:
    """Return the number of leading floating inputs that the rule covers."""
    if vjp is not None:
        return len(vjp.outputs)
    assert jvp is not None
    return len(jvp.inputs) - len(graph.outputs) - len(graph.inputs)


def _refuse(graph: Graph, out: Node, x: Node) -> GradError:
    return GradError(f"{out.where}: {graph.name} uses a value ({x.type}) of the function around it, and its derivative "
                     "rule is about its arguments alone. Pass it as an argument, so that the rule can speak of it")


def _applied(own: Graph | None, other: Graph | None, moving: Sequence[Node], values: Sequence[Node],
             targets: Sequence[Node], name: str) -> Iterator[Node]:
    """Apply the rule `own`, or the transpose of `other`, whose linear operands are like `targets`."""
    if own is not None:
        return iter(apply_graph(with_new_effects(own), (*moving, *values)))
    assert other is not None
    seeds = [placeholder(x.types[0]) for x in targets]
    return iter(transpose(name, apply_graph(other, (*seeds, *values)), moving, seeds))


def _custom_vjp(g: Sequence[Node | None], out: Node, *xs: Node, graph: Graph, vjp: Rule, jvp: Rule
                ) -> list[Node | None]:
    reverse, forward = _known(vjp), _known(jvp)
    n_ruled = ruled(graph, reverse, forward)
    for x in _floats(xs)[n_ruled:]:
        if interpreters.wanted(x):
            raise _refuse(graph, out, x)
    cotangents = [c for c, n in zip(g, graph.outputs, strict=True) if n.type.floating and c is not None]
    back = _applied(reverse, forward, cotangents, (*parts(out), *xs), _floats(xs)[:n_ruled], graph.name)
    return [next(back, None) if x.type.floating else None for x in xs]


def _custom_jvp(ts: Sequence[Node | None], out: Node, *xs: Node, graph: Graph, vjp: Rule, jvp: Rule
                ) -> tuple[Node | None, ...]:
    reverse, forward = _known(vjp), _known(jvp)
    n_ruled = ruled(graph, reverse, forward)
    floats = [(t, x) for t, x in zip(ts, xs, strict=True) if x.type.floating]
    for t, x in floats[n_ruled:]:
        if t is not None:
            raise _refuse(graph, out, x)
    moving = [zeros_like(x) if t is None else t for t, x in floats[:n_ruled]]
    pushed = _applied(forward, reverse, moving, (*parts(out), *xs), _floats(graph.outputs), graph.name)
    return tuple(next(pushed) if n.type.floating else None for n in graph.outputs)


def _custom_batch(size: int | Dim, mapped: Sequence[bool], *xs: Node, graph: Graph, vjp: Rule, jvp: Rule) -> Node:
    batched = batch_graph(graph, mapped, size, [True] * len(graph.outputs))[0]
    return custom(*xs, graph=batched, vjp=_batched_rule(vjp, _batched_vjp, size, mapped, graph),
                  jvp=_batched_rule(jvp, _batched_jvp, size, mapped, graph))


def _batched_rule(rule: Rule, batch: Callable[..., Graph], size: int | Dim, mapped: Sequence[bool], graph: Graph
                  ) -> Rule:
    if isinstance(rule, Later):
        return Later(rule.name, lambda: batch(rule.graph, size, mapped, graph))
    return None if rule is None else batch(rule, size, mapped, graph)


def _batched_vjp(vjp: Graph, size: int | Dim, mapped: Sequence[bool], graph: Graph) -> Graph:
    moving = [m for m, n in zip(mapped, graph.inputs, strict=True) if n.type.floating][:ruled(graph, vjp, None)]
    flags = (True,) * (len(_floats(graph.outputs)) + len(graph.outputs))
    vjp, _ = batch_graph(vjp, (*flags, *mapped), size, [True] * len(moving))
    # The cotangent of a shared input is a sum over the examples.
    return vjp.replace(outputs=tuple(o if m else sum_(o, axes=(0,)) for o, m in zip(vjp.outputs, moving, strict=True)))


def _batched_jvp(jvp: Graph, size: int | Dim, mapped: Sequence[bool], graph: Graph) -> Graph:
    moving = [m for m, n in zip(mapped, graph.inputs, strict=True) if n.type.floating][:ruled(graph, None, jvp)]
    flags = (*moving, *(True for _ in graph.outputs), *mapped)
    return batch_graph(jvp, flags, size, [True] * len(_floats(graph.outputs)))[0]


custom = Primitive(
    "custom", _custom_type, lambda xp, *xs, graph, vjp, jvp: tuple(interpreters.evaluate(graph, xs, xp=xp)),
    _custom_vjp, _custom_jvp, _custom_batch, inline=True, flops=lambda node, value, count: count(node.params["graph"]),
    samples=lambda: [_sample(True), _sample(False)])


def _sample(reverse: bool) -> Sample:
    def p(name: str, *inputs: Node, **params: object) -> Node:
        return PRIMITIVES[name](*inputs, **params)

    def fresh() -> list[Node]:
        return [*placeholders((3,), (3,)), placeholder(ArrayType((2,), np.dtype("i8")))]

    def results() -> list[Node]:
        return [*placeholders((3,)), placeholder(ArrayType((2,), np.dtype("i8"))), *placeholders(())]

    x, w, i = fresh()
    h = p("sin", x * w)
    body = Graph((x, w, i), (h, i, p("sum", x * x, axes=(0,))), name="sines")
    x, w, i = fresh()
    outs = results()
    slope = p("cos", x * w)
    if reverse:
        g, total = placeholders((3,), ())
        wide = p("expand", total, shape=(3,), axes=(0,))
        rule = Graph((g, total, *outs, x, w, i), (g * slope * w + x * wide * 2.0, g * slope * x))
    else:
        tx, tw = placeholders((3,), (3,))
        rule = Graph((tx, tw, *outs, x, w, i), (slope * (tx * w + tw * x), p("sum", x * tx * 2.0, axes=(0,))))
    return Sample((np.array([0.3, -0.4, 1.2]), np.array([1.1, 0.7, -0.2]), np.array([2, 0])),
                  {"graph": body, "vjp": rule if reverse else None, "jvp": None if reverse else rule})


# -- callback ----------------------------------------------------------------------------------------------
#
# callback(*inputs, function, result, batches, vectorized) calls a Python function on ndarrays. `result` holds the
# (shape, dtype) of each result for one call. `batches` has one (size, which inputs have the axis) per `vmap`: the
# function is called once for every example, in a loop that the graph shows, or once in all if it is `vectorized`.


class Opaque:
    """A Python function as a parameter: it prints as its name, and is equal to itself alone."""

    def __init__(self, function: Callable[..., Sequence[object]]):
        self.function = function

    def __repr__(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)


def checked(name: str, values: Sequence[object], lead: tuple[int, ...], result: ConcreteResults) -> list[np.ndarray]:
    """Return a callback's results as arrays, after a check that they have the stated types."""
    if len(values) != len(result):
        raise ShapeError(f"callback {name}: it returned {len(values)} arrays, and was stated to return {len(result)}")
    arrays = []
    for value, (shape, dtype) in zip(values, result, strict=True):
        array = np.asarray(value)
        if array.shape != (*lead, *shape):
            raise ShapeError(f"callback {name}: it returned an array of shape {array.shape}, and was stated to return "
                             f"{ArrayType((*lead, *shape), dtype)}")
        if dtype_of(array.dtype) != dtype:
            raise DtypeError(f"callback {name}: it returned {array.dtype.name}, and was stated to return {dtype.name}. "
                             "State what it returns, or cast it there.")
        arrays.append(array)
    return arrays


Results = tuple[tuple[Shape, np.dtype], ...]
Batches = tuple[tuple[int | Dim, tuple[bool, ...]], ...]
ConcreteResults = tuple[tuple[tuple[int, ...], np.dtype], ...]
ConcreteBatches = tuple[tuple[int, tuple[bool, ...]], ...]


def _callback_type(*types: ArrayType, function: Opaque, result: Results, batches: Batches, vectorized: bool
                  ) -> TupleType:
    lead = tuple(size for size, _ in batches)
    return TupleType(tuple(ArrayType((*lead, *shape), dtype) for shape, dtype in result))


def _callback_eval(xp: ArrayNamespace, *xs: np.ndarray, function: Opaque, result: ConcreteResults,
                   batches: ConcreteBatches, vectorized: bool) -> tuple[np.ndarray, ...]:
    # Copies both ways: the function may keep its arguments, and may return one array of its own at every call.
    arrays = [_frozen(np.array(on_host(x))) for x in xs]
    lead = tuple(size for size, _ in batches)

    def call(lead: tuple[int, ...], arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
        return checked(repr(function), function.function(*arguments), lead, result)

    if not lead:
        out = tuple(map(np.array, call((), [a[()] for a in arrays])))
    elif vectorized:
        wide = []
        for k, a in enumerate(arrays):
            unmapped = tuple(i for i, (_, mapped) in enumerate(batches) if not mapped[k])
            a = np.expand_dims(a, unmapped)
            wide.append(_frozen(np.broadcast_to(a, (*lead, *a.shape[len(lead):]))))
        out = tuple(map(np.array, call(lead, wide)))
    else:
        out = tuple(np.zeros((*lead, *shape), dtype) for shape, dtype in result)
        for position in np.ndindex(lead):
            row = [a[tuple(i for i, (_, mapped) in zip(position, batches, strict=True) if mapped[k])]
                   for k, a in enumerate(arrays)]
            for o, value in zip(out, call((), row), strict=True):
                o[position] = value
    return out if xp is np else tuple(map(xp.asarray, out))


def _frozen(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def _callback_batch(size: int | Dim, mapped: Sequence[bool], *xs: Node, batches: Batches, **others: object) -> Node:
    return callback(*xs, batches=((size, tuple(mapped)), *batches), **others)


# effect(*inputs, function, batches, order) calls a function for its effect, once for every example. The result is a
# zero for each of them. Results of the program wait for it (`results.waiting`); effects follow each other by their
# `order`: the number of the call of a graph or of a derivative rule, if there is one, before that in the graph.


def _effect_type(*types: ArrayType, function: Opaque, batches: Batches, order: tuple[int, ...]) -> ArrayType:
    return ArrayType(tuple(size for size, _ in batches), np.dtype(np.int8))


def _effect_eval(xp: ArrayNamespace, *xs: np.ndarray, function: Opaque, batches: ConcreteBatches,
                 order: tuple[int, ...] = ()) -> np.ndarray:
    arrays = [_frozen(np.array(on_host(x))) for x in xs]
    lead = tuple(size for size, _ in batches)
    for position in np.ndindex(lead):
        function.function(*(a[tuple(i for i, (_, mapped) in zip(position, batches, strict=True) if mapped[k])]
                            for k, a in enumerate(arrays)))
    return xp.zeros(lead, dtype=np.int8)


class PerExample:
    """A function of one example as a function of packed arrays, with the first row of an example and its lengths.

    Attributes
    ----------
    ragged : tuple of (tuple of bool or None)
        For each operand, which of its axes are ragged; None for one without.
    """

    def __init__(self, function: Opaque, ragged: tuple[tuple[bool, ...] | None, ...]):
        self._function, self.ragged = function, ragged
        self.__name__ = repr(function)

    def __call__(self, *arrays: np.ndarray) -> Sequence[object]:
        operands, args = iter(arrays), []
        for axes in self.ragged:
            x = next(operands)
            if axes is not None:
                start, *lengths = (int(next(operands)) for _ in range(1 + sum(axes)))
                rows = x[start:start + math.prod(lengths)].reshape(*lengths, *x.shape[1:])
                order = sorted(range(len(axes)), key=lambda a, axes=axes: not axes[a])  # type: ignore[misc]
                x = np.moveaxis(rows, range(rows.ndim), order)
            args.append(x)
        return self._function.function(*args)

    def is_packed(self) -> list[bool]:
        """Return which arrays are packed."""
        return [p for axes in self.ragged for p in ([False] if axes is None else [True] + [False] * (1 + sum(axes)))]


def _effect_batch(size: int | Dim, mapped: Sequence[bool], *xs: Node, batches: Batches, **others: object) -> Node:
    return effect(*xs, batches=((size, tuple(mapped)), *batches), **others)


_NO_SLOPE = Unsupported("what an opaque function computes is not known. Wrap it in mg.custom_vjp or mg.custom_jvp with "
                        "its derivative, which may be None for zero")

callback = Primitive("callback", _callback_type, _callback_eval, vjp=_NO_SLOPE, jvp=_NO_SLOPE, batch=_callback_batch,
                     hidden_params=frozenset({"result"}))

effect = Primitive("effect", _effect_type, _effect_eval, vjp=_NO_SLOPE, jvp=_NO_SLOPE, batch=_effect_batch,
                   effect=True, distinct=True, hidden_params=frozenset({"order"}))


# -- primitives of the user's ---------------------------------------------------------------------------------


def key_of_any(params: Params) -> tuple[object, ...]:
    """Return a key of static parameters of any kind: equal ones are of equal types, and zeros of equal signs."""
    def one(value: object) -> object:
        match value:
            case dict():
                return dict, *map(one, value.items())
            case tuple() | list():
                return type(value), *map(one, value)
            case np.ndarray():
                return value.shape, value.dtype, value.tobytes()
            case float() | np.floating():
                return type(value), repr(value)
            case Hashable():
                return type(value), value
        return id(value)

    return tuple([(name, one(value)) for name, value in params.items()])
