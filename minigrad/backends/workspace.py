"""The workspace of one run of a NumPy program: an arena for all temporaries, and the items made of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..combiners import combiner_of
from ..graph import Node, TupleType
from ..interpreters import concrete
from ..ops.constants import full
from ..passes.schedule import Plan, Step, nbytes, row_bytes
from ..symbolic import Dim, Symbol, value
from .arena import Arena, Evaluation, allocate, owning
from .block_loop import Blocks

if TYPE_CHECKING:
    from .subgraph import NodePrograms

BLOCK_BYTES = 1 << 20  # the memory that one block of rows reads and writes: about a second-level cache
SMALLEST_BLOCK = 16

Sizes = Mapping[Symbol, int]


# -- items ---------------------------------------------------------------------------------------------------


@dataclass(eq=False, repr=False)
class Item(ABC):
    """An argument of the main function that the workspace provides."""

    name: str

    @abstractmethod
    def make(self, space: Workspace) -> object:
        """Return the argument for one workspace."""


@dataclass(eq=False, repr=False)
class BufferItem(Item):
    """The array of a node in the arena."""

    node: Node

    def make(self, space: Workspace) -> np.ndarray:
        n = self.node
        return space.array(n.shape, n.dtype, space.layout.offset["buffer", space.plan.place[n]])


@dataclass(eq=False, repr=False)
class ScratchItem(Item):
    """The memory of a slot for one block of rows, as an array of the node's type."""

    node: Node
    step: int
    slot: int

    def make(self, space: Workspace) -> np.ndarray:
        rows = min(space.layout.blocks[self.step], space.rows(self.step))
        offset = space.layout.offset["scratch", self.step, self.slot]
        return space.array((rows, *self.node.shape[1:]), self.node.dtype, offset)


@dataclass(eq=False, repr=False)
class BlocksItem(Item):
    """The blocks of a group, or None where it runs at once.

    Attributes
    ----------
    modes : tuple of str
        As of `Blocks`.
    parts : tuple of Node
        The reductions over all rows.
    """

    step: int
    modes: tuple[str, ...]
    parts: tuple[Node, ...]

    def make(self, space: Workspace) -> Blocks | None:
        rows, block = space.rows(self.step), space.layout.blocks[self.step]
        if block >= rows:
            return None
        spans = [(low, min(low + block, rows)) for low in range(0, rows, block)]
        parts = []
        for n in self.parts:
            partials = space.array((len(spans), *n.shape), n.dtype, space.layout.offset["parts", n])
            parts.append((combiner_of(n).ufunc, partials))
        return Blocks(spans, self.modes, parts)


@dataclass(eq=False, repr=False)
class SizeItem(Item):
    """The number of a symbolic size."""

    symbol: Symbol

    def make(self, space: Workspace) -> int:
        return space.sizes[self.symbol]


@dataclass(eq=False, repr=False)
class LeafItem(Item):
    """The array of a node without operands."""

    node: Node

    def make(self, space: Workspace) -> np.ndarray:
        params = concrete(self.node.params, space.sizes)
        if self.node.prim is full:  # one number in memory, for any shape
            return np.broadcast_to(np.asarray(params["value"], self.node.dtype), params["shape"])
        leaf: np.ndarray = self.node.prim.eval(np, **params)
        return leaf


@dataclass(eq=False, repr=False)
class ViewItem(Item):
    """A view of another item, called `source`."""

    node: Node
    source: str

    def make(self, space: Workspace) -> object:
        n = self.node
        operands = [space.items[self.source]] + [None] * (len(n.inputs) - 1)
        return n.prim.eval(np, *operands, **concrete(n.params, space.sizes))


@dataclass(eq=False, repr=False)
class EvaluationItem(Item):
    """The evaluation of a primitive, with its parameters bound."""

    node: Node

    def make(self, space: Workspace) -> Evaluation:
        n = self.node
        evaluation = space.held[n].bind(space.sizes) if n in space.held else partial(
            n.prim.eval, np, **concrete(n.params, space.sizes))
        return evaluation if n in space.plan.place else owning(evaluation)


# -- memory --------------------------------------------------------------------------------------------------


class Layout:
    """The offsets in the arena and the blocks of groups, for a set of sizes.

    Attributes
    ----------
    blocks : dict of int to int
        The rows of a block, by the step of the group.
    offset : dict of tuple to int
    total : int
        The bytes of the arena.
    """

    def __init__(self, plan: Plan, items: Sequence[Item], sizes: Sizes):
        self.blocks: dict[int, int] = {}
        pieces: list[tuple[int, int, int, tuple[object, ...]]] = []
        for b, buffer in enumerate(plan.buffers):
            if buffer.output is None:
                pieces.append((buffer.first, buffer.last, value(buffer.nbytes, sizes), ("buffer", b)))
        for i in items:
            if isinstance(i, BlocksItem):
                k, step = i.step, plan.steps[i.step]
                rows = _rows(step, sizes)
                self.blocks[k] = block = _block(plan, step, rows, sizes)
                if block < rows:
                    pieces += [(k, k, -(-rows // block) * value(nbytes(n), sizes), ("parts", n)) for n in i.parts]
        slots: dict[tuple[int, int], int] = {}
        for i in items:
            if isinstance(i, ScratchItem):
                key = i.step, i.slot
                slots[key] = max(slots.get(key, 0), self.blocks[i.step] * value(row_bytes(i.node), sizes))
        pieces += [(k, k, n, ("scratch", k, s)) for (k, s), n in slots.items()]
        pieces.sort(key=lambda p: p[0])
        offsets, self.total = allocate([p[:3] for p in pieces])
        self.offset = {p[3]: o for p, o in zip(pieces, offsets, strict=True)}


def _rows(step: Step, sizes: Sizes) -> int:
    assert step.group.rows is not None, step
    return value(step.group.rows, sizes)


def _block(plan: Plan, step: Step, rows: int, sizes: Sizes) -> int:
    """Return the number of rows of a group that run together."""
    touched = sum(value(slot.row, sizes) for slot in step.slots)
    seen = set()
    for n in step.group.nodes:
        for operand in (*n.inputs, n):
            source = plan.roles.root[operand]
            # A statement reads one part of a tuple, and each part is an operand.
            if isinstance(source.type, TupleType) or source in seen or source in step.scratch:
                continue
            if source.ndim and source.shape[0] == step.group.rows:
                seen.add(source)
                touched += value(row_bytes(source), sizes)
    block = max(BLOCK_BYTES // max(touched, 1), SMALLEST_BLOCK)
    return rows if rows <= block + block // 2 else -(-rows // -(-rows // block))


def rounded(sizes: Sizes) -> dict[Symbol, int]:
    """Return sizes at most an eighth larger, so that similar sizes become equal."""
    larger = {}
    for symbol, n in sizes.items():
        step = 1 << max(n.bit_length() - 4, 0)
        larger[symbol] = -(-n // step) * step
    return larger


def grows(plan: Plan) -> bool:
    """Return whether larger sizes make no array of the plan smaller."""
    shapes = [n.shape for n in plan.graph.nodes if hasattr(n.type, "shape")]
    return all(factor > 0 for shape in shapes for n in shape if isinstance(n, Dim) for monomial, factor in n.terms
               if monomial)


@dataclass(eq=False, repr=False)
class Workspace:
    """The memory of one run, with the items made so far.

    The layout may be that of larger sizes, and the arena larger than the layout.
    """

    plan: Plan
    sizes: Sizes
    held: Mapping[Node, NodePrograms]
    layout: Layout
    arena: Arena
    items: dict[str, object] = field(default_factory=dict)

    def array(self, shape: Sequence[int | Dim], dtype: np.dtype, offset: int) -> np.ndarray:
        """Return an array in the arena."""
        return self.arena.array([value(n, self.sizes) for n in shape], dtype, offset)

    def rows(self, step: int) -> int:
        """Return the number of rows of a group."""
        return _rows(self.plan.steps[step], self.sizes)

    def make(self, items: Sequence[Item], names: Sequence[str]) -> tuple[object, ...]:
        """Make all items, and return those called `names`."""
        for item in items:
            self.items[item.name] = item.make(self)
        return tuple([self.items[name] for name in names])
