"""Batching rules of loops over ragged axes, and of loops beside ragged values.

A scan along a ragged axis becomes a `packed_scan`: each step is the batch of the examples that still run, with rows of
their own (`_running_rows`). A scan along a fixed axis whose steps use ragged values has the rows of the whole batch in
its steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np

from .. import interpreters
from ..graph import ArrayType, Graph, Node, full, has_effect, moment, reachable
from ..ops.branches import switch
from ..ops.control import parts
from ..ops.cuts import symbol_of
from ..ops.elementwise import cast_to, eq, maximum, minimum
from ..ops.loops import scan, while_
from ..ops.packed_scan import packed_scan
from ..ops.packed_steps import Size
from ..ops.reduce import any_
from ..ops.segments import segment_ids
from ..ops.subgraph import Signature, fixed_point, signature, symbols_of
from ..primitive import broadcast_leading, input_, move_axis, placeholder
from ..symbolic import Dim, Symbol
from .rows import Domain, Rows
from .rules import EVERY, RULES, Batching, Inputs, Rule

_INT = np.dtype(np.int64)


class _Step(NamedTuple):
    """A held graph in a batch.

    Attributes
    ----------
    inputs, outputs : list of Node
    mapped : list of bool
        Which outputs differ between examples.
    since : int
        The serial number before the nodes of the batch.
    """

    inputs: list[Node]
    outputs: list[Node]
    mapped: list[bool]
    since: int


def _batched(b: Batching, rows: Rows, graph: Graph, operands: Sequence[Node], flags: Sequence[bool]) -> _Step:
    """Return a held graph for the examples of `rows`; `flags` tell which inputs differ between them."""
    olds = [placeholder(n.types[0]) for n in graph.inputs]
    news = [placeholder(ArrayType(rows.packed(n.shape), n.dtype) if f else n.types[0])
            for n, f in zip(olds, flags, strict=True)]
    since = moment()
    outputs = interpreters.substitute(graph.outputs, dict(zip(graph.inputs, olds, strict=True)))
    pairs = list(zip(olds, operands, strict=True))
    inner = Batching(rows, dict(zip(olds, news, strict=True)), {o for o, f in zip(olds, flags, strict=True) if f},
                     {o: b.targets[i] for o, i in pairs if i in b.targets}, {},
                     {o for o, i in pairs if i in b.nullable}, b.in_rule)
    results = inner.run(outputs, EVERY)
    return _Step(news, [n for n, _ in results], [has for _, has in results], since)


def _spread(step: _Step, rows: Rows, flags: Sequence[bool]) -> list[Node]:
    """Return the outputs of a step, those in `flags` with one row per example or more."""
    return [broadcast_leading(o, rows.size) if f and not has else o
            for o, has, f in zip(step.outputs, step.mapped, flags, strict=True)]


def _operand(b: Batching, old: Node, mapped: bool) -> Node:
    """Return an operand of a loop in the batch."""
    return b.batched.get(old, old) if not mapped or b.is_ragged(old) else b.each(old)


# -- along a ragged axis -------------------------------------------------------------------------------------


def _running_rows(b: Batching) -> tuple[Rows, dict[Symbol, tuple[Node, Domain]]]:
    """Return the rows of the examples that run, and for each of their sizes the lengths inside, and the axes."""
    size = b.rows.size
    rows = Rows(Dim.new("running", size.hint if isinstance(size, Dim) else size))
    sizes: dict[Symbol, tuple[Node, Domain]] = {}

    def enter(symbols: tuple[Symbol, ...]) -> None:
        domain = tuple(map(Dim.of, symbols))
        dim = Dim.new("_".join(s.name for s in symbols), rows=True)
        rows.totals[symbols] = dim
        sizes[symbol_of(dim)] = placeholder(ArrayType((rows.size,), _INT)), domain
        if len(symbols) == 1:
            rows.lengths[symbols[0]], _ = sizes[symbol_of(dim)]
            rows.owners[symbols[0]] = segment_ids(rows.lengths[symbols[0]], size=dim)

    rows.enter_product = enter
    for symbols in list(b.rows.totals):
        enter(symbols)
    return rows, sizes


def _packed_scan(b: Batching, node: Node, xs: Inputs) -> tuple[Node, ...]:
    roles, length = signature(node), node.params["length"]
    flags = [k >= roles.n_shared or i in b.mapped for k, i in enumerate(node.inputs)]
    operands = [_operand(b, old, f) for old, f in zip(node.inputs, flags, strict=True)]
    steps = b.rows.length((length,)), (length,)
    return _on_running(b, node.params["body"], node.inputs, operands, flags, roles, steps,
                       reverse=node.params["reverse"], once=False)


def _on_running(b: Batching, body: Graph, olds: Sequence[Node], operands: Sequence[Node], flags: Sequence[bool],
                roles: Signature, steps: tuple[Node, Domain], **params: bool) -> tuple[Node, ...]:
    """Return the results of a packed scan.

    Parameters
    ----------
    body : Graph
        The step of one example.
    olds, operands : sequence of Node
        The operands for one example, and in the batch.
    flags : sequence of bool
        Whether each operand differs between examples.
    steps : (Node, Domain)
        The steps of each example, and the domain of the slices.
    """
    rows, sizes = _running_rows(b)
    step = _batched(b, rows, body, olds, flags)
    outputs = _spread(step, rows, [True] * len(step.outputs))
    used, read = symbols_of(Graph(tuple(step.inputs), (*step.inputs, *outputs))), set(reachable(outputs))
    sizes = {s: size for s, size in sizes.items() if s in used or size[0] in read}
    own = [placeholder(ArrayType((rows.size,), _INT)), *(own for own, _ in sizes.values())]
    graph = Graph((*own, *step.inputs), tuple(outputs), name=body.name)
    assert isinstance(rows.size, Dim)
    each, domain = steps
    packed = ((rows.size, b.rows.size, b.rows.total(domain) if domain else b.rows.size),
              *((Dim.of(s), b.rows.total(other), _known_total(b.rows, (*domain, *other)))
                for s, (_, other) in sizes.items()))
    lengths = [each, *(b.rows.length(other) for _, other in sizes.values())]
    return tuple(parts(packed_scan(*lengths, *operands, body=graph, packed=packed,
                                   counts=(roles.n_shared + len(lengths), roles.n_carry), **params)))


def _known_total(rows: Rows, domain: Domain) -> Size | None:
    """Return the number of rows of all examples, if the batch knows it."""
    return rows.total(domain) if rows.has_total(domain) else None


# -- beside ragged values ------------------------------------------------------------------------------------


def _scan(b: Batching, node: Node, xs: Inputs) -> tuple[Node, ...]:
    """Run along a ragged axis, or along a fixed one with the rows of the whole batch in each step."""
    if b.ragged_param(node.params["length"]):
        return _packed_scan(b, node, xs)
    roles, body = signature(node), node.params["body"]

    def widen(flags: list[bool]) -> tuple[list[bool], _Step]:
        step = _batched(b, b.rows, body, node.inputs, flags)
        return roles.grown(flags, step.mapped), step

    flags, step = fixed_point(widen, [i in b.mapped for i in node.inputs])
    behind = roles.ends(step.mapped)[1]
    outputs = _spread(step, b.rows, [*roles.carry(flags), *behind])
    graph, outer = _closed(step, outputs, body.name)
    operands = [_operand(b, old, f) for old, f in zip(node.inputs, flags, strict=True)]
    shared, carry, slices = roles.split(list(zip(operands, flags, strict=True)))
    new = scan(*outer, *(x for x, _ in (*shared, *carry)), *(move_axis(x, 1, 0) if f else x for x, f in slices),
               body=graph, counts=(roles.n_shared + len(outer), roles.n_carry), length=node.params["length"],
               reverse=node.params["reverse"])
    ends, stacked = roles.ends(parts(new))
    return (*(p if f else broadcast_leading(p, b.rows.size) for p, f in zip(ends, roles.carry(flags), strict=True)),
            *(move_axis(p, 0, 1) if f else broadcast_leading(p, b.rows.size)
              for p, f in zip(stacked, behind, strict=True)))


def _switch(b: Batching, node: Node, xs: Inputs) -> tuple[Node, ...]:
    """Run each branch on the examples that take it, or on all examples the branch that they share."""
    index, *olds = node.inputs
    graphs: tuple[Graph, ...] = node.params["graphs"]
    flags = [i in b.mapped for i in olds]
    if index not in b.mapped:
        steps = [_batched(b, b.rows, g, olds, flags) for g in graphs]
        mapped = [any(flags) for flags in zip(*(step.mapped for step in steps), strict=True)]
        held, outer = _closed_together([(step, _spread(step, b.rows, mapped), g.name)
                                        for step, g in zip(steps, graphs, strict=True)])
        node = switch(xs[0], *outer, *xs[1:], graphs=tuple(held), rows=(False,) * (len(outer) + len(olds)),
                      sums=(False,) * len(mapped))
        return tuple(p if has else broadcast_leading(p, b.rows.size)
                     for p, has in zip(parts(node), mapped, strict=True))
    results = [full(0, b.rows.packed(o.shape), o.dtype) for o in graphs[0].outputs]
    last = len(graphs) - 1
    choice = minimum(maximum(xs[0], full(0, xs[0].shape, xs[0].dtype)), full(last, xs[0].shape, xs[0].dtype))
    for k, graph in enumerate(graphs):
        takes = cast_to(eq(choice, full(k, choice.shape, choice.dtype)), _INT)
        state = [placeholder(o.types[0]) for o in graph.outputs]
        body = graph.replace(inputs=(*graph.inputs, *state), names=())
        results = list(_on_running(b, body, [*olds, *state], [*xs[1:], *results], [*flags, *(True for _ in state)],
                                   Signature(len(olds), len(state)), (takes, ()), reverse=False, once=True))
    return tuple(results)


def _while(b: Batching, node: Node, xs: Inputs) -> tuple[Node, ...]:
    """Run the body, as long as any example runs, on the examples that do."""
    test, body, count = (node.params[k] for k in ("test", "body", "count"))
    roles = Signature(count, len(xs) - count)

    def widen(flags: list[bool]) -> tuple[list[bool], tuple[_Step, _Step]]:
        ends, step = (_batched(b, b.rows, g, node.inputs, flags) for g in (test, body))
        return roles.grown(flags, [has or ends.mapped[0] for has in step.mapped]), (ends, step)

    flags, (ends, step) = fixed_point(widen, [i in b.mapped for i in node.inputs])
    outputs, tests = _spread(step, b.rows, roles.carry(flags)), ends.outputs
    if ends.mapped[0]:
        (runs,) = interpreters.substitute(tests, dict(zip(ends.inputs, step.inputs, strict=True)))
        outputs = list(_on_running(b, body, node.inputs, step.inputs, flags, roles, (cast_to(runs, _INT), ()),
                                   reverse=False, once=True))
        tests = [any_(tests[0], axes=(0,))]
    held, outer = _closed_together([(ends, tests, test.name), (step, outputs, body.name)])
    node = while_(*outer, *(_operand(b, old, f) for old, f in zip(node.inputs, flags, strict=True)), test=held[0],
                  body=held[1], count=count + len(outer))
    return tuple(p if f else broadcast_leading(p, b.rows.size)
                 for p, f in zip(parts(node), roles.carry(flags), strict=True))


def _closed(step: _Step, outputs: Sequence[Node], name: str) -> tuple[Graph, list[Node]]:
    """Return a graph whose first inputs are the values of outside that it uses, and these values."""
    effects = [n for n in reachable(outputs, step.since) if has_effect(n)]
    inner = set(interpreters.dependent(outputs, [*step.inputs, *effects]))
    outer = [i for n in inner for i in n.inputs if i not in inner]
    outer = sorted(dict.fromkeys([*outer, *(n for n in outputs if n not in inner)]), key=lambda n: n.serial)
    outer = [n for n in outer if n.prim.kind != "leaf" or n.prim is input_]
    own = {n: placeholder(n.types[0]) for n in outer}
    return Graph((*own.values(), *step.inputs), tuple(interpreters.substitute(outputs, own)), name=name), outer


def _closed_together(graphs: Sequence[tuple[_Step, Sequence[Node], str]]) -> tuple[list[Graph], list[Node]]:
    """Return graphs, of steps and outputs and name, whose first inputs are all values of outside that any uses."""
    closed = [_closed(*graph) for graph in graphs]
    outer = list(dict.fromkeys(n for _, own in closed for n in own))
    held = []
    for graph, own in closed:
        places = dict(zip(own, graph.inputs, strict=False))
        inputs = *(places.get(n) or placeholder(n.types[0]) for n in outer), *graph.inputs[len(own):]
        held.append(graph.replace(inputs=inputs, names=()))
    return held, outer


RULES |= {scan: cast(Rule, _scan), switch: cast(Rule, _switch), while_: cast(Rule, _while)}
