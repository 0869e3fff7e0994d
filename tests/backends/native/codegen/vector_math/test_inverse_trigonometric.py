"""Inverse sine, cosine and tangent."""

import pytest

pytest.importorskip("llvmlite")

from minigrad.backends.native.codegen.vector_math import inverse_trigonometric
from tests.backends.native.codegen.vector_math.checks import BOTH, FunctionTests, check_subnormal_arguments


class TestInverseTrigonometric(FunctionTests):
    module = inverse_trigonometric
    split = resized = "asin", "atan"


@BOTH
def test_subnormal_arguments(dtype):
    check_subnormal_arguments(("asin", "atan"), dtype)
