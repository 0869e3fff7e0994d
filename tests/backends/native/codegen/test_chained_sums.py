"""Sums in machine code keep the rule for accumulators, wherever the reduced axes are and however long.

A term of 1 among terms of half a unit in its last place: each addition to it loses at most one of them, so that the
result tells how many additions a term goes through.
"""

import itertools
import math

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import minigrad as mg
from minigrad.ops.accumulators import RUN, waiting

half, single, double = np.float16, np.float32, np.float64
LONG = 3000
SHAPES = [(*s[:i], LONG, *s[i:]) for s in [(1, 1), (1, 3), (3, 1), (2, 5), (8, 2), (9, 40)] for i in range(3)]
SIZES = [(10**5,), (10**5, 1), (10**5, 2), (1, 10**5), (1, 10**5, 1), (2, 10**5, 3), (10**5, 5, 1), (1, 10**5, 70)]


def terms(shape, dtype=single):
    """Return 1 where the longest axis begins, and half a unit in the last place of 1 elsewhere."""
    x = np.full(shape, 2.0 ** {half: -15, single: -25, double: -54}[dtype], dtype)
    x[(slice(None),) * int(np.argmax(shape)) + (0,)] = 1
    return x


def over_long(shape):
    """Return all sets of axes with the longest one."""
    long = int(np.argmax(shape))
    others = [a for a in range(len(shape)) if a != long]
    return [tuple(sorted((long, *more))) for r in range(len(shape)) for more in itertools.combinations(others, r)]


def exact(x, axes):
    return np.vectorize(math.fsum, signature="(n)->()")(
        np.moveaxis(x, axes, range(-len(axes), 0)).reshape(*np.delete(x.shape, axes), -1).astype(float))


def check(have, x, axes, scale=1):
    """Compare a sum with the exact one, to as many roundings as terms go through."""
    n, dtype = math.prod(x.shape[a] for a in axes), single if x.dtype == half else x.dtype
    additions = RUN * (1 + waiting(n)) + math.log2(n)
    want = exact(x, axes)
    assert have.dtype == x.dtype
    allowed = additions * np.finfo(dtype).eps / 2 + (np.finfo(half).eps if x.dtype == half else 0)
    np.testing.assert_allclose(np.float64(have) * scale, want.reshape(have.shape), rtol=allowed)


def native(f):
    return mg.compile(f, backend="native")


@pytest.mark.parametrize("dtype", [single, double])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_over_each_set_of_axes(shape, dtype):
    x = terms(shape, dtype)
    for axes in over_long(shape):
        check(native(lambda x, axes=axes: np.sum(x, axis=axes))(x), x, axes)


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_long_sums(shape):
    x = terms(shape)
    for axes in over_long(shape):
        check(native(lambda x, axes=axes: np.sum(x, axis=axes))(x), x, axes)


@pytest.mark.parametrize("shape", SHAPES[-9:], ids=str)
def test_sums_over_several_sets_of_axes_in_one_program(shape):
    x, sets = terms(shape), over_long(shape)
    found = native(lambda x: [np.sum(np.sqrt(x), axis=axes) for axes in sets] + [np.max(x, axis=0)])(np.square(x))
    for axes, have in zip(sets, found, strict=False):
        check(have, x, axes)


@pytest.mark.parametrize("shape", SHAPES[3:12], ids=str)
def test_sums_of_views(shape):
    x = terms(shape)
    wide = np.zeros([n + 1 for n in shape], single)
    wide[tuple(map(slice, shape))] = x
    for axes in over_long(shape):
        check(native(lambda x, axes=axes: np.sum(np.transpose(x, (2, 0, 1)), axis=axes))(
            np.ascontiguousarray(np.transpose(x, (1, 2, 0)))), x, axes)
        check(native(lambda x, axes=axes: np.sum(x[tuple(map(slice, shape))], axis=axes))(wide), x, axes)
        check(native(lambda x, axes=axes: np.sum(x[::-1, :, ::-1], axis=axes))(np.flip(x, (0, 2))), x, axes)


@pytest.mark.parametrize("shape", [(LONG, 2), (3, LONG), (LONG, 1), (1, LONG, 20)], ids=str)
def test_sums_of_batches(shape):
    x = terms(shape)
    for axes in over_long(shape):
        f = mg.compile(mg.vmap(lambda x, axes=axes: np.sum(x, axis=axes)), backend="native")
        for have in f(np.stack([x, x, x])):
            check(have, x, axes)


def test_sums_along_several_symbolic_axes():
    """The axes do not lie in one piece, so that each is a loop of its own, of any length."""
    x = terms((1000, 40))
    pairs = mg.vmap(mg.vmap(lambda a, b: a * b, (None, 0)), (0, None))

    def outer(a, b):
        return np.sum(pairs(a, b)), np.sum(pairs(a, b), axis=0), np.sum(pairs(a, b), axis=1)

    for m in (1, 3, 40):
        total, first, second = native(outer)(x[:, 0], np.ones(m, single))
        check(total, np.repeat(x[:, :1], m, 1), (0, 1))
        check(first, np.repeat(x[:, :1], m, 1), (0,))
        check(second, np.repeat(x[:, :1], m, 1), (1,))


@pytest.mark.parametrize("shape", SHAPES[6:12], ids=str)
def test_means_contractions_and_gradients(shape):
    x = terms(shape)
    for axes in over_long(shape):
        n = math.prod(shape[a] for a in axes)
        out = "".join(c for a, c in enumerate("ijk") if a not in axes)
        check(native(lambda x, axes=axes: np.mean(x, axis=axes))(x), x, axes, n)
        check(native(lambda x, axes=axes: np.sum(np.exp(x), axis=axes))(np.log(x)), x, axes)
        y = np.ones([1 if a in axes else n for a, n in enumerate(shape)], single)
        check(native(mg.grad(lambda y, x: np.sum(y * x)))(y, x), x, axes)
        if out:
            check(native(lambda x, y, out=out: np.einsum(f"ijk,ijk->{out}", x, y))(x, np.ones_like(x)), x, axes)
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(native(lambda x, axes=axes: mg.special.logsumexp(x, axis=axes))(np.log(x)),
                                       np.log(exact(x, axes)), rtol=2e-6, atol=2e-6)
        np.testing.assert_allclose(native(lambda x, axes=axes: np.var(x, axis=axes))(x), np.var(x.astype(float), axes),
                                   rtol=1e-5)


@pytest.mark.parametrize("shape", [(LONG, 3), (1, LONG, 1), (2, LONG, 5)], ids=str)
def test_sums_of_half_precision(shape):
    x = terms(shape, half)
    for axes in over_long(shape):
        check(native(lambda x, axes=axes: np.sum(x, axis=axes))(x), x, axes)


node = mg.axis("node")


@mg.example
class Rows:
    x: mg.f32[node, 3]


def test_sums_of_ragged_axes():
    x = terms((LONG, 3))
    batch = mg.batch([Rows(x=x), *[Rows(x=np.ones((2, 3), single))] * 5])
    for f, axes in ((lambda e: np.sum(e.x, axis=0), (0,)), (lambda e: np.sum(e.x), (0, 1)),
                    (lambda e: np.sum(e.x.T, axis=1), (0,))):
        check(native(mg.vmap(f))(batch)[0], x, axes)


def test_sums_do_not_depend_on_the_number_of_threads():
    rng, before = np.random.default_rng(0), mg.get_num_threads()
    try:
        for shape in ((2 * 10**5,), (10**5, 3), (40, 3000, 7), (30, 50, 1, 90)):
            x = rng.normal(size=shape).astype(single)
            sets = [axes for r in range(1, x.ndim + 1) for axes in itertools.combinations(range(x.ndim), r)]
            f = native(lambda x, sets=sets: [np.sum(x, axis=axes) for axes in sets])
            found = []
            for count in (1, 2, 3, 7):
                mg.set_num_threads(count)
                found.append(f(x))
            for other in found[1:]:
                for a, b in zip(found[0], other, strict=True):
                    np.testing.assert_array_equal(a, b)
    finally:
        mg.set_num_threads(before)
