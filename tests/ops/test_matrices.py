"""Helpers for stacks of matrices against NumPy."""

import numpy as np
import pytest

from minigrad import interpreters
from minigrad.errors import DtypeError, ShapeError
from minigrad.graph import ArrayType, Graph
from minigrad.ops.elementwise import eq, ge, gt
from minigrad.ops.matrices import (
    by_column,
    by_row,
    check_matrix,
    choose,
    diagonal,
    inner,
    leading_flops,
    product,
    transposed,
)
from tests import checks

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_against_numpy(lead):
    a, b, s = (RNG.normal(size=(*lead, *shape)) for shape in ((3, 4), (4, 2), (3, 3)))
    v = RNG.normal(size=(*lead, 3))
    x, y, square, vector = (checks.placeholder(array.shape, "f8") for array in (a, b, s, v))
    have = interpreters.evaluate(Graph((x, y, square, vector), (
        product(x, y), inner(square, square), transposed(x), diagonal(square), choose(ge, square), choose(gt, square),
        choose(eq, square, by_row(vector, square)), by_column(vector, square))), [a, b, s, v])
    off = ~np.eye(3, dtype=bool)
    want = [a @ b, (s * s).sum(axis=(-2, -1)), np.swapaxes(a, -1, -2), np.diagonal(s, axis1=-2, axis2=-1), np.tril(s),
            np.tril(s, -1), np.where(off, v[..., :, None], s), np.broadcast_to(v[..., None, :], s.shape)]
    for h, w in zip(have, want, strict=True):
        np.testing.assert_allclose(h, w, rtol=1e-14)


@pytest.mark.parametrize(("dtype", "shape", "error", "match"), [
    ("f2", (2, 2), DtypeError, "LAPACK"), ("i8", (2, 2), DtypeError, "LAPACK"), ("f8", (2,), ShapeError, "a matrix"),
    ("f8", (2, 3), ShapeError, "not square")])
def test_check_matrix_refuses_wrong_dtype_or_shape(dtype, shape, error, match):
    with pytest.raises(error, match=match):
        check_matrix("f", ArrayType(shape, np.dtype(dtype)))


def test_leading_flops_multiply_by_stack_size():
    node = transposed(checks.placeholder((5, 2, 7), "f8"))  # matrices of 7 x 2
    assert leading_flops(lambda m, n: m * n * n)(node, int, None) == 5 * 7 * 2 * 2
