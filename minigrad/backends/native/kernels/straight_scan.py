"""A scan of small steps as one function: straight-line code, in which each element of a value is a register.

A call of a kernel takes longer than the arithmetic of a step on a few numbers. Such a step is written element by
element: views and other moves of elements cost nothing, and the carry stays in registers from turn to turn. Steps of
more than `WORK` operations, or with values of more than `ELEMENTS`, are left to kernels, which have vectors.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np

from ....combiners import ADD, combiner_of
from ....graph import ArrayType, Graph, Node
from ....ops.constants import const, full, iota
from ....ops.custom import key_of_any
from ....ops.einsum import einsum, parse
from ....ops.shape import concatenate, pad
from ....ops.subgraph import signature
from ....primitive import PART, input_
from ....symbolic import Dim, value
from ... import code_cache
from ..codegen import expressions as ex
from ..codegen import kernel
from ..codegen.emit import Emitter
from ..llvm import ir
from ..llvm.builder import ONE, at
from ..llvm.values import I32, I64, constant, scalar_type, vector
from ..runtime.cache import CodeRequest, generated
from .register_matrices import LARGEST, ON_ROWS, of_each, rows_of

WORK = 2048
ELEMENTS = 32
_CALL = 32  # operations that a function of vector math stands for, in all lanes of a vector
_VECTOR = 64  # bytes of its vectors
_MOVES = (concatenate, pad)  # beside views: they move elements, and put zeros between them
_LEAVES = (input_, const, full, iota)

Place = tuple[int, int]  # a base, and bytes from there
Elements = np.ndarray  # of registers


def unable(node: Node) -> str | None:
    """Return why a scan is not straight-line code, or None."""
    body: Graph = node.params["body"]
    nodes = list(dict.fromkeys((*body.inputs, *body.nodes)))
    why = next(filter(None, map(_unable, nodes)), None)
    if why is None and (work := sum(map(_work, nodes))) > WORK:
        return f"steps of {work} operations"
    return why


def _unable(n: Node) -> str | None:
    t = n.type
    if not isinstance(t, ArrayType) or t.dtype not in ex.DTYPES:
        return f"{n.prim.name} of {t}"
    if any(isinstance(d, Dim) for d in t.shape) or not 0 < _size(n) <= ELEMENTS:
        return f"{n.prim.name} of {t}"
    if n.prim in _LEAVES or n.prim in _MOVES or n.prim.view not in (None, PART):
        return None
    if n.prim is einsum:
        return None if n.dtype.kind != "b" else f"einsum of {t}"
    if n.prim in ON_ROWS:
        return None if _shape(n.inputs[0])[-1] <= LARGEST else f"{n.prim.name} of {n.inputs[0].type}"
    return kernel.unable(n) if n.prim.kind in ("elementwise", "reduce") else n.prim.name


def _shape(n: Node) -> tuple[int, ...]:
    return tuple([value(d, {}) for d in n.shape])


def _size(n: Node) -> int:
    return math.prod(_shape(n))


def _work(n: Node) -> int:
    """Return the number of operations of a statement."""
    if n.prim is einsum:
        return math.prod(_lengths(n).values()) * len(n.inputs)
    if n.prim in ON_ROWS:
        return 2 * _shape(n.inputs[0])[-1] * sum(map(_size, (*n.inputs, n)))
    if n.prim.kind == "reduce":
        return _size(n.inputs[0])
    if n.prim.kind == "elementwise":
        return _size(n) + (-(-_size(n) // _lanes(n.dtype)) * _CALL if ex.calls_functions(n.prim) else 0)
    return _size(n) if n.prim is input_ else 0


def _lanes(dtype: np.dtype) -> int:
    return _VECTOR // dtype.itemsize


def _lengths(n: Node) -> dict[str, int]:
    """Return the length of each axis of a contraction."""
    terms, _ = parse(n.params["subscripts"])
    return {c: d for term, i in zip(terms, n.inputs, strict=True) for c, d in zip(term, _shape(i), strict=True)}


def _positions(n: Node) -> np.ndarray:
    """Return the number of each element of a move among those of all operands, from 1 on; that of a zero is 0."""
    first, numbers = 1, []
    for i in n.inputs:
        numbers.append(np.arange(first, first := first + _size(i)).reshape(_shape(i)))
    moved: np.ndarray = n.prim.eval(np, *numbers, **n.params)
    return moved


# -- code ------------------------------------------------------------------------------------------------------


def named_code(node: Node) -> tuple[str, CodeRequest]:
    """Return the name of a scan's function, which is that of all scans with its code, and the request for the code."""
    text = _signature(node)
    name = "scan" + code_cache.digest(text)[:20]
    return name, generated(f"scan {text}", partial(_written, name, node))


def _signature(node: Node) -> str:
    """Return all that the code depends on."""
    body: Graph = node.params["body"]
    number: dict[Node, int] = {}
    entries = []
    for n in dict.fromkeys((*body.inputs, *body.nodes)):
        moves = n.prim in _MOVES or n.prim.view is not None
        own = _positions(n).tolist() if moves else repr(key_of_any(n.params))
        entries.append((n.prim.name, n.prim.kernel, n.prim.kind, [number[i] for i in n.inputs], own, n.dtype.str,
                        n.shape))
        number[n] = len(number)
    return repr((signature(node), node.params["reverse"], [number[n] for n in body.inputs],
                 [number[n] for n in body.outputs], entries))


def _written(name: str, node: Node) -> tuple[str, None]:
    return _Writer(name).write(node), None


def arguments(length: int, flag: Place, operands: Sequence[Place], results: Sequence[Place]) -> list[int]:
    """Return the argument block of a scan: its turns, and the places of the flag of faults, operands and results."""
    return [length, *itertools.chain.from_iterable((flag, *operands, *results))]


class _Writer(Emitter):
    """Writes one scan."""

    def write(self, node: Node) -> str:
        """Return the module's text."""
        body, roles = node.params["body"], signature(node)
        with self.step(self.name):
            b, length = self.b, self.number(0)
            self._flag, *places = (self.address(1 + 2 * k) for k in range(1 + len(body.inputs) + len(body.outputs)))
            operands, results = places[:len(body.inputs)], places[len(body.inputs):]
            shared, carry, slices = (list(zip(*role, strict=True)) for role in zip(
                roles.split(body.inputs), roles.split(operands), strict=True))
            values = {n: self._loaded(n, place) for n, place in shared}
            rooms = {n: [self.variable(x) for x in self._loaded(n, place).flat] for n, place in carry}
            with self.counting(I64(0), length) as turn:
                i = b.sub(b.sub(length, ONE), turn) if node.params["reverse"] else turn
                now = {**values, **{n: _shaped(n, map(self.get, room)) for n, room in rooms.items()},
                       **{n: self._loaded(n, self._part(n, place, i)) for n, place in slices}}
                for n in body.nodes:
                    if n not in now:
                        now[n] = self._value(n, [now[j] for j in n.inputs])
                new, stacked = roles.ends(body.outputs)
                for n, place in zip(stacked, roles.ends(results)[1], strict=True):
                    self._store(n, now[n], self._part(n, place, i))
                for n, room in zip(new, rooms.values(), strict=True):
                    for x, variable in zip(now[n].flat, room, strict=True):
                        b.store(x, variable)
            for n, room, place in zip(new, rooms.values(), roles.ends(results)[0], strict=True):
                self._store(n, _shaped(n, map(self.get, room)), place)
        return str(self.module)

    # -- memory

    def _part(self, n: Node, place: ir.Value, i: ir.Value) -> ir.Value:
        """Return the address of a turn's part of a stack."""
        return self.element(place, i, _size(n) * n.dtype.itemsize)

    def _loaded(self, n: Node, place: ir.Value) -> Elements:
        return _shaped(n, (self.load(n.dtype, at(self.b, place, k * n.dtype.itemsize)) for k in range(_size(n))))

    def _store(self, n: Node, xs: Elements, place: ir.Value) -> None:
        for k, x in enumerate(xs.flat):
            self.store(x, n.dtype, at(self.b, place, k * n.dtype.itemsize))

    # -- values

    def _value(self, n: Node, xs: Sequence[Elements]) -> Elements:
        if n.prim in _LEAVES:
            return _shaped(n, (constant(scalar_type(n.dtype), x) for x in n.prim.eval(np, **n.params).flat))
        if n.prim in _MOVES or n.prim.view is not None:
            all_of = [constant(scalar_type(n.dtype), 0), *itertools.chain.from_iterable(x.flat for x in xs)]
            return _shaped(n, (all_of[k] for k in _positions(n).flat))
        if n.prim is einsum:
            return self._contraction(n, xs)
        if n.prim.kind == "reduce":
            rows = np.moveaxis(xs[0], n.params["axes"], range(len(n.params["axes"])))
            rows = rows.reshape(-1, _size(n))
            return _shaped(n, (self._tree(partial(self._combined, n), column) for column in rows.T))
        if n.prim in ON_ROWS:
            return _shaped(n, of_each(self.b, n.prim, self._flag_if, xs))
        return self._elementwise(n, [list(x.flat) for x in xs])

    def _flag_if(self, wrong: ir.Value, fault: int) -> None:
        with self.b.if_then(wrong, likely=False):
            self.b.store(I64(fault), self._flag, align=8)

    def _combined(self, n: Node, x: ir.Value, y: ir.Value) -> ir.Value:
        return ex.combined(self.b, combiner_of(n), x, y, n.dtype.kind == "u")

    def _tree(self, combined: Callable[[ir.Value, ir.Value], ir.Value], xs: Iterable[ir.Value]) -> ir.Value:
        """Combine neighbours, then neighbouring results, and so on."""
        xs = list(xs)
        while len(xs) > 1:
            xs = [combined(*xs[k:k + 2]) if k + 1 < len(xs) else xs[k] for k in range(0, len(xs), 2)]
        return xs[0]

    def _contraction(self, n: Node, xs: Sequence[Elements]) -> Elements:
        (terms, out), lengths = parse(n.params["subscripts"]), _lengths(n)
        summed = [c for c in lengths if c not in out]
        product = partial(ex.formula, self.b, "{0} * {1}")

        def element(index: tuple[int, ...]) -> ir.Value:
            found = dict(zip(out, index, strict=True))
            products = []
            for others in itertools.product(*(range(lengths[c]) for c in summed)):
                found.update(zip(summed, others, strict=True))
                factors = [x[tuple(found[c] for c in term)] for x, term in zip(xs, terms, strict=True)]
                products.append(self._tree(lambda x, y: product([x, y]), factors))
            return self._tree(partial(ex.combined, self.b, ADD), products)

        return _shaped(n, map(element, np.ndindex(_shape(n))))

    def _elementwise(self, n: Node, xs: Sequence[Sequence[ir.Value]]) -> Elements:
        """Return the value of an elementwise statement; functions of vector math work on many elements at once."""
        rows = list(zip(*xs, strict=True))
        if len(rows) == 1 or not ex.calls_functions(n.prim):
            return _shaped(n, (ex.emit(self.b, n, row) for row in rows))
        values: list[ir.Value] = []
        lanes = _lanes(n.dtype)
        for k in range(0, len(rows), lanes):
            some = rows[k:k + lanes]
            y = ex.emit(self.b, n, [vector(self.b, x) for x in zip(*some, strict=True)])
            values += [self.b.extract_element(y, I32(j)) for j in range(len(some))] if len(some) > 1 else [y]
        return _shaped(n, values)


def _shaped(n: Node, xs: Iterable[ir.Value]) -> Elements:
    """Return registers as the elements of a node."""
    return rows_of(list(xs), _shape(n))
