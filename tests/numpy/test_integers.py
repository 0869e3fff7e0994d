"""Integers as in NumPy: casts out of range, Python ints, shifts, uint64 beside int64."""

import itertools
import operator
import platform

import numpy as np
import pytest

import minigrad as mg

DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32",
          "float64"]
INTEGERS = DTYPES[1:9]


@pytest.fixture(params=["vmap", "numpy", "native"])
def way(request):
    """Return how a function of rows is evaluated."""
    if request.param == "vmap":
        return mg.vmap
    if request.param == "native":
        pytest.importorskip("llvmlite")
    return lambda f: mg.compile(f, backend=request.param)


def edges(dtype):
    """Return the numbers at which conversions change their ways, each in a whole vector of its own."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        found = [False, True]
    elif dtype.kind in "iu":
        info = np.iinfo(dtype)
        found = [info.min, info.min + 1, info.max - 1, info.max, 0, 1, 2, 100]
        found += [v for k in (7, 8, 15, 16, 31, 32, 53, 62, 63) for v in (2**k - 1, 2**k) if v <= info.max]
    else:
        powers = [2.0**k for k in (7, 8, 15, 16, 31, 32, 33, 53, 62, 63, 64, 65)]
        found = [0, 0.5, 0.999, 1, 1.5, 2.5, 300, 1e30, np.inf, np.finfo(dtype).max, np.finfo(dtype).tiny]
        found += [v for p in powers for v in (p - 1, p, p + 1, 1.5 * p)]
        found = [*found, *(-v for v in found), np.nan]
    with np.errstate(all="ignore"):
        return np.repeat(np.array(found).astype(dtype), 64)


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="what does not fit is the processor's choice")
@pytest.mark.parametrize("source", DTYPES)
def test_casts(source, way):
    x = edges(source)
    for to in DTYPES:
        np.testing.assert_array_equal(way(lambda x, to=to: x.astype(to))(x), x.astype(to), to)


@pytest.mark.parametrize(("dtype", "k"), [
    ("uint8", 300), ("uint8", -1), ("int8", 128), ("int8", -129), ("int32", 2**40), ("uint32", -1), ("uint64", -1),
    ("int64", 2**63)])
@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_python_integers_out_of_range(dtype, k, backend):
    if backend == "native":
        pytest.importorskip("llvmlite")
    x = np.array([1, 100], dtype)
    for op in (operator.add, operator.mul, operator.sub, operator.floordiv, operator.and_, np.maximum):
        with pytest.raises(OverflowError):
            op(x, k)
        with pytest.raises(OverflowError, match="out of bounds"):
            mg.compile(op, backend=backend)(x, k)
        with pytest.raises(OverflowError, match="out of bounds"):
            mg.compile(lambda x, op=op: op(x, k), backend=backend)(x)
        with pytest.raises(OverflowError, match="out of bounds"):
            mg.vmap(lambda x, op=op: op(x, k))(x)
    for op in (operator.lt, operator.ge, operator.eq, operator.ne):
        np.testing.assert_array_equal(mg.compile(op, backend=backend)(x, k), op(x, k))
        np.testing.assert_array_equal(mg.compile(lambda k, x, op=op: op(k, x), backend=backend)(k, x), op(k, x))


def test_python_integers_in_range_serve_one_program():
    f = mg.compile(lambda x, k: x * k)
    x = np.array([1, 2], np.uint8)
    np.testing.assert_array_equal(f(x, 3), np.uint8([3, 6]))
    with pytest.raises(OverflowError, match=r"test_integers.py:\d+: the integer 300 is out of bounds for uint8"):
        f(x, 300)
    np.testing.assert_array_equal(f(x, 255), np.uint8([255, 254]))
    assert len(f.entries) == 1


@pytest.mark.parametrize("dtype", INTEGERS)
def test_bitwise_count(dtype, way):
    x = edges(dtype)
    found = way(np.bitwise_count)(x)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, [abs(int(v)).bit_count() for v in x])


@pytest.mark.parametrize(("a", "b"), list(itertools.product(["bool", *INTEGERS], repeat=2)))
def test_two_dtypes(a, b, way):
    x, y = np.array([0, 1, 1, 1], a), np.array([1, 0, 1, 0], b)
    if a[0] == "i":
        x[1:3] = -1, np.iinfo(a).min
    elif a[0] == "u":
        x[1:3] = np.iinfo(a).max
    ops = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]
    if not (a == "uint64") ^ (b == "uint64") or {a[0], b[0]} != {"u", "i"}:
        ops += [operator.lshift, operator.rshift]

    def results(x, y):
        return {op.__name__: [op(x, y), *([op(y, x)] if op in ops[:6] else [])] for op in ops}

    found = way(results)(x, y)  # one program
    for name, wants in results(x, y).items():
        for have, wanted in zip(found[name], wants, strict=True):
            assert have.dtype == wanted.dtype
            np.testing.assert_array_equal(have, wanted, name)


def test_shifts_by_python_integers(way):
    x = np.array([1, -3, 100], np.int8)
    for f in (lambda x: x << 1, lambda x: x >> 1, lambda x: 1 << (x & 3), lambda x: 64 >> (x & 3), lambda x: x << 9):
        wanted = f(x)
        found = way(f)(x)
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)


def test_shifts_of_floats_are_refused():
    with pytest.raises(mg.DtypeError, match="left_shift"):
        mg.compile(lambda x: x << 1)(np.ones(3))


@pytest.mark.parametrize("f", [lambda x: x**2, lambda x: x**3, lambda x: x**0, lambda x: x**x, lambda x: x**2.0,
                               lambda x: np.power(x, 2), np.square, lambda x: x ** np.int8(2)])
def test_powers_of_bools(f, way):
    x = np.array([True, False])
    found = way(f)(x)
    assert found.dtype == f(x).dtype
    np.testing.assert_array_equal(found, f(x))


HELD = {  # functions of an array and a Python int that only the graph of a loop, branch or checkpoint reads
    "scan": lambda x, k: mg.scan(lambda c, r: (c + r * k, c), x[0], x),
    "fori_loop": lambda x, k: mg.fori_loop(0, 2, lambda i, c: c + k, x),
    "while_loop": lambda x, k: mg.while_loop(lambda c: c[0] < 3, lambda c: c + k, x),
    "test of while_loop": lambda x, k: mg.while_loop(lambda c: c[0] + k < 9, lambda c: c + 1, x),
    "cond": lambda x, k: mg.cond(x[0] > 0, lambda: x * k, lambda: x),
    "checkpoint": lambda x, k: mg.checkpoint(lambda x, k: x * k)(x, k),
    "scan in a cond": lambda x, k: mg.cond(
        x[0] > 0, lambda: mg.scan(lambda c, r: (c + k, None), x[:1], x)[0], lambda: x[:1]),
    "chunks": lambda x, k: mg.microbatch(mg.vmap(lambda r: mg.fori_loop(0, 1, lambda i, c: c * k, r)), 1)(x)}


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("name", HELD)
def test_python_integers_out_of_range_in_held_graphs(name, backend):
    if backend == "native":
        pytest.importorskip("llvmlite")
    f, x = mg.compile(HELD[name], backend=backend), np.array([1, 2], np.uint8)
    with pytest.raises(OverflowError, match=r"test_integers.py:\d+: the integer 300 is out of bounds for uint8"):
        f(x, 300)
    for k in (2, 255):
        for have, want in zip(f(x, k), HELD[name](x, np.uint8(k)), strict=True):
            np.testing.assert_array_equal(have, want)


def test_carries_may_leave_the_range_of_their_first_number():
    def f(x, k):
        return mg.scan(lambda c, _: ((c[0] // 2, c[1] + (c[0] // 2).astype(np.uint8)), None), (k, x), None, length=2)[0]

    x = np.array([1, 2], np.uint8)
    np.testing.assert_array_equal(mg.compile(f)(x, 400)[1], (x + np.uint8(200)) + np.uint8(100))
    assert mg.compile(f)(x, 400)[0] == 100


@pytest.mark.parametrize("bounds", [(None, 300), (-300, None), (-300, 300), (5, 300), (-2**70, 2**70), (300, None),
                                    (None, -300)])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_bounds_of_clip_beyond_the_dtype(dtype, bounds, way):
    x = np.array([0, 1, 100, np.iinfo(dtype).max, np.iinfo(dtype).min], dtype)
    try:
        want = np.clip(x, *bounds)
    except OverflowError:
        with pytest.raises(OverflowError):
            way(lambda x: np.clip(x, *bounds))(x)
        return
    have = way(lambda x: np.clip(x, *bounds))(x)
    assert have.dtype == want.dtype
    np.testing.assert_array_equal(have, want)
