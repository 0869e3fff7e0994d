"""From a node and an index to the C statements that compute one element.

A value that lies in memory is loaded. Any other is computed where it is needed, by the kernel expressions of the
statements that make it; views only change the index. So whatever shares an index is fused, and nothing of a
view ever exists. A statement stands in the outermost scope that knows its indices, and only once in each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...graph import Node
from ...ops.checks import in_range
from ...ops.constants import full, iota, size_
from ...ops.index import gather, lockstep, scatter_add
from ...ops.segments import checked_index, nonempty, segment_ids
from ...ops.shape import concatenate, pad
from ...primitive import PART, Primitive
from ...symbolic import Dim, Symbol, size_of
from ...views import added, window
from . import cuda_expr

Index = tuple[str, ...]
Key = Any  # a node, or a tuple-valued node and the number of a part
_WORD = re.compile(r"[A-Za-z_]\w*")
INLINE_UPDATES = 64  # per row: as many updates are looked through for each place that a row's scatter writes


class NotInReach(Exception):
    """A value that another launch computes, which must come before."""


@dataclass
class Scope:
    """The statements of a kernel, a loop or a branch, and the names that they declare."""

    lines: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    known: dict[Any, tuple[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Param:
    """A parameter of a kernel.

    ``kind`` is ``table`` (pointers of inputs and outputs, and numbers), ``key`` (a value in the arena or a constant),
    ``size`` (a symbol), ``flag`` (where a bad index is reported), ``stop`` (whether a loop has ended), or what a launch
    adds itself.
    """

    kind: str
    what: Any
    name: str
    text: str


class KernelWriter:
    """A kernel while it is written.

    Parameters
    ----------
    place : callable
        ``place(key)`` says where a value or a symbol is: behind the pointer in slot k of the table, ``("slot", k)``; in
        the table itself, ``("cell", k)``; ``("key", key)``; or None where it is not in memory.
    report : callable
        ``report(node)`` returns the number under which a bad index of `node` is reported.
    """

    def __init__(self, place: Callable[[Any], tuple[str, Any] | None], report: Callable[[Node], int]):
        self._place, self._report = place, report
        self.params: dict[Any, Param] = {}
        self.slots: dict[int, tuple[str, str]] = {}  # of the table -> the name and the declaration
        self.cells: dict[int, tuple[str, str]] = {}
        self.scopes = [Scope()]
        self.slots_written: set[int] = set()
        self.flat: dict[tuple[Index, tuple], str] = {}  # an index, for arrays of this shape -> the offset
        self._count = 0

    # -- names, scopes, parameters --------------------------------------------------------------------------

    def name(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    def emit(self, line: str, level: int | None = None) -> None:
        self.scopes[-1 if level is None else level].lines.append(line)

    def declare(self, kind: str, letter: str, text: str, level: int) -> str:
        """Declare a variable in a scope."""
        name = self.name(letter)
        self.scopes[level].names.add(name)
        self.emit(f"const {kind} {name} = {text};", level)
        return name

    def level(self, texts: Sequence[str]) -> int:
        """Return the outermost scope that knows all names in `texts`."""
        words = {w for text in texts for w in _WORD.findall(text)}
        return max((k for k, s in enumerate(self.scopes) if s.names & words), default=0)

    @contextmanager
    def scope(self, head: str, names: Sequence[str] = (), level: int | None = None) -> Iterator[None]:
        """Write into a block of its own, within the scope at `level`."""
        whole = self.scopes
        if level is not None:
            self.scopes = whole[:level + 1]
        inner = Scope(names=set(names))
        self.scopes = [*self.scopes, inner]
        try:
            yield
        finally:
            outer = self.scopes[-2]
            self.scopes = whole
        outer.lines += [f"{head} {{", *("    " + line for line in inner.lines), "}"]

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Take everything back where `NotInReach` is raised inside."""
        scopes = [(len(s.lines), set(s.names), dict(s.known)) for s in self.scopes]
        params, slots, written, cells = dict(self.params), dict(self.slots), set(self.slots_written), dict(self.cells)
        try:
            yield
        except NotInReach:
            for s, (n, names, known) in zip(self.scopes, scopes, strict=True):
                del s.lines[n:]
                s.names, s.known = names, known
            self.params, self.slots, self.slots_written, self.cells = params, slots, written, cells
            raise

    def param(self, kind: str, what: Any, ctype: str, letter: str) -> str:
        key = kind, what
        if key not in self.params:
            name = self.name(letter)
            self.params[key] = Param(kind, what, name, f"{ctype} {name}")
        return self.params[key].name

    def pointer(self, key: Key, dtype: Any, write: bool = False) -> str:
        """Return the name of the pointer to a value in memory."""
        found = self._place(key)
        if found is None:
            raise NotInReach(key)
        kind, what = found
        const = "" if write else "const "
        ctype = f"{const}{cuda_expr.stored(dtype)}"
        if kind == "slot":
            if write:
                self.slots_written.add(what)
            return self._declared(self.slots, what, f"{ctype}* __restrict__", f"global(({ctype}*){{}}[{what}])")
        if kind == "cell":
            return self._declared(self.cells, what, f"{ctype}* const", f"({ctype}*)({{}} + {what})")
        return self.param("key", what, f"{ctype}* __restrict__", "p")

    def _declared(self, declared: dict[int, tuple[str, str]], k: int, ctype: str, text: str) -> str:
        """Return the name of what the table holds at `k`; it is declared before all else."""
        if k not in declared:
            table, name = self.param("table", None, "const u64* __restrict__", "table"), self.name("p")
            declared[k] = name, f"{ctype} {name} = {text.format(table)}"
        return declared[k][0]

    def _symbol(self, s: Symbol) -> str:
        place = self._place(s)
        if place is None:
            return self.param("size", s, "const I", "n")
        return self._declared(self.cells, place[1], "const I", f"(I){{}}[{place[1]}]")

    def size(self, n: int | Dim) -> str:
        """Return a size as a C expression."""
        if not isinstance(n, Dim):
            return str(n)
        names: dict[Symbol, str] = {s: self._symbol(s) for s in sorted(n.symbols, key=lambda s: s.uid)}
        text = n.format(names.__getitem__)
        return text if n.symbol is not None else f"({text})"

    # -- indices --------------------------------------------------------------------------------------------

    def index(self, text: str, level: int | None = None) -> str:
        """Return an index that a name stands for."""
        if _WORD.fullmatch(text) or text.isdigit():
            return text
        level = self.level([text]) if level is None else level
        known = self.scopes[level].known
        if ("index", text) not in known:
            known["index", text] = self.declare("I", "i", text, level), level
        return known["index", text][0]

    def linear(self, idx: Index, shape: Sequence[int | Dim]) -> str:
        """Return the offset of an element of a plain array."""
        if (idx, tuple(shape)) in self.flat:
            return self.flat[idx, tuple(shape)]
        text = ""
        for i, n in zip(idx, shape, strict=True):
            if n == 1:
                continue
            text = i if not text or text == "0" else f"({text} * {self.size(n)} + {i})"
        return text or "0"

    def split(self, at: str, shape: Sequence[int | Dim]) -> Index:
        """Return the index of the element that is the `at`-th of a plain array."""
        out: list[str] = []
        kept = [k for k, n in enumerate(shape) if n != 1]
        for k in range(len(shape) - 1, -1, -1):
            if shape[k] == 1:
                out.append("0")
            elif k == kept[0]:
                out.append(at)
            else:
                n = self.size(shape[k])
                out.append(self.index(f"{at} % {n}"))
                at = self.index(f"{at} / {n}")
        return tuple(reversed(out))

    # -- values ---------------------------------------------------------------------------------------------

    def know(self, node: Node, idx: Index, name: str, level: int) -> None:
        self.scopes[level].known[node, idx] = name, level

    def value(self, node: Node, idx: Index) -> str:
        """Return the name (or the literal) of an element."""
        return self._value(node, idx)[0]

    def _value(self, node: Node, idx: Index) -> tuple[str, int]:
        for s in reversed(self.scopes):
            if (node, idx) in s.known:
                return s.known[node, idx]
        if node.prim in LITERALS:
            return LITERALS[node.prim](self, node, idx)
        if self._place(node) is not None:
            return self._load(node, node, idx, self.linear(idx, node.shape))
        if node.prim.view is PART:
            return self._load(node, (node.inputs[0], node.params["index"]), idx, self.linear(idx, node.shape))
        if node.prim.view is not None:
            return self._view(node, idx)
        if node.prim.kind == "elementwise":
            return self._elementwise(node, idx)
        if node.prim in _INDEXED:
            return _INDEXED[node.prim](self, node, idx)
        raise NotInReach(node)

    def _load(self, node: Node, key: Key, idx: Index, offset: str) -> tuple[str, int]:
        pointer = self.pointer(key, node.dtype)
        level = self.level([offset])
        out = self.declare(
            cuda_expr.computed(node.dtype), "v", cuda_expr.load(f"ld({pointer}, {offset})", node.dtype), level
        )
        self.know(node, idx, out, level)
        return out, level

    def _elementwise(self, node: Node, idx: Index) -> tuple[str, int]:
        """Write what elementwise work leads to an element, operands first: chains may be long."""
        order, seen, stack = [], set(), [(node, False)]
        while stack:
            n, ready = stack.pop()
            if ready:
                order.append(n)
            elif (n not in seen and n.prim.kind == "elementwise" and self._place(n) is None
                    and not any((n, idx) in s.known for s in self.scopes)):
                if cuda_expr.kernel(n) is None:
                    raise NotInReach(n)
                seen.add(n)
                stack.append((n, True))
                stack += [(i, False) for i in n.inputs]
        for n in order:
            found = [self._value(i, idx) for i in n.inputs]
            level = max([level for _, level in found], default=0)
            out = self.declare(cuda_expr.computed(n.dtype), "v", cuda_expr.expression(n, [x for x, _ in found]), level)
            self.know(n, idx, out, level)
        return out, level

    def _view(self, node: Node, idx: Index) -> tuple[str, int]:
        source, found = node.inputs[0], window(node)
        if found is not None:
            return self._value(source, tuple(self._stepped(idx[k], start, step)
                                             for k, start, step in zip(*found, strict=True)))
        if self._place(source) is not None:  # it lies in one piece, so the offset is that in the view
            return self._load(node, source, idx, self.linear(idx, node.shape))
        return self._value(source, self._reshaped(idx, node.shape, source.shape))

    def _stepped(self, i: str, start: int | Dim, step: int) -> str:
        """Return the index ``start + step * i``."""
        if step < 0:  # the size by itself, which may be a symbol
            return self.index(f"{self.size(start + 1)} - 1 - {i if step == -1 else f'{-step} * {i}'}")
        if (start, step) == (0, 1):
            return i
        return self.index(f"{self.size(start)} + {i if step == 1 else f'{step} * {i}'}")

    def _reshaped(self, idx: Index, have: Sequence[int | Dim], want: Sequence[int | Dim]) -> Index:
        """Return the index in another shape: axes that both begin or end with keep theirs."""
        a = 0
        while a < min(len(have), len(want)) and have[a] == want[a]:
            a += 1
        b = 0
        while b < min(len(have), len(want)) - a and have[-1 - b] == want[-1 - b]:
            b += 1
        h, w = len(have) - b, len(want) - b
        middle = self.split(self.index(self.linear(idx[a:h], have[a:h])), want[a:w])
        return (*idx[:a], *middle, *idx[h:])

    # -- values behind a condition --------------------------------------------------------------------------

    def guarded(self, node: Node, idx: Index, condition: str, start: str, inside: Callable[[], str],
                otherwise: str = "") -> tuple[str, int]:
        """Write ``start``, and where the condition holds, what `inside` writes and returns."""
        level = self.level([*idx, condition])
        out = self.name("v")
        self.scopes[level].names.add(out)
        self.emit(f"{cuda_expr.computed(node.dtype)} {out} = {start};", level)
        with self.scope(f"if ({condition})", level=level):
            self.emit(f"{out} = {inside()};")
        if otherwise:
            self.emit(f"else {otherwise}", level)
        self.know(node, idx, out, level)
        return out, level

    def inner(self, text: str) -> str:
        """Return an index that only the innermost scope knows, so that nothing that needs it leaves that."""
        return self.declare("I", "i", text, len(self.scopes) - 1)

    def position(self, index: Node, at: Index, n: int | Dim) -> tuple[str, str]:
        """Return an element of an index array as a row number, and the condition that there is such a row."""
        node, where = index, at
        while added(node):
            where = tuple(where[k] for k in window(node).axes)
            node = node.inputs[0]
        if node.prim is iota and node.shape[0] == n:
            return where[0], ""
        raw, level = self._value(index, at)
        size = self.size(n)
        known = self.scopes[level].known
        if ("row", raw, size) not in known:
            signed = raw if index.dtype.kind == "u" else f"{raw} < 0 ? (i64){raw} + {size} : (i64){raw}"
            known["row", raw, size] = self.declare("i64", "i", signed, level), level
        row = known["row", raw, size][0]
        return row, f"0 <= {row} && {row} < {size}"

    def flag(self, node: Node) -> str:
        """Return the statement that reports a bad index."""
        return f"*{self.param('flag', None, 'volatile i64*', 'flag')} = {self._report(node)};"


def _gather(w: KernelWriter, node: Node, idx: Index) -> tuple[str, int]:
    x, *indices = node.inputs
    at, rest = idx[:indices[0].ndim], idx[indices[0].ndim:]
    rows = [w.position(i, at, n) for i, n in zip(indices, x.shape, strict=False)]
    condition = " && ".join(c for _, c in rows if c)
    if not condition:
        return w._value(x, (*(r for r, _ in rows), *rest))
    bad = f"({cuda_expr.computed(node.dtype)})MG_NAN" if node.type.floating else "0"
    return w.guarded(node, idx, condition, bad, lambda: w.value(
        x, (*(w.inner(f"(I){r}") if c else r for r, c in rows), *rest)), w.flag(node))


def _scatter_row(w: KernelWriter, node: Node, idx: Index) -> tuple[str, int]:
    """Write an element of a scatter that stays within its row: the sum of the row's updates that go there."""
    u, *indices = node.inputs
    if not (lockstep(node) and one_by_one(node)):
        raise NotInReach(node)
    k = indices[0].ndim
    places, rest = idx[:len(indices)], idx[len(indices):]
    level = w.level(idx)
    out = w.name("v")
    w.scopes[level].names.add(out)
    w.emit(f"{cuda_expr.computed(node.dtype)} {out} = 0;", level)
    loop = w.name("j")
    with w.scope(f"for (I {loop} = 0; {loop} < {w.size(size_of(indices[0].shape[1:]))}; {loop}++)", [loop], level):
        at = (idx[0], *w.split(loop, indices[0].shape[1:])) if k > 1 else (idx[0],)
        rows = [w.position(i, at, n) for i, n in zip(indices, node.shape, strict=False)]
        condition = " && ".join(f"{r} == {p}" for (r, _), p in list(zip(rows, places, strict=True))[1:])
        bad = [c for _, c in rows if c]
        if bad:
            w.emit(f"if (!({' && '.join(bad)})) {w.flag(node)}")
        with w.scope(f"if ({condition or 'true'})"):
            value = w.value(u, (*at, *rest))
            w.emit(f"{out} = {cuda_expr.rounded(f'{out} + {value}', node.dtype)};")
    w.know(node, idx, out, level)
    return out, level


def one_by_one(node: Node) -> bool:
    """Tell whether a row's scatter has so few updates that each place may look at all of them."""
    n = size_of(node.inputs[1].shape[1:])
    return isinstance(n, int) and n <= INLINE_UPDATES


def _concatenate(w: KernelWriter, node: Node, idx: Index) -> tuple[str, int]:
    axis = node.params["axis"]
    level = w.level(idx)
    out = w.name("v")
    w.scopes[level].names.add(out)
    w.emit(f"{cuda_expr.computed(node.dtype)} {out};", level)
    low: int | Dim = 0
    for k, x in enumerate(node.inputs):
        high = low + x.shape[axis]
        tests = [f"{w.size(low)} <= {idx[axis]}"] * bool(k) + [f"{idx[axis]} < {w.size(high)}"] * (
            k < len(node.inputs) - 1)
        with w.scope(f"if ({' && '.join(tests) or 'true'})", level=level):
            own = w.inner(f"{idx[axis]} - {w.size(low)}")
            w.emit(f"{out} = {w.value(x, (*idx[:axis], own, *idx[axis + 1:]))};")
        low = high
    w.know(node, idx, out, level)
    return out, level


def _pad(w: KernelWriter, node: Node, idx: Index) -> tuple[str, int]:
    (x,), p = node.inputs, node.params
    tests, where = [], []
    for i, n, low, high, gap in zip(idx, x.shape, p["low"], p["high"], p["interior"], strict=True):
        if (low, high, gap) == (0, 0, 0):
            where.append((i, False))
            continue
        at = f"({i} - {low})" if low else i
        tests.append(f"{i} >= {low} && {at} / {gap + 1} < {w.size(n)}")
        if gap:
            tests.append(f"{at} % {gap + 1} == 0")
        where.append((f"{at} / {gap + 1}", True))
    if not tests:
        return w._value(x, idx)
    return w.guarded(node, idx, " && ".join(tests), "0", lambda: w.value(
        x, tuple(w.inner(i) if moved else i for i, moved in where)))




# -- examples laid end to end --------------------------------------------------------------------------------


def _checked_index(w: KernelWriter, node: Node, idx: Index) -> tuple[str, int]:
    (index, a), (length, b) = (w._value(i, idx) for i in node.inputs)
    level = max(a, b)
    row = w.declare("i64", "v", f"{index} < 0 ? (i64){index} + (i64){length} : (i64){index}", level)
    w.emit(f"if (!(0 <= {row} && {row} < (i64){length})) {w.flag(node)}", level)
    w.know(node, idx, row, level)
    return row, level


def _in_range(w: KernelWriter, node: Node, idx: Index) -> tuple[str, int]:
    found, level = w._value(node.inputs[0], idx)
    size = w.size(node.params["size"])
    w.emit(f"if (!(-(i64){size} <= (i64){found} && (i64){found} < (i64){size})) {w.flag(node)}", level)
    w.know(node, idx, found, level)
    return found, level


def _nonempty(w: KernelWriter, node: Node, idx: Index) -> tuple[str, int]:
    found, level = w._value(node.inputs[0], idx)
    w.emit(f"if ({found} <= 0) {w.flag(node)}", level)
    w.know(node, idx, found, level)
    return found, level


def _segment_ids(w: KernelWriter, node: Node, idx: Index) -> tuple[str, int]:
    """Write whose a row is: the first segment that ends behind it."""
    (lengths,) = node.inputs
    level = w.level(idx)
    ends = w.pointer(("ends", lengths), np.dtype(np.uint32))
    found = f"(i64)segment_of({ends}, (I){w.size(lengths.shape[0])}, {idx[0]})"
    return w.declare("i64", "v", found, level), level


Writer = Callable[[KernelWriter, Node, Index], tuple[str, int]]
_INDEXED: dict[Primitive, Writer] = {
    gather: _gather, scatter_add: _scatter_row, concatenate: _concatenate, pad: _pad, checked_index: _checked_index,
    in_range: _in_range, nonempty: _nonempty, segment_ids: _segment_ids}
LITERALS: dict[Primitive, Writer] = {  # values that nothing stores
    full: lambda w, node, idx: (cuda_expr.literal(node.params["value"], node.dtype), 0),
    iota: lambda w, node, idx: (f"((i64){idx[0]})", w.level(idx)),
    size_: lambda w, node, idx: (f"(({cuda_expr.computed(node.dtype)}){w.size(node.params['size'])})", 0)}


def printable(node: Node) -> bool:
    """Tell whether an element of a statement can be written, once its operands can."""
    if node.prim.kind == "elementwise":
        return cuda_expr.kernel(node) is not None
    if node.prim is scatter_add:
        return lockstep(node) and one_by_one(node)
    return node.prim.kind == "leaf" or node.prim.view is not None or node.prim in _INDEXED
