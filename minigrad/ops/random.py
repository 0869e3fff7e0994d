"""Random bits that are a function of a key and a position: Philox 4x32-10.

J. Salmon, M. Moraes, R. Dror and D. Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011). Nothing is
drawn in sequence, so the same key gives the same numbers on every backend, in every order, in any batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..axes import ORDERED, POINTWISE, AxisRule, Declared, Factor, parallel
from ..families import discrete
from ..graph import ArrayType, Node
from ..primitive import ArrayNamespace, Sample, fail
from ..symbolic import Shape
from ..tracing import guard_equal_shapes
from .refusals import require_ints

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
_LOW = 0xFFFFFFFF


def philox(xp: ArrayNamespace, counter: Sequence[np.ndarray], key: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the four words of Philox 4x32-10.

    Parameters
    ----------
    xp : namespace
    counter : four uint64 arrays of 32-bit words
    key : two uint64 arrays of 32-bit words

    Returns
    -------
    list of four uint64 arrays of 32-bit words
    """
    c, (k0, k1) = list(counter), key
    low, half = (xp.asarray(v, dtype=xp.uint64) for v in (_LOW, 32))
    m0, m1, w0, w1 = (xp.asarray(v, dtype=xp.uint64) for v in (*MULTIPLIERS, *WEYL))
    for i in range(ROUNDS):
        if i:
            k0, k1 = xp.bitwise_and(k0 + w0, low), xp.bitwise_and(k1 + w1, low)
        p0, p1 = m0 * c[0], m1 * c[2]
        c = [xp.bitwise_xor(xp.bitwise_xor(xp.bitwise_right_shift(p1, half), c[1]), k0), xp.bitwise_and(p1, low),
             xp.bitwise_xor(xp.bitwise_xor(xp.bitwise_right_shift(p0, half), c[3]), k1), xp.bitwise_and(p0, low)]
    return c


def _bits_type(key: ArrayType, *, shape: Shape, stream: int) -> ArrayType:
    if key.dtype != np.uint32 or not key.ndim or key.shape[-1] != 2:
        raise fail("random_bits", "a key is uint32[2], as made by mg.random.key", key)
    return ArrayType((*key.shape[:-1], *shape), key.dtype)


def _bits_eval(xp: ArrayNamespace, key: np.ndarray, *, shape: tuple[int, ...], stream: int) -> np.ndarray:
    total = math.prod(shape)
    lead = key.shape[:-1]
    blocks = -(-total // 4)
    block = xp.astype(xp.arange(blocks, dtype=xp.int64), xp.uint64)
    zero = xp.zeros((*lead, blocks), dtype=xp.uint64)
    words = [xp.astype(xp.expand_dims(key[..., i], axis=-1), xp.uint64) + zero for i in (0, 1)]
    counter = [zero + xp.bitwise_and(block, xp.asarray(_LOW, dtype=xp.uint64)),
               zero + xp.bitwise_right_shift(block, xp.asarray(32, dtype=xp.uint64)),
               zero + xp.asarray(stream, dtype=xp.uint64), zero]
    out = xp.stack(philox(xp, counter, words), axis=-1)
    out = xp.astype(xp.reshape(out, (*lead, blocks * 4)), xp.uint32)
    return xp.reshape(out[..., :total], (*lead, *shape))


def _at_type(low: ArrayType, high: ArrayType, place: ArrayType, *, stream: int) -> ArrayType:
    require_ints("random_at", low, high, place)
    if not guard_equal_shapes(low.shape, place.shape) or not guard_equal_shapes(high.shape, place.shape):
        raise fail("random_at", "shapes differ", low, high, place)
    return ArrayType(place.shape, np.dtype(np.uint32))


def _at_eval(xp: ArrayNamespace, low: np.ndarray, high: np.ndarray, place: np.ndarray, *, stream: int) -> np.ndarray:
    key = [xp.astype(half, xp.uint64) for half in (low, high)]
    place = xp.astype(place, xp.int64)
    counter = [xp.astype(part, xp.uint64) for part in (
        xp.bitwise_and(place // 4, _LOW), xp.bitwise_right_shift(place // 4, 32), xp.full_like(place, stream),
        xp.zeros_like(place))]
    words, which = philox(xp, counter, key), place % 4
    out = words[3]
    for k in (2, 1, 0):
        out = xp.where(which == k, words[k], out)
    return xp.astype(out, xp.uint32)


def _bits_axes(node: Node) -> AxisRule:
    (key,) = node.inputs
    lead = tuple(parallel(key.ndim - 1))
    drawn = tuple((Factor(ORDERED),) for _ in node.params["shape"])
    return AxisRule(((*lead, (Factor(ORDERED),)),), ((*lead, *drawn),))


random_bits = discrete(
    "random_bits", _bits_type, _bits_eval, axes=Declared(_bits_axes, lambda params, order, size: params),
    flops=lambda node, value, count: 16 * value(node.type.size),  # 10 rounds of 6, 9 steps of the key, for 4 words
    samples=lambda: [Sample((np.array([1, 2], np.uint32),), {"shape": (3, 3), "stream": 0}, order=0),
                     Sample((np.array([[1, 2], [3, 4]], np.uint32),), {"shape": (5,), "stream": 1}, order=0)])

# Number `place` of those that a key draws, of the key with the given halves: for numbers of ragged shape.
random_at = discrete(
    "random_at", _at_type, _at_eval, axes=POINTWISE, flops=lambda node, value, count: 64 * value(node.type.size),
    samples=lambda: [Sample((np.array([1, 1, 3]), np.array([2, 2, 4]), np.array([0, 6, 3])), {"stream": 0}, order=0)])
