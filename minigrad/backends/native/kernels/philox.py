"""Random bits as a step: Philox 4x32-10 on vectors of counters, with the numbers of `minigrad.ops.random`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from llvmlite import ir

from ....ops.random import MULTIPLIERS, ROUNDS, WEYL
from ..codegen.emit import Emitter
from ..codegen.step_codegen import HEAD, Request, Step, step, step_code
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


def _low(b: ir.IRBuilder, x: ir.Value) -> ir.Value:
    return b.trunc(x, ir.VectorType(I32, _LANES))


def _high(b: ir.IRBuilder, x: ir.Value) -> ir.Value:
    return _low(b, b.lshr(x, constant(x.type, 32)))


def _rounds(code: Emitter, counter: Sequence[ir.Value], key: Sequence[ir.Value]) -> list[ir.Value]:
    b = code.b
    c, k = [code.variable(x) for x in counter], [code.variable(x) for x in key]
    wide = ir.VectorType(I64, _LANES)
    with code.counting(I64(0), I64(ROUNDS)):
        now, keys = [code.get(x) for x in c], [splat(b, code.get(x), _LANES) for x in k]
        p0, p1 = (b.mul(b.zext(now[j], wide), constant(wide, m)) for j, m in zip((0, 2), MULTIPLIERS, strict=True))
        new = [b.xor(b.xor(_high(b, p1), now[1]), keys[0]), _low(b, p1),
               b.xor(b.xor(_high(b, p0), now[3]), keys[1]), _low(b, p0)]
        for variable, x in zip(c, new, strict=True):
            b.store(x, variable)
        for variable, step_ in zip(k, WEYL, strict=True):
            b.store(b.add(code.get(variable), I32(step_)), variable)
    return [code.get(x) for x in c]


def _interleaved(b: ir.IRBuilder, words: Sequence[ir.Value]) -> ir.Value:
    """Return the words of each counter side by side."""

    def joined(x: ir.Value, y: ir.Value, order: Sequence[int]) -> ir.Value:
        return b.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, len(order)), list(order)))

    n = _LANES
    first, second = (joined(x, y, range(2 * n)) for x, y in (words[:2], words[2:]))
    return joined(first, second, [j * n + i for i in range(n) for j in range(4)])
