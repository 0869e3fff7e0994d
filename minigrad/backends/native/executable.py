"""A program bound to sizes: its memory, its steps' arguments, and the runs of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ...graph import ArrayType, Graph, Node
from ...interpreters import concrete, evaluate
from ...ops.constants import full
from ...ops.einsum import einsum
from ...ops.subgraph import signature
from ...passes.lower_einsum import canonical
from ...symbolic import Symbol, value
from ...views import SAME
from .. import numpy as numpy_backend
from ..numpy_text import fits_matmul
from ..workspace import ALIGN, owning
from .codegen.step_codegen import StepCode, load_all
from .codegen.strides import View
from .kernels import gemm, steps
from .kernels.gemm_plan import gemm_args
from .plan.launch_plan import ARENA, FLAG, SPARE, Place
from .runtime import blas, scan
from .runtime.runner import runner

EARLY = 256  # numbers of sizes that a program keeps


class Empty:
    """A program for sizes at which some loop has no turn: NumPy's."""

    def __init__(self, program: numpy_backend.Program, sizes: Mapping[Symbol, int]):
        self._program, self._sizes = program, sizes

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return self._program(arrays, self._sizes)


class Arena:
    """Memory for one run."""

    def __init__(self, nbytes: int):
        self.size = nbytes
        self.memory = np.empty(nbytes + ALIGN, np.uint8)
        self.start = -self.memory.ctypes.data % ALIGN
        self.address = self.memory.ctypes.data + self.start


class Executable:
    """A program for one set of sizes: its memory, the steps' arguments, and the table that the runner reads."""

    def __init__(self, program: Any, sizes: Mapping[Symbol, int], team: int, numbers: np.ndarray | None = None):
        launch_plan = self.launch_plan = program.launch_plan
        self.program, self.sizes, self.plan, self.roles = program, sizes, program.plan, program.plan.roles
        if numbers is None:
            numbers = launch_plan.size_table.values(sizes)
        cuts = launch_plan.cuts(numbers, team)
        self.team, self.layout = team, launch_plan.layout(numbers, cuts)
        self.numbers, self.places = numbers.tolist(), launch_plan.places(self.layout, cuts)
        self.arena: Arena | None = None  # its own, where arrays that Python's steps use lie in it
        self.flag = np.zeros(1, np.int64)
        self.out_types = [(self._shape(shape), n.dtype)
                          for n, shape in zip(program.plan.graph.outputs, launch_plan.out_shapes, strict=True)]
        self._views: dict[Node, View] = {}
        self.arrays: dict[Node, np.ndarray] = {}  # what lies in the arena, as arrays
        self.bodies: list[Executable] = []  # of scans
        self.stretches: list[Any] = []
        self._table: list[tuple[Any, int]] = []  # functions, and where their arguments begin
        self._begun, self._from = 0, launch_plan.arguments_end
        self._others: list[int] = []  # arguments of what is no kernel, behind those of the kernels
        self.bases = np.zeros(launch_plan.bases, np.int64)
        self.leaves = {n: self._leaf(n) for n in launch_plan.leaves}
        for k, how in enumerate(program.how):
            self._add(k, how)
        self._flush()
        self._views.clear()
        self.args = np.concatenate([launch_plan.arguments(numbers, np.array(self.places), cuts),
                                    np.array(self._others, np.int64)])
        load_all(f for f, _ in self._table if isinstance(f, StepCode))
        self.table = np.array([(f.address if isinstance(f, StepCode) else f, at) for f, at in self._table],
                              np.int64).reshape(-1, 2)
        self.table[:, 1] = self.table[:, 1] * 8 + self.args.ctypes.data
        start = self.table.ctypes.data
        self.stretches = [(start + 16 * s[0], s[1]) if isinstance(s, tuple) else s for s in self.stretches]
        self._made = launch_plan.straight
        self._ends = [None if n is made else self._getter(n)
                      for n, made in zip(self.plan.graph.outputs, self._made, strict=True)]
        self.mixed = len(self.stretches) > 1 or any(self._ends) or None in self._made
        if self.mixed or self.arena is not None:
            self.bases[ARENA] = self.own_arena().address
        self.bases[FLAG] = self.flag.ctypes.data
        for n, a in self.leaves.items():
            self.bases[launch_plan.slot[n]] = a.ctypes.data
        self.at = self.bases.ctypes.data
        self.dtypes = launch_plan.in_dtypes
        self.run_steps = runner()

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray] | None:
        """Return the outputs; None if an index was out of range."""
        arrays = [a if d is None or (type(a) is np.ndarray and a.dtype is d and a.flags.c_contiguous)
                  else np.ascontiguousarray(a, d).reshape(np.shape(a))
                  for a, d in zip(arrays, self.dtypes, strict=True)]  # only of such is the elements' address known
        outputs = [np.empty(*t) for t in self.out_types]
        given = (*arrays, *outputs)
        if self.mixed:
            return self._mixed(given, outputs)
        arena = None
        if self.arena is None:
            arena = self.program.borrow(self.layout.total)
            self.bases[ARENA] = arena.address
        self.run_steps(*self.stretches[0], self.at, given, 2, len(given))
        if arena is not None:
            self.program.arenas.append(arena)
        return None if self.flag[0] and self._wrong() else outputs

    def _wrong(self) -> bool:
        """Take note that an index was out of range."""
        self.flag[0] = 0
        return True

    def _mixed(self, given: tuple[np.ndarray, ...], outputs: list[np.ndarray]) -> list[np.ndarray] | None:
        """Run native steps and Python's in turn."""
        self.now, self.values, first = given, {}, 2
        try:
            with np.errstate(all="ignore"):
                for stretch in self.stretches:
                    if isinstance(stretch, tuple):
                        self.run_steps(*stretch, self.at, given, first, len(given))
                        given, first = (), 0
                        if self.flag[0] and self._wrong():
                            return None
                    else:
                        stretch()
                for i, (made, end) in enumerate(zip(self._made, self._ends, strict=True)):
                    if made is None:
                        outputs[i][...] = end()
                    elif end is not None:
                        outputs[i] = end()
        finally:
            self.now = self.values = None
        return outputs

    # -- where values are ------------------------------------------------------------------------------

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the numbers of a shape of formulas."""
        return tuple([self.numbers[i] for i in shape])

    def _of(self, n: Node) -> tuple[int, ...]:
        return tuple([value(d, self.sizes) for d in n.shape])

    def _place(self, place: Place) -> tuple[int, int]:
        """Return a base, and the bytes from there."""
        return place[0], self.places[place[1]] + self.numbers[place[2]]

    def _piece(self, *key: Any) -> tuple[int, int]:
        """Return where a piece of the arena is."""
        return ARENA, self.places[self.launch_plan.piece[key]]

    def _view(self, n: Node) -> View:
        found = self._views.get(n)
        if found is None:
            base, piece, offset, shape, strides = self.launch_plan.forms[n]
            numbers = self.numbers
            found = self._views[n] = View(base, self.places[piece] + numbers[offset],
                                          tuple([numbers[i] for i in shape]), tuple([numbers[i] for i in strides]))
        return found

    def _leaf(self, n: Node) -> np.ndarray:
        if n in self.launch_plan.constants:
            return self.launch_plan.constants[n]
        if n.prim is full:
            return self._full(n)
        if n in self.launch_plan.early:
            return self._early(n)
        made = np.ascontiguousarray(n.prim.eval(np, **concrete(n.params, self.sizes))).reshape(self._of(n))
        if not self.launch_plan.leaves.get(n, True):
            self.launch_plan.constants[n] = made
        return made

    def _early(self, n: Node) -> np.ndarray:
        """Return a number that depends on sizes alone; some are kept, as most sizes of a batch seldom change."""
        key = n, *[self.sizes[s] for s in self.launch_plan.early[n]]
        known = self.launch_plan.values
        found = known.get(key)
        if found is None:
            if len(known) >= EARLY:
                known.clear()
            found = known[key] = np.asarray(evaluate(Graph((), (n,)), (), self.sizes)[0], n.dtype)
        return found

    def _full(self, n: Node) -> np.ndarray:
        """Return as much as is wanted of one array, which all sizes share."""
        shape = self._of(n)
        count, known = math.prod(shape), self.launch_plan.full.get(n)
        if known is None or known.size < count:
            known = self.launch_plan.full[n] = np.full(count + (count // SPARE if known is not None else 0),
                                                  n.params["value"], n.dtype)
        return known[:count].reshape(shape)

    def _getter(self, n: Node) -> Callable[[], np.ndarray]:
        """Return a function that gives a value as an array, when a step of Python's wants it."""
        root = n
        while self.roles.is_view(root):
            root = root.inputs[0]
        parent = self._root_getter(root)
        if root is n:
            return parent
        chain = []
        v = n
        while self.roles.is_view(v):
            if v.prim.view is not SAME:
                chain.append(partial(_view, v, concrete(v.params, self.sizes)))
            v = v.inputs[0]

        def get() -> Any:
            x = parent()
            for f in reversed(chain):
                x = f(x)
            return x

        return get

    def _root_getter(self, root: Node) -> Callable[[], Any]:
        graph = self.plan.graph
        if root in graph.inputs:
            i = graph.inputs.index(root)
            return lambda: self.now[i]
        if root in self.plan.outputs and root in self.plan.place:
            i = len(graph.inputs) + self.plan.outputs[root]
            return lambda: self.now[i]
        if root in self.launch_plan.turns:  # a native scan
            made = tuple(self._array(self._piece("part", root, i), t) for i, t in enumerate(root.type.parts))
            return lambda: made
        if root in self.plan.place and root not in self.launch_plan.early:
            if root not in self.arrays:
                self.arrays[root] = self._array(self._piece("buffer", self.plan.place[root]), root.type)
            array = self.arrays[root]
            return lambda: array
        if root in self.launch_plan.made:
            return lambda: self.values[root]
        leaf = self.leaves[root] if root in self.leaves else self._leaf(root)
        return lambda: leaf

    def _array(self, place: tuple[int, int], t: ArrayType) -> np.ndarray:
        """Return memory of the arena as an array."""
        arena = self.own_arena()
        return np.ndarray(self._of(t), t.dtype, arena.memory, arena.start + place[1])

    def own_arena(self) -> Arena:
        """Return memory that no other run uses."""
        if self.arena is None:
            self.arena = Arena(self.layout.total)
        return self.arena

    # -- steps -----------------------------------------------------------------------------------------

    def _add(self, k: int, how: str) -> None:
        node = self.plan.steps[k].group.nodes[0]
        if how == "kernel":
            self._table.append((self.program.address(self.program.kernels[k].name), self.launch_plan.starts[k]))
        elif how == "scan":
            self._scan(node)
        elif how == "bound":
            return
        elif how == "step":
            for function, args in steps.make(node, self._view, self.sizes, self._piece("room", k), (FLAG, 0),
                                             self.team):
                self._native(function, args)
        elif how == "product":
            views = [self._view(n) for n in (*node.inputs, node)]
            self._native(gemm.address(node.dtype), gemm_args(node.params["subscripts"], *views, node.dtype,
                                                         blas.find()[0] is not None))
        else:
            self._flush()
            self._python(node)

    def _native(self, function: int | StepCode, args: list[int]) -> None:
        self._table.append((function, self._from + len(self._others)))
        self._others += args

    def _flush(self) -> None:
        """End a stretch of native steps."""
        count = len(self._table) - self._begun
        if count or not self.stretches:
            self.stretches.append((self._begun, count))
            self._begun += count

    def _scan(self, node: Node) -> None:
        """Add a scan whose step is native: it runs on memory that this program gives it."""
        p = node.params
        body = Executable(self.program.held[node].programs[0][1], self.sizes, self.team)
        body.bases[ARENA] = body.own_arena().address
        self.bodies.append(body)
        (table,) = body.stretches
        forms = [self.launch_plan.forms[n] for n in node.inputs]
        given = [self._place(f[:3]) for f in forms]
        out_slot = body.launch_plan.out_slot
        shared, carry, slices = signature(node).split(range(len(forms)))
        fixed = [(2 + i, given[i]) for i in shared] + [(FLAG, (FLAG, 0))]
        sliced = [(2 + i, given[i], self.numbers[forms[i].strides[0]]) for i in slices]
        parts = [self._piece("part", node, i) for i in range(len(node.type.parts))]
        sliced += [(out_slot + i, parts[i], self.numbers[turn])
                   for i, turn in enumerate(self.launch_plan.turns[node], len(carry))]
        carried = [(2 + i, out_slot + k, given[i], parts[k], [self._piece("turn", node, k, j) for j in (0, 1)])
                   for k, i in enumerate(carry)]
        length = self.numbers[self.launch_plan.lengths[node]]
        self._native(scan.step(), scan.arguments(length, p["reverse"], table, body.at, fixed, sliced, carried))

    def _python(self, node: Node) -> None:
        xs = [self._getter(i) for i in node.inputs]
        if node.prim is einsum and canonical(node.params["subscripts"]) and node in self.plan.place:
            evaluate_ = partial(_matmul, [fits_matmul(i) for i in node.inputs])
        elif node in self.program.held:
            evaluate_ = self.program.held[node].bind(self.sizes)
        else:
            evaluate_ = partial(node.prim.eval, np, **concrete(node.params, self.sizes))
        if node in self.plan.place:
            out = self._root_getter(node)
            self.stretches.append(lambda: np.copyto(out(), evaluate_(*(x() for x in xs))))
            return
        self.stretches.append(partial(self._keep, node, owning(evaluate_), xs, self.launch_plan.made[node]))

    def _keep(self, node: Node, evaluation: Callable[..., Any], xs: list[Callable[[], Any]],
              parts: list[tuple[int | None, int]]) -> None:
        """Evaluate a node that makes its result itself, and enter where that lies."""
        made = evaluation(*(x() for x in xs))
        made = _dense(made) if isinstance(node.type, ArrayType) else tuple(map(_dense, made))
        self.values[node] = made
        for i, slot in parts:
            self.bases[slot] = (made if i is None else made[i]).ctypes.data


def _dense(x: Any) -> np.ndarray:
    x = np.asarray(x)
    return x if x.flags.c_contiguous else np.ascontiguousarray(x)


def _view(node: Node, params: dict[str, Any], x: Any) -> Any:
    return node.prim.eval(np, x, *[None] * (len(node.inputs) - 1), **params)


def _matmul(fits: list[bool], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = (a if fit else np.ascontiguousarray(a) for a, fit in zip((x, y), fits, strict=True))
    return np.matmul(x, y)
