"""Where a program's values are in its memory, and how its groups are cut, for one set of sizes."""

from __future__ import annotations

from typing import Any

from ...graph import Node
from ...passes.schedule import Step, nbytes, row_bytes
from ..workspace import ALIGN, allocate
from . import steps
from .access import Numbers
from .loops import space_of

BLOCK = 8192  # elements of the widest loop in one block of rows


class Layout:
    """Where everything is in the arena, and how each group is cut, for one set of sizes."""

    def __init__(self, program: Any, numbers: Numbers, team: int):
        plan, self.team, value = program.plan, team, numbers.value
        self.blocks: dict[int, tuple[int, int]] = {}  # step -> rows of a block, blocks
        self.scratch: dict[int, tuple[int, dict[Node, int]]] = {}  # step -> bytes of a thread, and where in them
        pieces: list[tuple[int, int, int, Any]] = []
        for b, buffer in enumerate(plan.buffers):
            if buffer.output is None:
                pieces.append((buffer.first, buffer.last, value(buffer.nbytes), ("buffer", b)))
        for k, (step, made) in enumerate(zip(plan.steps, program.kernels, strict=True)):
            if made is None:
                continue
            count = 1 if step.group.rows is None else value(step.group.rows)
            size = min(_rows(step, numbers), max(count, 1))
            items = -(-count // size)
            self.blocks[k] = -(-count // items) if items else 1, items
            at, offsets = 0, {}
            for n in made.scratch:
                offsets[n] = at
                at += -(-self.blocks[k][0] * value(row_bytes(n)) // ALIGN) * ALIGN
            self.scratch[k] = at, offsets
            pieces.append((k, k, at * team, ("scratch", k)))
            pieces += [(k, k, items * value(nbytes(n)), ("parts", n)) for n in made.parts if items > 1]
        for k, step in enumerate(plan.steps):
            node = step.group.nodes[0]
            if node.prim.name in steps.NAMES and program.kernels[k] is None:
                pieces.append((k, k, value(steps.room(node)), ("room", k)))
            if node.prim.name == "scan" and k not in program.why:
                sizes_of = [numbers.count(t.shape) * t.dtype.itemsize
                            for t in node.type.parts]
                pieces += [(k, plan.last_use[node], n, ("part", node, i)) for i, n in enumerate(sizes_of)]
                pieces += [(k, k, n, ("turn", node, i, j)) for i, n in enumerate(sizes_of[:node.params["counts"][1]])
                           for j in (0, 1)]
        pieces.sort(key=lambda p: p[0])
        offsets, self.total = allocate([p[:3] for p in pieces])
        self.offset = {p[3]: o for p, o in zip(pieces, offsets, strict=True)}


def _rows(step: Step, numbers: Numbers) -> int:
    """Return how many rows a block has: a matter of sizes alone, so that results are the same on any machine."""
    widest = max((numbers.count(space_of(n)[1:]) for n in step.group.nodes), default=1)
    return max(BLOCK // max(widest, 1), 1)
