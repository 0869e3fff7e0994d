"""What the native backend wants of a graph before it is planned: copies where memory has to be laid out in its way."""

from __future__ import annotations

from ....graph import Graph, Node
from ....interpreters import rebuilt, rewrite
from ....ops.constants import full
from ....ops.elementwise import stop_gradient
from ....ops.index import gather, gather_sum, scatter_add
from ....ops.loops import scan
from ....passes.fuse import Roles
from ....primitive import IN_ORDER
from ..codegen.kernel import rows, unable
from ..codegen.strides import access
from ..kernels.steps import wants_whole


def legalize(graph: Graph, own_outputs: bool = False) -> Graph:
    """Return an equal graph that is easier to run natively.

    What a scan reads, what is reshaped, and what steps of their own read lies in one piece; each output is computed by
    a statement.

    Parameters
    ----------
    own_outputs : bool
        Whether an output may not even be a view of the statement's memory: it is written where the caller says.
    """
    graph = _copies(_gathered(graph))
    roles = Roles.of(graph)
    taken: set[Node] = set()
    outputs = []
    for n in graph.outputs:
        root = roles.root[n]
        if root in taken or not roles.is_statement(root) or (own_outputs and root is not n) or root.prim is scan:
            copy = stop_gradient(n)
            if unable(copy) is None:
                n = root = copy
        taken.add(root)
        outputs.append(n)
    return graph.replace(outputs=tuple(outputs))


def _gathered(graph: Graph) -> Graph:
    """Gather rows before they are summed: in a kernel that all threads share, which costs less than it saves."""
    if not any(n.prim is gather_sum for n in graph.nodes):
        return graph

    def rule(node: Node, inputs: tuple[Node, ...]) -> Node | None:
        if node.prim is not gather_sum:
            return None
        x, source, to = inputs
        return scatter_add(gather(x, source), to, shape=node.shape)

    return rewrite(graph, rule)


def _copies(graph: Graph) -> Graph:
    """Copy what has to lie in one piece for who reads it, where it does not."""
    if not any(n.prim is scan or n.prim.view is IN_ORDER or wants_whole(n) for n in graph.nodes):
        return graph
    roles = Roles.of(graph)

    def rule(node: Node, inputs: tuple[Node, ...]) -> Node:
        if node.prim.view is IN_ORDER and roles.is_statement(node):
            inputs = (stop_gradient(*inputs),)
        elif node.prim is scan or (wants_whole(node) and rows(node) is None):
            inputs = tuple(i if in_one_piece(old, roles) else stop_gradient(i)
                           for i, old in zip(inputs, node.inputs, strict=True))
        return rebuilt(node, inputs)

    return rewrite(graph, rule)


def in_one_piece(node: Node, roles: Roles) -> bool:
    """Tell whether a value's elements lie in order, one beside the other."""
    a = access(node, roles)
    return all(linked or n == 1 for linked, n in zip(a.linked, node.shape, strict=True)
               ) and roles.root[node].prim is not full
