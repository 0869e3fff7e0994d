"""C statements that compute one element, from a node and an index.

A value that lies in memory is loaded. Any other is computed where it is needed, by the kernel expressions of the
statements that make it; views only change the index. So values that share an index are fused, and a view costs
nothing. A statement stands in the outermost scope that knows its indices, and only once in each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

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

Index: TypeAlias = tuple[str, ...]
Key: TypeAlias = Node | tuple[object, ...]  # a node, a part of a tuple-valued node, or memory of a launch
Found: TypeAlias = tuple[str, int]  # the name of an element, and the level of the scope that declares it
_WORD = re.compile(r"[A-Za-z_]\w*")
INLINE_UPDATES = 64  # per row: each place that a row's scatter writes searches as many updates


def key_of(node: Node) -> Key:
    """Return the key of a node's memory: of its part of a tuple, for a part."""
    return (node.inputs[0], node.params["index"]) if node.prim.view is PART else node


class NotInReach(Exception):
    """A kernel needs a value that an earlier launch must compute."""


@dataclass(frozen=True)
class Slot:
    """The memory behind a pointer in the table: an argument, or a result."""

    number: int


@dataclass(frozen=True)
class Cell:
    """A number in the table."""

    number: int


Place: TypeAlias = Slot | Cell | Key  # a key stands for its memory in the arena, or for a constant


@dataclass
class Scope:
    """The statements of a kernel, a loop or a branch, and the names that they declare."""

    lines: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    known: dict[tuple[object, ...], Found] = field(default_factory=dict)


@dataclass(frozen=True)
class Param:
    """A parameter of a kernel.

    ``kind`` is ``table`` (pointers of inputs and outputs, and numbers), ``key`` (a value in the arena or a constant),
    ``size`` (a symbol), ``flag`` (the address at which a bad index is reported), ``stop`` (the address of a loop's end
    mark), or ``own`` (an argument that the launch provides).
    """

    kind: str
    content: Key | Symbol | str
    name: str
    text: str


@dataclass(frozen=True)
class Memory:
    """The places of a program's values.

    Attributes
    ----------
    place : callable
        ``place(key)`` returns the place of a value or a symbol, or None where it is not in memory. The key
        ``("to", node)`` stands for the memory that a launch writes `node` to.
    report : callable
        ``report(node)`` returns the number under which a bad index of `node` is reported.
    """

    place: Callable[[Key | Symbol], Place | None]
    report: Callable[[Node], int]


class KernelWriter:
    """A kernel while it is written."""

    def __init__(self, memory: Memory):
        self.memory = memory
        self.params: dict[tuple[str, object], Param] = {}
        self.table: dict[Slot | Cell, tuple[str, str]] = {}  # name and declaration of each word
        self.scopes = [Scope()]
        self.flat: dict[tuple[Index, tuple[int | Dim | str, ...]], str] = {}  # index, shape of the array -> offset
        self._count = 0

    # -- names, scopes, parameters --------------------------------------------------------------------------

    def name(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    def emit(self, line: str, level: int | None = None) -> None:
        self.scopes[-1 if level is None else level].lines.append(line)

    def declare(self, ctype: str, letter: str, start: str, level: int) -> str:
        """Declare a variable in a scope; `start` initializes it, as in `` = 0`` or ``{0}``."""
        name = self.name(letter)
        self.scopes[level].names.add(name)
        self.emit(f"{ctype} {name}{start};", level)
        return name

    def level(self, texts: Sequence[str]) -> int:
        """Return the outermost scope that knows all names in `texts`."""
        words = {w for text in texts for w in _WORD.findall(text)}
        return max((k for k, s in enumerate(self.scopes) if s.names & words), default=0)

    @contextmanager
    def scope(self, head: str, names: Sequence[str] = (), level: int | None = None) -> Iterator[None]:
        """Write into a block of its own, within the scope at `level`."""
        whole = self.scopes
        outer = whole[-1 if level is None else level]
        inner = Scope(names=set(names))
        self.scopes = [*(whole if level is None else whole[:level + 1]), inner]
        try:
            yield
        finally:
            self.scopes = whole
        outer.lines += [f"{head} {{", *("    " + line for line in inner.lines), "}"]

    @contextmanager
    def within(self, *scopes: Scope) -> Iterator[None]:
        """Write into scopes that the kernel places later; take everything back where `NotInReach` is raised inside."""
        whole, self.scopes = self.scopes, [self.scopes[0], *scopes]
        before = [(len(s.lines), set(s.names), dict(s.known)) for s in self.scopes]
        params, table = dict(self.params), dict(self.table)
        try:
            yield
        except NotInReach:
            for s, (n, names, known) in zip(self.scopes, before, strict=True):
                del s.lines[n:]
                s.names, s.known = names, known
            self.params, self.table = params, table
            raise
        finally:
            self.scopes = whole

    def param(self, kind: str, content: Key | Symbol | str, ctype: str, letter: str) -> str:
        """Return the name of a parameter, which is added where it is new."""
        key = kind, content
        if key not in self.params:
            name = self.name(letter)
            self.params[key] = Param(kind, content, name, f"{ctype} {name}")
        return self.params[key].name

    def pointer(self, key: Key, dtype: np.dtype, write: bool = False) -> str:
        """Return the name of the pointer to a value in memory."""
        place = self.memory.place(key)
        assert place is not None, key
        ctype = f"{'' if write else 'const '}{cuda_expr.stored(dtype)}"
        if isinstance(place, Slot):
            return self._from_table(place, f"{ctype}* __restrict__", f"global(({ctype}*){{}}[{place.number}])")
        if isinstance(place, Cell):
            return self._from_table(place, f"{ctype}* const", f"({ctype}*)({{}} + {place.number})")
        return self.param("key", place, f"{ctype}* __restrict__", "p")

    def _from_table(self, place: Slot | Cell, ctype: str, text: str) -> str:
        """Return the name of the table's content at a place; its declaration precedes all others."""
        if place not in self.table:
            table, name = self.param("table", "", "const u64* __restrict__", "table"), self.name("p")
            self.table[place] = name, f"{ctype} {name} = {text.format(table)}"
        return self.table[place][0]

    def _symbol(self, s: Symbol) -> str:
        place = self.memory.place(s)
        if isinstance(place, Cell):
            return self._from_table(place, "const I", f"(I){{}}[{place.number}]")
        return self.param("size", s, "const I", "n")

    def size(self, n: int | Dim | str) -> str:
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
            known["index", text] = self.declare("const I", "i", f" = {text}", level), level
        return known["index", text][0]

    def linear(self, idx: Index, shape: Sequence[int | Dim | str]) -> str:
        """Return the offset of an element of a plain array; sizes may be C expressions."""
        if (idx, tuple(shape)) in self.flat:
            return self.flat[idx, tuple(shape)]
        text = ""
        for i, n in zip(idx, shape, strict=True):
            if n == 1:
                continue
            text = i if not text or text == "0" else f"({text} * {self.size(n)} + {i})"
        return text or "0"

    def split(self, position: str, shape: Sequence[int | Dim | str]) -> Index:
        """Return the index of the element at a position of a plain array; sizes may be C expressions."""
        out: list[str] = []
        kept = [k for k, n in enumerate(shape) if n != 1]
        for k in range(len(shape) - 1, -1, -1):
            if shape[k] == 1:
                out.append("0")
            elif k == kept[0]:
                out.append(position)
            else:
                n = self.size(shape[k])
                out.append(self.index(f"{position} % {n}"))
                position = self.index(f"{position} / {n}")
        return tuple(reversed(out))

    # -- values ---------------------------------------------------------------------------------------------

    def know(self, node: Node, idx: Index, name: str, level: int) -> Found:
        """Note the name of an element, and return it with the level of its scope."""
        self.scopes[level].known[node, idx] = element = name, level
        return element

    def computed(self, node: Node, idx: Index, text: str, level: int) -> Found:
        """Declare the value of an element in a scope."""
        out = self.declare(f"const {cuda_expr.computed(node.dtype)}", "v", f" = {text}", level)
        return self.know(node, idx, out, level)

    def value(self, node: Node, idx: Index) -> str:
        """Return the name (or the literal) of an element."""
        return self.find(node, idx)[0]

    def find(self, node: Node, idx: Index) -> Found:
        """Return the name (or the literal) of an element, and the level of the scope that knows it."""
        for s in reversed(self.scopes):
            if (node, idx) in s.known:
                return s.known[node, idx]
        if node.prim in LITERALS:
            return LITERALS[node.prim](self, node, idx)
        if self.memory.place(key := key_of(node)) is not None:
            return self._load(node, key, idx, self.linear(idx, node.shape))
        if node.prim.view is not None:
            return self._view(node, idx)
        if node.prim.kind == "elementwise":
            return self._elementwise(node, idx)
        if node.prim in INDEXED:
            return INDEXED[node.prim](self, node, idx)
        raise NotInReach(node)

    def _load(self, node: Node, key: Key, idx: Index, offset: str) -> Found:
        pointer = self.pointer(key, node.dtype)
        return self.computed(node, idx, cuda_expr.load(f"ld({pointer}, {offset})", node.dtype), self.level([offset]))

    def _elementwise(self, node: Node, idx: Index) -> Found:
        """Write the elementwise statements that lead to an element, operands first: chains may be long."""
        order: list[Node] = []
        seen: set[Node] = set()
        stack = [(node, False)]
        while stack:
            n, ready = stack.pop()
            if ready:
                order.append(n)
            elif (n not in seen and n.prim.kind == "elementwise" and self.memory.place(n) is None
                    and not any((n, idx) in s.known for s in self.scopes)):
                seen.add(n)
                stack.append((n, True))
                stack += [(i, False) for i in n.inputs]
        for n in order:
            operands = [self.find(i, idx) for i in n.inputs]
            level = max([level for _, level in operands], default=0)
            last = self.computed(n, idx, cuda_expr.expression(n, [x for x, _ in operands]), level)
        return last

    def _view(self, node: Node, idx: Index) -> Found:
        source, view = node.inputs[0], window(node)
        if view is not None:
            return self.find(source, tuple(self._stepped(idx[k], start, step)
                                             for k, start, step in zip(*view, strict=True)))
        if self.memory.place(source) is not None:  # it lies in one piece, so the offset is that in the view
            return self._load(node, source, idx, self.linear(idx, node.shape))
        return self.find(source, self._reshaped(idx, node.shape, source.shape))

    def _stepped(self, i: str, start: int | Dim, step: int) -> str:
        """Return the index ``start + step * i``."""
        if step < 0:  # the size by itself, which may be a symbol
            return self.index(f"{self.size(start + 1)} - 1 - {i if step == -1 else f'{-step} * {i}'}")
        if (start, step) == (0, 1):
            return i
        return self.index(f"{self.size(start)} + {i if step == 1 else f'{step} * {i}'}")

    def _reshaped(self, idx: Index, source: Sequence[int | Dim], target: Sequence[int | Dim]) -> Index:
        """Return the index in another shape: axes that both begin or end with keep theirs."""
        a = 0
        while a < min(len(source), len(target)) and source[a] == target[a]:
            a += 1
        b = 0
        while b < min(len(source), len(target)) - a and source[-1 - b] == target[-1 - b]:
            b += 1
        m, n = len(source) - b, len(target) - b
        middle = self.split(self.index(self.linear(idx[a:m], source[a:m])), target[a:n])
        return (*idx[:a], *middle, *idx[m:])

    # -- values behind a condition --------------------------------------------------------------------------

    def variable(self, node: Node, start: str, level: int) -> str:
        """Declare a variable for an element of a node."""
        return self.declare(cuda_expr.computed(node.dtype), "v", start, level)

    def guarded(self, node: Node, idx: Index, condition: str, start: str, inside: Callable[[], str],
                otherwise: str = "") -> Found:
        """Write ``start``, and where the condition holds, the text that `inside` writes and returns."""
        level = self.level([*idx, condition])
        out = self.variable(node, f" = {start}", level)
        with self.scope(f"if ({condition})", level=level):
            self.emit(f"{out} = {inside()};")
        if otherwise:
            self.emit(f"else {otherwise}", level)
        return self.know(node, idx, out, level)

    def inner(self, text: str) -> str:
        """Return an index that only the innermost scope knows, so that statements that need it stay there."""
        return self.declare("const I", "i", f" = {text}", len(self.scopes) - 1)

    def position(self, index: Node, idx: Index, n: int | Dim) -> tuple[str, str]:
        """Return an element of an index array as a row number, and the condition that the row exists."""
        node, own = index, idx
        while added(node) and (view := window(node)) is not None:
            node, own = node.inputs[0], tuple(own[k] for k in view.axes)
        if node.prim is iota and node.shape[0] == n:
            return own[0], ""
        raw, level = self.find(index, idx)
        size = self.size(n)
        known = self.scopes[level].known
        if ("row", raw, size) not in known:
            signed = raw if index.dtype.kind == "u" else f"{raw} < 0 ? (i64){raw} + {size} : (i64){raw}"
            known["row", raw, size] = self.declare("const i64", "i", f" = {signed}", level), level
        row = known["row", raw, size][0]
        return row, f"0 <= {row} && {row} < {size}"

    def flag(self, node: Node) -> str:
        """Return the statement that reports a bad index."""
        return f"*{self.param('flag', '', 'volatile i64*', 'flag')} = {self.memory.report(node)};"


def _gather(w: KernelWriter, node: Node, idx: Index) -> Found:
    x, *indices = node.inputs
    place, inner = idx[:indices[0].ndim], idx[indices[0].ndim:]
    rows = [w.position(i, place, n) for i, n in zip(indices, x.shape, strict=False)]
    condition = " && ".join(c for _, c in rows if c)
    if not condition:
        return w.find(x, (*(r for r, _ in rows), *inner))
    bad = f"({cuda_expr.computed(node.dtype)})MG_NAN" if node.type.floating else "0"
    return w.guarded(node, idx, condition, bad, lambda: w.value(
        x, (*(w.inner(f"(I){r}") if c else r for r, c in rows), *inner)), w.flag(node))


def _scatter_row(w: KernelWriter, node: Node, idx: Index) -> Found:
    """Write an element of a scatter that stays within its row: the sum of the row's updates to that place."""
    u, *indices = node.inputs
    k = indices[0].ndim
    places, inner = idx[:len(indices)], idx[len(indices):]
    level = w.level(idx)
    out = w.variable(node, " = 0", level)
    loop = w.name("j")
    with w.scope(f"for (I {loop} = 0; {loop} < {w.size(size_of(indices[0].shape[1:]))}; {loop}++)", [loop], level):
        update = (idx[0], *w.split(loop, indices[0].shape[1:])) if k > 1 else (idx[0],)
        rows = [w.position(i, update, n) for i, n in zip(indices, node.shape, strict=False)]
        condition = " && ".join(f"{r} == {p}" for (r, _), p in list(zip(rows, places, strict=True))[1:])
        bad = [c for _, c in rows if c]
        if bad:
            w.emit(f"if (!({' && '.join(bad)})) {w.flag(node)}")
        with w.scope(f"if ({condition or 'true'})"):
            value = w.value(u, (*update, *inner))
            w.emit(f"{out} = {cuda_expr.rounded(f'{out} + {value}', node.dtype)};")
    return w.know(node, idx, out, level)


def _concatenate(w: KernelWriter, node: Node, idx: Index) -> Found:
    axis = node.params["axis"]
    level = w.level(idx)
    out = w.variable(node, "", level)
    low: int | Dim = 0
    for k, x in enumerate(node.inputs):
        high = low + x.shape[axis]
        tests = [f"{w.size(low)} <= {idx[axis]}"] * bool(k) + [f"{idx[axis]} < {w.size(high)}"] * (
            k < len(node.inputs) - 1)
        with w.scope(f"if ({' && '.join(tests) or 'true'})", level=level):
            own = w.inner(f"{idx[axis]} - {w.size(low)}")
            w.emit(f"{out} = {w.value(x, (*idx[:axis], own, *idx[axis + 1:]))};")
        low = high
    return w.know(node, idx, out, level)


def _pad(w: KernelWriter, node: Node, idx: Index) -> Found:
    (x,), p = node.inputs, node.params
    tests: list[str] = []
    own: list[tuple[str, bool]] = []  # the index in the operand, and whether it is another one
    for i, n, low, high, gap in zip(idx, x.shape, p["low"], p["high"], p["interior"], strict=True):
        if (low, high, gap) == (0, 0, 0):
            own.append((i, False))
            continue
        shifted = f"({i} - {low})" if low else i
        tests.append(f"{i} >= {low} && {shifted} / {gap + 1} < {w.size(n)}")
        if gap:
            tests.append(f"{shifted} % {gap + 1} == 0")
        own.append((f"{shifted} / {gap + 1}", True))
    return w.guarded(node, idx, " && ".join(tests) or "true", "0", lambda: w.value(
        x, tuple(w.inner(i) if moved else i for i, moved in own)))


# -- examples laid end to end --------------------------------------------------------------------------------


def _checked(w: KernelWriter, node: Node, idx: Index, text: str, level: int, bad: str) -> Found:
    """Know the name `text` as an element, after a report where it is `bad`."""
    w.emit(f"if ({bad}) {w.flag(node)}", level)
    return w.know(node, idx, text, level)


def _checked_index(w: KernelWriter, node: Node, idx: Index) -> Found:
    (index, a), (length, b) = (w.find(i, idx) for i in node.inputs)
    level = max(a, b)
    row = w.declare("const i64", "v", f" = {index} < 0 ? (i64){index} + (i64){length} : (i64){index}", level)
    return _checked(w, node, idx, row, level, f"!(0 <= {row} && {row} < (i64){length})")


def _in_range(w: KernelWriter, node: Node, idx: Index) -> Found:
    (x, level), size = w.find(node.inputs[0], idx), w.size(node.params["size"])
    return _checked(w, node, idx, x, level, f"!(-(i64){size} <= (i64){x} && (i64){x} < (i64){size})")


def _nonempty(w: KernelWriter, node: Node, idx: Index) -> Found:
    x, level = w.find(node.inputs[0], idx)
    return _checked(w, node, idx, x, level, f"{x} <= 0")


def _segment_ids(w: KernelWriter, node: Node, idx: Index) -> Found:
    """Write the segment of a row: the first one that ends behind it."""
    (lengths,) = node.inputs
    level = w.level(idx)
    ends = w.pointer(("ends", lengths), np.dtype(np.uint32))
    text = f" = (i64)segment_of({ends}, (I){w.size(lengths.shape[0])}, {idx[0]})"
    return w.declare("const i64", "v", text, level), level


Writer: TypeAlias = Callable[[KernelWriter, Node, Index], Found]
INDEXED: dict[Primitive, Writer] = {
    gather: _gather, scatter_add: _scatter_row, concatenate: _concatenate, pad: _pad, checked_index: _checked_index,
    in_range: _in_range, nonempty: _nonempty, segment_ids: _segment_ids}
LITERALS: dict[Primitive, Writer] = {  # values that are never stored
    full: lambda w, node, idx: (cuda_expr.literal(node.params["value"], node.dtype), 0),
    iota: lambda w, node, idx: (f"((i64){idx[0]})", w.level(idx)),
    size_: lambda w, node, idx: (f"(({cuda_expr.computed(node.dtype)}){w.size(node.params['size'])})", 0)}


def printable(node: Node) -> bool:
    """Return whether an element of a statement can be written, once its operands can."""
    if node.prim.kind == "elementwise":
        return cuda_expr.kernel(node) is not None
    if node.prim is scatter_add:
        n = size_of(node.inputs[1].shape[1:])
        return lockstep(node) and isinstance(n, int) and n <= INLINE_UPDATES
    return node.prim.kind == "leaf" or node.prim.view is not None or node.prim in INDEXED
