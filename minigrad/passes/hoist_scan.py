"""Loop-invariant work of scans: values of shared operands, and products of slices, move in front of the loop.

A carry that each step hands on unchanged becomes a shared operand. A value of shared operands alone is computed once.
A product of a slice and a shared operand (``x_t @ W``) becomes one product over all steps; values that depend on it and
are not larger follow. Memory is bounded (`Loop.is_light`). A shared operand whose sum with other values (or product,
...) is transposed in each step is transposed once, so that the steps read it in order.
"""

from __future__ import annotations

from collections.abc import Sequence

from .. import interpreters
from ..graph import Graph, Node, TupleType, reachable
from ..ops.einsum import einsum
from ..ops.shape import transpose
from .factorize import elements
from .scan_loop import Loop, rewrite_scans


def hoist_scan(graph: Graph) -> Graph:
    """Return an equal graph with loop-invariant work in front of scans."""
    return rewrite_scans(graph, "hoist_scan", _hoisted)


def _hoisted(loop: Loop) -> list[Node] | None:
    count = len(loop.starts)
    results = _share_constant_carries(loop)
    _transpose_before(loop)
    _move_before(loop)
    if not loop.moved:
        return None
    varying = [i for i in range(count) if i not in results]
    values = loop.rebuilt(varying, loop.outputs[count:])
    results.update(zip(varying, values, strict=False))
    return [results[i] for i in range(count)] + values[len(varying):]


def _share_constant_carries(loop: Loop) -> dict[int, Node]:
    """Share unchanged carries; return their results by position."""
    results: dict[int, Node] = {}
    for i, c in enumerate(list(loop.starts)):
        if loop.outputs[i] is c:
            results[i] = loop.shared[c] = loop.starts.pop(c)
    if results:
        loop.note(len(results), "constant carry", "constant carries")
        loop.update()
    return results


def _move_before(loop: Loop) -> None:
    """Move values that do not depend on the carry out of the steps."""
    nodes = loop.nodes
    invariant = _last(loop, [n for n in nodes if _is_invariant_work(loop, n)])
    ready: set[Node] = set()
    products = 0
    for n in nodes:
        if _is_ready(loop, n, ready):
            ready.add(n)
            products += n.prim is einsum
    before = _last(loop, [n for n in nodes if n in ready])
    if not invariant and not before:
        return
    new: dict[Node, Node] = {}
    for role, nodes, values in ((loop.shared, invariant, map(loop.outer, invariant)),
                                (loop.slices, before, loop.at_all_steps(before))):
        for n, value in zip(nodes, values, strict=True):
            own, operand, new[n] = loop.entry(n, value)
            role[own] = operand
    loop.substitute(new)
    if invariant:
        loop.note(len(invariant), "shared value computed before it", "shared values computed before it")
    if before:
        loop.note(products, "product over all steps before it", "products over all steps before it")


def _transpose_before(loop: Loop) -> None:
    """Transpose shared operands in front of the loop where the steps transpose elementwise values of them."""
    users, ends = loop.users(), set(loop.outputs)
    transposed: list[Node] = []

    def only_read_here(n: Node) -> bool:
        return n.prim.kind == "elementwise" and len(users[n]) == 1 and n not in ends

    def reads_shared(n: Node) -> bool:
        return any((i in loop.shared and i.ndim > 1) or (only_read_here(i) and reads_shared(i)) for i in n.inputs)

    def turned(n: Node, perm: tuple[int, ...]) -> Node:
        if only_read_here(n):
            return interpreters.rebuilt(n, tuple(turned(i, perm) for i in n.inputs))
        view: Node = transpose(n, perm=perm)
        if n not in loop.shared:
            return view
        own, operand, value = loop.entry(view, loop.outer(view))
        loop.shared[own] = operand
        transposed.append(own)
        return value

    new = {n: turned(n.inputs[0], n.params["perm"]) for n in loop.nodes if n.prim is transpose
           and only_read_here(n.inputs[0]) and reads_shared(n.inputs[0])}
    if new:
        loop.substitute(new)
        loop.note(len(transposed), "operand transposed before it", "operands transposed before it")


def _last(loop: Loop, nodes: Sequence[Node]) -> list[Node]:
    """Return those of `nodes` that are results or have other readers."""
    inner, ends, users = set(nodes), set(loop.outputs), loop.users()
    return [n for n in nodes if n in ends or any(u not in inner for u in users[n])]


def _is_invariant_work(loop: Loop, n: Node) -> bool:
    """Return whether a value of shared operands is worth moving.

    It is not a view, and not larger than the operands.
    """
    if loop.varies(n) or n in loop.shared or n.prim.kind in ("view", "leaf") or isinstance(n.type, TupleType):
        return False
    if not loop.is_fixed(n):
        return False
    operands = [i for i in reachable([n]) if i in loop.shared]
    return bool(operands) and elements(n) <= elements(*operands)


def _is_ready(loop: Loop, n: Node, ready: set[Node]) -> bool:
    """Return whether a value is, or follows, a product of slices.

    A value that follows is not larger than the product.
    """
    if not loop.keeps_steps(n) or n not in loop.sliced or n in loop.slices or isinstance(n.type, TupleType):
        return False
    varying = [i for i in n.inputs if i in loop.sliced]
    if n.prim is einsum:
        return len(varying) < len(n.inputs) and loop.is_light(n)
    products = [i for i in varying if i in ready]
    return (n.prim.kind in ("elementwise", "view", "reduce")
            and elements(n) <= elements(*dict.fromkeys(products)) and loop.is_light(n))
