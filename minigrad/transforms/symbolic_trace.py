"""`trace`: from a function to a `Graph`, with a symbol for each size that a `vmap` inside it maps."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ..errors import MinigradError, format_location, is_internal
from ..graph import ArrayType, Graph, PyTree
from ..immutable import Record
from ..symbolic import Dim
from ..tracing import Guards, Tagged, number, thread, tracing
from .pickling import picklable
from .trace import Call, refuse_foreign

if TYPE_CHECKING:
    from ..tracing import Origin

T = TypeVar("T")


@picklable
def trace(f: Callable[..., PyTree]) -> Callable[..., Graph]:
    """Return a function that traces `f` to a `Graph`.

    Parameters
    ----------
    f : callable
        A function of pytrees of arrays.

    Returns
    -------
    callable
        ``trace(f)(*args, **kwargs)``: the arguments are arrays, numbers, or types such as ``mg.f32[784]``.
        Axes that a `vmap` inside maps become symbolic sizes, so the graph holds for every batch size. Loops of Python
        stay written out; `compile` and the transforms make a `scan` of one with 16 steps and 256 operations or more.

    Examples
    --------
    >>> g = mg.trace(lambda w, x: np.tanh(w @ x))(mg.f32[3], mg.f32[3])
    >>> print(g)
    lambda_(w: f32[3], x: f32[3]) -> f32[]
      %1: f32[] = einsum[i,i->](w, x)...
      %2: f32[] = tanh(%1)
      return %2
    """

    @functools.wraps(f)
    def traced(*args: PyTree, **kwargs: PyTree) -> Graph:
        with _written_out():
            return trace_symbolic(f, args, kwargs).graph

    vars(traced)["untraced"] = f
    return traced


@contextmanager
def _written_out() -> Iterator[None]:
    """Leave loops of Python as they are traced: step after step."""
    trace = thread.trace
    before, trace.literal = trace.literal, True
    try:
        yield
    finally:
        trace.literal = before


class SymbolicTrace(Record):
    """A function as a graph for all sizes that it maps.

    Attributes
    ----------
    graph : Graph
    numbers : tuple of bool
        Which of its outputs are Python numbers where the function runs on its own.
    fixed : tuple of int
        The positions of integers among the arrays and numbers of the arguments that the graph holds for alone.
    """

    graph: Graph
    numbers: tuple[bool, ...]
    fixed: tuple[int, ...] = ()


def trace_symbolic(f: Callable[..., PyTree], args: tuple[PyTree, ...], kwargs: dict[str, PyTree],
                   fixed: Sequence[int] = ()) -> SymbolicTrace:
    """Trace `f`, with a symbol for each size that a vmap inside it maps.

    The first trace runs with numbers and sees which axes are mapped; the second has symbols there. Where
    the code insists on a symbol's number, that axis gets its number back; where it insists on that of an integer
    among the arguments, the integer becomes static. The graph's notes say so.

    Parameters
    ----------
    fixed : sequence of int
        The positions of numbers that are static from the start, among the arrays and numbers of the arguments.
    """
    notes: list[str] = []
    fixed = tuple(fixed)
    whole = Call(f, args, kwargs)
    while True:
        call = Call(f, args, kwargs, fixed=fixed) if fixed else whole
        own = [i for i in range(len(whole.leaves)) if i not in fixed]
        needed: dict[int, tuple[str, int] | None] = {}
        try:
            graph, numbers = _trace_sizes(call, needed)
        except MinigradError:
            if not needed:  # with the numbers themselves, the code may go another way
                raise
        except Exception as error:
            needed = needed or dict.fromkeys(_preventing(whole, fixed, own), _raised_at(error))
            if not needed:
                raise
        if not needed:
            return SymbolicTrace(graph.replace(notes=(*notes, *graph.notes)) if notes else graph, numbers, fixed)
        notes += [f"{call.names[leaf]} is fixed at {call.leaves[leaf]}: the code at {format_location(loc)} needs its "
                  "number" for leaf, loc in needed.items()]
        fixed = tuple(sorted((*fixed, *(own[leaf] for leaf in needed))))


def _raised_at(error: Exception) -> tuple[str, int] | None:
    """Return the ``(file, line)`` of the user's innermost frame in an error's traceback."""
    place, tb = None, error.__traceback__
    while tb is not None:
        if not is_internal(tb.tb_frame):
            place = tb.tb_frame.f_code.co_filename, tb.tb_lineno
        tb = tb.tb_next
    return place


def _preventing(whole: Call, fixed: Sequence[int], own: Sequence[int]) -> list[int]:
    """Return the integers that the code of others needs as numbers, or else raises an error.

    They are positions in `own`, the leaves that are not fixed yet. If the code raises an error anyway, it is all:
    the error about the numbers says more than that about traced values.
    """
    def holds(leaves: Sequence[int]) -> bool:
        try:
            _trace_sizes(Call(whole.f, whole.args, whole.kwargs, fixed=sorted((*fixed, *(own[i] for i in leaves)))), {})
        except Exception:
            return False
        return True

    needed = [i for i, leaf in enumerate(own) if isinstance(whole.leaves[leaf], (int, np.integer))]
    for i in needed if len(needed) > 1 and holds(needed) else ():
        if holds(fewer := [k for k in needed if k != i]):
            needed = fewer
    return needed


def _trace_sizes(call: Call, needed: dict[int, tuple[str, int] | None]) -> tuple[Graph, tuple[bool, ...]]:
    """Return the graph of a call for all sizes, and which of its outputs are Python numbers.

    Enter the leaves that are integers whose number the code needs in `needed`, with its line: then the graph holds for
    these numbers alone.
    """
    types = call.types
    tagged = [ArrayType(tuple(n if isinstance(n, Dim) else Tagged(n, (i, a)) for a, n in enumerate(t.shape)),
                        t.dtype) for i, t in enumerate(types)]
    guards = Guards(mapped=[], named={}, integers=needed)
    staged = call.trace(tagged, guards=guards, nothing=True)
    groups, names = _merge(guards.mapped or []), guards.named or {}
    notes: list[str] = []
    again = bool(groups) and not needed
    while again:
        guards = Guards(insisted={}, merged=[], integers=needed)
        dims = _symbolic_sizes(groups, names, types)
        symbolic = [ArrayType(tuple(dims.get((i, a), n) for a, n in enumerate(t.shape)), t.dtype)
                    for i, t in enumerate(types)]
        failure = None
        try:
            staged = call.trace(symbolic, guards=guards, nothing=True)
        except MinigradError as error:  # if a number met a symbol, the next trace has the number twice
            failure = error
        by_symbol = {dims[group[0]].symbol: group for group in groups}
        for symbol, loc in (guards.insisted or {}).items():
            if symbol in by_symbol:
                leaf, axis = by_symbol.pop(symbol)[0]
                notes.append(f"axis {axis} of {call.names[leaf]} is fixed at {types[leaf].shape[axis]}: the code "
                             f"at {format_location(loc)} needs its number")
        pairs = [(by_symbol[a][0], by_symbol[b][0]) for a, b in guards.merged or []
                 if a in by_symbol and b in by_symbol]
        again = not needed and (len(by_symbol) < len(groups) or bool(pairs))
        if failure is not None and not again:
            raise failure
        groups = _merge([*by_symbol.values(), *pairs])
    graph = staged.graph.replace(names=call.names, notes=tuple(notes))
    if not tracing():
        refuse_foreign(graph.inputs, graph.nodes)
    return graph, staged.scalars


def _symbolic_sizes(groups: Sequence[tuple[Origin, ...]], names: Mapping[Origin, str], types: Sequence[ArrayType]
                    ) -> dict[Origin, Dim]:
    """Return the symbol of each axis; those of a group share one, called after its ragged axis in `names`, or B."""
    dims: dict[Origin, Dim] = {}
    used: list[str] = []
    for group in groups:
        leaf, axis = group[0]
        rows = next((names[x] for x in group if x in names), None)
        name = "B" if rows is None else rows.replace(" ", "_") + "s"
        used.append(name)
        dim = Dim.new(name if used.count(name) == 1 else f"{name}{used.count(name)}",
                      number(types[leaf].shape[axis]), rows is not None)
        dims |= dict.fromkeys(group, dim)
    return dims


def _merge(groups: Sequence[Sequence[T]]) -> list[tuple[T, ...]]:
    """Return the classes of the relation that `groups` generate, in order of first appearance."""
    classes: list[list[T]] = []
    for group in groups:
        meeting = [c for c in classes if any(x in c for x in group)]
        joined = list(dict.fromkeys(x for part in (*meeting, group) for x in part))
        classes = [c for c in classes if c not in meeting]
        classes.append(joined)
    return [tuple(c) for c in classes]
