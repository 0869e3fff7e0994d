"""The step that finds the heights of the nodes of trees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....graph import Node
from ....symbolic import Dim, size_of
from ..codegen.emit import Emitter
from ..codegen.step_codegen import HEAD, Request, Step, step, step_code
from ..llvm import ir
from ..llvm.builder import most
from ..llvm.values import I64

INT = np.dtype(np.int64)


def room(node: Node) -> int | Dim:
    """Return the bytes that `heights` needs: two numbers per node."""
    return size_of(node.shape) * 16


def heights(r: Request) -> list[Step]:
    """Return the steps that write the height of each node, given the parents.

    The flag becomes 1 if a parent is not a node, or if a node is its own ancestor.
    """
    (nodes,) = r.to.shape
    return step(step_code(_heights), 1, nodes, (nodes, 1), (nodes, 1), r.xs[0], r.to, r.room, r.flag)


def _heights(code: Emitter, ranges: Sequence[ir.Value]) -> None:
    """Take each node after its last child (Kahn 1962): a queue holds the nodes whose children have been taken."""
    b, nodes, zero, one = code.b, ranges[1], I64(0), I64(1)
    parents, to, waits, flag = (code.address(HEAD + k) for k in (0, 2, 4, 6))
    queue = code.element(waits, nodes, 8)
    end, taken, wrong = (code.variable(zero) for _ in range(3))

    def load(array: ir.Value, i: ir.Value) -> ir.Value:
        return code.load(INT, code.element(array, i, 8))

    def store(x: ir.Value, array: ir.Value, i: ir.Value) -> None:
        code.store(x, INT, code.element(array, i, 8))

    def push(node: ir.Value) -> None:
        store(node, queue, code.get(end))
        b.store(b.add(code.get(end), one), end)

    with code.counting(zero, nodes) as i:
        store(zero, to, i)
        store(zero, waits, i)
        bad = b.icmp_unsigned(">", b.add(load(parents, i), one), nodes)  # -1 is the parent of a root
        b.store(b.or_(code.get(wrong), b.zext(bad, I64)), wrong)
    with b.if_then(b.icmp_signed("==", code.get(wrong), zero)):
        with code.counting(zero, nodes) as i:
            parent = load(parents, i)
            with b.if_then(b.icmp_signed(">=", parent, zero)):
                store(b.add(load(waits, parent), one), waits, parent)
        with code.counting(zero, nodes) as i, b.if_then(b.icmp_signed("==", load(waits, i), zero)):
            push(i)
        with code.repeated(lambda: b.icmp_signed("<", code.get(taken), code.get(end))):
            node = load(queue, code.get(taken))
            b.store(b.add(code.get(taken), one), taken)
            parent = load(parents, node)
            with b.if_then(b.icmp_signed(">=", parent, zero)):
                store(most(b, load(to, parent), b.add(load(to, node), one)), to, parent)
                left = b.sub(load(waits, parent), one)
                store(left, waits, parent)
                with b.if_then(b.icmp_signed("==", left, zero)):
                    push(parent)
    with b.if_then(b.icmp_signed("!=", code.get(taken), nodes), likely=False):
        code.store(one, INT, flag)
