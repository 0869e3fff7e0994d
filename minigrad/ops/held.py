"""Graphs that nodes hold: running, copying and batching them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import walk
from ..dims import Dim
from ..graph import ArrayType, Graph, Node
from ..primitive import fail, placeholder

Flags = tuple[bool, ...]


def placeholders(*shapes: tuple[int, ...], dtype: str = "f8") -> list[Node]:
    """Return fresh inputs of the given shapes."""
    return [placeholder(ArrayType(s, np.dtype(dtype))) for s in shapes]


def fits(name: str, what: str, types: Sequence[ArrayType], inputs: Sequence[Node]) -> None:
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


def graphs_of(node: Node) -> list[tuple[Graph, list[tuple[Node, Node, Any]]]]:
    """Return each graph that runs as part of a node, and its inputs, each with its operand and how it is handed in.

    That is ``"whole"``, ``"row"`` of an example, ``"slice"`` of a turn, ``("chunk", axis)``, or ``"carry"`` for the
    state of a loop, of which the operand is the first.
    """
    p, given = node.params, node.inputs
    match node.prim.name:
        case "scan":
            n_shared, n_carry = p["counts"]
            graphs, how = [p["body"]], ["whole"] * n_shared + ["carry"] * n_carry + ["slice"] * len(given)
        case "while":
            graphs, how = [p["test"], p["body"]], ["whole"] * p["count"] + ["carry"] * len(given)
        case "switch":
            graphs, given, how = p["graphs"], given[1:], ["row" if r else "whole" for r in p["rows"]]
        case "chunked":
            graphs, how = [p["graph"]], ["whole" if a is None else ("chunk", a) for a in p["in_axes"]]
        case "checkpoint" | "custom":
            graphs, how = [p["graph"]], ["whole"] * len(given)
        case _:
            return []
    return [(g, list(zip(g.inputs, given, how, strict=False))) for g in graphs]  # in the operands' order
