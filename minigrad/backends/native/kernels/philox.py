"""Random bits as a step: Philox 4x32-10 on vectors of counters, with the numbers of `minigrad.ops.random`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ....ops.random import MULTIPLIERS, ROUNDS, WEYL
from ..codegen.emit import Emitter
from ..codegen.step_codegen import HEAD, Request, Step, step, step_code
from ..llvm import ir
from ..llvm.builder import at
from ..llvm.values import I32, I64, constant, lane_numbers, splat

_LANES = 16  # counters at a time
_PIECE = 1 << 12  # vectors of counters of one piece of parallel work, 64 numbers each


def random_bits(r: Request) -> list[Step]:
    """Return the steps that write random bits, for each key its own.

    The result has the leading axes of the keys, then those of one key's numbers.
    """
    (keys,) = r.xs
    count, total = math.prod(keys.shape[:-1]), math.prod(r.to.shape[len(keys.shape) - 1:])
    vectors = -(-total // (4 * _LANES))
    return step(step_code(_random_bits), r.team, count * total, (count, vectors), (
        _PIECE // max(vectors, 1), _PIECE), total, r.node.params["stream"], keys, r.to)


def _random_bits(code: Emitter, ranges: Sequence[ir.Value]) -> None:
    b, word = code.b, np.dtype(np.uint32)
    low, high, first, end = ranges
    total, stream, keys, to = code.number(HEAD), code.number(HEAD + 1), code.address(HEAD + 2), code.address(HEAD + 4)
    stream = code.e.trunc(stream, I32)
    with code.counting(low, high) as k:
        key = [code.load(word, at(b, keys, b.add(b.mul(k, I64(8)), I64(4 * j)))) for j in (0, 1)]
        row = at(b, to, b.mul(b.mul(k, total), I64(4)))
        with code.counting(first, end) as v:
            counter = b.add(splat(b, b.mul(v, I64(_LANES)), _LANES), lane_numbers(I64, _LANES))
            words = _rounds(code, [_low(b, counter), _high(b, counter), splat(b, stream, _LANES),
                                   constant(ir.VectorType(I32, _LANES), 0)], key)
            done = b.mul(v, I64(4 * _LANES))
            code.store(_interleaved(b, words), word, code.element(row, done, 4), code.mask(total, done, 4 * _LANES))


def random_at(r: Request) -> list[Step]:
    """Return the steps that write the numbers at given places, each of its own key."""
    count = math.prod(r.to.shape)
    return step(step_code(_random_at), r.team, 4 * count, (count, 1), (_PIECE, 1), r.node.params["stream"], *r.xs, r.to)


def _random_at(code: Emitter, ranges: Sequence[ir.Value]) -> None:
    b, wide, word = code.b, np.dtype(np.int64), np.dtype(np.uint32)
    stream = code.e.trunc(code.number(HEAD), I32)
    low, high, places, to = (code.address(HEAD + 1 + 2 * k) for k in range(4))
    for i, width in code.chunks(ranges[0], ranges[1], (_LANES, 1)):
        key = [b.trunc(code.load(wide, code.element(half, i, 8), width), _words(width)) for half in (low, high)]
        place = code.load(wide, code.element(places, i, 8), width)
        block = b.lshr(place, constant(place.type, 2))
        counter = [b.trunc(x, _words(width)) for x in (block, b.lshr(block, constant(place.type, 32)))]
        words = _rounds(code, [*counter, splat(b, stream, width), constant(_words(width), 0)], key, width)
        which = b.and_(place, constant(place.type, 3))
        out = words[3]
        for k in (2, 1, 0):
            out = b.select(b.icmp_signed("==", which, constant(place.type, k)), words[k], out)
        code.store(out, word, code.element(to, i, 4))


def _words(width: int) -> ir.Type:
    return I32 if width == 1 else ir.VectorType(I32, width)


def _low(b: ir.IRBuilder, x: ir.Value) -> ir.Value:
    return b.trunc(x, ir.VectorType(I32, _LANES))


def _high(b: ir.IRBuilder, x: ir.Value) -> ir.Value:
    return _low(b, b.lshr(x, constant(x.type, 32)))


def _rounds(code: Emitter, counter: Sequence[ir.Value], key: Sequence[ir.Value], lanes: int = _LANES
            ) -> list[ir.Value]:
    """Return the words of counters; the key is one for all of them, or has a lane for each."""
    b = code.b
    c, k = [code.variable(x) for x in counter], [code.variable(x) for x in key]
    one = isinstance(key[0].type, ir.IntType)
    wide = I64 if lanes == 1 else ir.VectorType(I64, lanes)
    with code.counting(I64(0), I64(ROUNDS)):
        now, keys = [code.get(x) for x in c], [splat(b, code.get(x), lanes) if one else code.get(x) for x in k]
        p0, p1 = (b.mul(b.zext(now[j], wide), constant(wide, m)) for j, m in zip((0, 2), MULTIPLIERS, strict=True))
        halves = [(b.trunc(p, now[0].type), b.trunc(b.lshr(p, constant(wide, 32)), now[0].type)) for p in (p0, p1)]
        (low0, high0), (low1, high1) = halves
        new = [b.xor(b.xor(high1, now[1]), keys[0]), low1, b.xor(b.xor(high0, now[3]), keys[1]), low0]
        for variable, x in zip(c, new, strict=True):
            b.store(x, variable)
        for variable, step_ in zip(k, WEYL, strict=True):
            before = code.get(variable)
            b.store(b.add(before, constant(before.type, step_)), variable)
    return [code.get(x) for x in c]


def _interleaved(b: ir.IRBuilder, words: Sequence[ir.Value]) -> ir.Value:
    """Return the words of each counter side by side."""

    def joined(x: ir.Value, y: ir.Value, order: Sequence[int]) -> ir.Value:
        return b.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, len(order)), list(order)))

    n = _LANES
    first, second = (joined(x, y, range(2 * n)) for x, y in (words[:2], words[2:]))
    return joined(first, second, [j * n + i for i in range(n) for j in range(4)])
