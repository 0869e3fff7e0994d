"""Native packed scans: bodies bound to numbers of running examples, and the memory between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np

from ...graph import Node
from ...ops.packed_scan import inverse, rows_of
from ...ops.packed_steps import Steps, inside
from ...ops.subgraph import signature
from ...symbolic import Dim, Symbol, size_of, value
from ..arena import Arena
from ..pools import Bounded
from ..subgraph import ArraySpec, Build, Evaluation, PackedScan, array_specs
from .bound_program import BoundProgram
from .kernels import packed_scan as kernel
from .plan.launch_plan import ARENA, LaunchPlan
from .runtime import threads
from .runtime.runner import runner

KEPT = 1024  # bodies that a run keeps
_SUMS = ("float32", "float64")


@runtime_checkable
class Body(Protocol):
    """The interface of a native program to the loop around it."""

    symbols: list[Symbol]
    launch_plan: LaunchPlan

    @property
    def native(self) -> bool:
        """Whether no step needs Python."""

    def bind(self, sizes: Mapping[Symbol, int], team: int, numbers: np.ndarray | None = None) -> BoundProgram:
        """Return the program for sizes at which every loop has a turn."""


class NativePackedScan(PackedScan):
    """A `packed_scan` node whose steps run without Python, if its body is native."""

    def __init__(self, node: Node, build: Build):
        super().__init__(node, build)
        symbols = inside(node.params["packed"])
        results = signature(node).ends(node.params["body"].outputs)[1]
        self._addable = all(rows_of(o.types[0], symbols) is not None or o.dtype.name in (*_SUMS, "int8")
                            for o in results)  # integers are the zeros of checks
        self._free: deque[Bodies] = deque()

    def bind(self, sizes: Mapping[Symbol, int]) -> Evaluation:
        program = self.native_program()
        if program is None:
            return super().bind(sizes)
        return partial(self._fast, program, sizes, array_specs(self.node, sizes))

    def native_program(self) -> Body | None:
        """Return the program of the body, if no step of it needs Python."""
        program = self._program
        return program if isinstance(program, Body) and program.native and self._addable else None

    def _fast(self, program: Body, sizes: Mapping[Symbol, int], specs: Sequence[ArraySpec], *xs: np.ndarray
              ) -> tuple[np.ndarray, ...]:
        try:
            bodies = self._free.pop()
        except IndexError:
            bodies = Bodies(self.node, program)
        try:
            results = bodies.run(sizes, specs, xs)
        finally:
            self._free.append(bodies)
        return super().bind(sizes)(*xs) if results is None else results  # an index out of range is an error there


class Bodies:
    """The bodies of a packed scan for one run at a time."""

    def __init__(self, node: Node, program: Body):
        self._params, self._roles, self._program = node.params, signature(node), program
        self._bound: Bounded[Hashable, BoundProgram] = Bounded(KEPT)
        self._arena = Arena(0)

    def run(self, sizes: Mapping[Symbol, int], specs: Sequence[ArraySpec], xs: Sequence[np.ndarray]
            ) -> tuple[np.ndarray, ...] | None:
        """Return the results; None if an index is out of range, or if some array is empty."""
        packed = self._params["packed"]
        steps = Steps(packed, xs[:len(packed)], self._params["once"])
        bodies = self._bodies(steps, sizes)
        if bodies is None:
            return None
        memory = Memory(self, steps, sizes, specs, xs)
        table = np.array([(*bodies[n].table_range, bodies[n].bases_address, t)
                          for t, n in enumerate(steps.active.tolist())], np.int64)
        if self._params["reverse"]:
            table = np.ascontiguousarray(table[::-1])
        args = np.array(kernel.arguments(len(table), table.ctypes.data, *memory.values), np.int64)
        whole = np.array([kernel.step(), args.ctypes.data], np.int64)
        runner()(whole.ctypes.data, 1, 0, (), 0, 0)
        wrong = [body for body in bodies.values() if body.flag[0]]
        for body in wrong:
            body.flag[0] = 0
        return None if wrong else memory.results()

    def _bodies(self, steps: Steps, sizes: Mapping[Symbol, int]) -> dict[int, BoundProgram] | None:
        """Return the body for each number of running examples, all in one arena."""
        program, team = self._program, threads.get_num_threads()
        bodies: dict[int, BoundProgram] = {}
        for n in dict.fromkeys(steps.active.tolist()):
            own = {**sizes, **steps.sizes(n)}
            key = (team, *[own[s] for s in program.symbols])
            body = self._bound.get(key)
            if body is None:
                numbers = program.launch_plan.size_table.values(own)
                if program.launch_plan.empty(numbers, own):
                    return None
                body = self._bound.keep(key, program.bind(own, team, numbers))
            bodies[n] = body
        need = max((body.layout.total for body in bodies.values()), default=0)
        if need > self._arena.size or not bodies:
            self._arena = Arena(need)
        for body in bodies.values():
            body.bases[ARENA] = self._arena.address
        return bodies or None


class Memory:
    """The arrays of one run, and their addresses.

    Attributes
    ----------
    values : tuple of list
        The values of each kind, as `kernels.packed_scan.arguments` takes them.
    """

    def __init__(self, bodies: Bodies, steps: Steps, sizes: Mapping[Symbol, int], specs: Sequence[ArraySpec],
                 xs: Sequence[np.ndarray]):
        params, roles, program = bodies._params, bodies._roles, bodies._program
        body, symbols, first_output = params["body"], inside(params["packed"]), program.launch_plan.first_output
        self._steps, self._specs, self._reverse = steps, specs, params["reverse"]
        self._arrays: list[np.ndarray] = []  # alive as long as their addresses are used
        self._places: dict[Dim, tuple[int, int, int]] = {}
        self._ends: list[Callable[[], np.ndarray]] = []
        fixed: list[tuple[int, int]] = []
        read: list[tuple[int, ...]] = []
        written: list[tuple[int, ...]] = []
        carried: list[tuple[int, int, int, int]] = []
        sums: list[tuple[int, int, int, int, int]] = []
        self.values = fixed, read, written, carried, sums
        for i, (own, x) in enumerate(zip(body.inputs, xs, strict=True)):
            rows, x = rows_of(own.types[0], symbols), np.asarray(x, own.dtype, order="C")
            if i >= roles.n_shared + roles.n_carry:
                assert rows is not None
                read.append((2 + i, self._address(x), *self._rows(own, rows, sizes)))
            elif i >= roles.n_shared:
                assert rows is not None
                k = i - roles.n_shared
                carried.append((2 + i, first_output + k, *self._rooms(x, rows)))
            else:
                fixed.append((2 + i, self._address(x if rows is None else x.take(steps.whole(rows), axis=0))))
        for k, (own, (shape, dtype)) in enumerate(zip(body.outputs, specs, strict=True)):
            rows = rows_of(own.types[0], symbols)
            if k < roles.n_carry:
                continue
            result = np.empty(shape, dtype) if rows is not None and not params["once"] else np.zeros(shape, dtype)
            self._ends.append(partial(np.asarray, result))
            if rows is not None:
                written.append((first_output + k, self._address(result), *self._rows(own, rows, sizes)))
                continue
            room = self._address(np.empty(shape, dtype))
            if dtype.name in _SUMS:
                sums.append((first_output + k, room, self._address(result), result.size, dtype.itemsize))
            else:
                fixed.append((first_output + k, room))

    def _address(self, x: np.ndarray) -> int:
        self._arrays.append(x)
        return x.ctypes.data

    def _rows(self, own: Node, rows: Dim, sizes: Mapping[Symbol, int]) -> tuple[int, int, int, int]:
        """Return the memory of a value in a step, the bytes of a row, and the places of the rows."""
        if rows not in self._places:
            index, first = self._steps.sliced(rows)
            self._places[rows] = int(np.diff(first).max()), self._address(index), self._address(first)
        most, index_address, first_address = self._places[rows]
        width = value(size_of(own.shape[1:]), sizes) * own.dtype.itemsize
        return self._address(np.empty(most * width, np.uint8)), width, index_address, first_address

    def _rooms(self, x: np.ndarray, rows: Dim) -> tuple[int, int]:
        """Return the two rooms of a carry, which begins in the first one."""
        order = self._steps.whole(rows)
        rooms = np.empty((2, *x.shape), x.dtype)
        x.take(order, axis=0, out=rooms[0])
        if self._reverse:  # examples that begin later find their start in either
            rooms[1] = rooms[0]
            room = np.full(len(order), self._steps.length % 2)
        else:
            room = np.repeat(self._steps.lengths % 2, self._steps.count(rows))[order]
        last = inverse(order)
        self._ends.append(lambda: rooms.reshape(-1, *x.shape[1:]).take(room[last] * len(order) + last, axis=0))
        return self._address(rooms[0]), self._address(rooms[1])

    def results(self) -> tuple[np.ndarray, ...]:
        """Return the results of the run."""
        return tuple([end() for end in self._ends])
