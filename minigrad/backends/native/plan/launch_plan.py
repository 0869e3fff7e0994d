"""The launch plan of a program before its sizes are known: places of values, and formulas of the steps' arguments.

Binding a program to sizes then takes a few operations on whole arrays, however many steps there are. That matters
where sizes are new at every call, as those of batches of graphs are.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ....graph import ArrayType, Node
from ....immutable import Record
from ....ops.accumulators import waiting
from ....ops.loops import scan
from ....ops.subgraph import signature
from ....passes.schedule import Plan, nbytes, row_bytes
from ....primitive import PART
from ....symbolic import Dim, Shape, Symbol, size_of
from ....views import dense_strides
from ...arena import ALIGN, SPARE, allocate
from ..codegen.kernel import Kernel
from ..codegen.kernel_emitter import HEAD, Memory
from ..codegen.loop_groups import space_of
from ..codegen.strides import Strides, root_of
from ..kernels import packed_scan, steps
from .leaves import Leaves
from .size_table import SizeTable

ARENA, FLAG = 0, 1  # the first two bases; the graph's inputs follow, its outputs, and the results of Python's steps
BLOCK = 8192  # elements of the widest loop in one block of rows
SERIAL = 32768  # elements times statements below which the threads' pool does not pay
KNOWN = 4  # layouts that a program keeps


class ViewForm(NamedTuple):
    """A view before sizes are known: all numbers but the base and the piece are formulas."""

    base: int
    piece: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Partition(Record):
    """The blocks of rows of each kernel. They depend on sizes alone, so that results are the same on any machine.

    Attributes
    ----------
    blocks, block_rows, rows : ndarray
        Blocks, rows of a block, and rows in all.
    team : int
    threads : ndarray
        Threads of the team that may share the blocks.
    scratch : ndarray
        Bytes of one thread's scratch memory.
    inside : list of int
        Offsets in it of the values in scratch memory.
    """

    blocks: np.ndarray
    block_rows: np.ndarray
    rows: np.ndarray
    team: int
    threads: np.ndarray
    scratch: np.ndarray
    inside: list[int]


class ArenaLayout(Record):
    """Sizes and offsets of the pieces of the arena; a piece may be larger than its contents."""

    sizes: np.ndarray
    offsets: list[int]
    total: int


class _Block(Record):
    """The argument block of a kernel.

    Attributes
    ----------
    formulas : list of int
    scratch : list of int
        Positions of the bytes of one thread's scratch memory.
    places : list of (Memory, list of int, list of int)
        Memories, and the positions of their bases and of offsets in them.
    """

    formulas: list[int]
    scratch: list[int]
    places: list[tuple[Memory, list[int], list[int]]]


class LaunchPlan:
    """All of a program that does not depend on sizes.

    Parameters
    ----------
    schedule : Plan
    ways : list of str
        How each step runs, as of `Program`.
    kernels : list of Kernel or None
        The kernel of each step.
    nodes : list of tuple of Node
        The nodes of each step in place of `Kernel.nodes`.
    bodies : mapping of Node to LaunchPlan
        The plans of the scans' bodies.
    exact : bool
        Whether the arena is as large as the sizes need; otherwise similar sizes may share a layout.

    Attributes
    ----------
    size_table : SizeTable
    base_of : dict of Node to int
        The bases of values that are not in the arena.
    bases, first_output : int
        The number of bases, and the first that is an output's.
    piece : dict of tuple to int
        The pieces of the arena: ``("buffer", b)``, ``("scratch", step)``, ``("parts", node)``, ``("room", step)``,
        ``("part", scan, i)``, ``("turn", scan, i, j)`` and, of a packed scan, ``("turn", scan, i)``.
    leaves : Leaves
        Values that are made before a run.
    python_results : dict of Node to list of (int or None, int)
        Values that Python's steps make -> the parts of each that are read, and the bases of those.
    views : dict of Node to ViewForm
        Operands and results of steps that are not kernels.
    scan_lengths : dict of Node to int
        Formulas of the scans' lengths.
    stacked_strides : dict of Node to list of int
        Formulas of the bytes of one part of each stacked result of a scan.
    packed : dict of Node to list of Token
        The argument blocks of packed scans. The base of such a node is that of its table of bodies.
    starts, arguments_end : dict of int to int, int
        Where the argument block of each kernel begins, and where the last one ends.
    sources : list of Node or None
        The value that each output is a view of, if that is computed into the output's memory.
    in_dtypes : list of dtype or None
        The inputs' dtypes; None of an input that only has a size.
    out_shapes : list of tuple of int
        Formulas of the outputs' shapes.
    keeps : bool
        Whether a program that is bound to its sizes keeps memory for them.
    """

    def __init__(self, schedule: Plan, ways: Sequence[str], kernels: Sequence[Kernel | None],
                 nodes: Sequence[tuple[Node, ...]], bodies: Mapping[Node, LaunchPlan], exact: bool = False):
        self.schedule, self.ways, self.kernels = schedule, ways, kernels
        self.size_table, self._strides = SizeTable(), Strides(schedule.roles)
        self._formula = self.size_table.add
        self._shapes: dict[Shape, tuple[int, ...]] = {}
        graph, steps_ = schedule.graph, schedule.steps
        self.base_of: dict[Node, int] = {n: 2 + i for i, n in enumerate(graph.inputs)}
        self.first_output = 2 + len(graph.inputs)
        self.bases = self.first_output + len(graph.outputs)
        self.leaves = Leaves(step.group.nodes[0] for step, way in zip(steps_, ways, strict=True) if way == "bound")
        self.python_results: dict[Node, list[tuple[int | None, int]]] = {}
        self.views: dict[Node, ViewForm] = {}
        self.scan_lengths: dict[Node, int] = {}
        self.stacked_strides: dict[Node, list[int]] = {}
        self.packed: dict[Node, list[packed_scan.Token]] = {}
        self._bodies = bodies
        self._kernels = [(k, step.group, kernel, dict(zip(kernel.nodes, own, strict=True)))
                         for k, (step, kernel, own) in enumerate(zip(steps_, kernels, nodes, strict=True)) if kernel]
        self._list_pieces()
        for step, way in zip(steps_, ways, strict=True):
            if way == "python":
                self._add_python_result(step.group.nodes[0])
        self._list_partitions()
        self._list_arguments()
        for step, way in zip(steps_, ways, strict=True):
            if way not in ("kernel", "python", "bound"):
                self._add_views(step.group.nodes[0])
        # An output may be a view of a value that is computed into its memory; all others are copied at the end.
        self.sources = [root if schedule.outputs.get(root := schedule.roles.root[n]) == i else None
                        for i, n in enumerate(graph.outputs)]
        read = set(graph.outputs).union(*[n.inputs for n in graph.nodes])
        self.in_dtypes = [n.dtype if n in read else None for n in graph.inputs]
        self.out_shapes = [self._shape((source or n).shape)
                           for n, source in zip(graph.outputs, self.sources, strict=True)]
        self._nonzero = self._list_nonzero()
        self.keeps = "python" in ways or bool(bodies or self.packed) or self.sources != list(graph.outputs)
        steps_of = {n: k for k, step in enumerate(steps_) for n in step.group.nodes}
        self.last_steps = sorted((steps_of[n], i) for i, n in enumerate(self.sources) if n is not None)
        self.size_table.end()
        self.exact = exact
        self._layouts: tuple[ArenaLayout, ...] = ()

    def _shape(self, shape: Shape) -> tuple[int, ...]:
        """Return the formulas of a shape, or of strides: equal layers have equal ones."""
        formulas = self._shapes.get(shape)
        if formulas is None:
            formulas = self._shapes[shape] = tuple(map(self._formula, shape))
        return formulas

    # -- memory ----------------------------------------------------------------------------------------

    def _list_pieces(self) -> None:
        """List the pieces of the arena, in the order in which they are first used."""
        plan = self.schedule
        pieces: list[tuple[int, int, tuple[Hashable, ...], int | Dim]] = [
            (buffer.first, buffer.last, ("buffer", b), buffer.nbytes)
            for b, buffer in enumerate(plan.buffers) if buffer.output is None]
        for k, _, kernel, own in self._kernels:
            if kernel.scratch or kernel.chains:
                pieces.append((k, k, ("scratch", k), 0))
            pieces += [(k, k, ("parts", own[n]), nbytes(n)) for n in kernel.parts]
        for k, (step, way) in enumerate(zip(plan.steps, self.ways, strict=True)):
            node = step.group.nodes[0]
            if way == "step":
                pieces.append((k, k, ("room", k), steps.STEPS[node.prim].room(node)))
            if way in ("scan", "straight"):
                each = [size_of(t.shape) * t.dtype.itemsize for t in node.types]
                pieces += [(k, plan.last_use[node], ("part", node, i), n) for i, n in enumerate(each)]
            if way == "scan":
                pieces += [(k, k, ("turn", node, i, j), n) for i, n in enumerate(signature(node).ends(each)[0])
                           for j in (0, 1)]
            if way == "packed":
                layout = packed_scan.layout(node, self._formula, self._new_base(node), FLAG)
                self.packed[node] = layout.tokens
                pieces += [(k, plan.last_use[node], ("part", node, i), size_of(t.shape) * t.dtype.itemsize)
                           for i, t in enumerate(node.types)]
                pieces += [(k, k, ("turn", node, i), n) for i, n in enumerate(layout.rooms)]
        pieces.sort(key=lambda p: p[0])
        self.piece = {key: 1 + i for i, (_, _, key, _) in enumerate(pieces)}  # 0: no piece
        self._times = [p[:2] for p in pieces]
        self._nbytes = _indices([0, *(self._formula(p[3]) for p in pieces)])
        self._scratch = _pairs([(self.piece["scratch", k], i) for i, (k, _, kernel, _) in enumerate(self._kernels)
                                if kernel.scratch or kernel.chains])
        self._parts = _pairs([(self.piece["parts", own[n]], i) for i, (_, _, kernel, own) in enumerate(self._kernels)
                              for n in kernel.parts])

    def layout(self, numbers: np.ndarray, partition: Partition) -> ArenaLayout:
        """Return a layout of the arena: one for slightly larger sizes, if there is one."""
        return self._layout(self._need(numbers, partition))

    def common_layout(self, sizes: Sequence[np.ndarray], team: int) -> ArenaLayout:
        """Return a layout for several sets of sizes, given the numbers of each."""
        return self._layout(np.maximum.reduce([self._need(numbers, self.partition(numbers, team))
                                               for numbers in sizes]))

    def _layout(self, need: np.ndarray) -> ArenaLayout:
        """Return a layout with room for the bytes of each piece."""
        if self.exact:
            return self._allocated(need)
        for known in self._layouts:
            if (need <= known.sizes).all() and known.sizes.sum() * 4 <= (need.sum() + ALIGN * len(need)) * 5:
                return known
        if self._layouts:  # sizes change: those to come may be somewhat larger
            need += need // SPARE
        layout = self._allocated(need)
        self._layouts = (layout, *self._layouts[:KNOWN - 1])
        return layout

    def total(self, sizes: Mapping[Symbol, int], team: int) -> int:
        """Return how much memory a run takes."""
        numbers = self.size_table.values(sizes)
        return self._allocated(self._need(numbers, self.partition(numbers, team))).total

    def _need(self, numbers: np.ndarray, partition: Partition) -> np.ndarray:
        """Return the bytes of each piece."""
        need: np.ndarray = numbers[self._nbytes]
        pieces, kernels = self._parts
        need[pieces] *= np.where(partition.blocks[kernels] > 1, partition.blocks[kernels], 0)
        pieces, kernels = self._scratch
        need[pieces] = partition.scratch[kernels] * partition.team
        return need

    def _allocated(self, need: np.ndarray) -> ArenaLayout:
        offsets, total = allocate([(*times, n) for times, n in zip(self._times, need.tolist()[1:], strict=True)])
        return ArenaLayout(need, [0, *offsets], total)

    def places(self, layout: ArenaLayout, partition: Partition) -> list[int]:
        """Return the offsets in the arena of the pieces, and of the values in scratch memory."""
        offsets = layout.offsets
        first = [self.piece["scratch", self._kernels[i][0]] for i, *_ in self._inside_of]
        return offsets + [offsets[p] + inside for p, inside in zip(first, partition.inside, strict=True)]

    def _base(self, value: Node) -> tuple[int, int]:
        """Return where the memory of a value begins: a base, and a piece of the arena (0: none)."""
        if value in self.base_of:
            return self.base_of[value], 0
        buffer = None if value in self.leaves.early else self.schedule.place.get(value)
        if buffer is not None and value in self.schedule.outputs:
            return self.first_output + self.schedule.outputs[value], 0
        if buffer is not None:
            return ARENA, self.piece["buffer", buffer]
        if value.prim.view is PART:
            source, index = value.inputs[0], value.params["index"]
            piece = self.piece.get(("part", source, index))
            if piece is not None:
                return ARENA, piece
            self.python_results[source].append((index, self.bases))
        else:
            self.leaves.add(value)
        return self._new_base(value), 0

    def _new_base(self, n: Node) -> int:
        self.base_of[n] = self.bases
        self.bases += 1
        return self.base_of[n]

    # -- kernels ---------------------------------------------------------------------------------------

    def _list_partitions(self) -> None:
        """List the formulas from which the blocks of rows follow, and the values in scratch memory."""
        widths: list[int] = []
        rows: list[int] = []
        work: list[int] = []
        self._width_starts: list[int] = []
        self._inside_of: list[tuple[int, int, tuple[int, bool, int] | None]] = []
        self._inside: dict[tuple[int, Memory], int] = {}
        for i, (k, group, kernel, _) in enumerate(self._kernels):
            spaces = [space_of(n) for n in group.nodes]
            self._width_starts.append(len(widths))
            widths += [self._formula(size_of(s[1:])) for s in spaces]
            work.append(self._formula(sum(map(size_of, spaces))))
            rows.append(self._formula(1 if group.rows is None else group.rows))
            for n in kernel.scratch:
                self._add_scratch(k, Memory("scratch", n), i, row_bytes(n))
            for chains in kernel.chains:
                n = chains.node
                space, axes = space_of(n), n.params["axes"]
                terms = self._formula(size_of(space[max(chains.first, 1):chains.last + 1]))
                kept = [d for a, d in enumerate(space) if a > chains.last and a not in axes]
                self._add_scratch(k, chains, i, size_of(kept) * n.dtype.itemsize,
                                  (terms, not chains.first, chains.limit))
        self._widths, self._rows, self._work = _indices(widths), _indices(rows), _indices(work)

    def _add_scratch(self, k: int, memory: Memory, i: int, each: int | Dim,
                     chains: tuple[int, bool, int] | None = None) -> None:
        """Add a value to scratch memory: the bytes of a row, or of one level of chains."""
        self._inside[k, memory] = len(self.piece) + 1 + len(self._inside_of)
        self._inside_of.append((i, self._formula(each), chains))

    def work(self, numbers: np.ndarray) -> int:
        """Return the elements of all statements in kernels."""
        return int(numbers[self._work].sum())

    def partition(self, numbers: np.ndarray, team: int) -> Partition:
        """Return the blocks of rows of the kernels."""
        rows = np.maximum(numbers[self._rows], 1)
        widest = np.maximum.reduceat(numbers[self._widths], self._width_starts) if len(rows) else rows
        blocks = -(-rows // np.minimum(np.maximum(BLOCK // np.maximum(widest, 1), 1), rows))
        block_rows = -(-rows // blocks)
        threads = np.where((blocks > 1) & (numbers[self._work] >= SERIAL), team, 1)
        used, inside = [0] * len(rows), []
        for i, each, chains in self._inside_of:
            times = int(block_rows[i])
            if chains is not None:
                terms, by_rows, limit = chains
                times = waiting(int(numbers[terms]) * (times if by_rows else 1), limit)
            inside.append(used[i])
            used[i] += -(-times * int(numbers[each]) // ALIGN) * ALIGN
        return Partition(blocks, block_rows, rows, team, threads, np.array(used, np.int64), inside)

    def _list_arguments(self) -> None:
        """Number the arguments of all kernels, one block behind the other: a formula, and a piece added to it."""
        self.starts: dict[int, int] = {}
        formulas: list[int] = []
        pieces: list[int] = []
        scratch: list[tuple[int, int]] = []
        alone: list[tuple[int, int, int, int]] = []
        blocks: dict[int, _Block] = {}
        for i, (k, _, kernel, own) in enumerate(self._kernels):
            block = blocks.get(id(kernel))
            if block is None:
                block = blocks[id(kernel)] = self._block(kernel)
            self.starts[k] = start = len(formulas)
            formulas += block.formulas
            pieces += [0] * len(block.formulas)
            scratch += [(start + at, i) for at in block.scratch]
            for memory, bases, offsets in block.places:
                if memory.kind in ("scratch", "chains"):
                    base, piece = ARENA, self._inside[k, memory]
                else:
                    base, piece = self._base(own[memory.node])
                if memory.kind == "parts":  # a single block has no parts: its own is the result
                    alone += [(start + at, i, self._formula(base), 0) for at in bases]
                    alone += [(start + at, i, block.formulas[at], piece) for at in offsets]
                    base, piece = ARENA, self.piece["parts", own[memory.node]]
                for at in bases:
                    formulas[start + at] = self._formula(base)
                for at in offsets:
                    pieces[start + at] = piece
        self.arguments_end = len(formulas)
        self._formulas, self._piece_of = _indices(formulas), _indices(pieces)
        self._heads = _indices(list(self.starts.values()))
        self._scratch_arguments, self._alone = _pairs(scratch), np.array(alone, np.intp).reshape(-1, 4)

    def _block(self, kernel: Kernel) -> _Block:
        """Return the argument blocks that steps of one kernel have, but for the places of their values."""
        formulas = [0] * HEAD
        scratch: list[int] = []
        places: dict[Memory, tuple[list[int], list[int]]] = {}
        for at, (kind, memory, view, axis, size) in enumerate(kernel.params, HEAD):
            formula = 0
            if kind == "size":
                formula = self._formula(size)
            elif kind == "flag":
                formula = self._formula(FLAG)
            elif kind == "scratch":
                scratch.append(at)
            elif memory is None:
                assert view is not None
                formula = self._formula(self._strides(view)[1][axis])
            else:
                bases, offsets = places.setdefault(memory, ([], []))
                if view is None:
                    bases.append(at)
                else:
                    formula = self._formula(self._strides(view)[0])
                    offsets.append(at)
            formulas.append(formula)
        return _Block(formulas, scratch, [(memory, *positions) for memory, positions in places.items()])

    def arguments(self, numbers: np.ndarray, places: np.ndarray, partition: Partition) -> np.ndarray:
        """Return the argument blocks of all kernels."""
        args: np.ndarray = numbers[self._formulas] + places[self._piece_of]
        for i, part in enumerate((partition.blocks, partition.threads, partition.block_rows, partition.rows)):
            args[self._heads + i] = part
        positions, kernels = self._scratch_arguments
        args[positions] = partition.scratch[kernels]
        positions, _, formulas, pieces = self._alone[partition.blocks[self._alone[:, 1]] == 1].T
        args[positions] = numbers[formulas] + places[pieces]
        return args

    # -- other steps -----------------------------------------------------------------------------------

    def _add_python_result(self, node: Node) -> None:
        """Give a base to a value that Python's step makes in memory of its own."""
        if node not in self.schedule.place:
            single = isinstance(node.type, ArrayType)
            self.python_results[node] = [(None, self._new_base(node))] if single else []

    def _add_views(self, node: Node) -> None:
        """List operands and result of a step that is not a kernel."""
        for n in (*node.inputs, *([node] if isinstance(node.type, ArrayType) else [])):
            if n not in self.views:
                base, piece = self._base(root_of(n, self.schedule.roles))
                offset, strides = self._strides(n)
                self.views[n] = ViewForm(base, piece, self._formula(offset), self._shape(n.shape), self._shape(strides))
        if node.prim is scan:
            self.scan_lengths[node] = self._formula(node.params["length"])
            stacked: Sequence[ArrayType] = signature(node).ends(node.types)[1]
            self.stacked_strides[node] = [self._formula(dense_strides(t.shape, t.dtype.itemsize)[0]) for t in stacked]

    # -- empty loops -----------------------------------------------------------------------------------

    def _list_nonzero(self) -> np.ndarray:
        """Return the formulas of the sizes without which nothing is computed, or no result exists."""
        needed = [d for _, group, *_ in self._kernels for n in group.nodes for d in space_of(n)]
        for step, way in zip(self.schedule.steps, self.ways, strict=True):
            needed += [d for n in step.group.nodes for d in (n.shape if way == "product" else steps.needed(n))]
        needed += [n.params["length"] for n in self._bodies]
        return _indices(sorted(map(self._formula, dict.fromkeys(needed))))

    def empty(self, numbers: np.ndarray, sizes: Mapping[Symbol, int]) -> bool:
        """Return whether some loop has no turn, or some result does not exist."""
        return bool((numbers[self._nonzero] == 0).any()) or any(
            body.empty(body.size_table.values(sizes), sizes) for body in self._bodies.values())


def _indices(numbers: Sequence[int]) -> np.ndarray:
    return np.array(numbers, np.intp)


def _pairs(numbers: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the first numbers of the pairs, and the second ones."""
    return np.array(numbers, np.intp).reshape(-1, 2).T
