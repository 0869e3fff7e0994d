"""Every function that minigrad enters for NumPy, called on concrete arrays and compared with NumPy's own result."""

from __future__ import annotations

import dis
import inspect
import itertools

import numpy as np
import pytest

import minigrad as mg
import minigrad.numpy as mnp
from minigrad import interpreters
from minigrad.numpy.dispatch import NAMES
from minigrad.traced_array import TABLE

from .conform import assert_same, call, check_call, check_refused_alike, run_traced
from .more_cases import MORE

rng = np.random.default_rng(0)
V = rng.normal(size=4)
W = rng.normal(size=4)
M = rng.normal(size=(3, 4))
T = rng.normal(size=(2, 3, 4))
S = np.array(0.7)
V4, M4 = V.astype("f4"), M.astype("f4")
I3 = np.array([2, 0, 1])
K = np.array([[3, 1, 4], [1, 5, 9]])
U8 = np.array([200, 100, 7], "u1")
I32 = np.array([[-3, 1], [4, 2]], "i4")
B3 = np.array([True, False, True])
BM = rng.normal(size=(3, 4)) > 0
E0 = np.zeros((0,))
E03 = np.zeros((0, 3))
SQ = rng.normal(size=(3, 3)) + 3 * np.eye(3)
SQ2 = rng.normal(size=(2, 3, 3)) + 3 * np.eye(3)
PD = SQ @ SQ.T + np.eye(3)
UNIT = rng.uniform(0.1, 0.9, size=(2, 3))
BIG = rng.uniform(1.3, 3.0, size=(2, 3))
TIES = np.array([[1.0, 3.0, 3.0], [2.0, 0.0, 2.0]])
NANS = np.array([[1.0, np.nan, -np.inf], [np.inf, 0.0, -0.0]])

# -- ufuncs: every pair of dtypes, many pairs of shapes ---------------------------------------------------

# Those of several results, of one operand that must be an integer, and of matrices have their own cases below.
APART = {getattr(np, name) for name in ("ldexp", "modf", "divmod", "matvec", "vecmat") if hasattr(np, name)}
UFUNCS = sorted({f for f in TABLE if isinstance(f, np.ufunc)} - APART, key=lambda f: f.__name__)
DTYPES = ("?", "u1", "i4", "i8", "f4", "f8")
SHAPES = [((), ()), ((3,), ()), ((3,), (3,)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((2, 3), (2, 1)), ((0, 3), (3,)),
          ((4, 1, 2), (3, 1)), ((1,), (0,))]
DOMAIN = {np.arccosh: BIG, np.log: BIG, np.log2: BIG, np.log10: BIG, np.sqrt: BIG, np.cbrt: BIG, np.arcsin: UNIT,
          np.arccos: UNIT, np.arctanh: UNIT, np.power: BIG, np.float_power: BIG, np.log1p: UNIT}


def values(dtype: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Return values from 1 up, which every ufunc takes; bools at random."""
    draw = np.random.default_rng(seed)
    if dtype == "?":
        return np.asarray(draw.integers(0, 2, shape), bool)
    whole = np.asarray(draw.integers(1, 6, shape), dtype)
    return np.asarray(whole / whole.dtype.type(7)) if dtype[0] == "f" else whole


@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda f: f.__name__)
def test_ufunc_dtypes(ufunc):
    for k, dtypes in enumerate(itertools.product(DTYPES, repeat=ufunc.nin)):
        arrays = [values(d, (2, 3)[i:], k + i) for i, d in enumerate(dtypes)]
        if ufunc in (np.matmul, np.vecdot) and set(dtypes) == {"?"}:
            with pytest.raises(mg.DtypeError, match="bools: cast them"):
                run_traced(ufunc, *arrays)
            continue
        check_refused_alike(ufunc, call(*arrays))


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u1", "?"])
@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda f: f.__name__)
def test_ufunc_dtype_chooses_the_loop(ufunc, dtype):
    for k, kind in enumerate(DTYPES):
        if ufunc not in (np.matmul, np.vecdot, np.reciprocal):  # of rows, and undefined of the integer 0
            check_refused_alike(ufunc, call(*(values(kind, (2, 3), k + i) for i in range(ufunc.nin)), dtype=dtype))


def test_ufunc_dtype_is_that_of_the_loop_and_not_a_cast_of_its_result():
    x = np.array([100, 127], "i1")
    assert_same(run_traced(lambda x: np.multiply(x, x, dtype="i8"), x)[0], np.array([10000, 16129]))
    with pytest.raises(mg.DtypeError, match=r"np.add.*casting rule 'same_kind'"):
        run_traced(lambda x: np.add(x, x, dtype="i4"), V)
    assert_same(run_traced(lambda x: np.add(x, x, dtype="i4", casting="unsafe"), V)[0],
                np.add(V, V, dtype="i4", casting="unsafe"))


@pytest.mark.parametrize("ufunc", [f for f in UFUNCS if f.nin == 2], ids=lambda f: f.__name__)
def test_ufunc_python_scalars_are_weak(ufunc):
    for dtype, scalar in itertools.product(DTYPES, (2, 3.0, True)):
        x = values(dtype, (2, 3))
        check_refused_alike(ufunc, call(x, scalar))
        check_refused_alike(ufunc, call(scalar, x))


@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda f: f.__name__)
def test_ufunc_shapes(ufunc):
    floats = ufunc.types and any("d" in t for t in ufunc.types)
    for a, b in SHAPES:
        arrays = [values("f8" if floats else "i8", s, i) for i, s in enumerate((a, b)[:ufunc.nin])]
        check_refused_alike(ufunc, call(*arrays))


@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda f: f.__name__)
def test_ufunc_vmap_and_derivatives(ufunc):
    if not any("d" in t for t in ufunc.types):
        check_call(ufunc, call(*[K, I3][:ufunc.nin]))
        return
    x = DOMAIN.get(ufunc, rng.normal(size=(2, 3)))
    y = rng.uniform(0.5, 1.5, size=3)
    check_call(ufunc, call(*[x, y][:ufunc.nin]))
    check_call(ufunc, call(*[x[0], x[1]][:ufunc.nin]))


SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.5, -2.5, np.inf, -np.inf, np.nan])


@pytest.mark.parametrize("ufunc", [f for f in UFUNCS if any("d" in t for t in f.types)], ids=lambda f: f.__name__)
def test_ufunc_special_values(ufunc):
    """Signed zeros, infinities and NaN come out as NumPy's do."""
    arrays = [SPECIAL] if ufunc.nin == 1 else list(map(np.ravel, np.meshgrid(SPECIAL, SPECIAL)))
    with np.errstate(all="ignore"):
        want = ufunc(*arrays)
    (have,) = run_traced(lambda *xs: [ufunc(*xs)], *arrays)
    assert_same(have, want, ufunc.__name__)
    if want.dtype.kind == "f":
        zero = want == 0
        np.testing.assert_array_equal(np.signbit(have[zero]), np.signbit(want[zero]), ufunc.__name__)


# -- everything else: a list of calls for each -------------------------------------------------------------

AXES = (None, 0, -1, 1, (0, 2), (-1, 0), ())


def reductions(name, smooth=True):
    calls = [call(T, axis=a, keepdims=k, smooth=smooth) for a in AXES for k in (False, True)]
    if name in ("all", "any"):
        calls = [call(T > 0.5, axis=a, keepdims=k) for a in AXES for k in (False, True)]
        calls += [call(K), call(T), call(E03, 1)]
    return [*calls, call(M4, 0), call(I32), call(U8), call(S), call(V)]


def sums(name):
    return [*reductions(name), call(B3), call(E0), call(E03, axis=0), call(E03, axis=1), call(U8, dtype="f4"),
            call(M, where=BM), call(M, 1, where=BM, initial=2.0), call(M4, dtype="f8"), call(K, initial=3),
            call(M, 0, where=np.array([True, False, True, True])), call(V, initial=np.array(2.0))]


def extremes(name):
    return [*reductions(name), call(TIES, 1, smooth=False), call(E03, 1), call(E03, 0, initial=1.0),
            call(M, 1, initial=0.1), call(M, where=BM, initial=0.0), call(K, initial=2), call(B3),
            call(NANS, smooth=False),
            call(V, initial=np.array(0.3)), call(K, 1, initial=4.5), call(B3, initial=0.5),
            call(M4, 1, initial=np.array(0.1)), call(B3, where=np.array([True, False, False]), initial=False)]


def args_of(name):
    return [call(T, smooth=False), *[call(T, axis=a, keepdims=k, smooth=False) for a in (0, -1, None)
                                     for k in (False, True)], call(TIES, 1, smooth=False), call(K), call(B3),
            call(NANS, 1, smooth=False), call(S, smooth=False), call(V4)]


def spreads(name):
    return [*[call(T, axis=a, keepdims=k) for a in AXES[:-1] for k in (False, True)], call(M, ddof=1),
            call(M, 0, ddof=1),
            call(M4, 1), call(K), call(B3), call(M, 0, "f4", smooth=False), call(M, correction=1), call(U8, 0),
            call(M, 0, mean=M.mean(0, keepdims=True))]


def splits(name):
    return [call(T, 2, axis=-1), call(T, [1, 3], axis=2), call(M, 3), call(V, [2]), call(V, [3, 1]), call(V, [0, 9]),
            call(V, [-2]), call(K, np.int64(1), 1)]


def likes(name):
    extra = (2.5,) if name == "full_like" else ()
    return [call(a, *extra) for a in (M, M4, K, B3, S, E03)] + [
        call(M, *extra, dtype="i4"), call(K, *extra, dtype=float), call(M, *extra, shape=(2, 2))]


def made(name):
    extra = (2.5,) if name == "full" else ()
    return [call((2, 3), *extra), call(3, *extra), call((), *extra), call((2,), *extra, dtype="f4"),
            call([0, 2], *extra, dtype=int)]


def halves(name):
    return [call(SQ), call(SQ, 1), call(M, -1), call(T), call(SQ2, -2), call(K), call(BM), call(M4, k=2)]


def stacks(name):
    return [call([V, W]), call((V, W)), call([K, M[:2, :3]]), call([M, 2 * M, M]), call([M4, M]),
            call([T, T]), call([V4, V])]


CASES = {
    "sum": sums("sum"), "prod": [*sums("prod"), call(np.array([[0.0, 2.0, 0.0], [1.0, 0.0, 3.0]]), 1)],
    "mean": [*reductions("mean"), call(B3), call(M, where=BM), call(M, 0, where=BM, keepdims=True),
             call(M4, dtype="f8"),
             call(U8, dtype="f4"), call(M, 1, where=np.array([True, False, True, True]))],
    "max": extremes("max"), "amax": [call(M, 1), call(M, axis=(0, 1))],
    "min": extremes("min"), "amin": [call(M, 1), call(M, axis=(0, 1))],
    "all": [*reductions("all"), call(BM, 1, where=BM[0]), call(E0)],
    "any": [*reductions("any"), call(BM, 1, where=BM[0]), call(E0)],
    "ptp": [call(M), call(M, 0), call(T, axis=-1, keepdims=True), call(K, 1), call(T, axis=(0, 2))],
    "argmax": args_of("argmax"), "argmin": args_of("argmin"),
    "var": spreads("var"), "std": spreads("std"),
    "average": [call(M), call(M, 0), call(M, 1, keepdims=True), call(M, weights=np.abs(M) + 0.1),
                call(M, 1, np.abs(W) + 0.1), call(T, axis=1, weights=np.array([1.0, 2.0, 3.0])), call(K, 0),
                call(M, 0, returned=True), call(M, 1, np.abs(W) + 0.1, returned=True), call(K, 1, I3 + 1),
                call(M, 1, np.abs(W) + 0.1, keepdims=True), call(K, returned=True)],
    "cumsum": [call(V), call(M), call(M, 0), call(T, axis=-2), call(K, 1), call(B3), call(U8), call(M4, 1, "f8"),
               call(S), call(E03, 0), call(T, 1, "f8")],
    "cumprod": [call(V), call(M), call(M, 0), call(T, axis=-2), call(K, 1), call(B3), call(U8), call(M4, 1, "f8"),
                call(S), call(E03, 0), call(np.array([2.0, 0.0, 3.0, 0.0, 5.0]))],
    "sort": [call(V), call(M), call(M, 0), call(T, axis=1), call(M, None), call(TIES, smooth=False), call(K), call(B3),
             call(np.array([2.0, np.nan, 1.0]), smooth=False), call(M4, -1)],
    "argsort": [call(V), call(M, 0), call(T, axis=1), call(M, None), call(TIES, kind="stable", smooth=False), call(K)],
    "median": [call(V), call(M), call(M, 0), call(M, 1, keepdims=True), call(T, axis=-1), call(K), call(K, 1),
               call(M, keepdims=True), call(T, axis=(0, 2)), call(M4, 0)],
    "diff": [call(V), call(M), call(M, 2), call(M, axis=0), call(T, 1, 1), call(K), call(V, 0), call(V, 5), call(V, 4)],
    "count_nonzero": [call(K), call(np.array([[0, 1, 0], [2, 0, 0]]), 1), call(B3), call(M, axis=0, keepdims=True),
                      call(np.array([0.0, 1.0, np.nan]), smooth=False)],
    "nansum": [call(NANS, smooth=False), call(NANS, 1, smooth=False), call(M, 0, keepdims=True), call(K, 0), call(B3)],
    "clip": [call(M, -0.5, 0.5), call(M, None, 0.3), call(M, 0.1, None), call(M, -np.abs(V), np.abs(V)), call(K, 2, 4),
             call(M4, -0.5, 0.5), call(M, min=-0.2), call(M, max=0.2), call(M, a_min=-1, a_max=0), call(M),
             call(K, 0.5, 2.5), call(I32, -1, 3), call(M4, -0.5, 0.5, dtype="f8")],
    "round": [call(M, smooth=False), call(M, 2, smooth=False), call(10 * M, -1, smooth=False), call(K), call(K, 1),
              call(M4, 1, smooth=False), call(np.array([0.5, 1.5, -2.5, 1e30]), smooth=False)],
    "around": [call(M, 1, smooth=False)],
    "nan_to_num": [call(NANS, smooth=False), call(NANS, nan=2.0, posinf=1.0, neginf=-1.0, smooth=False), call(K),
                   call(M4),
                   call(M), call(NANS.astype("f4"))],
    "isclose": [call(M, M + 1e-9, smooth=False), call(NANS, NANS, smooth=False), call(NANS, NANS, equal_nan=True),
                call(K, K), call(M4, M4 * 1.01), call(M, M[0], 0.1, 0.2), call(V, 0.0), call(NANS, 0.0)],
    "allclose": [call(M, M + 1e-9), call(M, M + 1), call(NANS, NANS), call(NANS, NANS, equal_nan=True)],
    "sinc": [call(M), call(np.array([0.0, 1.0, 0.5]), smooth=False), call(M4), call(K)],
    "einsum": [call("ij,jk->ik", M, M.T.copy()), call("ij->j", M),
               call("ij->j", M4, dtype="f8")],  # the long list is test_einsum.py
    "dot": [call(V, W), call(M, V), call(M, M.T.copy()), call(T, M.T.copy()), call(T, V), call(S, M), call(M, 2.0),
            call(K, I3), call(M4, V4), call(M4, V), call(V, T.swapaxes(1, 2).copy())],
    "inner": [call(V, W), call(M, V), call(M, M), call(S, V), call(K, I3), call(T, M)],
    "outer": [call(V, W), call(M, I3), call(S, V), call(K, K), call(V4, V)],
    "vdot": [call(V, W), call(M, M), call(K, K), call(S, S), call(V4, V)],
    "vecdot": [call(V, W), call(V4, V4, dtype="f8"), call(M, V), call(T, M), call(T, T, axis=1), call(K, I3)],
    "tensordot": [call(T, T, 3), call(T, M, ((1, 2), (0, 1))), call(M, M, ([0, 1], [0, 1])), call(T, M, axes=(2, 1)),
                  call(V, W, 0), call(K, K, ((0,), (0,))), call(T, T, ((-1, 0), (-1, 0))), call(V, W, 1)],
    "kron": [call(M, SQ), call(V, W), call(V, M), call(K, I3), call(S, M), call(T, M)],
    "cross": [call(SQ[0], SQ[1]), call(SQ, SQ[::-1].copy()), call(SQ, SQ[0]),
              call(SQ.T.copy(), SQ.T.copy() + 1, axis=0),
              call(K, K[::-1].copy())],
    "matmul": [call(M, V), call(M4, V4, dtype="f8")],  # every combination of ranks is in test_products.py
    "norm": [call(V), call(M), call(M, axis=0), call(M, axis=-1, keepdims=True), call(V, 1), call(V, 3),
             call(V, np.inf),
             call(V, -np.inf), call(V, 0, smooth=False), call(M, "fro"), call(M, 1, 1), call(M, 2, axis=1), call(K),
             call(M4), call(T, axis=(0, 1)), call(V4, 3), call(M, np.inf, axis=0), call(T), call(V, 2.5),
             call(M, keepdims=True),
             call(SQ, "nuc"), call(SQ, 2), call(SQ, 1), call(SQ, np.inf)],
    "det": [call(SQ), call(SQ2), call(SQ.astype("f4")), call(np.array([[2, 1], [1, 3]]))],
    "inv": [call(SQ), call(SQ2), call(SQ.astype("f4"))],
    "solve": [call(SQ, V[:3].copy()), call(SQ, M), call(SQ2, M), call(SQ2, SQ), call(SQ, SQ2),
              call(SQ.astype("f4"), V4[:3].copy()),
              call(np.array([[2, 1], [1, 3]]), np.array([1, 2]))],
    "cholesky": [call(PD), call(np.stack([PD, 2 * PD])), call(PD.astype("f4")), call(np.tril(PD)),
                 call(np.triu(PD, 1) * 9 + np.tril(PD)), call(np.triu(PD), upper=True), call(PD, upper=True)],
    "slogdet": [call(SQ), call(-SQ), call(SQ2)],
    "eigh": [call(PD, smooth=False)],
    "eigvalsh": [call(PD), call(np.stack([PD, 2 * PD])), *[call(x, u) for x in (SQ, SQ2, np.tril(SQ)) for u in "LUu"]],
    "qr": [call(SQ), call(M.T.copy()), call(M)],
    "svd": [call(M, full_matrices=False, smooth=False), call(SQ, compute_uv=False),
            call(SQ, compute_uv=False, hermitian=True), call(M, compute_uv=False)],
    "matrix_power": [call(SQ, n) for n in (0, 1, 2, 3, 5, -1, -2)] + [call(SQ2, 3),
                                                                      call(np.array([[1, 2], [3, 4]]), 3)],
    "multi_dot": [call([M, M.T.copy(), M]), call([V, M.T.copy(), M, W])],
    "reshape": [call(M, (4, 3)), call(M, -1), call(M, (2, -1, 2)), call(T, (-1, 4)), call(S, (1, 1)), call(E03, (3, 0)),
                call(K, (3, 2)), call(V, [2, 2]), call(S[None], ()), call(V, shape=(4, 1)),
                call(M, (4, 3), "F"), call(M, 12, order="F"), call(T, (4, -1), order="F")],
    "ravel": [call(T), call(S), call(E03), call(K), call(M, "F")],
    "transpose": [call(M), call(T), call(T, (1, 2, 0)), call(T, (-1, 0, 1)), call(V), call(S)],
    "matrix_transpose": [call(M), call(T)],
    "swapaxes": [call(T, 0, 2), call(T, -1, 1), call(M, 0, 0)],
    "moveaxis": [call(T, 0, -1), call(T, (0, 1), (1, 2)), call(T, [2, 0], [0, 1]), call(T, -1, 0)],
    "expand_dims": [call(M, 0), call(M, -1), call(M, (0, 3)), call(V, (1, 2)), call(S, 0), call(M, (-1, 0))],
    "squeeze": [call(M[None, :, :, None]), call(M[None], 0), call(M[:, None], 1), call(M[None, :, None], (0, 2)),
                call(M),
                call(np.ones((1, 1))), call(M[None], -3)],
    "broadcast_to": [call(V, (3, 4)), call(S, (2, 3)), call(M, (2, 3, 4)), call(M[:, :1].copy(), (3, 5)), call(V, (4,)),
                     call(M[:1].copy(), (0, 4)), call(S, ())],
    "broadcast_arrays": [call(V, M), call(S, V), call(M[:, :1].copy(), V, S)],
    "atleast_1d": [call(S), call(V), call(S, M)], "atleast_2d": [call(S), call(V), call(M), call(S, V)],
    "concatenate": [*stacks("c"), call([M, M], axis=1), call([M, M[:1].copy()]), call([T, T], -1),
                    call([M, V], axis=None),
                    call([K, B3[None]]), call([E03, SQ]), call([V, I3], dtype="f4", smooth=False), call([U8, I3])],
    "stack": [*stacks("s")[:2], call([M, M], 1), call([M, M], -1), call([S, S]), call([V, I3[[0, 1, 2, 0]]]),
              call([B3, I3]),
              call([V, W], dtype="f4", smooth=False)],
    "hstack": [call([V, W]), call([M, M]), call([S, V]), call([V, I3])],
    "vstack": [call([V, W]), call([M, V]), call([S, S]), call([M, M])],
    "column_stack": [call([V, W]), call([M.T.copy(), V]), call([S, S])],
    "split": splits("split"), "array_split": [*splits("array_split"), call(V, 3), call(M, 5, axis=1)],
    "unstack": [call(M), call(T, axis=1), call(K, axis=-1)],
    "tile": [call(V, 2), call(V, (2, 3)), call(M, (2, 1)), call(M, 3), call(S, 2), call(T, (2, 1)), call(K, (1, 2)),
             call(V, 0)],
    "repeat": [call(V, 2), call(M, 2), call(M, 3, axis=0), call(M, 2, -1), call(V, [1, 0, 2, 1]),
               call(M, [2, 1, 0], axis=0),
               call(K, 2, 1), call(S, 3), call(V, 0)],
    "flip": [call(V), call(M), call(M, 1), call(T, (0, -1)), call(K, 0)],
    "roll": [call(V, np.array(3)), call(M, np.array([1, -2]), (0, 1)), call(M, np.array(2), 1),
             call(V, 1), call(M, 2), call(M, -1, 1), call(M, (1, 2), (0, 1)), call(M, 1, (0, 1)), call(K, 5, 1),
             call(E03, 1, 0), call(V, -9), call(E0, 1)],
    "pad": [call(V, 1), call(M, ((1, 0), (2, 3))), call(M, 2, "edge"), call(M, (1, 2), "reflect"),
            call(V, 1, "symmetric"),
            call(V, 2, "wrap"), call(M, 1, constant_values=2.5), call(K, 1, constant_values=7), call(V, (0, 2)),
            call(S, 1), call(M, {0: (1, 2)}), call(M, {-1: 2}, constant_values=3),
            call(M, {1: 1, 0: (2, 0)}, "edge"), call(M, {}),
            call(M, ((1, 1),)), call(M, ((1, 0), (0, 2)), constant_values=((1, 2), (3, 4))), call(V, 2, "constant"),
            call(V, (1, 2), constant_values=(3, 4)), call(B3, 1)],
    "zeros_like": likes("zeros_like"), "ones_like": likes("ones_like"), "full_like": likes("full_like"),
    "zeros": made("zeros"), "ones": made("ones"),
    "full": [*made("full"), call((2, 3), 1), call((2,), True), call((3, 4), V)],
    "arange": [call(5), call(1, 5), call(1, 9, 2), call(0, 1, 0.25), call(3, dtype="f4"), call(5, 0, -1), call(2.5)],
    "identity": [call(3), call(2, dtype="i4")], "tri": [call(3), call(3, 4, 1), call(2, 5, -1, "i4")],
    "fftfreq": [call(5), call(4, 0.5)], "rfftfreq": [call(5), call(4, 0.5)],
    "eye": [call(3), call(3, 4), call(3, k=1), call(2, dtype="f4"), call(3, 4, -1)],
    "divmod": [call(M, 0.7), call(K, 2), call(M, np.abs(V) + 0.1), call(5, K), call(M4, 2)],
    "copy": [call(M), call(K)], "asarray": [call(M), call(M, "f4", smooth=False), call(K, float)],
    "array": [call(M), call(M, dtype="i4")],
    "asanyarray": [call(M)], "ascontiguousarray": [call(M)],
    "astype": [call(M, "f4", smooth=False), call(K, float), call(M, int, smooth=False), call(M, bool, smooth=False),
               call(B3, "i4"),
               call(10 * M, "u1", smooth=False)],
    "where": [call(BM, M, 2 * M), call(BM, M, 0), call(BM, 1.0, M), call(B3, V4[:3].copy(), 0.0), call(K, 1.0, 2.0),
              call(BM[0], M, V),
              call(BM, 1, 2), call(BM, 1.0, 2), call(B3, I3, V[:3].copy()), call(BM, True, False), call(S, M, V),
              call(BM, True, 2)],
    "tril": halves("tril"), "triu": halves("triu"),
    "diag": [call(V), call(SQ), call(M), call(V, 1), call(V, -2), call(M, 1), call(M, -1), call(I3)],
    "diagonal": [call(SQ), call(M), call(M, 1), call(M, -1), call(T), call(T, 0, 1, 2), call(T, 1, 0, 2), call(M, 9)],
    "trace": [call(SQ), call(U8[None], dtype="f4"), call(M),
              call(M, 1), call(T), call(K), call(T, 0, 2, 1), call(U8[None]), call(SQ.astype("f4")),
              call(B3[None])],
    "take": [call(V, 2), call(V, I3), call(M, I3, axis=1), call(M, [0, 2], 0), call(M, K[:, :2] % 4, -1),
             call(M, -1, axis=0),
             call(M, 5), call(T, np.array(1), 1), call(M, I3)],
    "take_along_axis": [call(M, np.argsort(M, 1), 1), call(M, np.array([[1], [0], [2]]), 1), call(V, I3, 0),
                        call(M, np.array([[0, 2, 1, 1]]), 0), call(T, np.argmax(T, -1)[..., None], -1),
                        call(M, I3, None),
                        call(M, np.array([[-1], [0], [2]]), axis=-1)],
    "shape": [call(T), call(S)], "ndim": [call(T), call(S)], "size": [call(T), call(T, 1)],
}
SHAPE_ONLY = {"zeros", "ones", "empty", "full", "arange", "eye", "identity", "tri",
              "roll", "array", "asarray", "asanyarray",
              "ascontiguousarray", "asfortranarray", "require"}  # NumPy asks none of their arguments for its protocol
CASES |= MORE
OTHERS = sorted({*TABLE} - {*UFUNCS}, key=lambda f: (f.__name__, getattr(f, "__module__", "")))


def case_name(function):
    """Return the name of a function's cases: ``linalg.trace`` where ``trace`` is another function."""
    name, module = function.__name__, getattr(function, "__module__", "")
    apart = module in ("numpy.linalg", "numpy.fft") and hasattr(np, name)
    return f"{module.removeprefix('numpy.')}.{name}" if apart else name


@pytest.mark.parametrize("function", OTHERS, ids=case_name)
def test_every_function_equals_numpys(function):
    name = case_name(function)
    if name in ("empty", "empty_like", "result_type", "common_type"):
        pytest.skip("its result is no value to compare; it is tested below")
    assert name in CASES, f"np.{name} is entered in the table, and has no test case here"
    for case in CASES[name]:
        try:
            check_call(function, case, getattr(mnp, name) if name in SHAPE_ONLY else None)
        except Exception as error:
            error.add_note(f"in np.{name}({case!r})")
            raise


# Parameters that change nothing in a traced value: it has no memory layout, no subclass, no fields.
LAYOUT = {"order", "copy", "subok", "like", "device", "writeable", "kind", "stable", "overwrite_input", "optimize",
          "out", "assume_unique", "sorted", "tol", "casting", "arguments", "more"}
UNREAD = {"iscomplexobj": {"x"}, "isrealobj": {"x"}, "partition": {"kth"}, "argpartition": {"kth"},
          "histogram_bin_edges": {"weights"}}


@pytest.mark.parametrize("function", OTHERS, ids=lambda f: f.__name__)
def test_every_parameter_is_read(function):
    """A parameter that is taken and ignored is a wrong result without a word."""
    ours = inspect.unwrap(TABLE[function])
    code = ours.__code__
    names = code.co_varnames[:code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & inspect.CO_VARKEYWORDS)
                             + bool(code.co_flags & inspect.CO_VARARGS)]
    read = {i.argval for c in nested(code) for i in dis.get_instructions(c)
            if i.opname.startswith(("LOAD_FAST", "LOAD_DEREF", "LOAD_CLOSURE"))}
    read = {n for r in read for n in (r if isinstance(r, tuple) else (r,))} | set(code.co_cellvars)
    assert set(names) - read <= LAYOUT | UNREAD.get(function.__name__, set())


def nested(code):
    """Yield the code of a function and of the functions within it."""
    yield code
    for c in code.co_consts:
        if inspect.iscode(c):
            yield from nested(c)


def test_every_case_has_a_function():
    assert set(CASES) - {"common_type"} - {case_name(f) for f in TABLE} == set()


def test_empty_has_the_asked_shape_and_dtype():
    assert_same(mnp.empty((2, 3), "f4").shape, (2, 3))
    (out,) = run_traced(lambda x: [mnp.empty_like(x, dtype="i4")], M)
    assert out.shape == (3, 4)
    assert out.dtype == np.int32


@pytest.mark.parametrize("function", [
    lambda x, s, n: x * s, lambda x, s, n: s * x + n, lambda x, s, n: x * (s * 2 + n), lambda x, s, n: x * np.exp(s),
    lambda x, s, n: x / n, lambda x, s, n: x * np.where(x > 0, 1.0, s), lambda x, s, n: x * np.where(s > 0, 1, n),
    lambda x, s, n: x * np.maximum(s, 0.0), lambda x, s, n: x * (s - n) ** 2, lambda x, s, n: x * -s * abs(n),
    lambda x, s, n: np.stack([x, x * s]), lambda x, s, n: (s > n) & (x > 0), lambda x, s, n: (s > 0) | (n == 3),
    lambda x, s, n: x * np.float64(2), lambda x, s, n: x * np.float32(2) * s, lambda x, s, n: x * np.sqrt(1 / 3),
    lambda x, s, n: n * s, lambda x, s, n: n + n * 2, lambda x, s, n: n / n, lambda x, s, n: np.add(n, s),
    lambda x, s, n: x * np.add(s, 0.0), lambda x, s, n: np.stack([s, n]), lambda x, s, n: np.dot(x, s),
    lambda x, s, n: x.astype("u1") * n, lambda x, s, n: (x > 0) * s, lambda x, s, n: (x > 0) + n,
    lambda x, s, n: n // 2, lambda x, s, n: n % 2 * x, lambda x, s, n: divmod(x, n), lambda x, s, n: divmod(n, x),
    lambda x, s, n: x.sum() * s + n])
def test_python_scalars_as_arguments_are_weak(function):
    """A Python number gives way in Python's arithmetic, and is float64 or int64 where a NumPy function has seen it."""
    x = np.array([0.5, -1.5], "f4")
    want = function(x, 1.5, 3)
    graph = mg.trace(function)(x, 1.5, 3)
    have = interpreters.evaluate(graph.check(), [x, np.float64(1.5), np.int64(3)])
    want = want if isinstance(want, tuple) else (want,)
    for h, w in zip(have, want, strict=True):
        assert_same(h, w)


@pytest.mark.parametrize("ufunc", [np.less, np.equal, np.greater_equal, np.add, np.bitwise_xor, np.maximum])
@pytest.mark.parametrize("scalar", [300, -1, 2**40, 2**63 + 5, 2**70])
@pytest.mark.parametrize("dtype", ["u1", "i4", "u8", "f4"])
def test_python_ints_out_of_range(ufunc, scalar, dtype):
    """They are refused as in NumPy, and never wrapped around; comparisons with them are exact."""
    x = np.array([1, 100, 44], dtype)
    if scalar == 2**70 and (dtype == "f4" or ufunc in (np.less, np.equal, np.greater_equal)):
        with pytest.raises(mg.DtypeError, match="too large"):
            mg.trace(lambda x: ufunc(x, scalar))(x)
        return
    check_refused_alike(ufunc, call(x, scalar))


@pytest.mark.parametrize("name", sorted(NAMES))
def test_namespace_computes_as_numpy_without_a_trace(name):
    """In ``minigrad.numpy``, on plain arrays, a function is NumPy's own; what NumPy lacks works on them anyway."""
    function = getattr(mnp, name)
    numpys = getattr(np, name, None) or getattr(np.linalg, name, None)
    case = next(iter(CASES.get(name, ())), None)
    if case is None or numpys is None:
        assert callable(function)
        return
    with np.errstate(all="ignore"):
        have, want = (f(*case.args, **case.kwargs) for f in (function, numpys))
    np.testing.assert_equal(have, want)
