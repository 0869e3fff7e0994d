"""Matrix products of native programs: every shape, every way the operands can lie, and any number of threads."""

import ctypes
import functools
import itertools
from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("llvmlite")


from minigrad import blas
from minigrad.backends.native.codegen import strides
from minigrad.backends.native.kernels import gemm, gemm_plan
from minigrad.backends.native.runtime import jit, threads
from tests.backends.native.machine_code import TARGETS, object_code

from .checks import native

if jit.available():
    pytest.skip(jit.available(), allow_module_level=True)

DTYPES = [np.float32, np.float64]
SIZES = [0, 1, 2, 7, 16, 31, 33, 65, 130]


@functools.cache
def step(dtype, with_blas, machine=None):
    found, _ = blas.find()
    texts = gemm.tiles(dtype, machine), gemm.module(dtype, found.bits if with_blas and found else None, machine)
    library = jit.load(map(object_code, texts), {**threads.symbols(), **(blas.symbols() if with_blas else {})})
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(library.address("product"))
    call.library = library
    return call


def product(subscripts, x, y, out, with_blas=False, machine=None):
    """Run the step on views whose bases are the whole arrays, so that offsets count, and return its arguments."""
    views, bases = [], []
    for i, v in enumerate((x, y, out)):
        base = v
        while isinstance(base.base, np.ndarray):
            base = base.base
        bases.append(base.ctypes.data)
        views.append(strides.View(i, v.ctypes.data - base.ctypes.data, v.shape, v.strides))
    resources = gemm_plan.Resources(with_blas and blas.find()[0] is not None, threads=threads.get_num_threads())
    args = np.array(gemm_plan.gemm_args(subscripts, *views, out.dtype, resources))
    table = np.array(bases, np.uintp)
    with blas.limited(1):
        step(out.dtype.type, with_blas, machine)(args.ctypes.data, table.ctypes.data)
    return args


def check(subscripts, x, y, with_blas=False):
    """Compare with the product in double precision, by the error bound of any order of summation."""
    exact = np.einsum(subscripts, x.astype(np.float64), y.astype(np.float64))
    size = np.einsum(subscripts, np.abs(x).astype(np.float64), np.abs(y).astype(np.float64))
    fence = np.full(exact.size + 64, 7, x.dtype)  # what lies around the result must stay as it is
    out = fence[32:32 + exact.size].reshape(exact.shape)
    args = product(subscripts, x, y, out, with_blas)
    bound = (x.shape[-1] + 2) * np.finfo(x.dtype).eps * size
    assert np.all(np.abs(out - exact) <= bound)
    assert np.all(fence[:32] == 7)
    assert np.all(fence[32 + exact.size:] == 7)
    return args


def lay(values, way):
    """Return an array that equals `values` and lies in memory as `way` says."""
    if way == "rows":
        return values
    if way == "columns":
        return np.ascontiguousarray(values.swapaxes(-1, -2)).swapaxes(-1, -2)
    wide = np.full((*values.shape[:-2], 2 * values.shape[-2] + 1, 3 * values.shape[-1] + 5), np.nan, values.dtype)
    view = {"gaps": wide[..., 1::2, 2:2 + values.shape[-1]][..., :values.shape[-2], :],
            "steps": wide[..., 1::2, 2::3][..., :values.shape[-2], :values.shape[-1]],
            "backwards": wide[..., ::-2, ::-3][..., :values.shape[-2], :values.shape[-1]],
            "upwards": wide[..., ::-2, 2:2 + values.shape[-1]][..., :values.shape[-2], :]}[way]
    view[...] = values
    return view

WAYS = ["rows", "columns", "gaps", "steps", "backwards", "upwards"]


@pytest.mark.parametrize("with_blas", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_sizes(dtype, with_blas):
    rng = np.random.default_rng(0)
    for m, n, k in itertools.product(SIZES, SIZES, [0, 1, 3, 64, 257]):
        check("ik,kj->ij", rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype), with_blas)


@pytest.mark.parametrize("with_blas", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("left", WAYS)
@pytest.mark.parametrize("right", WAYS)
def test_operands_of_any_strides(left, right, dtype, with_blas):
    rng = np.random.default_rng(1)
    for m, n, k in [(1, 1, 1), (5, 3, 4), (1, 40, 70), (40, 1, 70), (9, 37, 70), (70, 9, 300), (130, 70, 33)]:
        x, y = (lay(rng.normal(size=shape).astype(dtype), way) for shape, way in (((m, k), left), ((k, n), right)))
        check("ik,kj->ij", x, y, with_blas)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_few_terms_and_many_columns(dtype, way):
    """Columns are copied in whole vectors of terms: there has to be room for the last one, too."""
    rng = np.random.default_rng(6)
    for m, k, n in ((8, 5, 700), (64, 33, 200), (64, 10, 784), (16, 9, 1000), (128, 50, 100), (32, 17, 1000),
                    (9, 1, 900), (7, 250, 300), (5, 255, 130)):
        x, y = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
        check("ik,kj->ij", x, lay(y, way))
        check("ik,kj->ij", lay(y.T.copy(), way), x.T)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_small_results_of_many_terms(dtype, way):
    rng = np.random.default_rng(5)
    for m, n, k in ((64, 64, 1927), (17, 100, 3000), (100, 17, 3000), (8, 700, 500), (130, 20, 2500), (300, 64, 400)):
        x, y = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
        check("ik,kj->ij", lay(x, way), y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n", "k"), [(10, 512, 700), (1, 512, 513), (12, 1040, 300), (7, 2048, 130),
                                           (3, 784, 400)])
def test_few_rows_beside_a_long_operand(m, n, k, dtype):
    rng = np.random.default_rng(7)
    x, y = rng.integers(-9, 10, (k, m)).astype(dtype), rng.integers(-9, 10, (k, n)).astype(dtype)
    exact = x.T.astype("f8") @ y.astype("f8")  # of integers: no rounding
    fence = np.full((m + 2, n), 7, dtype)
    product("ik,kj->ij", x.T, y, fence[1:-1])
    np.testing.assert_array_equal(fence[1:-1], exact)
    assert np.all(fence[[0, -1]] == 7)
    turned = np.full((n + 2, m), 7, dtype)
    product("ik,kj->ij", y.T, x, turned[1:-1])
    np.testing.assert_array_equal(turned[1:-1], exact.T)
    assert np.all(turned[[0, -1]] == 7)


@pytest.mark.parametrize("with_blas", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_vectors(dtype, with_blas):
    rng = np.random.default_rng(2)
    for m, k in [(0, 3), (3, 0), (1, 1), (5, 7), (33, 600), (600, 33)]:
        matrix, vector = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=k).astype(dtype)
        for a in (matrix, lay(matrix, "columns"), lay(matrix, "steps")):
            check("ik,k->i", a, vector, with_blas)
            check("k,kj->j", vector, a.T, with_blas)
            check("k,kj->j", np.repeat(vector, 2)[::2], a.T, with_blas)
        check("k,k->", vector, vector[::-1], with_blas)


@pytest.mark.parametrize("with_blas", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_stacks(dtype, with_blas):
    rng = np.random.default_rng(3)
    for stack, m, n, k in [((0,), 3, 4, 5), ((6,), 3, 0, 5), ((6,), 1, 1, 1), ((3, 4), 5, 6, 7), ((7,), 9, 40, 33),
                           ((2, 3), 20, 70, 300), ((5,), 1, 33, 64), ((5,), 33, 1, 64)]:
        letters = "ab"[:len(stack)]
        x = rng.normal(size=(*stack, m, k)).astype(dtype)
        y = rng.normal(size=(*stack, k, n)).astype(dtype)
        subscripts = f"{letters}ik,{letters}kj->{letters}ij"
        check(subscripts, x, y, with_blas)
        check(subscripts, lay(x, "columns"), lay(y, "columns"), with_blas)
        if 0 in stack:
            continue
        one = np.broadcast_to(y[(0,) * len(stack)], y.shape)
        check(subscripts, x, one, with_blas)
        check(subscripts, np.broadcast_to(x[:1], x.shape), y[::-1], with_blas)
    x, y = rng.normal(size=(4, 3, 5, 6)).astype(dtype), rng.normal(size=(3, 4, 6, 2)).astype(dtype)
    check("abik,abkj->abij", x, y.swapaxes(0, 1), with_blas)


def test_products_of_no_terms_are_zero():
    out = np.full((3, 4), np.nan, np.float32)
    product("ik,kj->ij", np.ones((3, 0), np.float32), np.ones((0, 4), np.float32), out)
    np.testing.assert_array_equal(out, 0)


def test_strided_views_ignore_gaps():
    # nan times the zeros that fill a vector up would be nan
    x, y = (lay(np.ones(shape, np.float32), "steps") for shape in ((9, 20), (20, 19)))
    out = np.empty((9, 19), np.float32)
    product("ik,kj->ij", x, y, out)
    np.testing.assert_array_equal(out, 20)


def test_infinities_stay_in_their_row():
    x, y = np.ones((9, 300), np.float32), np.ones((300, 19), np.float32)
    x[4, 270] = np.inf
    out = np.empty((9, 19), np.float32)
    product("ik,kj->ij", x, y, out)
    expected = np.full((9, 19), 300.0)
    expected[4] = np.inf
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_do_not_depend_on_threads_or_tiles(dtype):
    rng = np.random.default_rng(4)
    machines = [jit.host(), TARGETS["aarch64"]]  # the shape of that one's tiles, run on this one
    before = threads.get_num_threads()
    try:
        for m, n, k in [(200, 300, 700), (33, 512, 784), (700, 9, 64), (10, 512, 700), (9, 1040, 300)]:
            for way in ("rows", "columns"):
                x, y = rng.normal(size=(m, k)).astype(dtype), lay(rng.normal(size=(k, n)).astype(dtype), way)
                results = []
                for count, machine in itertools.product((1, 2, 3, 7), machines):
                    threads.set_num_threads(count)
                    results.append(np.empty((m, n), dtype))
                    product("ik,kj->ij", x, y, results[-1], machine=machine)
                assert all(np.array_equal(results[0], other) for other in results[1:])
    finally:
        threads.set_num_threads(before)


BLAS_SIZES = [(700, 650, 600), (70, 1500, 2600), (2000, 1, 700), (1, 2000, 700)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n", "k"), BLAS_SIZES)
@pytest.mark.parametrize("ways", [*itertools.product(("rows", "columns"), repeat=2)])
def test_pieces_of_products_by_blas(m, n, k, ways, dtype):
    if blas.find()[0] is None:
        pytest.skip(blas.find()[1])
    rng, before, results = np.random.default_rng(5), threads.get_num_threads(), []
    x, y = (lay(rng.integers(-9, 10, shape).astype(dtype), way)
            for shape, way in zip(((m, k), (k, n)), ways, strict=True))
    z, w = (lay(rng.normal(size=v.shape).astype(dtype), way) for v, way in zip((x, y), ways, strict=True))
    try:
        for count in (1, 2, 5):
            threads.set_num_threads(count)
            whole, fence = np.empty((m, n), dtype), np.full((m + 2, n), 7, dtype)
            args = product("ik,kj->ij", x, y, fence[1:-1], with_blas=True)
            assert args[gemm_plan.METHOD] == (gemm_plan.VECTOR if 1 in (m, n) else gemm_plan.MATRIX)
            assert args[gemm_plan.ROW_BLOCKS] * args[gemm_plan.COL_BLOCKS] > 1
            np.testing.assert_array_equal(fence[1:-1], x.astype("f8") @ y.astype("f8"))  # exact
            assert np.all(fence[[0, -1]] == 7)
            product("ik,kj->ij", z, w, whole, with_blas=True)
            results.append(whole)
    finally:
        threads.set_num_threads(before)
    assert all(np.array_equal(results[0], other) for other in results[1:]), "bits do not depend on threads"


def test_elements_are_chains_of_fused_multiplications():
    # 1/3 + (-1/3) * 1 in doubles: the product of each pair is not rounded before it is added
    third = np.float64(1) / 3
    x, y = np.array([[third, third]]), np.array([[third], [-third]])
    out = np.empty((1, 1))
    product("ik,kj->ij", x, y, out)
    rest = Fraction(float(third)) ** 2 - Fraction(float(third * third))
    assert out[0, 0] == -float(rest)


@pytest.mark.parametrize(("dtype", "left", "terms", "first"), [
    ("f4", "rows", 288, 288), ("f4", "rows", 300, 160), ("f4", "rows", 784, 272), ("f4", "columns", 784, 272),
    ("f8", "rows", 784, 264), ("f8", "columns", 784, 136), ("f8", "columns", 144, 144)])
def test_chains_are_few_and_about_equally_long(dtype, left, terms, first):
    # a large power of two absorbs a 1 that is added to it: only the chains after the first count their terms
    large = 2.0 ** (np.finfo(dtype).nmant + 1)
    x, y, out = np.ones((16, terms), dtype), np.ones((terms, 16), dtype), np.empty((16, 16), dtype)
    x[:, 0] = large
    product("ik,kj->ij", lay(x, left), y, out)
    assert np.all(out == large + terms - first)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("machine", TARGETS)
def test_compiles_for_other_machines(machine, dtype):
    machine = TARGETS[machine]
    assert object_code(gemm.module(dtype, 64, machine), machine)
    assert object_code(gemm.tiles(dtype, machine), machine)


def test_large_products_go_to_blas():
    if blas.find()[0] is None:
        pytest.skip(blas.find()[1])
    x = np.ones((900, 900), np.float32)
    out = np.empty_like(x)
    assert product("ik,kj->ij", x, x, out, with_blas=True)[0] == gemm_plan.MATRIX
    np.testing.assert_array_equal(out, 900)
    assert product("ik,kj->ij", x[::-1], x, out, with_blas=True)[0] == gemm_plan.GENERATED
    np.testing.assert_array_equal(out, 900)


@pytest.mark.parametrize("shapes", [((0, 3), (3, 4)), ((2, 3), (3, 0)), ((2, 0), (0, 4)), ((0, 0), (0, 0))])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_products_without_rows_or_terms(shapes, dtype):
    a, b = (np.ones(shape, dtype) for shape in shapes)
    have = native("einsum", [a, b], subscripts="ij,jk->ik")
    np.testing.assert_array_equal(have, a @ b)
