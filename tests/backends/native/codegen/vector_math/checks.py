"""Checks of the native backend's functions against NumPy, SciPy and mpmath."""

import platform
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest

pytest.importorskip("llvmlite")
pytest.importorskip("mpmath")
pytest.importorskip("scipy")

from benchmarks import accuracy
from benchmarks.native_calls import compiled
from minigrad.backends.native.codegen.vector_math import FUNCTIONS, functions

INF, NAN = float("inf"), float("nan")
BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
LANES = {np.float32: 16, np.float64: 8}
WIDE = np.finfo(np.longdouble).nmant > 60  # a long double of float64's width cannot serve as reference


def arity(name):
    return 2 if name in accuracy.PAIRS else 1


def native(name, dtype, fused=True, lanes=0, features=None):
    return compiled(functions(fused)[name], arity(name), dtype, lanes or LANES[dtype] if lanes is not None else None,
                    features)


def check(name, dtype, f):
    xs = accuracy.operands(name, 3000 if name in accuracy.SPECIAL[2:] else 60_000, dtype)
    with np.errstate(all="ignore"):
        if dtype == np.float32:
            want = accuracy.by_numpy(name)(*(x.astype(np.float64) for x in xs))
        else:
            want = accuracy.right_values(name, xs)
        errors = accuracy.errors(f(*xs), want, accuracy.terms(name, xs, want))
    at = int(np.argmax(errors))
    assert errors[at] <= 2, f"{name}{tuple(x[at] for x in xs)} is {errors[at]} last places off {want[at]!r}"


def check_argument(name, x, dtype):
    x = np.full(1, x, dtype)
    with np.errstate(all="ignore"):
        want = (accuracy.by_numpy(name)(x.astype(np.float64)) if dtype == np.float32 else
                accuracy.right_values(name, (x,)))
    assert accuracy.errors(native(name, dtype)(x), want).max() <= 2


def check_subnormal_arguments(names, dtype):
    """Check that functions with value 0 and slope 1 at 0 return subnormal numbers as they are."""
    least = np.finfo(dtype).smallest_subnormal
    x = np.array([least, 3 * least, 1000 * least, -least, -7 * least], dtype)
    for name in names:
        np.testing.assert_array_equal(native(name, dtype)(x), x, err_msg=name)


def same(got, want):
    return (got == want) & (np.signbit(got) == np.signbit(want)) | np.isnan(got) & np.isnan(want)


class FunctionTests:
    """Tests of all functions of a module.

    Attributes
    ----------
    module : module
    split : tuple of str
        Those to test without fused multiply-add, too.
    resized : tuple of str
        Those to test with several numbers of lanes.
    """

    module: ClassVar[ModuleType]
    split: ClassVar[tuple[str, ...]]
    resized: ClassVar[tuple[str, ...]]

    def pytest_generate_tests(self, metafunc):
        own = [n for n in FUNCTIONS if getattr(getattr(self.module, n, None), "__module__", "") == self.module.__name__]
        names = {"test_without_fused_multiply_add": self.split,
                 "test_any_number_of_lanes_gives_the_same_bits": self.resized,
                 "test_single_over_all_exponents": [n for n in own if arity(n) == 1]}
        metafunc.parametrize("name", names.get(metafunc.function.__name__, own))

    @pytest.mark.skipif(not WIDE, reason="no wider type of NumPy")
    @BOTH
    def test_within_two_last_places(self, name, dtype):
        check(name, dtype, native(name, dtype))

    @pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64") or not WIDE, reason="features of x86-64")
    @BOTH
    def test_without_fused_multiply_add(self, name, dtype):
        f = native(name, dtype, fused=False, features="+sse2,-fma")
        assert "vfmadd" not in f.assembly
        check(name, dtype, f)

    def test_single_over_all_exponents(self, name):
        worst = accuracy.worst_of_singles(native(name, np.float32), accuracy.by_numpy(name), 9973, threads=1)
        assert worst <= 2

    @BOTH
    def test_special_values(self, name, dtype):
        numbers = np.array([0.0, -0.0, INF, -INF, NAN, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5, 1e30, -1e30], dtype)
        xs = [x.ravel() for x in np.meshgrid(*[numbers] * arity(name))]
        got = native(name, dtype)(*xs)
        with np.errstate(all="ignore"):
            want = accuracy.by_numpy(name)(*xs)
        exact = ~np.isfinite(want) | (want == np.rint(want)) & (abs(want) < 1e9)
        if name == "log_expit":  # at infinity SciPy's is -0
            want = want + 0.0
        wrong = exact & ~same(got, want)
        assert not wrong.any(), [(x[wrong], got[wrong], want[wrong]) for x in xs]

    @BOTH
    def test_any_number_of_lanes_gives_the_same_bits(self, name, dtype):
        xs = accuracy.operands(name, 6000, dtype)
        want = native(name, dtype)(*xs)
        for lanes in (None, 2, 4, 5, 32):
            assert same(native(name, dtype, lanes=lanes)(*xs), want).all()
