"""Staged functions as graphs that nodes hold: values of outer traces become inputs."""

from __future__ import annotations

from collections.abc import Sequence

from .. import interpreters
from ..graph import Graph, Node, reachable
from ..primitive import placeholder
from ..tracing import tracing
from .trace import Staged, function_name, refuse_foreign


def outer_values(staged: Staged) -> list[Node]:
    """Return the values of outer traces that a staged function uses.

    Raises
    ------
    TraceError
        If there is no outer trace, and the function uses a value of one that is over.
    """
    if not tracing():
        refuse_foreign(staged.inputs, staged.outputs)
        return []
    inside = reachable(staged.outputs, staged.since)
    used = [i for n in inside for i in n.inputs] + staged.outputs
    return list(dict.fromkeys(n for n in used if n.serial < staged.since and (n.inputs or n.prim.name == "input")))


def closed(staged: Staged, outer: Sequence[Node] | None = None) -> tuple[Graph, list[Node]]:
    """Return a staged function as a graph to be held by a node, and the values of outer traces that it uses.

    Those are inputs of the graph, after the function's own (they, or all of `outer`); constants stay inside.
    """
    outer = outer_values(staged) if outer is None else list(outer)
    stand_ins = [placeholder(n.type) for n in outer]
    outputs = interpreters.substitute(staged.outputs, dict(zip(outer, stand_ins, strict=True)))
    names = (*staged.names, *(f"outer{i}" for i in range(len(outer))))
    return Graph((*staged.inputs, *stand_ins), tuple(outputs), names, name=function_name(staged.f)), outer
