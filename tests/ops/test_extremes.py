"""Rules that share the cotangent of an extreme, on the maximum of each row."""

import numpy as np

from minigrad import interpreters
from minigrad.graph import PRIMITIVES as P
from minigrad.graph import Graph
from minigrad.ops.extremes import extreme_rules
from tests import checks


def test_elements_that_attain_the_extreme_share_its_cotangent_and_tangents_average():
    vjp, jvp = extreme_rules(lambda x, *, axes: P["sum"](x, axes=axes),
                             lambda y, x, *, axes: P["expand"](y, shape=x.shape, axes=axes))
    x, t = (checks.placeholder((2, 3), "f8") for _ in "xt")
    g = checks.placeholder((2,), "f8")
    out = P["max"](x, axes=(1,))
    (back,) = vjp(g, out, x, axes=(1,))
    array = np.array([[1.0, 3.0, 3.0], [5.0, 0.0, 2.0]])
    (have,) = interpreters.evaluate(Graph((x, g), (back,)), [array, np.array([4.0, 7.0])])
    np.testing.assert_array_equal(have, [[0, 2, 2], [7, 0, 0]])
    moved = jvp([t], out, x, axes=(1,))
    (have,) = interpreters.evaluate(Graph((x, t), (moved,)), [array, np.arange(6.0).reshape(2, 3)])
    np.testing.assert_array_equal(have, [1.5, 3.0])
