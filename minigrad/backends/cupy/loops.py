"""Loops (`scan` and `while`) as launches: the host neither waits for steps nor launches each of them.

The kernels of a step find their operands through a table of pointers, as all kernels do. Each step has a table of its
own: one launch (``mg_steps``) fills the tables of many steps, with slices by the number of the step. The carry lives in
two buffers; a step reads one and writes the other.

A scan of at most `MOST` launches is unrolled into the graph around it. A longer one is a graph of an even number of
steps, launched repeatedly; a counter in device memory holds the number of the first step.

A while is a graph of up to `STEPS` steps as well. The test of a step sets `stop` on the device; from then on all
kernels return at once, so that steps past the end read and write nothing. The host reads `stop` after one graph, then
after two, four, and so on. (A conditional node of CUDA 12.4 needs no host, but a function of the device's runtime
library sets its condition, which a kernel compiled by NVRTC must be linked with; and older drivers refuse it.)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ...graph import Node
from ...ops.subgraph import signature
from ...primitive import on_host
from ...symbolic import Dim, Symbol, size_of, value
from .codegen import Cell, Key, Place, Slot
from .gemm import depends
from .kernels import Op, Sizes, blocks_for

if TYPE_CHECKING:
    from .device import Call
    from .launch_plan import CellKey
    from .program import Program, Segment, Work, Workspace

MOST = 1000  # most launches of a graph's unrolled steps
STEPS = 8  # most steps of a while in one graph
AHEAD = 16  # most graphs of a while's steps before the host reads `stop`
Part: TypeAlias = "Segment | Repeat"  # of a run, without evaluations
Address: TypeAlias = tuple[int | None, int]  # an argument of the whole program to count from, or None; bytes


def state_of(node: Node) -> range:
    """Return the numbers of the operands that are a loop's first state, or carry."""
    shared, carry = signature(node)
    return range(shared, shared + carry)


def may_end(node: Node) -> bool:
    """Return whether the number of steps is unknown before the loop runs."""
    return "test" in node.params


def fixed_of(node: Node) -> frozenset[int]:
    """Return the operands with fixed addresses: all but a scan's slices."""
    return frozenset(range(state_of(node).stop))


@dataclass
class Loop(Op):
    """A loop, and the places of its operands.

    Attributes
    ----------
    programs : list of Program
        The test of a while, and the step.
    places : dict of int to Place
        The memory of each operand that is not state.
    go : key
        The memory that a test writes to.
    """

    node: Node
    programs: list[Program]
    places: dict[int, Place] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.first, self.go = state_of(self.node).start, ("go", self.node)
        self.arenas = [("arena", self.node, k) for k in range(len(self.programs))]
        self.results = [(self.node, k) for k in range(len(self.node.types))]
        self.starts, self.spares = ([(name, *key) for key in self.results[:len(state_of(self.node))]]
                                    for name in ("start", "spare"))

    @property
    def touched(self) -> list[Key]:
        return [self.go, *self.arenas, *self.results, *self.spares,
                *(place for place in self.places.values() if not isinstance(place, (Slot, Cell)))]

    def numbers(self) -> Iterator[CellKey]:
        """Yield the numbers that its tables take from the table around it: those of its programs, sizes of slices."""
        for program in self.programs:
            yield from ((program, number) for number in program.plan.cells)
        graph, n = self.programs[-1].graph, len(self.starts)
        for v in (*graph.inputs[self.first + n:], *graph.outputs[n:]):
            if isinstance(size := size_of(v.shape), Dim):
                yield size

    def starts_in_result(self, sizes: Sizes) -> bool:
        """Return whether the first state is written to the results' memory: a scan's last step must write there."""
        return may_end(self.node) or value(self.node.params["length"], sizes) % 2 == 0

    def stretches(self, rows: Collection[Symbol]) -> bool:
        """Return whether the loop may run in memory for larger `rows`."""
        return not depends(self.node.params.get("length", 0), rows) and not any(
            s in rows and s not in p.plan.rounded for p in self.programs for s in p.symbols)


class Repeat:
    """Parts that run several times; the device counts the steps.

    ``run(once)`` calls ``once()`` for each time.
    """

    def __init__(self, parts: Sequence[Part], run: Callable[[Call], None]):
        self.parts, self._run = parts, run

    def __call__(self, read_in_place: tuple[int, ...]) -> None:
        def once() -> None:
            for part in self.parts:
                part(read_in_place)

        self._run(once)


class Unrolled:
    """A loop within the memory of the program around it, for one set of sizes."""

    def __init__(self, op: Loop, workspace: Workspace):
        self.op, self.workspace, self.device = op, workspace, workspace.device
        node, sizes = op.node, workspace.sizes
        self.control = self.device.zeros(16)  # the number of steps that were done, and whether no more are to be
        self.is_while = may_end(node)
        stop = self.control.ptr + 8 if self.is_while else workspace.stop
        self.inner = [type(workspace)(program, sizes, workspace, workspace.memory(key), stop)
                      for program, key in zip(op.programs, op.arenas, strict=True)]
        launches = sum(sum(1 for _ in inner.work(0, dict.fromkeys(fixed_of(node), (None, 0)))) for inner in self.inner)
        most = max(MOST // max(launches, 1) // 2 * 2, 2)
        self.length, self.unit = value(node.params.get("length", 0), sizes), min(STEPS, most) if self.is_while else most
        tables = 2 if self.is_while else min(self.unit, self.length)
        for inner in self.inner:
            inner.make_tables(tables)
        self._specs = [self.device.asarray(self._spec(k), np.dtype(np.int64)) for k in range(len(self.inner))]

    # -- addresses ------------------------------------------------------------------------------------------

    def _state(self, k: int, after: int) -> int:
        """Return the address of a part of the state after an even number of steps, or an odd one."""
        start, *buffers = map(self.workspace.address, (self.op.starts[k], self.op.results[k], self.op.spares[k]))
        return next(b for b in buffers if b != start) if after % 2 else start

    def _spec(self, number: int) -> np.ndarray:
        """Return the terms from which ``mg_steps`` computes each cell of a program's tables."""
        op, program, states = self.op, self.op.programs[number], state_of(self.op.node)
        rows = [(0, self._state(k - op.first, 0), self._state(k - op.first, 1), 0, 0) if k in states else
                self._terms(op.places[k], node if k >= states.stop else None)
                for k, node in enumerate(program.graph.inputs)]
        if self.is_while and number == 0:
            rows.append(self._terms(op.go))
        else:
            rows += [(0, self._state(k, 1), self._state(k, 0), 0, 0) if k < len(states) else
                     self._terms(op.results[k], node) for k, node in enumerate(program.graph.outputs)]
        rows += [(1 + self.workspace.plan.cells[program, n], 0, 0, 0, 0) for n in program.plan.cells]
        return np.array(rows, np.int64).reshape(-1, 5)

    def _terms(self, place: Place, sliced: Node | None = None) -> tuple[int, int, int, int, int]:
        """Return the terms of the address of an array, or of the slices of each step of an array."""
        factor, stride = 0, 0  # the cell of a factor, and a number of bytes
        if sliced is not None:
            n, stride = size_of(sliced.shape), sliced.dtype.itemsize
            factor, stride = (1 + self.workspace.plan.cells[n], stride) if isinstance(n, Dim) else (0, n * stride)
        if isinstance(place, Slot):
            return 1 + place.number, 0, 0, factor, stride
        if isinstance(place, Cell):
            return -1 - place.number, 0, 0, factor, stride
        if place in self.workspace.read_in_place:
            return 1 + self.workspace.read_in_place[place], 0, 0, factor, stride
        address = self.workspace.address(place)
        return 0, address, address, factor, stride

    def _addresses(self, t: int, lent: Mapping[int, Address]) -> dict[int, Address]:
        """Return the addresses of the operands that a step's products read in place."""
        addresses: dict[int, Address] = {}
        for k in fixed_of(self.op.node):
            j = k - self.op.first
            if j >= 0:
                addresses[k] = None, self._state(j, t)
            elif not isinstance(place := self.op.places[k], (Slot, Cell)):
                addresses[k] = self.workspace.operand(place, lent)
        return addresses

    # -- launches -------------------------------------------------------------------------------------------

    def work(self, step: int, lent: Mapping[int, Address]) -> Iterator[Work]:
        """Yield the launches and parts of the loop, for a step of the program around it."""
        return (self._until if self.is_while else self._scan)(step, lent)

    def _fill(self, number: int, step: int, steps: int) -> Call:
        """Return the launch that fills the tables of some steps."""
        inner, node = self.inner[number], self.op.node
        cells = max(inner.cells, 1)
        return self.workspace.common(
            "mg_steps", blocks_for(cells * steps), self._specs[number].data.ptr, self.workspace.table(step),
            self.control.ptr, inner.table(0), inner.cells, steps, self.length - 1,
            int(node.params.get("reverse", False)))

    def _scan(self, step: int, lent: Mapping[int, Address]) -> Iterator[Work]:
        (inner,) = self.inner
        times, remaining = divmod(self.length, self.unit)
        if times == 1 and not remaining:
            times, remaining = 0, self.unit

        addresses = [self._addresses(t, lent) for t in (0, 1)]

        def steps(n: int) -> Iterator[Work]:
            yield self._fill(0, step, n)
            for t in range(n):
                yield from inner.work(t, addresses[t % 2])

        if times:
            yield partial(self.device.clear, self.control.ptr, 8)
            advance = self.workspace.common("mg_advance", 1, self.control.ptr, self.unit)
            yield Repeat(self.workspace.captured([*steps(self.unit), advance]), partial(_repeat, times))
        if remaining:
            yield from steps(remaining)

    def _until(self, step: int, lent: Mapping[int, Address]) -> Iterator[Work]:
        test, body = self.inner
        go = self.workspace.address(self.op.go)
        yield self.workspace.common("mg_begin", 1, self.control.ptr, self.workspace.stop)
        yield from (self._fill(k, step, 2) for k in (0, 1))
        two: list[Work] = []
        for t in (0, 1):
            addresses = self._addresses(t, lent)
            mark_end = self.workspace.common("mg_go", 1, self.control.ptr, go)
            two += [*test.work(t, addresses), mark_end, *body.work(t, addresses)]
        yield Repeat(self.workspace.captured(two * (self.unit // 2)), self._run_until_stop)

    def _run_until_stop(self, once: Call) -> None:
        ahead, stop = 1, 0
        while not stop:
            _repeat(ahead, once)
            count, stop = self._control()
            for program in self.op.programs:
                program.check()
            ahead = min(2 * ahead, AHEAD)
        if count % 2:
            self._settle()

    def _control(self) -> tuple[int, int]:
        """Wait for the device; return the number of steps, and whether no more are to be."""
        count, stop = on_host(self.device.array((2,), np.dtype(np.int64), self.control))
        return int(count), int(stop)

    def _settle(self) -> None:
        """Move the state to the results, after an odd number of steps."""
        for result, spare, part in zip(self.op.results, self.op.spares, self.op.node.types, strict=True):
            shape = (max(value(size_of(part.shape), self.workspace.sizes) * part.dtype.itemsize, 1),)
            to, source = (self.device.array(shape, np.dtype(np.uint8), self.workspace.memory(key))
                          for key in (result, spare))
            to[...] = source


def _repeat(times: int, call: Call) -> None:
    for _ in range(times):
        call()
