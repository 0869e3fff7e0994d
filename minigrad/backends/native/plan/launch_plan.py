"""The launch plan of a program before its sizes are known: places of values, and formulas of the steps' arguments.

Binding a program to sizes is then a few operations on whole arrays, however many steps there are. That matters
where sizes are new at every call, as those of batches of graphs are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ....graph import ArrayType, Graph, Node
from ....ops.accumulators import waiting
from ....ops.loops import scan
from ....ops.subgraph import signature
from ....passes.schedule import nbytes, row_bytes, symbols_of
from ....primitive import PART
from ....symbolic import Dim, Shape, Symbol, size_of, symbols
from ....views import dense_strides
from ...workspace import ALIGN, allocate
from ..codegen.kernel import HEAD
from ..codegen.loop_groups import space_of
from ..codegen.strides import Strides, access
from ..kernels import steps
from .size_table import SizeTable

ARENA, FLAG = 0, 1  # the first two bases; the graph's inputs follow, then its outputs, then what Python computes
BLOCK = 8192  # elements of the widest loop in one block of rows
SERIAL = 32768  # elements times statements below which the threads' pool is not worth its while
SPARE = 8  # memory that has to grow grows by one part in so many more
KNOWN = 4  # layouts that a program keeps


class Place(NamedTuple):
    """Where a value begins: a base, a piece of the arena (0: none), and a formula of the bytes behind that."""

    base: int
    piece: int
    offset: int


class ViewForm(NamedTuple):
    """A view before sizes are known: all numbers but the base and the piece are formulas."""

    base: int
    piece: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Cuts(NamedTuple):
    """How the rows of each kernel are cut: a matter of sizes alone, so that results are the same on any machine."""

    items: np.ndarray  # blocks
    size: np.ndarray  # rows of a block
    count: np.ndarray  # rows
    team: int
    threads: np.ndarray  # of the team, that may share the blocks
    scratch: np.ndarray  # bytes of one thread's scratch memory
    inside: list[int]  # where in that the values are


class Layout(NamedTuple):
    """Where the pieces of memory lie, which may be larger than what is asked of them."""

    sizes: np.ndarray
    offsets: list[int]
    total: int


class LaunchPlan:
    """All of a program that does not depend on sizes.

    Attributes
    ----------
    slot : dict of Node to int
        The bases of values that are not in the arena.
    leaves : dict of Node to bool
        Values that are made before a run, and whether they depend on sizes.
    made : dict of Node to list of (int or None, int)
        What steps of Python's make -> parts of it, and the bases for those.
    forms : dict of Node to ViewForm
        Operands and results of steps that are not kernels.
    lengths, turns : dict of Node to int, and to list of int
        SizeTable of a scan's length, and of the bytes of one part of each of its stacked results.
    constants : dict of Node to ndarray
        The leaves that do not depend on sizes, once they are made.
    full : dict of Node to ndarray
        Of leaves whose elements are all one number: as many of them as any sizes wanted yet.
    early : dict of Node to list of Symbol
        What depends on nothing but these sizes.
    values : dict of (Node, int, ...) to ndarray
        What that has been for some of them.
    bases : int
        How many there are.
    keeps : bool
        Whether a program that is bound to its sizes keeps memory for them.
    """

    def __init__(self, program: Any):
        self.program, self.plan = program, program.plan
        self.roles, self.graph = self.plan.roles, self.plan.graph
        self.size_table, self.strides = SizeTable(), Strides(self.roles)
        self.formula = self.size_table.add
        self.slot: dict[Node, int] = {n: 2 + i for i, n in enumerate(self.graph.inputs)}
        self.out_slot = 2 + len(self.graph.inputs)
        self.bases = self.out_slot + len(self.graph.outputs)
        self.leaves: dict[Node, bool] = {}
        self.made: dict[Node, list[tuple[int | None, int]]] = {}
        self.forms: dict[Node, ViewForm] = {}
        self.lengths: dict[Node, int] = {}
        self.turns: dict[Node, list[int]] = {}
        self.constants: dict[Node, np.ndarray] = {}
        self.full: dict[Node, np.ndarray] = {}
        self.early = {n: sorted(symbols_of(Graph((), (n,))), key=lambda s: s.uid) for n in program.early}
        self.values: dict[Any, np.ndarray] = {}
        self._kernels = [(k, step, made) for k, (step, made) in enumerate(
            zip(self.plan.steps, program.kernels, strict=True)) if made]
        self._pieces()
        for k, step in enumerate(self.plan.steps):
            if program.how[k] == "python":
                self._made_by_python(step.group.nodes[0])
        self._cuts()
        self._blocks()
        for k, step in enumerate(self.plan.steps):
            if program.how[k] not in ("kernel", "python", "bound"):
                self._views(step.group.nodes[0])
        # An output may be a view of what is computed straight into its memory; all others are copied at the end.
        self.straight = [root if self.plan.outputs.get(root := self.roles.root[n]) == i else None
                         for i, n in enumerate(self.graph.outputs)]
        read = {i for n in self.graph.nodes for i in n.inputs}.union(self.graph.outputs)
        self.in_dtypes = [n.dtype if n in read else None for n in self.graph.inputs]  # others just show a size
        self.out_shapes = [self.shape((made or n).shape)
                           for n, made in zip(self.graph.outputs, self.straight, strict=True)]
        self._positive()
        self.keeps = bool(program.why or self._scans or self.straight != list(self.graph.outputs))
        self.size_table.end()
        self._layouts: tuple[Layout, ...] = ()

    def shape(self, shape: Shape) -> tuple[int, ...]:
        return tuple(map(self.formula, shape))

    # -- memory ----------------------------------------------------------------------------------------

    def _pieces(self) -> None:
        """List the pieces of the arena, in the order in which they are first used."""
        plan = self.plan
        found: list[tuple[int, int, Any, Any]] = [
            (buffer.first, buffer.last, ("buffer", b), buffer.nbytes)
            for b, buffer in enumerate(plan.buffers) if buffer.output is None]
        for k, _, made in self._kernels:
            if made.scratch or made.chains:
                found.append((k, k, ("scratch", k), 0))
            found += [(k, k, ("parts", n), nbytes(n)) for n in made.parts]
        for k, step in enumerate(plan.steps):
            node = step.group.nodes[0]
            if node.prim in steps.STEPS and self.program.kernels[k] is None:
                found.append((k, k, ("room", k), steps.room(node)))
            if node.prim is scan and k not in self.program.why:
                each = [size_of(t.shape) * t.dtype.itemsize for t in node.type.parts]
                found += [(k, plan.last_use[node], ("part", node, i), n) for i, n in enumerate(each)]
                found += [(k, k, ("turn", node, i, j), n) for i, n in enumerate(signature(node).ends(each)[0])
                          for j in (0, 1)]
        found.sort(key=lambda p: p[0])
        self.piece = {key: 1 + i for i, (_, _, key, _) in enumerate(found)}  # 0: no piece
        self._times = [p[:2] for p in found]
        self._nbytes = _indices([0, *(self.formula(p[3]) for p in found)])
        number = {k: i for i, (k, _, _) in enumerate(self._kernels)}
        self._scratch = _indices([(self.piece["scratch", k], number[k])
                                  for k, _, made in self._kernels if made.scratch or made.chains], 2)
        self._parts = _indices([(self.piece["parts", n], number[k]) for k, _, made in self._kernels
                                for n in made.parts], 2)

    def layout(self, numbers: np.ndarray, cuts: Cuts) -> Layout:
        """Return where the pieces lie. What was worked out for sizes a little larger is good enough."""
        need = self._need(numbers, cuts)
        for known in self._layouts:
            if (need <= known.sizes).all() and known.sizes.sum() * 4 <= (need.sum() + ALIGN * len(need)) * 5:
                return known
        if self._layouts:  # sizes change: those to come may be somewhat larger
            need += need // SPARE
        made = self._laid(need)
        self._layouts = (made, *self._layouts[:KNOWN - 1])
        return made

    def total(self, sizes: Mapping[Symbol, int], team: int) -> int:
        """Return how much memory a run takes."""
        numbers = self.size_table.values(sizes)
        return self._laid(self._need(numbers, self.cuts(numbers, team))).total

    def _need(self, numbers: np.ndarray, cuts: Cuts) -> np.ndarray:
        need = numbers[self._nbytes]
        parts, of = self._parts.T
        need[parts] *= np.where(cuts.items[of] > 1, cuts.items[of], 0)
        scratch, of = self._scratch.T
        need[scratch] = cuts.scratch[of] * cuts.team
        return need

    def _laid(self, need: np.ndarray) -> Layout:
        wants = [(*times, n) for times, n in zip(self._times, need.tolist()[1:], strict=True)]
        offsets, total = allocate(wants)
        return Layout(need, [0, *offsets], total)

    def base(self, memory: Any) -> Place:
        """Return where a memory begins."""
        if isinstance(memory, tuple):
            return Place(FLAG, 0, 0) if memory[0] == "flag" else Place(ARENA, self.piece[memory], 0)
        if memory in self.slot:
            return Place(self.slot[memory], 0, 0)
        place = None if memory in self.program.early else self.plan.place.get(memory)
        if place is not None and memory in self.plan.outputs:
            return Place(self.out_slot + self.plan.outputs[memory], 0, 0)
        if place is not None:
            return Place(ARENA, self.piece["buffer", place], 0)
        if memory.prim.view is PART:
            source, index = memory.inputs[0], memory.params["index"]
            piece = self.piece.get(("part", source, index))
            if piece is not None:
                return Place(ARENA, piece, 0)
            self.made[source].append((index, self.bases))
        else:
            self.leaves[memory] = memory in self.program.early or bool(
                symbols(_flat([*memory.params.values(), memory.shape])))
        return Place(self._new(memory), 0, 0)

    def _new(self, n: Node) -> int:
        self.slot[n] = self.bases
        self.bases += 1
        return self.slot[n]

    def place(self, n: Node) -> Place:
        """Return where the first element of a value is."""
        base, piece, _ = self.base(access(n, self.roles).root)
        return Place(base, piece, self.formula(self.strides(n)[0]))

    # -- kernels ---------------------------------------------------------------------------------------

    def _cuts(self) -> None:
        widths, self._width_starts, rows, work = [], [], [], []
        self._inside_of: list[tuple[int, int, tuple[int, bool, int] | None]] = []
        self._inside: dict[tuple[int, Any], int] = {}
        for i, (k, step, made) in enumerate(self._kernels):
            spaces = [space_of(n) for n in step.group.nodes]
            self._width_starts.append(len(widths))
            widths += [self.formula(size_of(s[1:])) for s in spaces]
            work.append(self.formula(sum(map(size_of, spaces))))
            rows.append(self.formula(1 if step.group.rows is None else step.group.rows))
            for n in made.scratch:
                self._within(k, ("scratch", n), i, row_bytes(n))
            for n, first, last, limit in made.chains:
                space, axes = space_of(n), n.params["axes"]
                terms = self.formula(size_of(space[max(first, 1):last + 1]))
                kept = [d for a, d in enumerate(space) if a > last and a not in axes]
                self._within(k, ("chains", n, first, last, limit), i, size_of(kept) * n.dtype.itemsize,
                             (terms, not first, limit))
        self._widths, self._rows, self._work = _indices(widths), _indices(rows), _indices(work)

    def _within(self, k: int, memory: Any, i: int, each: int | Dim, chains: tuple[int, bool, int] | None = None
                ) -> None:
        """Add a value to scratch memory: the bytes of a row, or of one level of chains."""
        self._inside[k, memory] = len(self.piece) + 1 + len(self._inside_of)
        self._inside_of.append((i, self.formula(each), chains))

    def cuts(self, numbers: np.ndarray, team: int) -> Cuts:
        """Return how kernels cut their rows."""
        count = np.maximum(numbers[self._rows], 1)
        widest = np.maximum.reduceat(numbers[self._widths], self._width_starts) if len(count) else count
        items = -(-count // np.minimum(np.maximum(BLOCK // np.maximum(widest, 1), 1), count))
        size = -(-count // items)
        threads = np.where((items > 1) & (numbers[self._work] >= SERIAL), team, 1)
        used, inside = [0] * len(count), []
        for i, each, chains in self._inside_of:
            times = int(size[i])
            if chains is not None:
                terms, by_rows, limit = chains
                times = waiting(int(numbers[terms]) * (times if by_rows else 1), limit)
            inside.append(used[i])
            used[i] += -(-times * int(numbers[each]) // ALIGN) * ALIGN
        return Cuts(items, size, count, team, threads, np.array(used, np.int64), inside)

    def _blocks(self) -> None:
        """Number all kernels' arguments, one block behind the other: of each a formula, and a piece to be added."""
        self.starts: dict[int, int] = {}  # step -> where its block begins
        formulas: list[int] = []
        pieces: list[int] = []
        threads: list[tuple[int, int]] = []
        alone: list[tuple[int, int, int, int]] = []
        for i, (k, _, made) in enumerate(self._kernels):
            self.starts[k] = len(formulas)
            formulas += [0] * HEAD
            pieces += [0] * HEAD
            for param in made.params:
                if param[0] == "scratch":
                    threads.append((len(formulas), i))
                formula, piece = self._param(k, param)
                if param[0] in ("base", "offset") and isinstance(param[1], tuple) and param[1][0] == "parts":
                    # Of one block alone there are no parts: its own is the result.
                    alone.append((len(formulas), i, *self._param(k, (param[0], param[1][1], *param[2:]))))
                formulas.append(formula)
                pieces.append(piece)
        self.arguments_end = len(formulas)
        self._formulas, self._piece_of = _indices(formulas), _indices(pieces)
        self._heads = _indices(list(self.starts.values()))
        self._threads, self._alone = _indices(threads, 2), _indices(alone, 4)

    def _param(self, k: int, param: tuple) -> tuple[int, int]:
        """Return the formula of an argument, and the piece of memory that is added to it."""
        what = param[0]
        if what == "size":
            return self.formula(param[1]), 0
        if what == "stride":
            return self.formula(self.strides(param[1])[1][param[2]]), 0
        if what == "scratch":
            return 0, 0
        memory = param[1]
        own = isinstance(memory, tuple) and memory[0] in ("scratch", "chains")
        at = Place(ARENA, self._inside[k, memory], 0) if own else self.base(memory)
        if what == "base":
            return self.formula(at.base), 0
        inside = 0 if isinstance(memory, tuple) and not own else self.formula(self.strides(param[2])[0])
        return inside, at.piece

    def arguments(self, numbers: np.ndarray, places: np.ndarray, cuts: Cuts) -> np.ndarray:
        """Return the argument blocks of all kernels."""
        args = numbers[self._formulas] + places[self._piece_of]
        for i, part in enumerate((cuts.items, cuts.threads, cuts.size, cuts.count)):
            args[self._heads + i] = part
        at, of = self._threads.T
        args[at] = cuts.scratch[of]
        at, of, formulas, pieces = self._alone[cuts.items[self._alone[:, 1]] == 1].T
        args[at] = numbers[formulas] + places[pieces]
        return args

    def places(self, layout: Layout, cuts: Cuts) -> list[int]:
        """Return where in the arena pieces lie, and the values in scratch memory."""
        offsets = layout.offsets
        first = [self.piece["scratch", self._kernels[i][0]] for i, *_ in self._inside_of]
        return offsets + [offsets[p] + within for p, within in zip(first, cuts.inside, strict=True)]

    # -- other steps -----------------------------------------------------------------------------------

    def _made_by_python(self, node: Node) -> None:
        """Give what makes its result itself a base."""
        if node not in self.plan.place:
            self.made[node] = [(None, self._new(node))] if isinstance(node.type, ArrayType) else []

    def _views(self, node: Node) -> None:
        """Note where operands and result of a step of its own lie."""
        for n in (*node.inputs, *([node] if isinstance(node.type, ArrayType) else [])):
            if n not in self.forms:
                self.forms[n] = ViewForm(*self.place(n), self.shape(n.shape),
                                         tuple(map(self.formula, self.strides(n)[1])))
        if node.prim is scan:
            self.lengths[node] = self.formula(node.params["length"])
            self.turns[node] = [self.formula(dense_strides(t.shape, t.dtype.itemsize)[0])
                                for t in signature(node).ends(node.type.parts)[1]]

    # -- nothing to do ---------------------------------------------------------------------------------

    def _positive(self) -> None:
        """List the sizes without which there is nothing to compute, or no result."""
        needed = [d for _, step, _ in self._kernels for n in step.group.nodes for d in space_of(n)]
        for step in self.plan.steps:
            needed += [d for n in step.group.nodes for d in steps.needed(n)]
        self._scans = [(n, held.programs[0][1]) for n, held in self.program.held.items() if n.prim is scan]
        needed += [n.params["length"] for n, _ in self._scans]
        self._nonzero = _indices(sorted({self.formula(d) for d in needed}))

    def empty(self, numbers: np.ndarray, sizes: Mapping[Symbol, int]) -> bool:
        """Tell whether some loop has no turn, or some result does not exist."""
        return bool((numbers[self._nonzero] == 0).any()) or any(
            body.launch_plan.empty(body.launch_plan.size_table.values(sizes), sizes) for _, body in self._scans)


def _indices(numbers: Sequence[Any], columns: int = 0) -> np.ndarray:
    return np.array(numbers, np.intp).reshape((-1, columns) if columns else -1)


def _flat(params: Any) -> list[Any]:
    return [d for p in params for d in (_flat(p) if isinstance(p, tuple) else (p,))]
