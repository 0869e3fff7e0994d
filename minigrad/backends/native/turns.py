"""Loops whose turns run without Python: bodies bound to the sizes of the turns, in one arena."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from ...graph import Node
from ...immutable import cached_property
from ...symbolic import Symbol, size_of, value
from ..arena import Arena
from ..pools import Bounded
from ..protocol import Executable
from ..subgraph import ArraySpec, Build, Evaluation, NodePrograms, array_specs
from .kernels import turns as kernel
from .packed_scan import NestedBodies
from .plan.launch_plan import ARENA, ArenaLayout, LaunchPlan
from .runtime import threads
from .runtime.runner import runner

if TYPE_CHECKING:
    from .bound_program import BoundProgram

KEPT = 1024  # bodies that a run keeps
ADDABLE = ("float32", "float64")  # the types of sums over turns
Sizes = Mapping[Symbol, int]


@runtime_checkable
class Body(Executable, Protocol):
    """The interface of a native program to the loop around it."""

    symbols: list[Symbol]
    launch_plan: LaunchPlan

    @property
    def native(self) -> bool:
        """Whether no step needs Python."""

    def bind(self, sizes: Sizes, team: int, numbers: np.ndarray | None = None, layout: ArenaLayout | None = None
             ) -> BoundProgram:
        """Return the program for sizes at which every loop has a turn."""


class NativeLoop(NodePrograms):
    """A node whose turns run without Python, if its body is native.

    Attributes
    ----------
    addable : bool
        Whether machine code adds up all of its sums.
    """

    addable: bool
    _program: Executable

    def __init__(self, node: Node, build: Build):
        super().__init__(node, build)
        self._free: deque[Turns] = deque()

    def bind(self, sizes: Sizes) -> Evaluation:
        slow = self.bind_slow(sizes)
        program = self.native_program
        return slow if program is None else partial(self._fast, program, sizes, array_specs(self.node, sizes), slow)

    @abstractmethod
    def bind_slow(self, sizes: Sizes) -> Evaluation:
        """Return the evaluation by one call of the body per turn."""

    @cached_property
    def native_program(self) -> Body | None:
        """Return the program of the body, if no step of it needs Python."""
        program = self._program
        return program if isinstance(program, Body) and program.native and self.addable else None

    def _fast(self, program: Body, sizes: Sizes, specs: Sequence[ArraySpec], slow: Evaluation, *xs: np.ndarray
              ) -> tuple[np.ndarray, ...]:
        try:
            turns = self._free.pop()
        except IndexError:
            turns = Turns(program)
        try:
            results = self.run(turns, sizes, specs, xs)
        finally:
            self._free.append(turns)
        return slow(*xs) if results is None else results  # an index out of range is an error there

    @abstractmethod
    def run(self, turns: Turns, sizes: Sizes, specs: Sequence[ArraySpec], xs: Sequence[np.ndarray]
            ) -> tuple[np.ndarray, ...] | None:
        """Return the results; None if an index is out of range, or if some array is empty."""


class Turns:
    """The bodies of a loop for one run at a time."""

    def __init__(self, program: Body):
        self.program = program
        self._bound: Bounded[Hashable, BoundProgram] = Bounded(KEPT)
        self._arena = Arena(0)
        self._nested = NestedBodies()  # of packed scans in the turns

    def empty(self, sizes: Sizes) -> bool:
        """Return whether some loop of a turn has no turn, or some result does not exist."""
        plan = self.program.launch_plan
        return plan.empty(plan.size_table.values(sizes), sizes)

    def bodies(self, turns: Sequence[Sizes]) -> list[BoundProgram]:
        """Return the body of each turn, by the sizes of each, all in one arena."""
        team, symbols = threads.get_num_threads(), self.program.symbols
        keys = [(team, *[sizes[s] for s in symbols]) for sizes in turns]
        known = {key: body for key in keys if (body := self._bound.get(key)) is not None}
        new = {key: sizes for key, sizes in zip(keys, turns, strict=True) if key not in known}
        plan = self.program.launch_plan
        numbers = [plan.size_table.values(sizes) for sizes in new.values()]
        layout = plan.common_layout(numbers, team) if new else None
        for (key, sizes), own in zip(new.items(), numbers, strict=True):
            known[key] = self._bound.keep(key, self.program.bind(sizes, team, own, layout))
            known[key].attach(self._nested)
        need = max(body.layout.total for body in known.values())
        if need > self._arena.size:
            self._arena = Arena(need)
        for body in known.values():
            body.bases[ARENA] = self._arena.address
        return [known[key] for key in keys]

    def run(self, bodies: Sequence[BoundProgram], numbers: Sequence[int], arrays: LoopArrays) -> bool:
        """Run turns, given the number of each; return whether all indices are in range."""
        table = np.array([(*body.table_range, body.bases_address, t)
                          for body, t in zip(bodies, numbers, strict=True)], np.int64)
        args = np.array(kernel.arguments(len(table), table.ctypes.data, *arrays.values), np.int64)
        whole = np.array([kernel.step(), args.ctypes.data], np.int64)
        runner()(whole.ctypes.data, 1, 0, (), 0, 0)
        self._nested.raise_error()
        wrong = [body for body in bodies if body.flag[0]]
        for body in wrong:
            body.flag[0] = 0
        return not wrong


class LoopArrays:
    """The arrays of one run, and their addresses.

    Parameters
    ----------
    plan : LaunchPlan
        Of the body.
    sizes : mapping of Symbol to int
        Those outside of the loop.

    Attributes
    ----------
    values : tuple of list
        The values of each kind, as `kernels.turns.arguments` takes them.
    """

    def __init__(self, plan: LaunchPlan, sizes: Sizes):
        self._first_output, self._sizes = plan.first_output, sizes
        self._alive: list[np.ndarray] = []  # as long as their addresses are used
        self._places: dict[Hashable, tuple[int, int, int]] = {}
        self._fixed: list[tuple[int, int]] = []
        self._read: list[tuple[int, ...]] = []
        self._written: list[tuple[int, ...]] = []
        self._sums: list[tuple[int, int, int, int, int]] = []
        self.values = self._fixed, self._read, self._written, self._sums

    def place(self, rows: Hashable, index: np.ndarray, firsts: np.ndarray) -> None:
        """Name the rows of all turns, one turn after the other, and the first of each turn in `index`."""
        self._places[rows] = int(np.diff(firsts).max()), self._address(index), self._address(firsts)

    def fix(self, i: int, x: np.ndarray) -> None:
        """Give input `i` the same value in all turns."""
        self._fixed.append((2 + i, self._address(x)))

    def read(self, i: int, own: Node, x: np.ndarray, rows: Hashable) -> None:
        """Give input `i` the rows of an array that a turn reads."""
        self._read.append((2 + i, self._address(x), *self._rows(own, rows)))

    def write(self, k: int, own: Node, x: np.ndarray, rows: Hashable) -> None:
        """Write output `k` into the rows of an array."""
        self._written.append((self._first_output + k, self._address(x), *self._rows(own, rows)))

    def add_up(self, k: int, total: np.ndarray) -> None:
        """Add output `k` to an array of the same shape."""
        room = self._address(np.empty_like(total))
        self._sums.append((self._first_output + k, room, self._address(total), total.size, total.itemsize))

    def _rows(self, own: Node, rows: Hashable) -> tuple[int, int, int, int]:
        """Return the memory of a value in a turn, the bytes of a row, and the places of the rows."""
        most, *places = self._places[rows]
        width = value(size_of(own.shape[1:]), self._sizes) * own.dtype.itemsize
        index, firsts = places
        return self._address(np.empty(most * width, np.uint8)), width, index, firsts

    def _address(self, x: np.ndarray) -> int:
        self._alive.append(x)
        address: int = x.ctypes.data
        return address
