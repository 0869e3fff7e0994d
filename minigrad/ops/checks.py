"""The checks of indices that a program makes, and how they outlive the readings that make them.

The rule: *a program refuses every index that the function it was made of refuses.* A gather or a scatter checks the
indices that it reads (`checks_of`). A rewrite may do without the reading: the sum over all places is the sum of all
rows, the gradient of a sum is 1, a result is dropped. Then the check itself (`in_range`) is tied to a result that
stays. So no rule has to think of checks, but what applies the rules does: tracing, Jacobians (`keep`), and passes
(`asked` and `settled`, or `guarded`, around each).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..axes import POINTWISE
from ..dims import Dim
from ..errors import Unsupported
from ..graph import ArrayType, Graph, Node, made_by, reachable
from ..primitive import Primitive, Sample, fail, on_host
from .control import barrier

Check = tuple[Node, "int | Dim"]  # an index, and the size of the axis that it is an index of

_VIEWS = ("reshape", "transpose", "flip")


def _in_range_eval(xp: Any, index: Any, *, size: int) -> Any:
    outside = (index < 0) & (index + size < 0) | (index >= size)
    if bool(xp.any(outside)):
        k = int(np.flatnonzero(on_host(outside))[0])
        raise IndexError(f"index {np.ravel(on_host(index))[k]} is out of range for an axis of size {size}")
    return index


def _in_range_type(index: ArrayType, *, size: int | Dim) -> ArrayType:
    if index.dtype.kind not in "iu":
        raise fail("in_range", "needs integers", index)
    return index


in_range = Primitive(
    "in_range", _in_range_type, _in_range_eval, vjp=lambda g, out, index, *, size: [None],
    jvp=Unsupported("its values are integers"),
    axes=POINTWISE,
    samples=lambda: [Sample((np.array([[0, 2], [-3, 1]]),), {"size": 4}, order=0)])


_READS: dict[str, Callable[[Node], Iterable[Check]]] = {
    "gather": lambda node: zip(node.inputs[1:], node.inputs[0].shape, strict=False),
    **dict.fromkeys(("scatter_add", "scatter_max", "scatter_min"),
                    lambda node: zip(node.inputs[1:], node.params["shape"], strict=False)),
    "gather_sum": lambda node: zip(node.inputs[1:], (node.inputs[0].shape[0], node.params["size"]), strict=True),
    "in_range": lambda node: [(node.inputs[0], node.params["size"])]}


def checks_of(nodes: Iterable[Node]) -> dict[Check, None]:
    """Return the checks that nodes make, but for those of indices that are known to be in range."""
    found: dict[Check, None] = {}
    for node in nodes:
        read = _READS.get(node.prim.name)
        for index, size in read(node) if read is not None else ():
            index = _viewed(index)
            if (index, size) not in found and not _within(index, size):
                found[index, size] = None
    return found


def _viewed(index: Node) -> Node:
    """Return the array that an index is a view of, with the same elements."""
    while index.prim.name in _VIEWS or (index.prim.name == "expand" and all(
            index.shape[a] != 0 for a in index.params["axes"])):
        (index,) = index.inputs
    return index


def _within(index: Node, size: int | Dim) -> bool:
    """Tell whether an index is known to be in range."""
    name = index.prim.name
    if name == "iota":
        return index.params["size"] == size
    if name == "segment_ids":
        return index.inputs[0].shape[0] == size
    if name in ("const", "full") and isinstance(size, int):
        value = index.params["value"]
        return not np.size(value) or bool(-size <= np.min(value) and np.max(value) < size)
    return False


# -- keeping them ----------------------------------------------------------------------------------------------


def keep(before: Iterable[Node], outputs: Sequence[Node], since: int = -1,
         may_use: Callable[[Node], bool] | None = None) -> list[Node]:
    """Return `outputs` such that they make every check that the nodes `before` make.

    Parameters
    ----------
    before : iterable of Node
    outputs : sequence of Node
        Of the program that takes their place.
    since : int
        The serial number of the oldest node that is looked at.
    may_use : callable, optional
        Tells whether the program may use an index.
    """
    wanted = checks_of(before)
    if not wanted or not outputs:
        return list(outputs)
    have = checks_of(reachable(outputs, since))
    return tied(outputs, [check for check in wanted if check not in have and (may_use is None or may_use(check[0]))])


def tied(outputs: Sequence[Node], checks: Iterable[Check]) -> list[Node]:
    """Return `outputs`, the first of which waits for the checks."""
    first, *rest = outputs
    with made_by("checks"):
        for index, size in checks:
            first = barrier(first, in_range(index, size=size))
    return [first, *rest]


def untied(graph: Graph) -> Graph:
    """Return the graph with the checks that its results wait for as results behind the others."""
    ties = [n for n in graph.nodes if n.prim is barrier and n.inputs[1].prim is in_range]
    if not ties:
        return graph
    made: dict[Node, Node] = {}
    for node in graph.nodes:
        inputs = tuple(made[i] for i in node.inputs)
        made[node] = inputs[0] if node in ties else node if inputs == node.inputs else Node(
            node.prim, inputs, node.params, node.type, like=node)
    return _also(graph.replace(outputs=tuple(made[n] for n in graph.outputs)),
                 dict.fromkeys(made[n.inputs[1]] for n in ties))


def asked(graph: Graph, count: int) -> Graph:
    """Return the graph with all its checks as results behind the first `count`, so that a pass keeps them."""
    have = checks_of(graph.outputs[count:])
    return _also(graph, [in_range(i, size=n) for i, n in checks_of(graph.nodes) if (i, n) not in have])


def settled(graph: Graph, count: int) -> Graph:
    """Return the graph with its first `count` results, tied to the checks behind them that no reading makes."""
    results, checks = graph.outputs[:count], graph.outputs[count:]
    if not checks:
        return graph
    have = checks_of(reachable(results))
    left = [check for check in checks_of(checks) if check not in have]
    return graph.replace(outputs=tuple(tied(results, left)) if results else (), out_names=graph.out_names[:count])


def guarded(apply: Callable[[Graph], Graph], graph: Graph) -> Graph:
    """Return ``apply(graph)``, with all checks of the graph."""
    count = len(graph.outputs)
    given = asked(graph, count)
    after = apply(given)
    return after if given is graph else graph if after.outputs == given.outputs else settled(after, count)


def _also(graph: Graph, checks: Iterable[Node]) -> Graph:
    more = tuple(checks)
    return graph.replace(outputs=graph.outputs + more, out_names=graph.out_names + ("check",) * len(more)
                         ) if more else graph
