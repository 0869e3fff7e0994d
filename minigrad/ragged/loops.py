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
from ..graph import ArrayType, Graph, Node, reachable
from ..ops.control import parts
from ..ops.loops import scan
from ..ops.packed_scan import packed_scan
from ..ops.packed_steps import Size, symbol_of
from ..ops.segments import segment_ids
from ..ops.subgraph import fixed_point, signature, symbols_of
from ..primitive import broadcast_leading, input_, move_axis, placeholder
from ..symbolic import Dim, Symbol
from .rows import Domain, Rows
from .rules import EVERY, RULES, Batching, Inputs, Rule

_INT = np.dtype(np.int64)


class _Step(NamedTuple):
    """A held graph in a batch: its inputs, its outputs, and which of them differ between examples."""

    inputs: list[Node]
    outputs: list[Node]
    mapped: list[bool]


def _batched(b: Batching, rows: Rows, graph: Graph, operands: Sequence[Node], flags: Sequence[bool]) -> _Step:
    """Return a held graph for the examples of `rows`; `flags` tell which inputs differ between them."""
    olds = [placeholder(n.types[0]) for n in graph.inputs]
    news = [placeholder(ArrayType(rows.packed(n.shape), n.dtype) if f else n.types[0])
            for n, f in zip(olds, flags, strict=True)]
    outputs = interpreters.substitute(graph.outputs, dict(zip(graph.inputs, olds, strict=True)))
    pairs = list(zip(olds, operands, strict=True))
    inner = Batching(rows, dict(zip(olds, news, strict=True)), {o for o, f in zip(olds, flags, strict=True) if f},
                     {o: b.targets[i] for o, i in pairs if i in b.targets}, {},
                     {o for o, i in pairs if i in b.nullable}, b.in_rule)
    results = inner.run(outputs, EVERY)
    return _Step(news, [n for n, _ in results], [has for _, has in results])


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
    for symbols in b.rows.totals:
        domain = tuple(map(Dim.of, symbols))
        dim = Dim.new("_".join(s.name for s in symbols), rows=True)
        rows.totals[symbols] = dim
        sizes[symbol_of(dim)] = placeholder(ArrayType((rows.size,), _INT)), domain
        if len(symbols) == 1:
            rows.lengths[symbols[0]], _ = sizes[symbol_of(dim)]
            rows.owners[symbols[0]] = segment_ids(rows.lengths[symbols[0]], size=dim)
    return rows, sizes


def _packed_scan(b: Batching, node: Node, xs: Inputs) -> tuple[Node, ...]:
    roles, body, length = signature(node), node.params["body"], node.params["length"]
    rows, sizes = _running_rows(b)
    n_sliced = len(node.inputs) - roles.n_shared - roles.n_carry
    flags = [i in b.mapped for i in node.inputs[:roles.n_shared]] + [True] * (roles.n_carry + n_sliced)
    step = _batched(b, rows, body, node.inputs, flags)
    outputs = _spread(step, rows, [True] * len(step.outputs))
    used, read = symbols_of(Graph(tuple(step.inputs), (*step.inputs, *outputs))), set(reachable(outputs))
    sizes = {s: size for s, size in sizes.items() if s in used or size[0] in read}
    used_lengths = [own for own, _ in sizes.values()]
    graph = Graph((placeholder(ArrayType((rows.size,), _INT)), *used_lengths, *step.inputs), tuple(outputs),
                  name=body.name)
    assert isinstance(rows.size, Dim)
    packed = ((rows.size, b.rows.size, b.rows.total((length,))),
              *((Dim.of(s), b.rows.total(domain), _known_total(b.rows, (length, *domain)))
                for s, (_, domain) in sizes.items()))
    lengths = [b.rows.length(domain) for domain in ((length,), *(domain for _, domain in sizes.values()))]
    operands = [_operand(b, old, f) for old, f in zip(node.inputs, flags, strict=True)]
    counts = roles.n_shared + len(lengths), roles.n_carry
    return tuple(parts(packed_scan(*lengths, *operands, body=graph, counts=counts, packed=packed,
                                   reverse=node.params["reverse"])))


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
    graph, outer = _closed(step.inputs, outputs, body.name)
    operands = [_operand(b, old, f) for old, f in zip(node.inputs, flags, strict=True)]
    shared, carry, slices = roles.split(list(zip(operands, flags, strict=True)))
    new = scan(*outer, *(x for x, _ in (*shared, *carry)), *(move_axis(x, 1, 0) if f else x for x, f in slices),
               body=graph, counts=(roles.n_shared + len(outer), roles.n_carry), length=node.params["length"],
               reverse=node.params["reverse"])
    ends, stacked = roles.ends(parts(new))
    return (*(p if f else broadcast_leading(p, b.rows.size) for p, f in zip(ends, roles.carry(flags), strict=True)),
            *(move_axis(p, 0, 1) if f else broadcast_leading(p, b.rows.size)
              for p, f in zip(stacked, behind, strict=True)))


def _closed(inputs: Sequence[Node], outputs: Sequence[Node], name: str) -> tuple[Graph, list[Node]]:
    """Return a graph whose first inputs are the values of outside that it uses, and these values."""
    inner = set(interpreters.dependent(outputs, inputs))
    outer = [i for n in inner for i in n.inputs if i not in inner]
    outer = sorted(dict.fromkeys([*outer, *(n for n in outputs if n not in inner)]), key=lambda n: n.serial)
    outer = [n for n in outer if n.prim.kind != "leaf" or n.prim is input_]
    own = {n: placeholder(n.types[0]) for n in outer}
    return Graph((*own.values(), *inputs), tuple(interpreters.substitute(outputs, own)), name=name), outer


RULES[scan] = cast(Rule, _scan)
