"""Constants are private copies, and sizes are constants where they are known."""

import numpy as np
import pytest

from minigrad import interpreters
from minigrad.errors import DtypeError
from minigrad.graph import Graph
from minigrad.ops.constants import constant, size_scalar
from minigrad.symbolic import Dim
from tests import checks


def test_a_constant_is_a_private_copy():
    x = np.arange(3.0)
    node = constant(x)
    x[0] = 7
    (out,) = interpreters.evaluate(Graph((), (node,)), [])
    np.testing.assert_array_equal(out, [0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        out[0] = 7


@pytest.mark.parametrize("x", [np.float32(1.5), np.array(2), True, np.nan, np.array(3, "u1")])
def test_a_single_number_is_a_full(x):
    node = constant(x)
    assert node.prim.name == "full"
    (out,) = interpreters.evaluate(Graph((), (node,)), [])
    np.testing.assert_array_equal(out, np.asarray(x), strict=True)
    checks.check_json(Graph((), (node,)), [])


def test_the_byte_order_is_the_machines():
    assert constant(np.arange(3, dtype=">f8")).dtype == np.dtype("f8")
    assert constant(np.arange(3, dtype="<f8")).dtype == np.dtype("f8")


@pytest.mark.parametrize("x", [np.array([1j]), np.array(["a"]), np.array([None]), 1j, "a"])
def test_other_dtypes_are_refused(x):
    with pytest.raises(DtypeError):
        constant(x)


def test_a_size_is_a_number_where_it_is_known():
    n = Dim.new("n")
    assert size_scalar(3, np.dtype("f4")).params["value"] == 3.0
    (out,) = interpreters.evaluate(Graph((), (size_scalar(n * 2 + 1, np.dtype("f4")),)), [], {n.symbol: 4})
    np.testing.assert_array_equal(out, np.float32(9), strict=True)
