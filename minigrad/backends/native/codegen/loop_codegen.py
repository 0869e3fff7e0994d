"""The loops of one space: their operands in memory, the axes that share a loop, and the work on one vector.

An axis along which every operand and result repeats, or is contiguous with the next axis, joins that: so elementwise
work on whole arrays is one loop. An axis of one element has no loop. The innermost loop runs vector by vector, the last
one masked. A reduction lives in registers where the innermost loops are those it reduces, or where the elements of its
result inside them are a few vectors; elsewhere it accumulates in memory. Sums of floats go in chains (`chained_sums`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ....combiners import ADD
from ....graph import Node
from ....immutable import Record
from ....ops.accumulators import RUN
from ....ops.constants import full
from ....ops.index import gather, lockstep, scatter_add
from ....passes.fuse import terminal
from ....primitive import Primitive
from ....symbolic import Dim, size_of
from ..llvm import ir
from ..llvm.builder import at, least
from ..llvm.values import I32, I64, constant, lane_numbers, splat, vector_type
from ..runtime.jit import masks_bytes
from . import expressions as ex
from .chained_sums import InMemory, InRegisters, in_chains
from .kernel_emitter import KernelEmitter, Memory
from .loop_groups import Loop, behind, by_index
from .strides import Access, access, whole

REGISTERS = 8  # vectors of results that the accumulators of a loop fill at most
MATRIX = 16  # the same of loops that add matrices up
FEW = 4  # terms of a reduction at most, along which no vectors run
APART = 24  # bytes from one element to the next at most, of vectors that are loaded without a gather


class Reference(Record):
    """An operand or a result in memory, by the axes of the loop's space."""

    memory: Memory
    view: Node
    dtype: np.dtype
    axes: tuple[int | None, ...]  # per axis of the space: the view's axis, or None where it repeats
    linked: tuple[bool, ...]
    last: int | None  # the space's axis of the view's last one that does not repeat
    steps: tuple[int, ...]  # per axis of the space: elements from one to the next, 0 if sizes decide them
    by_rows: bool = True  # whether axis 0 counts rows of the whole and not of the block


class Axis(Record):
    """One loop of the nest: axes of the space along which every operand and result is contiguous."""

    axes: tuple[int, ...]
    count: ir.Value


class LoopWriter:
    """Writes the loops of one space."""

    def __init__(self, kernel: KernelEmitter, loop: Loop):
        self.k, self.loop, self.plan, self.roles = kernel, loop, kernel.plan, kernel.roles
        self.members = set(loop.nodes)
        self.references: dict[tuple[Memory, Node, tuple[int | None, ...]], Reference] = {}
        self.reads: dict[tuple[Node, int], Reference | Node] = {}  # of each operand: a place, a value or a number
        self.indexed: set[int] = set()  # axes whose own index is wanted
        for n in loop.nodes:
            self._operands(n)
        self.writes = {n: self._result(n) for n in loop.nodes if n in kernel.kept or n in kernel.scratch}
        self.reductions = [n for n in loop.nodes if n.prim.kind == "reduce"]
        groups = self._ordered(self._collapsed())
        self.axes = [Axis(g, self._product(g)) for g in groups]
        self.lanes = 1 if not groups else kernel.lanes
        innermost = [loop.space[a] for a in groups[-1] if a] if groups else []
        known = [n for n in innermost if isinstance(n, int)]
        if groups and len(known) == len(groups[-1]):  # the innermost loop is as long for all sizes: fewer lanes may do
            while self.lanes // 2 >= math.prod(known):
                self.lanes //= 2
        (self.lines, self.vectors), self.line = self._unrolled(), 0
        self.values: dict[Reference | Node, ir.Value] = {}

    def _unrolled(self) -> tuple[int, int]:
        """Return the turns of the two innermost loops that are written one after the other, in lines and vectors.

        0 stands for a loop.
        """
        if not self.axes or not isinstance(count := self.axes[-1].count, ir.Constant):
            return 0, 0
        vectors, lines = -(-count.number // self.lanes), self._lines()
        if 0 < lines * vectors * len(self.reductions) <= MATRIX:
            return lines, vectors
        across = [n for n in self.reductions if not self._reduced(n, -1) and self.axes[1:] and self._reduced(n, -2)]
        return 0, vectors if vectors == 1 or 0 < vectors * len(across) <= REGISTERS else 0

    def _lines(self) -> int:
        """Return the turns of the loop around the innermost one if the loops add matrices up; 0 otherwise.

        A matrix in memory costs more than its additions: a line that ends within a vector is stored in part, and
        loads of the next turn wait for such stores.
        """
        if len(self.axes) < 3 or not isinstance(count := self.axes[-2].count, ir.Constant):
            return 0
        if any(ex.calls_functions(n.prim) for n in self.loop.nodes):  # long code, beside which the stores take no time
            return 0
        added = all(self._reduced(n, -3) and not self._reduced(n, -2) and not self._reduced(n, -1)
                    for n in self.reductions)
        return count.number if added else 0

    # -- operands and results ---------------------------------------------------------------------------

    def _operands(self, n: Node) -> None:
        if by_index(n):
            _BY_INDEX[n.prim][0](self, n)
            return
        for k, i in enumerate(n.inputs):
            self.reads[n, k] = self._read(i)

    def _read(self, operand: Node) -> Reference | Node:
        """Return an operand of the loop's space: a node of this loop, a number, or a reference to memory."""
        node = behind(operand)
        if node in self.members and not self.roles.is_view(node) and node.prim.kind != "reduce":
            return node
        return self._place(node, range(node.ndim))

    def _place(self, operand: Node, axes: Sequence[int | None]) -> Reference | Node:
        """Return an operand whose axis ``axes[k]`` is the space's axis k: in memory, or a number that it is full of."""
        root = self.roles.root[operand]
        return root if root.prim is full else self._reference(access(operand, self.roles), operand, axes)

    def _reference(self, a: Access, view: Node, axes: Sequence[int | None], parts: Memory | None = None) -> Reference:
        """Return the reference to a view whose axis ``axes[k]`` is the space's axis k."""
        inside = a.root in self.k.members and a.root in self.k.scratch
        memory = parts or Memory("scratch" if inside else "value", a.root)
        own = tuple(None if v is None or a.repeated[v] else v for v in axes)
        linked = tuple(v is not None and a.linked[v] for v in own)
        steps = tuple(0 if v is None else a.steps[v] for v in own)
        last = a.last()
        last_axis = next((k for k, v in enumerate(own) if v is not None and v == last), None)
        key = (memory, view, own)
        reference = self.references.get(key)
        if reference is None:
            reference = self.references[key] = Reference(memory, view, view.dtype, own, linked, last_axis,
                                                          steps, not inside and parts is None)
        return reference

    def _gather_operands(self, n: Node) -> None:
        array, *indices = n.inputs
        count, ndim = len(indices), indices[0].ndim
        own = lockstep(n)
        a = access(array, self.roles)
        trailing = [None] * ndim + list(range(count, array.ndim))
        if own:
            trailing[0] = 0
        self.reads[n, 0] = self._reference(a, array, trailing)
        for k, i in enumerate(indices, 1):
            if k > 1 or not own:
                self.reads[n, k] = self._place(i, [*range(ndim), *[None] * (n.ndim - ndim)])

    def _scatter_operands(self, n: Node) -> None:
        update, _, *indices = n.inputs
        count = 1 + len(indices)
        spread = [0, *[None] * (count - 1), *range(1, update.ndim)]
        self.reads[n, 0] = self._place(update, spread)
        for k, i in enumerate(indices, 2):
            self.reads[n, k] = self._place(i, [0, *[None] * (n.ndim - 1)])
        self.indexed |= set(range(1, count))

    def _result(self, n: Node) -> Reference:
        if n.prim.kind != "reduce":
            return self._reference(access(n, self.roles), n, range(n.ndim))
        left = iter(range(n.ndim))
        axes = [None if k in n.params["axes"] else next(left) for k in range(len(self.loop.space))]
        if not terminal(n):
            return self._reference(whole(n), n, axes)
        return self._reference(whole(n), n, axes, Memory("parts", n))

    # -- the nest of loops -----------------------------------------------------------------------------

    def _collapsed(self) -> list[tuple[int, ...]]:
        groups: list[list[int]] = []
        for a in [a for a, n in enumerate(self.loop.space) if n != 1]:  # an axis of one element has no loop
            if groups and self._together(groups[-1][-1], a):
                groups[-1].append(a)
            else:
                groups.append([a])
        return [tuple(g) for g in groups]

    def _ordered(self, groups: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Return the loops from the outermost on: those over a few terms of all reductions are not the innermost.

        Vectors then run along results, whose operands lie a few apart; those that take a gather are left in order.
        """
        def few(group: tuple[int, ...]) -> bool:
            counts = [n for a in group if a and isinstance(n := self.loop.space[a], int)]
            if len(counts) < len(group):
                return False
            terms = math.prod(counts)
            if not all(_in_vectors(r.dtype) for r in self.references.values() for a in group if r.axes[a] is not None):
                return False
            return (terms <= FEW and all(r.axes[a] is None for r in self.writes.values() for a in group)
                    and all(terms * n.dtype.itemsize <= APART and set(group) <= set(n.params["axes"])
                            for n in self.reductions))

        end = len(groups)
        while self.reductions and not self.indexed and end and few(groups[end - 1]):
            end -= 1
        moved = {a for group in groups[end:] for a in group}
        if not end or any(set(groups[end - 1]) & set(n.params["axes"]) for n in self.reductions):
            return groups
        if any(_in_chains(n) and (moved != set(n.params["axes"]) or len(groups) - end > 1) for n in self.reductions):
            return groups  # the memory of chains follows the order of the axes
        return [*groups[:end - 1], *groups[end:], groups[end - 1]]

    def _together(self, a: int, b: int) -> bool:
        if a in self.indexed or b in self.indexed:
            return False
        if any((a in n.params["axes"]) != (b in n.params["axes"]) for n in self.reductions):
            return False
        for r in self.references.values():
            if (r.axes[a] is None) != (r.axes[b] is None) or (r.axes[a] is not None and not r.linked[a]):
                return False
        return all(n.prim is not gather or (a < n.inputs[1].ndim) == (b < n.inputs[1].ndim) for n in self.loop.nodes)

    def _product(self, group: Sequence[int]) -> ir.Value:
        """Return the number of elements of some axes; a constant if it is known."""
        k, known, count = self.k, 1, None
        for a in group:
            n = self.loop.space[a]
            if a and isinstance(n, int):
                known *= n
                continue
            size = k.count if not a else k.size(n)
            count = size if count is None else k.e.mul(count, size)
        if count is None:
            return I64(known)
        return k.e.mul(count, I64(known)) if known != 1 else count

    def _whole_vectors(self, axis: Axis) -> bool:
        """Return whether the count of a loop is a multiple of the number of lanes for all sizes."""
        known = math.prod(n for a in axis.axes if a and isinstance(n := self.loop.space[a], int))
        return known % self.lanes == 0

    def write(self) -> None:
        self.starts = {r: self._start(r) for r in self.references.values()}
        self.index: dict[int, ir.Value] = {}  # an axis whose index is wanted -> where the nest stands
        for n in self.reductions:
            if self._in_memory(n):
                self._initialise(n)
        self.sums: dict[Node, list[ir.Value]] = {}  # accumulators: room for one vector each
        self._nest(0, dict(self.starts))

    def _start(self, r: Reference) -> ir.Value:
        k = self.k
        pointer = k.pointer(r.memory, r.view)
        if r.memory.kind == "parts":
            return self._part(r.memory.node)
        if r.by_rows and r.axes and r.axes[0] is not None:
            pointer = at(k.e, pointer, k.e.mul(k.low, self._stride(r, 0)))
        return pointer

    def _part(self, n: Node) -> ir.Value:
        """Return the address of a block's part of a reduction over the rows: the result's, if there is one block."""
        k, e = self.k, self.k.e
        nbytes = e.mul(k.size(size_of(n.shape)), I64(n.dtype.itemsize))
        own = at(e, k.pointer(Memory("parts", n), n), e.mul(k.item, nbytes))
        return e.select(e.icmp_signed("==", k.head(0), I64(1)), k.pointer(Memory("value", n), n), own)

    def _stride(self, r: Reference, a: int) -> ir.Value:
        axis = r.axes[a]
        if axis is None or (r.linked[a] and a == r.last):
            return I64(r.dtype.itemsize)
        return self.k.stride(r.view, axis)

    def _moving(self, r: Reference, axis: Axis) -> bool:
        return r.axes[axis.axes[-1]] is not None

    def _register(self, n: Node) -> int:
        """Return the depth from which a reduction is in registers: deeper loops all reduce, or are a few vectors."""
        depth = start = len(self.axes) - (2 if self.lines else self._by_lanes(n))
        while depth and self._reduced(n, depth - 1):
            depth -= 1
        return depth if depth < start else len(self.axes)

    def _by_lanes(self, n: Node) -> bool:
        """Return whether the lanes of the vectors in registers are elements of the reduction's result."""
        return self.vectors > 0 and not self._reduced(n, -1)

    def _in_memory(self, n: Node) -> bool:
        """Return whether a reduction accumulates in memory."""
        return any(self._reduced(n, d) for d in range(self._register(n)))

    def _initialise(self, n: Node) -> None:
        k, b, r = self.k, self.k.b, self.writes[n]
        count = k.size(size_of(n.shape if terminal(n) else n.shape[1:]))
        if not terminal(n):
            count = b.mul(count, k.count)
        k.begin(n, self.starts[r], count)

    def _nest(self, depth: int, addresses: dict[Reference, ir.Value]) -> None:
        k, b = self.k, self.k.b
        opened = [n for n in self.reductions if self._register(n) == depth]
        for n in opened:
            room = vector_type(n.dtype, self.lanes)
            count = max(self.lines, 1) * self.vectors if self._by_lanes(n) else 1
            self.sums[n] = [k.e.alloca(room) for _ in range(count)]
            for total in self.sums[n]:
                b.store(k.identity(n, self.lanes), total)
        if depth == len(self.axes):
            self._body(None, I64(0), None, addresses, {})  # a single element
        elif depth == len(self.axes) - 1:
            self._vectors(depth, addresses)
        else:
            axis = self.axes[depth]

            def body(i: ir.Value, addresses: dict[Reference, ir.Value]) -> None:
                self.index[axis.axes[-1]] = i
                self._nest(depth + 1, {r: at(b, p, b.mul(i, self._stride(r, axis.axes[-1]))) if self._moving(r, axis)
                                       else p for r, p in addresses.items()})

            if self.lines and depth == len(self.axes) - 2:
                for i in range(self.lines):
                    self.line = i
                    body(I64(i), addresses)
            else:
                self._turns(depth, 1, addresses, body)
        for n in opened:
            self._close(n, addresses)

    def _close(self, n: Node, addresses: dict[Reference, ir.Value]) -> None:
        k, b, r = self.k, self.k.b, self.writes[n]
        totals = [b.load(total, typ=vector_type(n.dtype, self.lanes)) for total in self.sums[n]]
        lanes = self.lanes
        if not self._by_lanes(n):
            totals, lanes = [k.across(n, x, lanes) for x in totals], 1
        for i, x in enumerate(totals):
            line, v = divmod(i, self.vectors) if self.lines else (0, i)
            mask = self._mask_of(v) if self._by_lanes(n) else None
            start = addresses[r]
            if line:
                start = at(b, start, b.mul(I64(line), self._stride(r, self.axes[-2].axes[-1])))
            address = at(b, start, v * lanes * n.dtype.itemsize)
            if self._in_memory(n):
                x = k.combined(n, k.load(n.dtype, address, lanes, mask), x)
            k.store(x, n.dtype, address, mask)

    def _mask_of(self, v: int) -> ir.Value | None:
        """Return the mask of a vector of the innermost loop, whose length is known; None for a whole vector."""
        count = self.axes[-1].count
        whole = isinstance(count, ir.Constant) and (v + 1) * self.lanes <= count.number
        return None if whole else self.k.mask(count, I64(v * self.lanes), self.lanes)

    def _vectors(self, depth: int, addresses: dict[Reference, ir.Value]) -> None:
        """Write the innermost loop, vector by vector."""
        k, b, axis = self.k, self.k.b, self.axes[depth]
        gathered = {self.reads[n, 0] for n in self.loop.nodes if n.prim is gather}  # their elements are read by index
        read = set(self.reads.values()) - gathered
        scalars = {r: k.load(r.dtype, addresses[r]) for r in self.references.values()
                   if r in read and not self._moving(r, axis)}
        fixed: dict[Reference | Node, ir.Value] = {r: splat(b, x, self.lanes) for r, x in scalars.items()}
        count, whole = axis.count, self._whole_vectors(axis)
        for v in range(self.vectors):
            self._body(axis, I64(v * self.lanes), self._mask_of(v), addresses, fixed, self.line * self.vectors + v)
        if self.vectors:
            return
        self._turns(depth, self.lanes, addresses, lambda i, addresses: self._body(
            axis, i, None if whole else k.mask(count, i, self.lanes), addresses, fixed))

    def _turns(self, depth: int, by: int, addresses: dict[Reference, ir.Value],
               body: Callable[[ir.Value, dict[Reference, ir.Value]], None]) -> None:
        """Write a loop of `by` elements at a time."""
        k, count = self.k, self.axes[depth].count
        turns = -(-count.number // by) if isinstance(count, ir.Constant) else None
        limits = {n: RUN if self._outermost(n, depth) else 1 for n in self.reductions
                  if _in_chains(n) and self._reduced(n, depth)}
        sums = {n: self._chains(n, depth, limit, turns, addresses) for n, limit in limits.items()
                if turns is None or turns > limit}
        if not sums:
            with k.counting(I64(0), count, I64(by)) as i:
                body(i, addresses)
            return
        before, inside = dict(self.sums), dict(addresses)
        for n, chains in sums.items():
            if depth >= self._register(n):
                self.sums[n] = [c.open for c in chains]
            else:
                inside[self.writes[n]] = chains[0].open
        in_chains(k, count, by, [c for chains in sums.values() for c in chains], lambda i: body(i, inside))
        self.sums.update(before)

    def _reduced(self, n: Node, depth: int) -> bool:
        return self.axes[depth].axes[-1] in n.params["axes"]

    def _outermost(self, n: Node, depth: int) -> bool:
        """Return whether no loop around this one adds to the same accumulator."""
        register = self._register(n)
        return not any(self._reduced(n, d) for d in range(register if depth >= register else 0, depth))

    def _chains(self, n: Node, depth: int, limit: int, turns: int | None,
                addresses: dict[Reference, ir.Value]) -> Sequence[InRegisters | InMemory]:
        """Return the accumulators of a sum in a loop."""
        k, axis = self.k, self.axes[depth]
        if depth >= self._register(n):
            return [InRegisters(k, n, self.lanes, total, limit, turns) for total in self.sums[n]]
        chains = Memory("chains", n, axis.axes[0], axis.axes[-1], limit)
        k.chains[chains] = None
        inside = self._product([a for a in range(axis.axes[-1] + 1, len(self.loop.space)) if a not in n.params["axes"]])
        return [InMemory(k, n, inside, k.pointer(chains, n), addresses[self.writes[n]], limit, axis.count)]

    # -- one vector of elements --------------------------------------------------------------------------

    def _body(self, axis: Axis | None, i: ir.Value, mask: ir.Value | None, addresses: dict[Reference, ir.Value],
              fixed: Mapping[Reference | Node, ir.Value], vector: int = 0) -> None:
        self.vector = vector
        self.axis, self.i, self.mask, self.now, self.values = axis, i, mask, addresses, dict(fixed)
        for n in self.loop.nodes:
            if n.prim.kind == "reduce":
                self._accumulate(n)
                continue
            if by_index(n):
                value = _BY_INDEX[n.prim][1](self, n)
            else:
                value = ex.emit(self.k.b, n, [self._value(self.reads[n, j]) for j in range(len(n.inputs))])
            self.values[n] = value
            if n in self.writes:
                r = self.writes[n]
                self.k.store(value, n.dtype, self._address(r), mask)

    def _address(self, r: Reference) -> ir.Value:
        if self.axis is None or not self._moving(r, self.axis):
            return self.now[r]
        return at(self.k.b, self.now[r], self.k.b.mul(self.i, self._stride(r, self.axis.axes[-1])))

    def _value(self, read: Reference | Node) -> ir.Value:
        if read not in self.values:
            if isinstance(read, Node):  # full of one number
                return constant(vector_type(read.dtype, self.lanes), read.params["value"])
            self.values[read] = self._load(read, self._address(read))
        return self.values[read]

    def _load(self, r: Reference, address: ir.Value) -> ir.Value:
        """Return one vector of elements, given the address of the first."""
        k = self.k
        if self.axis is None:
            return k.load(r.dtype, address)
        inner = self.axis.axes[-1]
        if not self._moving(r, self.axis):
            return splat(k.b, k.load(r.dtype, address), self.lanes)
        if r.last == inner and r.linked[inner]:
            return k.load(r.dtype, address, self.lanes, self.mask)
        if 1 < r.steps[inner] <= min(APART // max(r.dtype.itemsize, 4), self.lanes) and _in_vectors(r.dtype):
            return self._apart(r, address, r.steps[inner])
        if r.steps[inner] == -1 and _in_vectors(r.dtype):
            return self._backward(r, address)
        return k.gather(r.dtype, address, self._steps(self._stride(r, inner)), self.lanes, self.mask)

    def _apart(self, r: Reference, address: ir.Value, step: int) -> ir.Value:
        """Return elements that lie a few apart: whole vectors up to the last one, and a choice of their lanes."""
        k, b, lanes = self.k, self.k.b, self.lanes
        starts = [v * lanes for v in range(step)]
        masks: list[ir.Value | None] = [None] * step
        if self.mask is None:
            starts[-1] = (lanes - 1) * step + 1 - lanes  # no element behind the last one is read
        else:
            end = splat(b, b.sub(b.mul(self._left(), I32(step)), I32(step - 1)), lanes)
            masks[:] = (b.icmp_signed("<", lane_numbers(I32, lanes, start), end) for start in starts)
        pieces = [k.load(r.dtype, at(b, address, start * r.dtype.itemsize), lanes, mask)
                  for start, mask in zip(starts, masks, strict=True)]
        places, x = [lane * step for lane in range(lanes)], pieces[0]
        known = places  # where `x` has the element of each lane
        for v in range(1, step):
            start, before = starts[v], starts[v - 1] + lanes
            choice = [known[lane] if place < before else lanes + place - start if place < start + lanes else 0
                      for lane, place in enumerate(places)]
            x = b.shuffle_vector(x, pieces[v], ir.Constant(ir.VectorType(I32, lanes), choice))
            known = list(range(lanes))
        return x

    def _backward(self, r: Reference, address: ir.Value) -> ir.Value:
        """Return the elements up to an address from there on: a vector that ends with it, reversed."""
        k, b, lanes = self.k, self.k.b, self.lanes
        mask = None
        if self.mask is not None:
            mask = b.icmp_signed(">=", lane_numbers(I32, lanes), splat(b, b.sub(I32(lanes), self._left()), lanes))
        x = k.load(r.dtype, at(b, address, -(lanes - 1) * r.dtype.itemsize), lanes, mask)
        return b.shuffle_vector(x, x, ir.Constant(ir.VectorType(I32, lanes), list(reversed(range(lanes)))))

    def _left(self) -> ir.Value:
        """Return the elements of the current vector."""
        assert self.axis is not None
        b = self.k.b
        return b.trunc(least(b, b.sub(self.axis.count, self.i), I64(self.lanes)), I32)

    def _steps(self, stride: ir.Value) -> ir.Value:
        """Return the distance of each lane from the first, in bytes."""
        b = self.k.b
        if self.lanes == 1:
            return I64(0)
        return b.mul(lane_numbers(I64, self.lanes), splat(b, stride, self.lanes))

    def _accumulate(self, n: Node) -> None:
        k, b = self.k, self.k.b
        x = self._value(self.reads[n, 0])
        if n in self.sums:
            place = self.sums[n][self.vector if self._by_lanes(n) else 0]
            old = b.load(place, typ=x.type)
            if self.mask is not None:
                x = b.select(self.mask, x, k.identity(n, self.lanes))
            b.store(k.combined(n, old, x), place)
            return
        r = self.writes[n]
        address = self._address(r)
        if self._in_memory(n):
            x = k.combined(n, k.load(n.dtype, address, self.lanes, self.mask), x)
        k.store(x, n.dtype, address, self.mask)

    def _position(self, n: Node, k: int, size: int | Dim, lanes: int) -> ir.Value:
        """Return an index counted from 0, in each lane, or in one for all of them.

        An index out of range sets the flag, and is replaced by 0.
        """
        b = self.k.b
        reading, *null = (n.params.get("read") or (None,) * k)[k - 1] or (None,)
        read = self.reads[n, k]
        i = self._value(read)
        dtype = read.dtype
        if lanes < self.lanes:
            i = b.extract_element(i, I32(0))
        i = ex.cast(b, i, dtype, np.dtype(np.int64))
        return self.k.index(i, splat(b, self.k.size(size), lanes), self.k.flag(), reading,
                            [constant(i.type, x) for x in null], None if lanes == 1 else self.mask)

    def _gathered(self, n: Node) -> ir.Value:
        k, b = self.k, self.k.b
        array, *indices = n.inputs
        r = self.reads[n, 0]
        assert isinstance(r, Reference)
        own = lockstep(n)
        rows = self.axis is not None and self.axis.axes[-1] >= indices[0].ndim  # one index for all lanes
        lanes = 1 if rows else self.lanes
        total: ir.Value | None = None
        for j in range(1, len(n.inputs)):
            if j == 1 and own:
                continue
            step = self._position(n, j, array.shape[j - 1], lanes)
            step = b.mul(step, splat(b, k.stride(array, j - 1), lanes))
            total = step if total is None else b.add(total, step)
        base = self._address(r)
        if self.axis is None or rows:
            return self._load(r, base if total is None else at(b, base, total))
        if self._moving(r, self.axis):
            steps = self._steps(self._stride(r, self.axis.axes[-1]))
            total = steps if total is None else b.add(total, steps)
        if total is None:  # the row's own number, for every column
            return splat(b, k.load(r.dtype, base), self.lanes)
        return k.gather(r.dtype, base, total, self.lanes, self.mask)

    def _scattered(self, n: Node) -> ir.Value:
        """Return the update where the indices name the element, and 0 elsewhere: no element is named twice."""
        b = self.k.b
        hit: ir.Value | None = None
        for j in range(2, len(n.inputs)):
            a = j - 1
            index = self._position(n, j, n.shape[a], self.lanes)
            if self.axis is not None and self.axis.axes[-1] == a:
                position = b.add(splat(b, self.i, self.lanes), self._steps(I64(1)))
            else:
                position = splat(b, self.index.get(a, I64(0)), self.lanes)  # an axis of one element has no loop
            same = b.icmp_signed("==", position, index)
            hit = same if hit is None else b.and_(hit, same)
        update = self._value(self.reads[n, 0])
        return update if hit is None else b.select(hit, update, constant(update.type, 0))


def _in_vectors(dtype: np.dtype) -> bool:
    """Return whether one instruction loads a vector with a mask."""
    return dtype.itemsize >= 4 or masks_bytes()


def _in_chains(n: Node) -> bool:
    """Return whether a reduction is a sum of floats, which goes in chains."""
    return n.prim.combiner is ADD and n.dtype.kind == "f"


# Of statements with indices: the methods that list their operands, and that return the value of one vector.
_BY_INDEX: dict[Primitive, tuple[Callable[[LoopWriter, Node], None], Callable[[LoopWriter, Node], ir.Value]]] = {
    gather: (LoopWriter._gather_operands, LoopWriter._gathered),
    scatter_add: (LoopWriter._scatter_operands, LoopWriter._scattered)}
