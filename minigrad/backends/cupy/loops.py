"""`scan` and `while` as launches: the host does not wait for a step, nor work for it in a replayed graph.

A step's kernels find their operands, as those of any program, through a table of pointers. Each step has a table of its
own: one launch (``mg_steps``) fills the tables of many steps, with slices by the number of the step. The carry lives in
two buffers; a step reads one and writes the other.

A scan whose launches are at most `MOST` is unrolled into the graph around it. A longer one is a graph of an even
number of steps, launched again and again; a counter in device memory says which step is the first.

A while is a graph of up to `STEPS` steps as well. Its kernels return at once where `stop` is set, which the step's test
does on the device, so that steps past the end read and write nothing. The host reads `stop` after one graph, then after
two, four, and so on. (A conditional node of CUDA 12.4 would do without the host, but its condition is set by a function
of the device's runtime library, which a kernel compiled by NVRTC must be linked with; and it refuses older drivers.)
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ...graph import Node
from ...ops.subgraph import signature
from ...primitive import on_host
from ...symbolic import Dim, Symbol, size_of, value
from .codegen import Cell, Key, Place, Slot
from .device import pack
from .gemm import depends
from .kernels import THREADS, Op, Sizes, blocks_for
from .prelude import COMMON

MOST = 1000  # launches of a graph's unrolled steps
STEPS = 8  # of a while, in one graph
AHEAD = 16  # graphs of a while's steps that are launched before the host reads whether it has ended, at most
Address = tuple[int | None, int]  # an argument of the whole program that the address counts from, or None; bytes


def state_of(node: Node) -> range:
    """Return which operands of a loop are its first state, or carry."""
    return signature(node).carry(range(len(node.inputs)))


def may_end(node: Node) -> bool:
    """Tell whether the number of steps is known only when the loop runs."""
    return "test" in node.params


def fixed_of(node: Node) -> frozenset[int]:
    """Return the operands whose addresses are known when launches are made: all but a scan's slices."""
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
    cells : list of list of int
        For each program, the cells of the table around it that hold the numbers for its own tables.
    strides : dict of Dim to int
        The cells that hold sizes of slices.
    go : key
        Of the memory that a test writes to.
    """

    node: Node
    programs: list[Any]
    places: dict[int, Place] = field(default_factory=dict)
    cells: list[list[int]] = field(default_factory=list)
    strides: dict[Dim, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.first, self.go = state_of(self.node).start, ("go", self.node)
        self.arenas = [("arena", self.node, k) for k in range(len(self.programs))]
        self.results = [(self.node, k) for k in range(len(self.node.type.parts))]
        self.starts, self.spares = ([(name, *key) for key in self.results[:len(state_of(self.node))]]
                                    for name in ("start", "spare"))

    @property
    def touched(self) -> list[Key]:
        return [self.go, *self.arenas, *self.results, *self.spares,
                *(place for place in self.places.values() if not isinstance(place, (Slot, Cell)))]

    def sliced(self) -> list[int | Dim]:
        """Return the sizes of a step's slices, of operands and of results."""
        graph, n = self.programs[-1].graph, len(self.starts)
        return [size_of(v.shape) for v in (*graph.inputs[self.first + n:], *graph.outputs[n:])]

    def starts_in_result(self, sizes: Sizes) -> bool:
        """Tell whether the first state is written where the results are: a scan's last step must write there."""
        return may_end(self.node) or value(self.node.params["length"], sizes) % 2 == 0

    def stretches(self, rows: Collection[Symbol]) -> bool:
        """Tell whether the loop can do with memory for larger `rows`."""
        return not depends(self.node.params.get("length", 0), rows) and not any(
            s in rows and s not in p.plan.rounded for p in self.programs for s in p.symbols)


class Repeat:
    """Parts that run several times, on a device that goes on from where it was."""

    def __init__(self, parts: Sequence[Callable[..., None]], times: int):
        self.parts, self.times = parts, times

    def __call__(self, read_in_place: tuple[int, ...]) -> None:
        for _ in range(self.times):
            for part in self.parts:
                part(read_in_place)


class Until:
    """Parts that run until the device has set `stop`.

    Parameters
    ----------
    control : callable
        Waits for the device, and returns how many steps there were, and `stop`.
    settle : callable
        Moves the state to the results, after an odd number of steps.
    check : callable
        Raises if a kernel has reported an index out of range.
    """

    def __init__(self, parts: Sequence[Callable[..., None]], control: Callable[[], tuple[int, int]],
                 settle: Callable[[], None], check: Callable[[], None]):
        self.parts, self._control, self._settle, self._check = parts, control, settle, check

    def __call__(self, read_in_place: tuple[int, ...]) -> None:
        ahead, stop = 1, 0
        while not stop:
            for _ in range(ahead):
                for part in self.parts:
                    part(read_in_place)
            count, stop = self._control()
            self._check()
            ahead = min(2 * ahead, AHEAD)
        if count % 2:
            self._settle()


class Unrolled:
    """A loop within the memory of the program around it, for one set of sizes."""

    def __init__(self, op: Loop, space: Any):
        self.op, self.space, self.device = op, space, space.device
        node, sizes = op.node, space.sizes
        self.control = self.device.zeros(16)  # the number of steps that were done, and whether no more are to be
        self.is_while = may_end(node)
        stop = self.control.ptr + 8 if self.is_while else space.stop
        self.inner = [type(space)(program, sizes, space, space.memory(key), stop)
                      for program, key in zip(op.programs, op.arenas, strict=True)]
        launches = sum(sum(1 for _ in inner.work(0, dict.fromkeys(fixed_of(node), (None, 0)))) for inner in self.inner)
        most = max(MOST // max(launches, 1) // 2 * 2, 2)
        if self.is_while:
            self.length, self.unit = 0, min(STEPS, most)
        else:
            self.length = value(node.params["length"], sizes)
            self.unit = most
        tables = 2 if self.is_while else min(self.unit, self.length)
        for inner in self.inner:
            inner.make_tables(tables)
        self._specs = [self.device.asarray(self._spec(k), np.dtype(np.int64)) for k in range(len(self.inner))]

    # -- addresses ------------------------------------------------------------------------------------------

    def _state(self, k: int, after: int) -> int:
        """Return the address of a part of the state after an even number of steps, or an odd one."""
        key = self.op.starts[k]
        if after % 2:
            key = next(b for b in (self.op.results[k], self.op.spares[k])
                       if self.space.address(b) != self.space.address(key))
        return self.space.address(key)

    def _spec(self, number: int) -> np.ndarray:
        """Return the terms from which ``mg_steps`` computes each cell of a program's tables."""
        op, program = self.op, self.op.programs[number]
        states = len(op.starts)
        rows = []
        for k, node in enumerate(program.graph.inputs):
            j = k - op.first
            if 0 <= j < states:
                rows.append((0, self._state(j, 0), self._state(j, 1), 0, 0))
            else:
                rows.append((*self._source(op.places[k]), *self._stride(node, j >= states)))
        for k, node in enumerate(program.graph.outputs):
            if self.is_while and number == 0:
                rows.append((0, *[self.space.address(op.go)] * 2, 0, 0))
            elif k < states:
                rows.append((0, self._state(k, 1), self._state(k, 0), 0, 0))
            else:
                rows.append((*self._source(op.results[k]), *self._stride(node, True)))
        rows += [(1 + cell, 0, 0, 0, 0) for cell in op.cells[number]]
        return np.array(rows, np.int64).reshape(-1, 5)

    def _source(self, place: Place) -> tuple[int, int, int]:
        if isinstance(place, Slot):
            return 1 + place.number, 0, 0
        if isinstance(place, Cell):
            return -1 - place.number, 0, 0
        if place in self.space.read_in_place:
            return 1 + self.space.read_in_place[place], 0, 0
        return 0, self.space.address(place), self.space.address(place)

    def _stride(self, node: Node, sliced: bool) -> tuple[int, int]:
        """Return how far apart a step's slices are: the cell of a factor, and a number of bytes."""
        if not sliced:
            return 0, 0
        n = size_of(node.shape)
        return (1 + self.op.strides[n], node.dtype.itemsize) if isinstance(n, Dim) else (0, n * node.dtype.itemsize)

    def _addresses(self, t: int, lent: Mapping[int, Address]) -> dict[int, Address]:
        """Return the addresses of the operands that a step's products read where they are."""
        found = {}
        for k in fixed_of(self.op.node):
            j = k - self.op.first
            if j >= 0:
                found[k] = None, self._state(j, t)
            elif not isinstance(place := self.op.places[k], (Slot, Cell)):
                found[k] = self.space.whereabouts(place, lent)
        return found

    # -- launches -------------------------------------------------------------------------------------------

    def work(self, step: int, lent: Mapping[int, Address]) -> Iterator[Any]:
        """Yield the launches and parts of the loop, for a step of the program around it."""
        return (self._until if self.is_while else self._scan)(step, lent)

    def _common(self, name: str, blocks: int, *args: int) -> Callable[[], None]:
        packed = pack([ctypes.c_longlong(a) for a in args])
        return partial(self.device.launch, self.device.function(COMMON, name), blocks, THREADS, packed)

    def _fill(self, number: int, step: int, steps: int) -> Callable[[], None]:
        """Return the launch that fills the tables of some steps."""
        inner, node = self.inner[number], self.op.node
        cells = max(inner.cells, 1)
        return self._common("mg_steps", blocks_for(cells * steps), self.device.pointer(
            self._specs[number]), self.space.table(step), self.control.ptr, inner.table(0), inner.cells, steps,
            self.length - 1, int(node.params.get("reverse", False)))

    def _scan(self, step: int, lent: Mapping[int, Address]) -> Iterator[Any]:
        (inner,) = self.inner
        times, rest = divmod(self.length, self.unit)
        if times == 1 and not rest:
            times, rest = 0, self.unit

        addresses = [self._addresses(t, lent) for t in (0, 1)]

        def steps(n: int) -> Iterator[Any]:
            yield self._fill(0, step, n)
            for t in range(n):
                yield from inner.work(t, addresses[t % 2])

        if times:
            yield partial(self.device.clear, self.control.ptr, 8)
            advance = self._common("mg_advance", 1, self.control.ptr, self.unit)
            yield Repeat(self.space.divided([*steps(self.unit), advance]), times)
        if rest:
            yield from steps(rest)

    def _until(self, step: int, lent: Mapping[int, Address]) -> Iterator[Any]:
        test, body = self.inner
        go = self.space.address(self.op.go)
        yield self._common("mg_begin", 1, self.control.ptr, self.space.stop)
        yield from (self._fill(k, step, 2) for k in (0, 1))
        two: list[Any] = []
        for t in (0, 1):
            addresses = self._addresses(t, lent)
            two += [*test.work(t, addresses), self._common("mg_go", 1, self.control.ptr, go), *body.work(t, addresses)]
        yield Until(self.space.divided(two * (self.unit // 2)), self._control, self._settle, self._check)

    def _control(self) -> tuple[int, int]:
        count, stop = on_host(self.device.array((2,), np.dtype(np.int64), self.control))
        return int(count), int(stop)

    def _settle(self) -> None:
        for result, spare, part in zip(self.op.results, self.op.spares, self.op.node.type.parts, strict=True):
            shape = (max(value(size_of(part.shape), self.space.sizes) * part.dtype.itemsize, 1),)
            to, source = (self.device.array(shape, np.dtype(np.uint8), self.space.memory(key))
                          for key in (result, spare))
            to[...] = source

    def _check(self) -> None:
        for program in self.op.programs:
            program.check()
