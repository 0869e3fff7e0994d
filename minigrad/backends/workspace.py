"""Memory for one run of a program: one arena that all temporaries share, and views of it, made once."""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..graph import TupleType
from ..interpreters import concrete
from ..ops.constants import full
from ..passes.schedule import Plan, Step, nbytes, row_bytes
from ..symbolic import Dim, Symbol, value
from .block_loop import Blocks

ALIGN = 64
BLOCK_BYTES = 1 << 20  # what one block of rows may touch: about a second-level cache
SMALLEST_BLOCK = 16


def allocate(wants: Sequence[tuple[int, int, int]]) -> tuple[list[int], int]:
    """Give each piece of memory an offset such that no two in use at the same time overlap.

    Parameters
    ----------
    wants : sequence of (first, last, nbytes)
        In order of `first`.

    Returns
    -------
    offsets : list of int
    total : int
    """
    offsets: list[int] = []
    ends: list[tuple[int, int, int]] = []  # heap of (last, offset, nbytes) of what is in use
    holes: list[tuple[int, int]] = []  # (offset, nbytes) of what is free below `total`, in order, never adjacent
    total = 0
    for first, last, n in wants:
        while ends and ends[0][0] < first:
            _, offset, size = heapq.heappop(ends)
            i = bisect.bisect(holes, (offset,))
            if i < len(holes) and holes[i][0] == offset + size:
                size += holes.pop(i)[1]
            if i and sum(holes[i - 1]) == offset:
                i -= 1
                offset, before = holes.pop(i)
                size += before
            holes.insert(i, (offset, size))
        n = max(-(-n // ALIGN), 1) * ALIGN
        fits = [(size, i) for i, (_, size) in enumerate(holes) if size >= n]
        if fits:
            size, i = min(fits)
            place, _ = holes[i]
            holes[i:i + 1] = [(place + n, size - n)] if size > n else []
        elif holes and sum(holes[-1]) == total:  # the last hole reaches the end: grow from there
            place, _ = holes.pop()
            total = place + n
        else:
            place, total = total, total + n
        offsets.append(place)
        heapq.heappush(ends, (last, place, n))
    return offsets, total


class Layout:
    """Where everything is, for one set of sizes: offsets in the arena, and the blocks of each group."""

    def __init__(self, plan: Plan, items: Sequence[Any], sizes: Mapping[Symbol, int]):
        self.blocks: dict[int, int] = {}
        pieces: list[tuple[int, int, int, Any]] = []
        for b, buffer in enumerate(plan.buffers):
            if buffer.output is None:
                pieces.append((buffer.first, buffer.last, value(buffer.nbytes, sizes), ("buffer", b)))
        for i in items:
            if i.kind == "blocks":
                k, step = i.step, plan.steps[i.step]
                rows = value(step.group.rows, sizes)
                self.blocks[k] = block = _block(plan, step, rows, sizes)
                if block < rows:
                    pieces += [(k, k, -(-rows // block) * value(nbytes(n), sizes), ("parts", n)) for n in i.parts]
        slots: dict[tuple[int, int], int] = {}
        for i in items:
            if i.kind == "scratch":
                key = i.step, i.slot
                slots[key] = max(slots.get(key, 0), self.blocks[i.step] * value(row_bytes(i.node), sizes))
        pieces += [(k, k, n, ("scratch", k, s)) for (k, s), n in slots.items()]
        pieces.sort(key=lambda p: p[0])
        offsets, self.total = allocate([p[:3] for p in pieces])
        self.offset = {p[3]: o for p, o in zip(pieces, offsets, strict=True)}


def _block(plan: Plan, step: Step, rows: int, sizes: Mapping[Symbol, int]) -> int:
    """Return how many rows of a group run together."""
    touched = sum(value(slot.row, sizes) for slot in step.slots)
    seen = set()
    for n in step.group.nodes:
        for operand in (*n.inputs, n):
            source = plan.roles.root[operand]
            # Of a tuple it is a part that is read, and each part is an operand of its own.
            if isinstance(source.type, TupleType) or source in seen or source in step.scratch:
                continue
            if source.ndim and source.shape[0] == step.group.rows:
                seen.add(source)
                touched += value(row_bytes(source), sizes)
    block = max(BLOCK_BYTES // max(touched, 1), SMALLEST_BLOCK)
    return rows if rows <= block + block // 2 else -(-rows // -(-rows // block))


def rounded(sizes: Mapping[Symbol, int]) -> dict[Symbol, int]:
    """Return sizes an eighth larger at most, such that sizes that differ little become the same."""
    up = {}
    for symbol, n in sizes.items():
        step = 1 << max(n.bit_length() - 4, 0)
        up[symbol] = -(-n // step) * step
    return up


def grows(plan: Plan) -> bool:
    """Tell whether no array of the plan is smaller where the sizes are larger."""
    shapes = [n.shape for n in plan.graph.nodes if hasattr(n.type, "shape")]
    return all(factor > 0 for shape in shapes for n in shape if isinstance(n, Dim) for monomial, factor in n.terms
               if monomial)


def arena_of(layout: Layout) -> np.ndarray:
    """Return memory for a layout."""
    return np.empty(layout.total + ALIGN, np.uint8)


def make(plan: Plan, items: Sequence[Any], wanted: Sequence[str], sizes: Mapping[Symbol, int],
         held: Mapping[Any, Any], layout: Layout, arena: np.ndarray) -> tuple[Any, ...]:
    """Return what main takes beside its inputs: arrays in the arena, sizes, blocks, evaluations.

    The layout may be that of larger sizes, and the arena larger than the layout.
    """
    start = -arena.ctypes.data % ALIGN
    have: dict[str, Any] = {}

    def array(shape: Sequence[Any], dtype: np.dtype, offset: int) -> np.ndarray:
        return np.ndarray(shape, dtype, arena, start + offset)

    for i in items:
        n = i.node
        if i.kind == "buffer":
            shape = [value(d, sizes) for d in n.shape]
            have[i.name] = array(shape, n.dtype, layout.offset["buffer", plan.place[n]])
        elif i.kind == "scratch":
            rows = min(layout.blocks[i.step], value(plan.steps[i.step].group.rows, sizes))
            shape = [rows, *(value(d, sizes) for d in n.shape[1:])]
            have[i.name] = array(shape, n.dtype, layout.offset["scratch", i.step, i.slot])
        elif i.kind == "blocks":
            rows, block = value(plan.steps[i.step].group.rows, sizes), layout.blocks[i.step]
            have[i.name] = None if block >= rows else Blocks(
                [(lo, min(lo + block, rows)) for lo in range(0, rows, block)], i.modes,
                [(p.prim.combiner.ufunc, array(
                    [-(-rows // block), *(value(d, sizes) for d in p.shape)], p.dtype, layout.offset["parts", p]))
                 for p in i.parts])
        elif i.kind == "size":
            have[i.name] = value(i.size, sizes)
        elif i.kind == "leaf":
            have[i.name] = _leaf(n, sizes)
        elif i.kind == "view":
            have[i.name] = n.prim.eval(np, *([have[i.source]] + [None] * (len(n.inputs) - 1)),
                                       **concrete(n.params, sizes))
        else:
            evaluation = held[n].bind(sizes) if n in held else partial(n.prim.eval, np, **concrete(n.params, sizes))
            have[i.name] = evaluation if n in plan.place else owning(evaluation)
    return tuple(have[name] for name in wanted)


def owning(evaluation: Callable[..., Any]) -> Callable[..., Any]:
    """Return the evaluation with results that own their memory.

    Some evaluations hand on an operand, or a view of one: a loop of no turn its initial state, say. The plan counts
    results as new memory, and reuses that of an operand after its last reader.
    """

    def own(*xs: Any) -> Any:
        made = evaluation(*xs)
        if isinstance(made, tuple):
            return tuple([x if x.flags.owndata else _apart(x, xs) for x in made])
        return made if made.flags.owndata else _apart(made, xs)  # memory of the arena belongs to no array

    return own


def _apart(made: np.ndarray, xs: Sequence[np.ndarray]) -> np.ndarray:
    shared = any(made is x for x in xs) or any(np.may_share_memory(made, x) for x in xs)
    return made.copy() if shared else made


def _leaf(node: Any, sizes: Mapping[Symbol, int]) -> np.ndarray:
    params = concrete(node.params, sizes)
    if node.prim is full:  # one number in memory, whatever the shape
        return np.broadcast_to(np.asarray(params["value"], node.dtype), params["shape"])
    return node.prim.eval(np, **params)
