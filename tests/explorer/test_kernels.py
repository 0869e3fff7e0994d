"""Kernel expressions as JavaScript; `test_page` compares their values with NumPy's."""

import pytest

from minigrad.explorer.kernels import functions, javascript
from minigrad.graph import PRIMITIVES


@pytest.mark.parametrize(("name", "want"), [
    ("add", "(x0, x1) => +(x0 + x1)"), ("tanh", "(x0) => +(Math.tanh(x0))"),
    ("where", "(x0, x1, x2) => +(x0 ? x1 : x2)"),
    ("tanh_slope", "(x0, x1) => +(F.seldom(Math.abs(x1) > 3, 1 - x0 * x0, 2 / (1 + Math.cosh(x1 + x1))))"),
    ("cast", None), ("digamma", None), ("sum", None)])
def test_expressions_are_arrow_functions(name, want):
    assert javascript(PRIMITIVES[name]) == want


def test_operations_without_a_function_are_left_out():
    assert functions([PRIMITIVES["neg"], PRIMITIVES["digamma"]]) == "{neg: (x0) => +(-x0)}"
