"""Error functions."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from minigrad.backends.native.codegen.vector_math import error_function
from tests.backends.native.codegen.vector_math.checks import INF, FunctionTests, check_argument


class TestErrorFunction(FunctionTests):
    module = error_function
    split = "erf", "erfc"
    resized = ("erf",)


@pytest.mark.parametrize(("name", "x", "dtype"), [
    ("erfcx", INF, np.float32),
    ("erfc", 0.00032413765, np.float32),
    ("erfcx", 1192.2344120373266, np.float64),
    ("erfcx", 41428.685263379644, np.float64),
])
def test_single_arguments(name, x, dtype):
    check_argument(name, x, dtype)
