"""A program bound to sizes: its memory, its steps' arguments, and the runs of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ...dims import Symbol
from ...graph import ArrayType, Node
from ...passes.lower import canonical
from ...passes.schedule import Step
from ...walk import concrete
from .. import numpy as numpy_backend
from ..numpy_text import fits_matmul
from ..workspace import ALIGN
from . import blas, gemm, scan, steps, threads
from .access import Numbers, View, access, dense_strides
from .cache import generated
from .kernel import HEAD, Kernel
from .layout import Layout
from .loops import space_of
from .products import gemm_args
from .runner import runner
from .target import load

SERIAL = 32768  # elements times statements below which the threads' pool is not worth its while
ARENA, FLAG = 0, 1  # the first two bases; the graph's inputs follow, then its outputs, then what Python computes


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


class Bound:
    """A program for one set of sizes: its memory, the steps' arguments, and the table that the runner reads."""

    def __init__(self, program: Any, sizes: Mapping[Symbol, int], team: int):
        self.program, self.sizes, self.plan, self.roles = program, sizes, program.plan, program.plan.roles
        self.numbers = Numbers(self.roles, sizes)
        self.layout = Layout(program, self.numbers, team)
        graph = self.plan.graph
        self.arena: Arena | None = None  # its own, where arrays that Python's steps use lie in it
        self.flag = np.zeros(1, np.int64)
        n_inputs, n_outputs = len(graph.inputs), len(graph.outputs)
        self.slot: dict[Any, int] = {n: 2 + i for i, n in enumerate(graph.inputs)}
        self.out_slot = 2 + n_inputs
        self.free = self.out_slot + n_outputs
        # An output may be a view of what is computed straight into its memory; all others are copied at the end.
        self._made = [root if self.plan.outputs.get(root := self.roles.root[n]) == i else None
                      for i, n in enumerate(graph.outputs)]
        self.out_types = [(self.numbers.shape((made or n).shape), n.dtype)
                          for n, made in zip(graph.outputs, self._made, strict=True)]
        self.leaves: dict[Node, np.ndarray] = {}
        self.arrays: dict[Node, np.ndarray] = {}  # what lies in the arena, as arrays
        self.dtypes = [n.dtype for n in graph.inputs]
        self.kept: list[np.ndarray] = []
        self.stretches: list[Any] = []
        self._table: list[tuple[int, int]] = []
        self._parts: dict[Node, list[tuple[int | None, int]]] = {}  # what Python makes -> parts of it, and their bases
        for k, step in enumerate(self.plan.steps):
            self._add(k, step)
        self._flush()
        self._ends = [None if n is made else self._getter(n) for n, made in zip(graph.outputs, self._made, strict=True)]
        self.mixed = len(self.stretches) > 1 or any(self._ends) or None in self._made
        self.bases = np.zeros(self.free + len(self.leaves), np.int64)
        if self.mixed or self.arena is not None:
            self.bases[ARENA] = self.own_arena().address
        self.bases[FLAG] = self.flag.ctypes.data
        for n, a in self.leaves.items():
            self.bases[self.slot[n]] = a.ctypes.data
        self.at = self.bases.ctypes.data
        self.run_steps = runner()

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray] | None:
        """Return the outputs; None if an index was out of range."""
        arrays = [a if type(a) is np.ndarray and a.dtype is d and a.flags.c_contiguous
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

    def base(self, memory: Any, k: int) -> tuple[int, int]:
        """Return the base of a memory, and where it begins behind that, in bytes."""
        if isinstance(memory, tuple):
            if memory[0] == "flag":
                return FLAG, 0
            if memory[0] == "scratch":
                return ARENA, self.layout.offset["scratch", k] + self.layout.scratch[k][1][memory[1]]
            where = self.layout.offset.get(memory)
            return (ARENA, where) if where is not None else self.base(memory[1], k)
        if memory in self.slot:
            return self.slot[memory], 0
        if memory in self.plan.outputs and memory in self.plan.place:
            return self.out_slot + self.plan.outputs[memory], 0
        if memory in self.plan.place:
            return ARENA, self.layout.offset["buffer", self.plan.place[memory]]
        if memory.prim.name == "proj":
            where = self.layout.offset.get(("part", memory.inputs[0], memory.params["index"]))
            if where is not None:
                return ARENA, where
            self._parts.setdefault(memory.inputs[0], []).append((memory.params["index"], self.free))
            self.slot[memory] = self.free
            self.free += 1
            return self.slot[memory], 0
        self.leaves[memory] = self._leaf(memory)
        self.slot[memory] = self.free
        self.free += 1
        return self.slot[memory], 0

    def _leaf(self, n: Node) -> np.ndarray:
        params = concrete(n.params, self.sizes)
        if n.prim.name == "full":
            return np.full(params["shape"], params["value"], n.dtype)
        return np.ascontiguousarray(n.prim.eval(np, **params)).reshape(self.numbers.shape(n.shape))

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
            if v.prim.name != "barrier":
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
        if root.prim.name == "scan" and ("part", root, 0) in self.layout.offset:
            made = tuple(self._array(self.layout.offset["part", root, i], t) for i, t in enumerate(root.type.parts))
            return lambda: made
        if root in self.plan.place:
            if root not in self.arrays:
                self.arrays[root] = self._array(self.layout.offset["buffer", self.plan.place[root]], root.type)
            array = self.arrays[root]
            return lambda: array
        if root in self._parts:
            return lambda: self.values[root]
        self.base(root, 0)
        leaf = self.leaves[root]
        return lambda: leaf

    def _array(self, offset: int, t: ArrayType) -> np.ndarray:
        """Return memory of the arena as an array."""
        arena = self.own_arena()
        return np.ndarray(self.numbers.shape(t.shape), t.dtype, arena.memory, arena.start + offset)

    def own_arena(self) -> Arena:
        """Return memory that no other run uses."""
        if self.arena is None:
            self.arena = Arena(self.layout.total)
        return self.arena

    # -- steps -----------------------------------------------------------------------------------------

    def _add(self, k: int, step: Step) -> None:
        made = self.program.kernels[k]
        if made is not None:
            self._native(self.program.address(made.name), self._arguments(k, step, made))
            return
        node = step.group.nodes[0]
        if k not in self.program.why and (self._scan(node) if node.prim.name == "scan" else
                                           self._step(k, node) if node.prim.name in steps.NAMES else
                                           self._product(node)):
            return
        self._flush()
        self._python(node)

    def _native(self, function: int, args: np.ndarray) -> None:
        self.kept.append(args)
        self._table.append((function, args.ctypes.data))

    def _flush(self) -> None:
        """End a stretch of native steps."""
        if self._table or not self.stretches:
            table = np.array(self._table, np.int64).reshape(-1, 2)
            self.kept.append(table)
            self.stretches.append((table.ctypes.data, len(table)))
            self._table = []

    def _arguments(self, k: int, step: Step, made: Kernel) -> np.ndarray:
        size, items = self.layout.blocks[k]
        count = 1 if step.group.rows is None else self.numbers.value(step.group.rows)
        work = sum(self.numbers.count(space_of(n)) for n in step.group.nodes)
        head = [items, self.layout.team if items > 1 and work >= SERIAL else 1, size, count]
        assert len(head) == HEAD
        return np.array([*head, *(self._param(k, p) for p in made.params)], np.int64)

    def _param(self, k: int, param: tuple) -> int:
        what = param[0]
        if what == "size":
            return self.numbers.value(param[1])
        if what == "base":
            return self.base(param[1], k)[0]
        if what == "offset":
            memory, view = param[1:]
            inside = self.base(memory, k)[1]
            if isinstance(memory, tuple) and memory[0] != "scratch":
                return inside
            return inside + self.numbers.strides(view)[0]
        if what == "stride":
            return self.numbers.strides(param[1])[1][param[2]]
        return self.layout.scratch[k][0]  # scratch: of one thread

    def _scan(self, node: Node) -> bool:
        """Add a scan whose step is native: it runs on memory that this program gives it."""
        p, (n_shared, n_carry) = node.params, node.params["counts"]
        body = Bound(self.program.held[node].programs[0][1], self.sizes, self.layout.team)
        body.bases[ARENA] = body.own_arena().address
        self.kept.append(body)
        (table,) = body.stretches
        given = [self._place(n) for n in node.inputs]
        fixed = [(2 + i, given[i]) for i in range(n_shared)] + [(FLAG, (FLAG, 0))]
        sliced = [(2 + i, given[i], self.numbers.strides(n)[1][0])
                  for i, n in enumerate(node.inputs) if i >= n_shared + n_carry]
        parts = [(ARENA, self.layout.offset["part", node, i]) for i in range(len(node.type.parts))]
        for i, t in enumerate(node.type.parts):
            if i >= n_carry:
                steps = dense_strides(self.numbers.shape(t.shape), t.dtype.itemsize)
                sliced.append((body.out_slot + i, parts[i], steps[0]))
        carried = []
        for i in range(n_carry):
            rooms = iter((0, 1))
            carried.append((2 + n_shared + i, body.out_slot + i, given[n_shared + i], parts[i],
                            lambda i=i, rooms=rooms: (ARENA, self.layout.offset["turn", node, i, next(rooms)])))
        self._native(scan.step(), scan.arguments(self.numbers.value(p["length"]), p["reverse"], table, body.at, fixed,
                                                 sliced, carried))
        return True

    def _place(self, n: Node) -> tuple[int, int]:
        """Return where the first element of a value is."""
        base, inside = self.base(access(n, self.roles).root, -1)
        return base, inside + self.numbers.strides(n)[0]

    def _step(self, k: int, node: Node) -> bool:
        """Add a statement that is one or several steps of its own."""
        room = ARENA, self.layout.offset["room", k]
        for function, args in steps.make(node, self._view, self.sizes, room, (FLAG, 0), self.layout.team):
            self._native(function, args)
        return True

    def _product(self, node: Node) -> bool:
        """Add a matrix product, if it is one that the generated code or BLAS takes as it stands."""
        if node not in self.plan.place:
            return False
        found, _ = blas.find()
        views = [self._view(n) for n in (*node.inputs, node)]
        args = gemm_args(node.params["subscripts"], *views, node.dtype, found is not None)
        self._native(products(node.dtype), args)
        return True

    def _view(self, n: Node) -> View:
        base, offset = self._place(n)
        steps = self.numbers.strides(n)[1]
        return View(base, offset, self.numbers.shape(n.shape), tuple(steps))

    def _python(self, node: Node) -> None:
        xs = [self._getter(i) for i in node.inputs]
        if node.prim.name == "einsum" and canonical(node.params["subscripts"]) and node in self.plan.place:
            evaluate_ = partial(_matmul, [fits_matmul(i) for i in node.inputs])
        elif node in self.program.held:
            evaluate_ = self.program.held[node].bind(self.sizes)
        else:
            evaluate_ = partial(node.prim.eval, np, **concrete(node.params, self.sizes))
        if node in self.plan.place:
            out = self._root_getter(node)
            self.stretches.append(lambda: np.copyto(out(), evaluate_(*(x() for x in xs))))
            return
        parts = self._parts[node] = []
        if isinstance(node.type, ArrayType):
            parts.append((None, self.free))
            self.slot[node] = self.free
            self.free += 1
        self.stretches.append(partial(self._keep, node, evaluate_, xs, parts))

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


@functools.cache
def products(dtype: np.dtype) -> int:
    """Return the address of the step that is a matrix product of `dtype`."""
    found, _ = blas.find()
    bits = found and found.bits
    code = generated(partial(gemm.module, dtype, bits), f"products of {dtype}, {bits}")
    library = load([code], {**threads.symbols(), **blas.symbols()})
    library.keep()
    return library.address("product")
