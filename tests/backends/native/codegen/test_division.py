"""Quotients, remainders and shifts against NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

from minigrad import backends
from minigrad.graph import Graph
from tests.backends.native.machine_code import TARGETS, compile_ir
from tests.passes.programs import input_, node

from ..kernels.checks import NUMBERS, same


def numbers(dtype):
    """Return numbers at which division is delicate."""
    if np.dtype(dtype).kind == "f":
        info = np.finfo(dtype)
        found = [0, -0.0, 1, -1, 0.5, 3, -3, 0.1, -0.1, 7.3, np.inf, -np.inf, np.nan, info.max, -info.max, info.tiny,
                 info.smallest_subnormal, 1e10, -2.5]
        return np.array(found, dtype)
    info = np.iinfo(dtype)
    found = [info.min, info.max, info.min + 1, 0, 1, 2, 3, 5, 7, 8, 9, 15, 16, 31, 32, 33, 63, 64, 65]
    return np.array(found + ([-1, -2, -3, -5, -7, -8] if info.min else []), dtype)


@pytest.mark.parametrize("dtype", [*NUMBERS, "i2", "u4"])
@pytest.mark.parametrize("name", ["floor_divide", "mod", "left_shift", "right_shift"])
def test_division_and_shifts(name, dtype):
    if dtype[0] == "f" and name.endswith("shift"):
        pytest.skip("shifts are of integers")
    xs, ys = (a.ravel() for a in np.meshgrid(numbers(dtype), numbers(dtype)))
    x, y = input_(len(xs), dtype=dtype), input_(len(xs), dtype=dtype)
    a, b = input_(dtype=dtype), input_(dtype=dtype)
    same([x, y, a, b], [node(name, x, y), node(name, a, b)], [xs, ys, xs[3:4].reshape(()), ys[40:41].reshape(())])


@given(st.integers(0, 2**31), st.sampled_from(["f4", "f8"]), st.integers(-30, 30))
def test_division_of_random_floats(seed, dtype, scale):
    rng = np.random.default_rng(seed)
    ys = rng.normal(size=500).astype(dtype)
    xs = (ys * rng.integers(-1000, 1000, 500)).astype(dtype)
    xs[::2] = np.nextafter(xs[::2], rng.choice([-9e9, 9e9]).astype(dtype))  # a quotient next to a whole number
    xs[::5] = (xs[::5] * 10.0 ** scale).astype(dtype)
    x, y = input_(500, dtype=dtype), input_(500, dtype=dtype)
    same([x, y], [node("floor_divide", x, y), node("mod", x, y)], [xs, ys])


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4"])
def test_division_compiles_for_other_machines(dtype):
    x, y = input_(7, dtype=dtype), input_(7, dtype=dtype)
    program = backends.build(Graph((x, y), (node("floor_divide", x, y), node("mod", x, y))), "native")
    for machine in TARGETS.values():
        assert all(compile_ir(text, machine) for text in program.texts)
