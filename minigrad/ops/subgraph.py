"""Graphs that nodes hold: parameters, copies, batches, derivatives, loop operands."""

from __future__ import annotations

import itertools
import operator
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np

from .. import interpreters
from ..defined_sizes import definitions
from ..graph import PRIMITIVES, ArrayType, Graph, Node, Params, has_effect, held_graphs, zeros_like
from ..immutable import Record
from ..primitive import fail, placeholder
from ..symbolic import Dim, Symbol, symbols

Flags = tuple[bool, ...]
Examples = Sequence[int] | np.ndarray | None  # the number of each example of a part; None: unknown
T = TypeVar("T")
Made = TypeVar("Made")


class Signature(NamedTuple):
    """The roles of a loop's operands: shared, initial carry, and slices along axis 0.

    Operands, and inputs of a step, come in this order. Results begin with the carry; the others are stacked.
    """

    n_shared: int
    n_carry: int

    def split(self, operands: Sequence[T]) -> tuple[Sequence[T], Sequence[T], Sequence[T]]:
        """Return the shared operands, the carry, and the slices."""
        sliced = self.n_shared + self.n_carry
        return operands[:self.n_shared], operands[self.n_shared:sliced], operands[sliced:]

    def carry(self, operands: Sequence[T]) -> Sequence[T]:
        """Return the carry among the operands."""
        return self.split(operands)[1]

    def ends(self, results: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
        """Return the last carry, and the stacked results."""
        return results[:self.n_carry], results[self.n_carry:]

    def grown(self, flags: Sequence[bool], results: Sequence[bool]) -> list[bool]:
        """Return the operands' flags, with a flag on each carry that has one after a step."""
        shared, carry, slices = self.split(flags)
        return [*shared, *map(operator.or_, carry, results), *slices]

    def beside(self, operands: Sequence[T | None], more: Sequence[T | None]) -> tuple[T, ...]:
        """Merge `more` operands into those of a loop, role by role; None is left out."""
        pairs = zip(self.split(operands), self.split(more), strict=True)
        return tuple(x for role in pairs for xs in role for x in xs if x is not None)


class _Running(threading.local):
    parts: tuple[tuple[Dim, Examples], ...] = ()  # the size of each part, and its examples in the part around it


running = _Running()


@contextmanager
def part(size: Dim, examples: Examples) -> Iterator[None]:
    """Evaluate a held graph on some examples of a batch within the ``with`` block; errors count them by `examples`."""
    before, running.parts = running.parts, (*running.parts, (size, examples))
    try:
        yield
    finally:
        running.parts = before


def example_of_part(place: int) -> int | None:
    """Return the example of the whole batch at a place in the part that runs, or None if it is not known."""
    for _, examples in reversed(running.parts):
        if examples is None:
            return None
        place = int(examples[place])
    return place


def fixed_point(step: Callable[[T], tuple[T, Made]], state: T) -> tuple[T, Made]:
    """Iterate ``state, value = step(state)`` to its fixed point, and return both."""
    while True:
        after, value = step(state)
        if after == state:
            return state, value
        state = after


def signature(loop: Node) -> Signature:
    """Return the signature of a `scan`, or of a `while`, which has no slices."""
    if "counts" in loop.params:
        return Signature(*loop.params["counts"])
    return Signature(loop.params["count"], len(loop.inputs) - loop.params["count"])


def placeholders(*shapes: tuple[int, ...], dtype: str = "f8") -> list[Node]:
    """Return fresh inputs of the given shapes."""
    return [placeholder(ArrayType(s, np.dtype(dtype))) for s in shapes]


def fits(name: str, part: str, types: Sequence[ArrayType], inputs: Sequence[Node]) -> None:
    """Raise `ShapeError` unless `types` are those of `inputs`; `part` names the graph."""
    for t, n in zip(types, inputs, strict=True):
        if t != n.type:
            raise fail(name, f"{part} expects {n.type}", t)


def result_types(graph: Graph) -> tuple[ArrayType, ...]:
    """Return the types of the outputs, which are arrays."""
    return tuple(n.types[0] for n in graph.outputs)


def apply_graph(graph: Graph, operands: Sequence[Node]) -> list[Node]:
    """Return the outputs of the graph's program on `operands`."""
    return interpreters.substitute(graph.outputs, dict(zip(graph.inputs, operands, strict=True)))


def copy_graph(graph: Graph) -> tuple[list[Node], list[Node]]:
    """Return the graph's program on fresh inputs: the inputs and the outputs."""
    inputs = [placeholder(n.types[0]) for n in graph.inputs]
    return inputs, apply_graph(graph, inputs)


def vjp_graph(graph: Graph, outputs: Sequence[int], wrt: Sequence[int]) -> Graph:
    """Return the graph from inputs and cotangents of `outputs` to cotangents of `wrt`."""
    ends = [graph.outputs[k] for k in outputs]
    cotangents = [placeholder(n.types[0]) for n in ends]
    back = interpreters.backward(ends, cotangents, [graph.inputs[i] for i in wrt])
    result = Graph((*graph.inputs, *cotangents), _with_definitions(back, graph), name=f"{graph.name}_vjp")
    return without_effects(result, graph)


def jvp_graph(graph: Graph, moving: Sequence[int], out: Sequence[int] | None = None) -> tuple[Graph, list[int]]:
    """Return the graph from inputs and tangents of `moving` to the outputs' tangents.

    Its results are the tangents of the outputs `out`, or of those whose tangent is not zero; the second value is their
    numbers.
    """
    tangents = [placeholder(graph.inputs[i].types[0]) for i in moving]
    starts = {graph.inputs[i]: t for i, t in zip(moving, tangents, strict=True)}
    pushed = interpreters.forward(graph.outputs, starts)
    chosen = [k for k, t in enumerate(pushed) if t is not None] if out is None else list(out)
    results = ((pushed[k], graph.outputs[k]) for k in chosen)
    moved = [zeros_like(n) if t is None else t for t, n in results]
    result = Graph((*graph.inputs, *tangents), _with_definitions(moved, graph), name=f"{graph.name}_jvp")
    return without_effects(result, graph), chosen


def _with_definitions(outputs: Sequence[Node], graph: Graph) -> tuple[Node, ...]:
    """Return outputs; the first one waits for the definitions of sizes in `graph`."""
    outputs = list(outputs)
    for node in definitions(graph.nodes).values() if outputs else ():
        outputs[0] = PRIMITIVES["barrier"](outputs[0], node)
    return tuple(outputs)


def batched_on(outputs: Sequence[Node], inputs: Sequence[Node], new: Sequence[Node], mapped: Sequence[bool],
               size: int | Dim) -> list[tuple[Node, bool]]:
    """Batch the program between inputs and outputs (`interpreters.batch`): `new` inputs have the axis by `mapped`."""
    pairs = list(zip(inputs, new, mapped, strict=True))
    return interpreters.batch(outputs, {a: b for a, b, m in pairs if not m}, {a: b for a, b, m in pairs if m}, size,
                              closed=True)


def batch_graph(graph: Graph, mapped: Sequence[bool], size: int | Dim, out: Sequence[bool] | None = None
                ) -> tuple[Graph, Flags]:
    """Batch a graph over the inputs in `mapped`; return it and a flag for each output.

    Outputs flagged in `out` have the axis even where no mapped input reaches them.
    """
    inputs = [placeholder(ArrayType((size, *n.shape), n.dtype) if m else n.types[0])
              for n, m in zip(graph.inputs, mapped, strict=True)]
    results = batched_on(graph.outputs, graph.inputs, inputs, mapped, size)
    flags = tuple(has for _, has in results) if out is None else tuple(out)
    outputs = tuple(interpreters.broadcast_unmapped(o, has, size) if w else o
                    for (o, has), w in zip(results, flags, strict=True))
    return graph.replace(inputs=tuple(inputs), outputs=outputs), flags


class Held(Record):
    """The names of the static parameters by which a primitive holds graphs.

    Attributes
    ----------
    bodies : str
        The graph that computes the results, or a tuple of alternatives.
    test : str
        The condition of a loop, a graph of the same inputs.
    loop : bool
        Whether the graph runs again and again, from its own carry on.
    per_input, per_output : str
        A tuple with an entry for each input of the graphs, and for each result.
    added : object
        The entry of `per_output` for a scalar result that is the same for all examples.
    first : int
        The number of operands before those of the graphs.
    """

    bodies: str
    test: str = ""
    loop: bool = False
    per_input: str = ""
    per_output: str = ""
    added: bool | None = None
    first: int = 0

    def params(self, old: Params, tests: Sequence[Graph], bodies: Sequence[Graph]) -> dict[str, object]:
        """Return the parameters that hold these graphs in place of those of `old`."""
        new: dict[str, object] = {self.test: tests[0]} if tests else {}
        return new | {self.bodies: tuple(bodies) if isinstance(old[self.bodies], tuple) else bodies[0]}


HELD = {
    "scan": Held("body", loop=True),
    "packed_scan": Held("body", loop=True),
    "while": Held("body", test="test", loop=True),
    "switch": Held("graphs", per_input="rows", per_output="sums", added=False, first=1),
    "chunked": Held("graph", per_input="in_axes", per_output="out_axes"),
    "checkpoint": Held("graph"),
    "custom": Held("graph"),
    "tree_scan": Held("graph", first=2),
}


def held_in_order(node: Node) -> tuple[list[Graph], list[Graph]]:
    """Return the test of a loop, if the node has one, and the graphs of its results."""
    held, p = HELD[node.prim.name], node.params
    bodies = p[held.bodies]
    return [p[held.test]] if held.test else [], [*bodies] if isinstance(bodies, tuple) else [bodies]


def has_effects(graph: Graph) -> bool:
    """Return whether a graph, or one that it holds, has effects."""
    return any(prim.effect for prim in graph.prims) or any(map(has_effect, graph.holders))


def orders_of(node: Node) -> Iterator[tuple[int, ...]]:
    """Yield the order of an effect, or those of the effects of the graphs that run where a node holds them."""
    if node.prim.effect:
        yield node.params["order"]
    elif has_effect(node):
        for graph, _ in graphs_of(node):
            for n in graph.nodes:
                yield from orders_of(n)


def without_effects(graph: Graph, of: Graph | None = None) -> Graph:
    """Return a graph whose results do not wait for the effects that it shares with the graph `of`, or for any.

    A derivative rule that runs has effects of its own; a derivative repeats no other effect.
    """
    shared = {order for node in (of or graph).nodes for order in orders_of(node)}

    def strip(graph: Graph) -> Graph:
        return interpreters.rewrite(graph, rule) if has_effects(graph) else graph

    def rule(node: Node, inputs: tuple[Node, ...]) -> Node | None:
        if node.prim.name == "barrier" and (effect := node.inputs[1]).prim.effect:
            return inputs[0] if effect.params["order"] in shared else None
        if node.prim.name not in HELD or not has_effect(node):
            return None
        new = HELD[node.prim.name].params(node.params, *([*map(strip, graphs)] for graphs in held_in_order(node)))
        return interpreters.rebuilt(node, inputs, {**node.params, **new})

    return strip(graph) if shared else graph


def with_new_effects(graph: Graph) -> Graph:
    """Return a graph with its effects as later ones, in their order."""
    number = next(EFFECTS)

    def renew(graph: Graph) -> Graph:
        return interpreters.rewrite(graph, rule) if has_effects(graph) else graph

    def rule(node: Node, inputs: tuple[Node, ...]) -> Node:
        if node.prim.effect:
            return interpreters.rebuilt(node, inputs, {**node.params, "order": (number, *node.params["order"])})
        return interpreters.rebuilt(node, inputs, with_graphs(node.params, renew) if has_effect(node) else None)

    return renew(graph)


EFFECTS = itertools.count()  # numbers of effects, in the order in which they are traced


def with_graphs(params: Params, new: Callable[[Graph], Graph]) -> dict[str, Any]:
    """Return static parameters with each held graph replaced by ``new(graph)``."""
    def one(v: object) -> object:
        return tuple(map(one, v)) if isinstance(v, tuple) else new(v) if isinstance(v, Graph) else v

    return {k: one(v) for k, v in params.items()}


Access = str | tuple[str, int]


def graphs_of(node: Node) -> list[tuple[Graph, list[tuple[Node, Node, Access]]]]:
    """Return the graphs that a node holds, with triples of input, operand and access.

    The test of a loop comes first. An access is ``"whole"``, ``"row"`` of an example, ``"slice"`` of a turn,
    ``"child"`` of a tree's node, ``("chunk", axis)``, or ``"carry"``: the state of a loop, which begins as the operand.
    """
    held = HELD.get(node.prim.name)
    if held is None:
        return []
    tests, bodies = held_in_order(node)
    operands = node.inputs[held.first:]
    access: Sequence[Access] = ["whole"] * len(operands)
    if held.loop:
        roles = signature(node)
        n_sliced = len(operands) - roles.n_shared - roles.n_carry
        own = symbols([n for n, *_ in node.params.get("packed", ())])
        rows = [bool(own & symbols(n.shape[:1])) for n in bodies[0].inputs[:roles.n_shared]]
        access = ["row" if r else "whole" for r in rows] + ["carry"] * roles.n_carry + ["slice"] * n_sliced
    elif node.prim.name == "switch":
        access = ["row" if flag else "whole" for flag in node.params["rows"]]
    elif node.prim.name == "chunked":
        access = ["whole" if axis is None else ("chunk", axis) for axis in node.params["in_axes"]]
    elif node.prim.name == "tree_scan":
        kinds = zip(("whole", "row", "child", "carry"), node.params["counts"], strict=True)
        access = [kind for kind, n in kinds for _ in range(n)]
    return [(g, list(zip(g.inputs, operands, access, strict=True))) for g in (*tests, *bodies)]


def symbols_of(graph: Graph) -> set[Symbol]:
    """Return the symbolic sizes that a program depends on.

    Sizes of unused arguments do not count, nor those that its nodes define.
    """
    used: set[Symbol] = set()
    holders = set(graph.holders)
    unread = set(graph.inputs).difference(graph.outputs, *(n.inputs for n in graph.nodes))
    for n in graph.nodes:
        if n in unread:
            continue
        for shape in (n.type.shape,) if isinstance(n.type, ArrayType) else [t.shape for t in n.types]:
            if Dim in map(type, shape):
                used.update(symbols(shape))
        if not n.params:
            continue
        if sizes := [d for p in n.params.values() if isinstance(p, (tuple, Dim)) for d in _sizes_in(p)]:
            used.update(symbols(sizes))
        if n in holders:
            used.update(*[symbols_of(held) for _, held in held_graphs(n)])
            own = [d for d, *_ in n.params.get("packed", ())]  # the sizes of one chunk, or of one step
            used -= symbols([*own, n.params["dim"]] if "dim" in n.params else own)
    return used.difference(definitions(graph.nodes))


def _sizes_in(value: object) -> Sequence[Dim]:
    """Return the symbolic sizes in a static parameter, those of held graphs left out."""
    if isinstance(value, tuple):
        return [d for v in value if isinstance(v, (tuple, Dim)) for d in _sizes_in(v)]
    return (value,) if isinstance(value, Dim) else ()
