"""The bodies of native packed scans: programs bound to numbers of running examples, and the tables that list them.

A body is bound when a run first needs it: the step of machine code (`kernels.packed_scan`) calls Python for one that is
not in its table. Packed scans within a body have tables of their own, so runs call Python no more once all bodies are
there.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np

from ...graph import Graph, Node
from ...ops.cuts import symbol_of
from ...ops.packed_steps import inside
from ...symbolic import Symbol, value
from ..arena import Arena
from ..pools import Bounded
from .kernels.packed_scan import CALL, ENTRIES, SIZES, WANTED
from .plan.launch_plan import ARENA

KEPT = 1024  # bodies that a table keeps
_FEW = 64  # tables that a run keeps
_CALL = ctypes.CFUNCTYPE(None, ctypes.c_int64)
_STEP = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)


class Bound(Protocol):
    """A body: steps, the addresses that they read, and the bytes of memory that bodies share."""

    @property
    def table_range(self) -> tuple[int, int]: ...
    @property
    def bases(self) -> np.ndarray: ...
    @property
    def nbytes(self) -> int: ...


class Body(Protocol):
    """The interface of a native program to the packed scan around it."""

    symbols: list[Symbol]

    def bind_body(self, sizes: Mapping[Symbol, int], team: int, nested: NestedBodies) -> Bound:
        """Return the program for some sizes."""


class Nests:
    """The bodies of a program's packed scans, for each of the runs at a time."""

    def __init__(self, programs: Mapping[Node, Body]):
        self.programs = programs
        self._free: deque[NestedBodies] = deque()

    @contextmanager
    def of_a_run(self) -> Iterator[NestedBodies]:
        """Lend bodies to a run, and raise the error that Python met in it."""
        try:
            nested = self._free.pop()
        except IndexError:
            nested = NestedBodies()
        try:
            yield nested
        finally:
            self._free.append(nested)
            nested.raise_error()


class NestedBodies:
    """The bodies of packed scans, and of those within them, for one run at a time.

    Attributes
    ----------
    error : BaseException or None
        The first error of Python in a run.
    """

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self._tables: Bounded[object, Bodies] = Bounded(_FEW)

    def raise_error(self) -> None:
        """Raise the error of the run that is over, if Python met one."""
        error, self.error = self.error, None
        if error is not None:
            raise error

    def of(self, node: Node, program: Body, sizes: Mapping[Symbol, int], team: int) -> Bodies:
        """Return the bodies of a node, with room for as many examples as the sizes say."""
        own = inside(node.params["packed"])
        outer = {s: sizes[s] for s in program.symbols if s not in own}
        key = (node, team, *outer.values())
        bodies = self._tables.get(key) or self._tables.keep(key, Bodies(self, node, program, outer, team))
        bodies.reserve(value(node.params["packed"][0][1], sizes))
        return bodies


class Bodies:
    """The table of one packed scan's bodies, by number of running examples.

    Attributes
    ----------
    address : int
        The address of the table's head, as `kernels.packed_scan` reads it.
    """

    def __init__(self, nested: NestedBodies, node: Node, program: Body, outer: Mapping[Symbol, int], team: int):
        self._nested, self._program, self._outer, self._team = weakref.proxy(nested), program, outer, team
        self._symbols = [symbol_of(n) for n, _, _ in node.params["packed"]]
        body = node.params["body"]
        self._unread = np.zeros(2 + len(body.inputs) + len(body.outputs), np.int64)  # the addresses of no body
        self._bound: Bounded[tuple[int, ...], Bound] = Bounded(KEPT)
        self._listed: dict[int, Bound] = {}
        self._arena = Arena(0)
        self._call = _CALL(_caller(weakref.ref(self)))
        self._head = np.zeros(WANTED + len(self._symbols), np.int64)
        self._head[CALL] = _address(self._call)
        self._entries = np.zeros((0, SIZES + len(self._symbols)), np.int64)
        self.address = self._head.ctypes.data

    def reserve(self, examples: int) -> None:
        """Make room for bodies of as many examples."""
        have = len(self._entries)
        if examples >= have:
            self._entries = np.concatenate([self._entries, np.zeros((examples + 1 - have, self._entries.shape[1]),
                                                                    np.int64)])
            self._head[ENTRIES] = self._entries.ctypes.data

    def enter(self, active: int) -> None:
        """Enter the body of `active` examples for the sizes that the step wants."""
        wanted = self._head[WANTED:].tolist()
        try:
            body = self._body(dict(zip(self._symbols, wanted, strict=True)))
        except BaseException as error:  # raised when the run ends: machine code lies in between
            self._nested.error = self._nested.error or error
            self._entries[active] = (0, 0, self._unread.ctypes.data, *[-1] * len(wanted))  # no step
            return
        if active not in self._listed and len(self._listed) >= KEPT:
            self._listed.clear()
            self._entries[:] = 0
        self._listed[active] = body
        if body.nbytes > self._arena.size:
            self._arena = Arena(body.nbytes)
        for other in (*self._listed.values(), *self._bound.values()):
            other.bases[ARENA] = self._arena.address
        self._entries[active] = (*body.table_range, body.bases.ctypes.data, *wanted)

    def _body(self, own: Mapping[Symbol, int]) -> Bound:
        sizes = {**self._outer, **own}
        key = tuple(sizes[s] for s in self._program.symbols)
        body = self._bound.get(key)
        return body or self._bound.keep(key, self._program.bind_body(sizes, self._team, self._nested))


def _caller(bodies: weakref.ref[Bodies]) -> Callable[[int], None]:
    """Return the function that machine code calls for a missing body."""
    def call(active: int) -> None:
        if (table := bodies()) is not None:
            table.enter(active)

    return call


def _address(function: object) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0  # type: ignore[arg-type]


class EmptyBody:
    """A body for sizes at which some loop has no turn: NumPy's program, on the memory that the scan hands over."""

    nbytes = 0

    def __init__(self, graph: Graph, program: Callable[..., Sequence[np.ndarray]], sizes: Mapping[Symbol, int],
                 nested: NestedBodies):
        first_output = 2 + len(graph.inputs)
        self.bases = np.zeros(first_output + len(graph.outputs), np.int64)
        self._step = _STEP(_numpy_step(graph, program, sizes, self.bases, nested))
        self._table = np.array([_address(self._step), 0], np.int64)
        self.table_range = (self._table.ctypes.data, 1)


def _numpy_step(graph: Graph, program: Callable[..., Sequence[np.ndarray]], sizes: Mapping[Symbol, int],
                bases: np.ndarray, nested: NestedBodies) -> Callable[[int, int], None]:
    """Return a step that runs a program of NumPy on the memory at the addresses in `bases`."""
    def array(n: Node, address: int) -> np.ndarray:
        shape = [value(d, sizes) for d in n.shape]
        if not (nbytes := math.prod(shape) * n.dtype.itemsize):
            return np.empty(shape, n.dtype)
        return np.ndarray(shape, n.dtype, memoryview((ctypes.c_char * nbytes).from_address(address)))

    def step(_args: int, _bases: int) -> None:
        try:
            values = [array(n, a) for n, a in zip((*graph.inputs, *graph.outputs), bases[2:].tolist(), strict=True)]
            results = program(values[:len(graph.inputs)], sizes)
            for place, result in zip(values[len(graph.inputs):], results, strict=True):
                place[...] = result
        except BaseException as error:
            nested.error = nested.error or error

    return step
