"""A packed scan whose body is native throughout, as a step: a loop over the steps of bodies, without Python.

The step sorts the examples by their lengths, and runs at each turn the body that is bound to the number of examples
that still run. Before a body runs, the rows of its examples are copied side by side, and afterwards the rows of its
results go to their places. The lengths may be results of the program, so the body of a packed scan may hold another.

A table lists the bodies by number of examples, with the sizes that each is bound to (`..packed_scan.Bodies`). Python
enters a body that is missing, or bound to other sizes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from ....graph import Node
from ....immutable import Record
from ....ops.cuts import symbol_of
from ....ops.packed_scan import rows_of
from ....ops.packed_steps import Size, inside, of_batch, of_steps
from ....ops.subgraph import signature
from ....symbolic import Dim, Symbol, monomials, size_of
from ..codegen.emit import Emitter
from ..llvm import ir
from ..llvm.builder import ONE, at, most
from ..llvm.values import I1, I8, I64, PTR, VOID, declared
from ..runtime import runner
from ..runtime.cache import CodeRequest, generated, object_code
from ..runtime.jit import load

# At the head of an argument block; behind it are the addresses of the lengths, the kinds of rows, their factors, and
# the values of each role.
(_EXAMPLES, _REVERSE, _ONCE, _TOTAL, _SYMBOLS, _KINDS, _BODIES, _FLAG, _INTS, _COUNTS, _HEAD) = (
    0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 16)
_PLACE, _KIND = 2, 2  # numbers of a place in memory, and of the sizes of a kind
_FIXED, _SHARED, _CARRIED, _READ, _WRITTEN, _SUM = 3, 7, 12, 7, 8, 8  # numbers of each value of a role
_SPARE = 3  # integers of the counts beside one for each step
# The head of the table of bodies, and of the entry of one.
ENTRIES, CALL, WANTED, SIZES = 0, 1, 2, 3

Token = int | tuple[str | Node | int, ...]  # a formula, or the key of a place in memory
FLOATS = {"float32": 4, "float64": 8}


class Layout(Record):
    """A packed scan before sizes are known.

    Attributes
    ----------
    tokens : list of Token
        The argument block. The keys of places are ``("operand", i)``, ``("part", node, i)`` and ``("turn", node, i)``.
    rooms : list of (int or Dim)
        The bytes of each ``("turn", node, i)``.
    """

    tokens: list[Token]
    rooms: list[Size]


def unable(node: Node) -> str | None:
    """Return why a packed scan with a native body cannot be a step, or None."""
    symbols, body = inside(node.params["packed"]), node.params["body"]
    kinds = [n for o in (*body.inputs, *body.outputs) if (n := rows_of(o.types[0], symbols)) is not None]
    if any(len(m) != 1 or m[0] not in symbols for n in kinds for m, _ in monomials(n)):
        return "packed_scan of rows that are no sum of those of the examples"
    for o in signature(node).ends(body.outputs)[1]:
        if rows_of(o.types[0], symbols) is None and o.dtype.name not in (*FLOATS, "int8"):  # int8: zeros of checks
            return f"packed_scan that sums {o.dtype}"
    return None


def layout(node: Node, formula: Callable[[Size], int], bodies: int, flag: int) -> Layout:
    """Return the argument block of a packed scan.

    Parameters
    ----------
    node : Node
    formula : callable
        Enters a size into the table of sizes.
    bodies, flag : int
        The bases of the table of bodies, and of the flag of an index out of range.
    """
    p, roles = node.params, signature(node)
    packed, inputs, outputs = p["packed"], p["body"].inputs, p["body"].outputs
    symbols, whole, total = inside(packed), of_batch(packed), of_steps(packed)
    rows = {n: rows_of(n.types[0], symbols) for n in (*inputs, *outputs)}
    kinds = list(dict.fromkeys([*(n for n, _, _ in packed), *(n for n in rows.values() if n is not None)]))
    rooms: list[Size] = [8 * (packed[0][2] + _SPARE + packed[0][1] + (3 * packed[0][1] + 2) * len(kinds))]

    def numbers(*sizes: Size) -> list[Token]:
        return [formula(n) for n in sizes]

    def room(n: Node) -> Token:
        kind, (t,) = rows[n], n.types
        lead = () if kind is None else (kind.replace(whole),)
        rooms.append(size_of((*lead, *t.shape[t.ndim and kind is not None:])) * t.dtype.itemsize)
        return "turn", node, len(rooms) - 1

    def operand(i: int) -> Token:
        return "operand", i

    def part(k: int) -> Token:
        return "part", node, k

    def of_rows(n: Node) -> list[Token]:
        kind, (t,) = rows[n], n.types
        assert kind is not None
        return numbers(kinds.index(kind), size_of(t.shape[1:]) * t.dtype.itemsize)

    first_output = 2 + len(inputs)
    values: list[list[list[Token]]] = [[[formula(flag), ("flag",)]], [], [], [], [], []]
    fixed, shared, carried, read, written, sums = values
    for i, n in enumerate(inputs):
        slot, place = formula(2 + i), operand(i)
        if i >= roles.n_shared + roles.n_carry:
            read.append([slot, place, room(n), *of_rows(n)])
        elif i >= roles.n_shared:
            k = i - roles.n_shared
            carried.append([slot, formula(first_output + k), place, part(k), room(n), room(n), *of_rows(n)])
        elif rows[n] is None:
            fixed.append([slot, place])
        else:
            shared.append([slot, place, room(n), *of_rows(n)])
    for k, (n, t) in enumerate(zip(outputs, node.types, strict=True)):
        slot, place, nbytes = formula(first_output + k), part(k), size_of(t.shape) * t.dtype.itemsize
        if k < roles.n_carry:
            continue
        if rows[n] is None:
            sums.append([slot, place, room(n), *numbers(size_of(t.shape), FLOATS.get(t.dtype.name, 0), nbytes)])
        else:
            written.append([slot, place, room(n), *of_rows(n), formula(nbytes)])
    return Layout([
        *numbers(packed[0][1], p["reverse"], p["once"], packed[0][2], len(packed), len(kinds), bodies, flag),
        ("turn", node, 0), *numbers(*map(len, values)), *map(operand, range(len(packed))),
        *(token for n in kinds for token in numbers(n.replace(whole), _total(n, total))),
        *(formula(n) for kind in kinds for n in _factors(kind, [n for n, _, _ in packed])),
        *(token for role in values for value in role for token in value)], rooms)


def _total(n: Dim, total: Mapping[Symbol, Size]) -> Size:
    """Return the rows of all steps, or -1 if the batch does not know their number."""
    return n.replace(total) if n.symbols <= total.keys() else -1


def _factors(n: Dim, sizes: list[Dim]) -> list[int]:
    """Return the factor of each symbol in a number of rows."""
    terms = dict(monomials(n))
    return [terms.get((symbol_of(size),), 0) for size in sizes]


def code_request() -> CodeRequest:
    """Return the request for the code of `step`."""
    return generated("packed_scan", lambda: (_PackedScan("packed_scan").write(), None))


@functools.cache
def step() -> int:
    """Return the address of the step that runs a packed scan."""
    return load([object_code(code_request())], runner.symbols(), keep=True).address("mg_packed_scan")


class _Kind(Record):
    """The rows of a kind: where those of each example begin.

    Attributes
    ----------
    whole, sliced : ir.Value
        In the array of all examples, by example, and in the array of all steps.
    near : ir.Value
        Side by side, by rank.
    """

    whole: ir.Value
    sliced: ir.Value
    near: ir.Value


class _PackedScan(Emitter):
    """Writes the step; ranks are the places of examples in the order of their lengths, the longest first."""

    def write(self) -> str:
        """Return the module's text."""
        with self.step("mg_packed_scan"):
            b = self.b
            self.examples, self.total, self.n_symbols = (self.number(i) for i in (_EXAMPLES, _TOTAL, _SYMBOLS))
            self.only_once = self.e.icmp_signed("!=", self.number(_ONCE), I64(0))
            self.ints = self.address(_INTS)
            self.order = self.element(self.ints, b.add(self.total, I64(_SPARE)), 8)
            self.valid, self.last = self.variable(I1(1)), self.variable(I64(0))
            self.kinds = b.add(I64(_HEAD), b.mul(self.n_symbols, I64(_PLACE)))
            self.factors = b.add(self.kinds, b.mul(self.number(_KINDS), I64(_KIND)))
            self.lengths = self._place(I64(_HEAD))
            self._read_lengths()
            with self.counting(I64(0), self.number(_KINDS)) as k:
                self._place_rows(k)
            with b.if_else(self.get(self.valid)) as (valid, wrong):
                with valid:
                    self._sort()
                    with self.counting(I64(0), self.number(_KINDS)) as k:
                        self._place_near(k)
                    self._run()
                with wrong:
                    b.store(ONE, self.base(self.number(_FLAG)), align=8)
        return str(self.module)

    # -- the order of the examples -------------------------------------------------------------------------

    def _require(self, condition: ir.Value) -> None:
        self.b.store(self.b.and_(self.get(self.valid), condition), self.valid)

    def _read_lengths(self) -> None:
        """Find the number of steps, and whether the lengths are those of the arrays: others would leave the memory."""
        b = self.b
        most_steps = b.select(self.only_once, ONE, self.total)
        together = self.variable(I64(0))
        with self.counting(I64(0), self.examples) as e:
            n = self._at(self.lengths, e)
            self._require(b.icmp_unsigned("<=", n, most_steps))
            b.store(most(b, self.get(self.last), n), self.last)
            b.store(b.add(self.get(together), n), together)
        self._require(b.or_(self.only_once, b.icmp_signed("==", self.get(together), self.total)))

    def _place_rows(self, k: ir.Value) -> None:
        """Add up the rows of a kind, example by example."""
        b, kind = self.b, self._kind(k)
        whole, sliced = self.variable(I64(0)), self.variable(I64(0))
        sizes = b.add(self.kinds, b.mul(k, I64(_KIND)))
        with self.counting(I64(0), self.examples) as e:
            rows = self.variable(I64(0))
            with self.counting(I64(0), self.n_symbols) as s:
                factor = self._field(b.add(self.factors, b.add(b.mul(k, self.n_symbols), s)))
                place = self._place(b.add(I64(_HEAD), b.mul(s, I64(_PLACE))))
                each = b.select(b.icmp_signed("==", s, I64(0)), ONE, self._at(place, e))
                self._require(b.icmp_signed(">=", each, I64(0)))
                b.store(b.add(self.get(rows), b.mul(factor, each)), rows)
            n = self.get(rows)
            self._require(b.icmp_signed(">=", n, I64(0)))
            self._set(kind.whole, e, self.get(whole))
            self._set(kind.sliced, e, self.get(sliced))
            b.store(b.add(self.get(whole), n), whole)
            steps = b.select(self.only_once, ONE, self._at(self.lengths, e))
            b.store(b.add(self.get(sliced), b.mul(n, steps)), sliced)
        self._set(kind.whole, self.examples, self.get(whole))
        self._require(b.icmp_signed("==", self.get(whole), self._field(sizes)))
        known = self._field(b.add(sizes, ONE))
        self._require(b.or_(b.icmp_signed("<", known, I64(0)), b.icmp_signed("==", self.get(sliced), known)))

    def _sort(self) -> None:
        """Sort the examples by length, the longest first: afterwards `ints` counts those that reach each step."""
        b, end = self.b, self.b.add(self.get(self.last), I64(2))
        with self.counting(I64(0), end) as n:
            self._set(self.ints, n, I64(0))
        with self.counting(I64(0), self.examples) as e:
            n = self._at(self.lengths, e)
            self._set(self.ints, n, b.add(self._at(self.ints, n), ONE))
        longer = self.variable(I64(0))
        with self.counting(I64(0), end) as i:
            n = b.sub(b.sub(end, ONE), i)
            count = self._at(self.ints, n)
            self._set(self.ints, n, self.get(longer))
            b.store(b.add(self.get(longer), count), longer)
        with self.counting(I64(0), self.examples) as e:
            n = self._at(self.lengths, e)
            rank = self._at(self.ints, n)
            self._set(self.order, rank, e)
            self._set(self.ints, n, b.add(rank, ONE))

    def _place_near(self, k: ir.Value) -> None:
        b, kind = self.b, self._kind(k)
        self._set(kind.near, I64(0), I64(0))
        with self.counting(I64(0), self.examples) as rank:
            e = self._at(self.order, rank)
            rows = b.sub(self._at(kind.whole, b.add(e, ONE)), self._at(kind.whole, e))
            self._set(kind.near, b.add(rank, ONE), b.add(self._at(kind.near, rank), rows))

    # -- the turns -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        b, first, starts = self.b, self.factors, []
        first = b.add(first, b.mul(self.number(_KINDS), self.n_symbols))
        for i, size in enumerate((_FIXED, _SHARED, _CARRIED, _READ, _WRITTEN, _SUM)):
            count = self.number(_COUNTS + i)
            starts.append((first, count, size))
            first = b.add(first, b.mul(count, I64(size)))
        fixed, shared, carried, read, written, sums = starts
        last = self.get(self.last)
        reverse = self.e.icmp_signed("!=", self.number(_REVERSE), I64(0))
        for v in self._values(shared):
            self._copy_whole(v, 5, self._place(b.add(v, ONE)), self._place(b.add(v, I64(3))))
        for v in self._values(carried):
            for at_room in (6, 8):  # examples that begin later find their start in either
                self._copy_whole(v, 10, self._place(b.add(v, I64(2))), self._place(b.add(v, I64(at_room))))
        for v in self._values(written):
            with b.if_then(self.only_once):
                self._clear(self._place(b.add(v, ONE)), self._field(b.add(v, I64(7))))
        for v in self._values(sums):
            self._clear(self._place(b.add(v, ONE)), self._field(b.add(v, I64(7))))
        with self.counting(I64(0), last) as turn:
            t = b.select(reverse, b.sub(b.sub(last, ONE), turn), turn)
            active = self._at(self.ints, b.add(t, ONE))
            entry = self._body(active)
            own = self._pointer(self._at(entry, I64(2)))
            self._hand_over(own, turn, t, active, (fixed, shared, carried, read, written, sums))
            run = declared(self.module, "mg_steps", VOID, [PTR, I64, PTR])
            b.call(run, [self._pointer(self._at(entry, I64(0))), self._at(entry, ONE), own])
            for v in self._values(written):
                self._copy_step(v, 5, t, active, self._place(b.add(v, ONE)), self._place(b.add(v, I64(3))), False)
            for v in self._values(sums):
                self._add(v)
        for v in self._values(carried):
            self._end(v, last, reverse)

    def _body(self, active: ir.Value) -> ir.Value:
        """Return the entry of the body for some running examples, which Python makes if there is none."""
        b, table = self.b, self.base(self.number(_BODIES))
        size = b.mul(active, b.add(self.n_symbols, I64(SIZES)))
        entry = self.element(self._pointer(self._at(table, I64(ENTRIES))), size, 8)
        fits = self.variable(I1(1))
        b.store(b.icmp_signed("!=", self._at(entry, I64(0)), I64(0)), fits)
        with self.counting(I64(0), self.n_symbols) as s:
            rows = self._at(self._kind(s).near, active)
            self._set(table, b.add(s, I64(WANTED)), rows)
            b.store(b.and_(self.get(fits), b.icmp_signed("==", rows, self._at(entry, b.add(s, I64(SIZES))))), fits)
        with b.if_then(b.not_(self.get(fits)), likely=False):
            call = b.load(self.element(table, I64(CALL), 8), typ=ir.FunctionType(VOID, [I64]).as_pointer())
            b.call(call, [active])
        return self.element(self._pointer(self._at(table, I64(ENTRIES))), size, 8)

    def _hand_over(self, own: ir.Value, turn: ir.Value, t: ir.Value, active: ir.Value,
                   roles: tuple[tuple[ir.Value, ir.Value, int], ...]) -> None:
        """Enter the addresses of all values into the body's bases, and copy the slices of the step."""
        b = self.b
        fixed, shared, carried, read, written, sums = roles
        for v in self._values(fixed):
            self._put(own, v, 0, self._place(b.add(v, ONE)))
        for role in (shared, written, sums):
            for v in self._values(role):
                self._put(own, v, 0, self._place(b.add(v, I64(3))))
        second = b.icmp_signed("==", b.and_(turn, ONE), ONE)
        for v in self._values(carried):
            rooms = self._place(b.add(v, I64(6))), self._place(b.add(v, I64(8)))
            self._put(own, v, 0, b.select(second, rooms[1], rooms[0]))
            self._put(own, v, 1, b.select(second, rooms[0], rooms[1]))
        for v in self._values(read):
            room = self._place(b.add(v, I64(3)))
            self._put(own, v, 0, room)
            self._copy_step(v, 5, t, active, self._place(b.add(v, ONE)), room, True)

    def _end(self, v: ir.Value, last: ir.Value, reverse: ir.Value) -> None:
        """Copy the last carry of each example to its place, from the room that its last turn wrote."""
        b = self.b
        kind, width = self._kind(self._field(b.add(v, I64(10)))), self._field(b.add(v, I64(11)))
        result, *rooms = (self._place(b.add(v, I64(i))) for i in (4, 6, 8))
        with self._ranks(kind, width, self.examples) as (e, near, nbytes):
            turns = b.select(reverse, last, self._at(self.lengths, e))
            second = b.icmp_signed("==", b.and_(turns, ONE), ONE)
            room = b.select(second, rooms[1], rooms[0])
            self._copy(at(b, result, b.mul(self._at(kind.whole, e), width)), at(b, room, near), nbytes)

    # -- rows --------------------------------------------------------------------------------------------------

    @contextmanager
    def _ranks(self, kind: _Kind, width: ir.Value, count: ir.Value
               ) -> Iterator[tuple[ir.Value, ir.Value, ir.Value]]:
        """Write a loop over the first ranks: yield the example, and the begin and size of its rows nearby, in bytes."""
        b = self.b
        with self.counting(I64(0), count) as rank:
            near, after = self._at(kind.near, rank), self._at(kind.near, b.add(rank, ONE))
            yield self._at(self.order, rank), b.mul(near, width), b.mul(b.sub(after, near), width)

    def _copy_whole(self, v: ir.Value, field: int, whole: ir.Value, room: ir.Value) -> None:
        """Copy the rows of all examples side by side, by rank."""
        b = self.b
        kind, width = self._kind(self._field(b.add(v, I64(field)))), self._field(b.add(v, I64(field + 1)))
        with self._ranks(kind, width, self.examples) as (e, start, nbytes):
            self._copy(at(b, room, start), at(b, whole, b.mul(self._at(kind.whole, e), width)), nbytes)

    def _copy_step(self, v: ir.Value, field: int, t: ir.Value, active: ir.Value, sliced: ir.Value, room: ir.Value,
                   near: bool) -> None:
        """Copy the rows of one step between their places and the memory of the body."""
        b = self.b
        kind, width = self._kind(self._field(b.add(v, I64(field)))), self._field(b.add(v, I64(field + 1)))
        with self._ranks(kind, width, active) as (e, start, nbytes):
            far = b.add(b.mul(self._at(kind.sliced, e), width), b.mul(t, nbytes))
            ends = at(b, room, start), at(b, sliced, far)
            self._copy(*(ends if near else ends[::-1]), nbytes)

    def _copy(self, to: ir.Value, source: ir.Value, nbytes: ir.Value) -> None:
        memcpy = self.intrinsic("llvm.memcpy.p0.p0.i64", VOID, [PTR, PTR, I64, I1])
        self.b.call(memcpy, [to, source, nbytes, I1(0)])

    def _clear(self, place: ir.Value, nbytes: ir.Value) -> None:
        self.b.call(self.intrinsic("llvm.memset.p0.i64", VOID, [PTR, I8, I64, I1]), [place, I8(0), nbytes, I1(0)])

    def _add(self, v: ir.Value) -> None:
        """Add the result of a step to a sum."""
        b = self.b
        total, x = self._place(b.add(v, ONE)), self._place(b.add(v, I64(3)))
        count, itemsize = self._field(b.add(v, I64(5))), self._field(b.add(v, I64(6)))
        for size, kind in ((8, ir.DoubleType()), (4, ir.FloatType())):
            with b.if_then(b.icmp_signed("==", itemsize, I64(size))), self.counting(I64(0), count) as i:
                place = self.element(total, i, size)
                b.store(b.fadd(b.load(place, typ=kind), b.load(self.element(x, i, size), typ=kind)), place)

    # -- numbers ---------------------------------------------------------------------------------------------

    def _values(self, role: tuple[ir.Value, ir.Value, int]) -> Iterator[ir.Value]:
        """Write a loop over the values of a role: yield the position of the numbers of each."""
        first, count, size = role
        with self.counting(I64(0), count) as i:
            yield self.b.add(first, self.b.mul(i, I64(size)))

    def _kind(self, k: ir.Value) -> _Kind:
        """Return the places of the rows of a kind."""
        b, n = self.b, self.examples
        first = self.element(self.order, b.add(n, b.mul(k, b.add(b.mul(n, I64(3)), I64(2)))), 8)
        whole = b.add(n, ONE)
        return _Kind(first, self.element(first, whole, 8), self.element(first, b.add(whole, n), 8))

    def _field(self, position: ir.Value) -> ir.Value:
        """Return a number of the argument block."""
        return self._at(self.args, position)

    def _place(self, position: ir.Value) -> ir.Value:
        """Return the address that two numbers of the argument block stand for."""
        b = self.b
        base = b.load(self.element(self.bases, self._field(position), 8), typ=PTR)
        return at(b, base, self._field(b.add(position, ONE)))

    def _put(self, own: ir.Value, v: ir.Value, i: int, address: ir.Value) -> None:
        """Enter an address into the body's bases, at the place that a number of the value names."""
        self.b.store(address, self.element(own, self._field(self.b.add(v, I64(i))), 8))

    def _at(self, array: ir.Value, i: ir.Value) -> ir.Value:
        """Return an element of an array of integers."""
        return self.b.load(self.element(array, i, 8), typ=I64)

    def _set(self, array: ir.Value, i: ir.Value, value: ir.Value) -> None:
        self.b.store(value, self.element(array, i, 8))

    def _pointer(self, number: ir.Value) -> ir.Value:
        return self.b.inttoptr(number, PTR)
