"""The thread's current trace: guards on sizes, large constants, and the provenance of new nodes.

A function is traced for the sizes of an example. Where its code needs the number behind a symbolic size, or relies on
two sizes to be equal, the trace records a guard.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING

from .errors import ShapeError, at_user_line, user_location
from .immutable import Immutable, Record
from .symbolic import Dim, Symbol

if TYPE_CHECKING:
    from .graph import Node

    Origin = tuple[int, int]  # an argument's leaf, and one of its axes

# "number" -> returns the user's expression that needs a size's number, and an alternative (`size_queries`)
EXPLAIN: dict[str, Callable[[], tuple[str, str]]] = {}
LOOP_NODES = 256  # of all steps of a loop of Python; one of fewer stays written out


class Tagged(Immutable, int):
    """An int with its origin: the axis of an argument that has this size."""

    origin: Origin

    def __new__(cls, n: int, origin: Origin) -> Tagged:
        self = super().__new__(cls, n)
        self.origin = origin
        return self

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (int(self),)


class Guards(Record):
    """The sizes that a trace maps, and those that its code relies on: numbers and equalities. None: not recorded."""

    # The axes of arguments that a `vmap` maps together, each as the origin of a `Tagged` size.
    mapped: list[tuple[Origin, ...]] | None = None
    named: dict[Origin, str] | None = None  # the ragged axis that such an axis runs along
    insisted: dict[Symbol, tuple[str, int] | None] | None = None  # symbols whose number the code needs, with the line
    merged: list[tuple[Symbol, Symbol]] | None = None  # symbols that the code takes to be one size
    # Leaves of the arguments that are integers whose number the code needs, with the line.
    integers: dict[int, tuple[str, int] | None] | None = None

    def integer(self, leaf: int, value: int) -> int:
        """Return the value of an integer, which the code needs."""
        if self.integers is not None:
            self.integers.setdefault(leaf, user_location())
        return value


class Trace:
    """A run of a function on traced values. Outside of all traces, it holds the provenance of nodes alone."""

    outer: Trace | None = None  # the enclosing trace
    guards = Guards()  # shared with the outer trace, unless given
    # Inputs, of outer traces too, that are integers, with a function that returns the number, or an outer node.
    integers: Mapping[Node, Callable[[], int | Node]] = MappingProxyType({})
    constants: dict[int, tuple[object, Node]] | None = None  # large ones by identity, shared by nested traces
    selections: dict[Node, list[Node]] | None = None  # the positions of true elements by mask, shared by nested traces
    values: list[Node] | None = None  # the nodes of all values that the function has made
    read = -1  # the serial number of the last node that reads by indices, here or in an inner trace
    rule: str | None = None  # the rule that makes new nodes, and its source node: the provenance of each node
    source: Node | None = None
    needed: Collection[Node] | None = None  # the nodes whose cotangents the running vjp needs; None: of all
    scope = ""  # the author's names for the operations that run now, from the outermost, with slashes between
    ruled: tuple[Callable[..., object], ...] = ()  # the functions whose own derivative rules are being traced
    literal = False  # whether long loops of Python stay written out
    numpy_code = False  # whether the names of NumPy in the user's code stand for functions of traced values (`plain`)

    def __init__(self, outer: Trace | None = None, guards: Guards | None = None):
        if outer is not None:
            vars(self).update(vars(outer), outer=outer, values=[], read=-1,
                              constants={} if outer.constants is None else outer.constants,
                              selections={} if outer.selections is None else outer.selections)
        if guards is not None:
            self.guards = guards


class _Thread(threading.local):
    def __init__(self) -> None:
        self.trace = Trace()
        self.unequal: tuple[int | Dim, int | Dim, Trace] | None = None  # the latest sizes without numbers that differ


thread = _Thread()  # `thread.trace` is the current trace


def tracing() -> bool:
    """Return whether this thread is inside a trace."""
    return thread.trace.outer is not None


@contextmanager
def new_trace(guards: Guards | None = None) -> Iterator[Trace]:
    """Run the ``with`` block in a trace of its own."""
    outer = thread.trace
    thread.trace = trace = Trace(outer, guards)
    try:
        yield trace
    finally:
        thread.trace = outer
        outer.read = max(outer.read, trace.read)


@contextmanager
def made_by(rule: str, needed: Collection[Node] | None = None) -> Iterator[Callable[[Node], None]]:
    """Enter `rule` in the provenance of new nodes; call the result with each source node.

    `needed` are the nodes whose cotangents a vjp needs.
    """
    trace = thread.trace
    before = trace.source, trace.rule, trace.needed
    trace.rule = rule
    if needed is not None:
        trace.needed = needed

    def working_on(source: Node) -> None:
        trace.source = source

    try:
        yield working_on
    finally:
        trace.source, trace.rule, trace.needed = before


# -- guards ------------------------------------------------------------------------------------------------


def note_batch(sizes: Iterable[object], name: str = "") -> None:
    """Record sizes of one batch, which may be any number; `name` is that of a ragged axis, which may have no rows."""
    guards = thread.trace.guards
    origins = tuple(n.origin for n in sizes if isinstance(n, Tagged))
    if guards.mapped is not None and guards.named is not None and origins:
        guards.mapped.append(origins)
        if name:
            guards.named |= dict.fromkeys(origins, name)


def number(n: int | Dim) -> int:
    """Return `n` as an int. A guard fixes a symbolic size to its number in the traced example.

    Raises
    ------
    ShapeError
        If the size has no number before the program is called.
    """
    if not isinstance(n, Dim):
        return int(n)
    hint = n.hint
    if hint is None:
        code, instead = EXPLAIN["number"]()
        code = f"`{code}`" if code else "the code"
        raise ShapeError(at_user_line(f"{code} needs the number behind the symbolic size {n}, which is known "
                                      f"only when the program is called. {instead}"))
    if (insisted := thread.trace.guards.insisted) is not None:
        for s in n.symbols:
            insisted.setdefault(s, user_location())
    return hint


def guard_equal(a: int | Dim, b: int | Dim) -> bool:
    """Return whether two sizes are equal, at least in the traced example.

    A guard records sizes equal in the example alone; the function is traced again, with one symbol or with the number.
    """
    if a is b or a == b:
        return True
    hints = [n.hint if isinstance(n, Dim) else n for n in (a, b)]
    if hints == [None, None]:
        thread.unequal = a, b, thread.trace
    if (merged := thread.trace.guards.merged) is None or hints[0] is None or hints[0] != hints[1]:
        return False
    first, second = (n.symbol if isinstance(n, Dim) else None for n in (a, b))
    if first is None or second is None:
        return number(a) == number(b)
    merged.append((first, second))
    return True


def guard_equal_shapes(a: Sequence[int | Dim], b: Sequence[int | Dim]) -> bool:
    """Return whether two shapes are equal, size by size; see `guard_equal`."""
    return len(a) == len(b) and all(map(guard_equal, a, b))
