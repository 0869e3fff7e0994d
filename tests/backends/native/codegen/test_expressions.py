"""Casts in machine code against NumPy."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from minigrad import backends
from minigrad.graph import Graph
from tests.passes.programs import input_, node


@pytest.mark.parametrize("old", ["?", "i1", "u1", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("new", ["?", "i1", "u1", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_casts(old, new):
    values = np.array([0, 1, 2, 100, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 90, 127])
    if np.dtype(old).kind in "if":
        values = np.concatenate([values, -values])
    if np.dtype(old).kind == "f" and np.dtype(new).kind in "bf":
        values = np.concatenate([values + 0.5, [np.nan, np.inf, -np.inf, -0.0]])
    x = input_(len(values), dtype=old)
    graph = Graph((x,), (node("cast", x, dtype=np.dtype(new)) if old != new else node("stop_gradient", x),))
    array = values.astype(old)
    (have,) = backends.build(graph, "native")([array], {})
    np.testing.assert_array_equal(have, array.astype(new))
