"""Checks of indices as a plug-in of tracing: a traced function makes them although it drops the values it reads."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import Node, reachable
from ..ops.results import keep_checks, zero
from ..tracing import thread
from .trace import KEEPERS


@KEEPERS.append
def _checks(outputs: Sequence[Node], dropped: Sequence[Node], inputs: Sequence[Node], since: int) -> list[Node]:
    """Return the outputs, tied to the checks of indices and the effects that the nodes `dropped` make.

    Without outputs, a zero is tied to them, if there are any.
    """
    if thread.trace.read < since:
        return list(outputs)

    def own(index: Node) -> bool:
        return all(n.prim.name != "input" or n in inputs for n in reachable([index], since))

    tied = keep_checks(reachable((*dropped, *outputs), since), outputs or [zero()], since, own)
    return tied if outputs or tied[0].inputs else []
