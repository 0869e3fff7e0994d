"""Legalization of a graph for the native backend: copies of values whose memory layout it cannot read.

The module also rewrites the operations that machine code computes better in another form.
"""

from __future__ import annotations

from ....graph import Graph, Node
from ....interpreters import rebuilt, rewrite
from ....ops.constants import full
from ....ops.elementwise import stop_gradient
from ....ops.index import gather, gather_sum, scatter_add
from ....ops.loops import scan
from ....ops.packed_scan import packed_scan
from ....passes.fuse import Roles
from ....primitive import IN_ORDER
from ....symbolic import size_of
from ..codegen.kernel import rows, unable
from ..codegen.strides import access
from ..kernels.steps import STEPS, needs_contiguous
from .thin_products import thin_products
from .weighted_sums import weighted_sums

_LOOPS = (scan, packed_scan)


def legalize(graph: Graph, own_outputs: bool = False) -> Graph:
    """Return an equal graph that the native backend can run.

    Operands of scans, of reshapes and of most steps that are not kernels become contiguous, and a statement computes
    each output.

    Parameters
    ----------
    own_outputs : bool
        Whether an output may not be a view of the statement's memory either, since the caller gives the address.
    """
    graph = _copies(thin_products(weighted_sums(_single_gathered(graph))))
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
    return graph if tuple(outputs) == graph.outputs else graph.replace(outputs=tuple(outputs))


def _single_gathered(graph: Graph) -> Graph:
    """Split sums of gathered rows of one element: gathers have vectors of them, and scatters of single elements."""
    def rule(node: Node, inputs: tuple[Node, ...]) -> Node | None:
        if node.prim is not gather_sum or size_of(node.shape[1:]) != 1:
            return None
        x, source, to = inputs
        return scatter_add(gather(x, source), to, shape=node.shape)

    return rewrite(graph, rule) if gather_sum in graph.prims else graph


def _copies(graph: Graph) -> Graph:
    """Copy operands that have to be contiguous and are not."""
    if not any(prim in _LOOPS or prim.view is IN_ORDER or prim in STEPS for prim in graph.prims):
        return graph
    roles = Roles.of(graph)

    def rule(node: Node, inputs: tuple[Node, ...]) -> Node:
        if node.prim.view is IN_ORDER and roles.is_statement(node):
            inputs = (stop_gradient(*inputs),)
        elif node.prim in _LOOPS or (needs_contiguous(node) and rows(node) is None):
            inputs = tuple(i if is_contiguous(old, roles) else stop_gradient(i)
                           for i, old in zip(inputs, node.inputs, strict=True))
        return rebuilt(node, inputs)

    return rewrite(graph, rule)


def is_contiguous(node: Node, roles: Roles) -> bool:
    """Return whether a value is contiguous."""
    a = access(node, roles)
    return all(linked or n == 1 for linked, n in zip(a.linked, node.shape, strict=True)
               ) and roles.root[node].prim is not full
