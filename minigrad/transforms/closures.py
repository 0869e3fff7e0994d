"""Closure conversion: staged functions as graphs whose inputs include the values of outer traces."""

from __future__ import annotations

from collections.abc import Sequence

from .. import interpreters
from ..graph import Graph, Node, reachable
from ..primitive import placeholder
from ..tracing import tracing
from .trace import Staged, refuse_foreign


def outer_values(staged: Staged) -> list[Node]:
    """Return the values of outer traces that a staged function uses.

    Raises
    ------
    TraceError
        If the function uses a value of a trace that is over, and no outer trace is running.
    """
    if not tracing():
        refuse_foreign(staged.inputs, reachable(staged.outputs))
        return []
    inside = reachable(staged.outputs, staged.since)
    used = [i for n in inside for i in n.inputs] + staged.outputs
    return list(dict.fromkeys(n for n in used if n.serial < staged.since and (n.inputs or n.prim.name == "input")))


def closed(staged: Staged, outer: Sequence[Node] | None = None) -> tuple[Graph, list[Node]]:
    """Return a staged function as a closed graph, and the outer values that it uses.

    The outer values (`outer`, if given) are inputs of the graph, after the function's own; constants stay inside.
    """
    outer = outer_values(staged) if outer is None else list(outer)
    stand_ins = [placeholder(n.types[0]) for n in outer]
    outputs = interpreters.substitute(staged.outputs, dict(zip(outer, stand_ins, strict=True)))
    names = (*staged.call.names, *(f"outer{i}" for i in range(len(outer))))
    return Graph((*staged.inputs, *stand_ins), tuple(outputs), names, name=staged.call.name), outer
