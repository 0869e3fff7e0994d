"""Roots and powers."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from minigrad.backends.native.codegen.vector_math import power
from tests.backends.native.codegen.vector_math.checks import BOTH, FunctionTests, native


class TestPower(FunctionTests):
    module = power
    split = ("pow",)
    resized = ("pow",)


@BOTH
def test_cbrt_of_cubes(dtype):
    cubes = np.arange(-60, 60, dtype=dtype)
    np.testing.assert_array_equal(native("cbrt", dtype)(cubes**3), cubes)
