"""Copies of strided arrays, and the operations that consist of copies: concatenate and pad.

A copy is cut into planes of rows. A row is a run of bytes, or units of a few bytes with strides; the start of a plane
follows from its number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ....graph import Node
from ....symbolic import value
from ..codegen.emit import Emitter
from ..codegen.step_codegen import HEAD, Place, Request, Step, step, step_code
from ..codegen.strides import View, merged
from ..llvm import ir
from ..llvm.builder import at
from ..llvm.values import I1, I8, I64, PTR, VOID

PIECE = 1 << 18  # bytes of one piece of parallel work
UNITS = (16, 8, 4, 2, 1)
_RUN = 64  # bytes of a row from which on it is copied by the C library

# Arguments behind the head: target, source, the place of an offset to add to the source (base -1: none), the units of a
# row and their strides, the strides of rows, bytes of a row that is copied at once (or 0), the axes of the planes, and
# the size and strides of each.
_TO, _FROM, _MORE, _N, _N_TO, _N_FROM, _ROW_TO, _ROW_FROM, _BYTES, _AXES = (
    HEAD + i for i in (0, 2, 4, 6, 7, 8, 9, 10, 11, 12))
_SIZES = _AXES + 1


def unable(node: Node) -> str | None:
    """Return why a statement that moves elements cannot be a step; None if it can."""
    return None if node.dtype.itemsize in UNITS else f"{node.prim.name} of {node.dtype}"


def copy(to: View, source: View, itemsize: int, team: int, more: Place | None = None) -> list[Step]:
    """Return the steps that copy a view into another of its shape.

    Parameters
    ----------
    to, source : View
        They do not overlap.
    itemsize : int
        Bytes of an element.
    team : int
        How many threads may work on it.
    more : Place, optional
        The place of a number of bytes to add to the source's address.
    """
    if not math.prod(to.shape):
        return []
    axes = merged(zip(to.shape, to.strides, source.strides, strict=True))
    unit, whole = itemsize, 0
    n, n_to, n_from = axes.pop() if axes else (1, itemsize, itemsize)
    if n_to == n_from == itemsize:
        run = n * itemsize
        unit = next(u for u in UNITS if run % u == 0)
        n, n_to, n_from = run // unit, unit, unit
        whole = run if run >= _RUN else 0
    rows, row_to, row_from = axes.pop() if axes else (1, 0, 0)
    planes = math.prod(a[0] for a in axes)
    row_bytes = n * unit
    shares = PIECE // (rows * row_bytes), PIECE // row_bytes
    return step(step_code(_copy, unit), team, planes * rows * row_bytes // 4, (planes, rows), shares, to, source,
                more or (-1, 0), n, n_to, n_from, row_to, row_from, whole, len(axes), *(v for a in axes for v in a))


def _copy(unit: int, code: Emitter, ranges: Sequence[ir.Value]) -> None:
    low, high, first, end = ranges
    number, b, e = code.number, code.b, code.e
    more_base = number(_MORE)
    none = e.icmp_signed("<", more_base, I64(0))
    safe = e.select(none, I64(0), more_base)
    more = at(e, code.base(safe), number(_MORE + 1))
    source = at(e, code.address(_FROM), e.select(none, I64(0), e.load(more, typ=I64)))
    to, whole, axes = code.address(_TO), number(_BYTES), number(_AXES)
    word = ir.IntType(8 * unit)
    memcpy = code.intrinsic("llvm.memcpy.p0.p0.i64", VOID, [PTR, PTR, I64, I1])
    row_strides = number(_ROW_TO), number(_ROW_FROM)
    steps = number(_N_TO), number(_N_FROM)
    n = number(_N)
    with code.counting(low, high) as plane:
        starts = code.offsets(plane, axes, _SIZES, 2)
        with code.counting(first, end) as row:
            x, y = (at(b, at(b, p, code.get(s)), b.mul(row, stride))
                    for p, s, stride in zip((to, source), starts, row_strides, strict=True))
            with b.if_else(b.icmp_signed(">", whole, I64(0))) as (at_once, one_by_one):
                with at_once:
                    b.call(memcpy, [x, y, whole, I1(0)])
                with one_by_one, code.counting(I64(0), n) as i:
                    p, q = (at(b, z, b.mul(i, s)) for z, s in zip((x, y), steps, strict=True))
                    b.store(b.load(q, typ=word, align=1), p, align=1)


def _clear(code: Emitter, ranges: Sequence[ir.Value]) -> None:
    low, high = ranges[:2]
    memset = code.intrinsic("llvm.memset.p0.i64", VOID, [PTR, I8, I64, I1])
    code.b.call(memset, [at(code.b, code.address(HEAD), low), I8(0), code.b.sub(high, low), I1(0)])


def part(view: View, starts: Sequence[int], shape: Sequence[int], steps: Sequence[int]) -> View:
    """Return a slice of a view."""
    offset = view.offset + int(np.dot(starts, view.strides))
    return View(view.base, offset, tuple(shape), tuple(s * n for s, n in zip(view.strides, steps, strict=True)))


def concatenate(r: Request) -> list[Step]:
    """Return the steps that concatenate arrays along an axis."""
    axis, steps, start = r.node.params["axis"], list[Step](), 0
    for source in r.xs:
        starts = [start if a == axis else 0 for a in range(len(r.to.shape))]
        steps += copy(part(r.to, starts, source.shape, [1] * len(starts)), source, r.node.dtype.itemsize, r.team)
        start += source.shape[axis]
    return steps


def pad(r: Request) -> list[Step]:
    """Return the steps that put zeros around an array's elements, and between them; the result is contiguous."""
    (source,), itemsize = r.xs, r.node.dtype.itemsize
    low, interior = ([value(d, r.sizes) for d in r.node.params[key]] for key in ("low", "interior"))
    nbytes = math.prod(r.to.shape) * itemsize
    return [*step(step_code(_clear), r.team, nbytes // 4, (nbytes, 1), (PIECE, 1), r.to),
            *copy(part(r.to, low, source.shape, [i + 1 for i in interior]), source, itemsize, r.team)]
