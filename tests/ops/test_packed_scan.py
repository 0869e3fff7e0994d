"""`packed_scan` against the loop over the examples."""

import numpy as np
import pytest

from minigrad import interpreters
from minigrad.errors import ShapeError, Unsupported
from minigrad.graph import PRIMITIVES, ArrayType, Graph
from minigrad.ops.control import parts
from minigrad.ops.packed_scan import packed_scan
from minigrad.primitive import placeholder
from minigrad.symbolic import Dim

LENGTHS = np.array([2, 0, 3, 1])


def typed(*shape, dtype="f8"):
    return placeholder(ArrayType(shape, np.dtype(dtype)))


def graph_of(body, packed, counts, *arrays, reverse=False):
    inputs = [placeholder(ArrayType(a.shape, a.dtype)) for a in arrays]
    node = packed_scan(*inputs, body=body, packed=packed, counts=counts, reverse=reverse, once=False)
    return Graph(tuple(inputs), tuple(parts(node)))


def decaying():
    """Return h <- h / 2 + x, with the sum of h * h over steps and examples."""
    n = Dim.new("running")
    length, h, x = typed(n, dtype="i8"), typed(n), typed(n)
    new = h * PRIMITIVES["full"](value=0.5, shape=(n,), dtype=np.dtype("f8")) + x
    return n, Graph((length, h, x), (new, new * x, PRIMITIVES["sum"](new * new, axes=(0,))))


@pytest.mark.parametrize("reverse", [False, True])
def test_each_example_runs_its_own_steps(reverse):
    n, body = decaying()
    start, x = np.array([1.0, 2.0, 3.0, 4.0]), np.arange(6.0)
    have = interpreters.evaluate(graph_of(body, ((n, 4, 6),), (1, 1), LENGTHS, start, x, reverse=reverse),
                                 [LENGTHS, start, x])
    ends, stacked, total = [], np.zeros(6), 0.0
    first = np.cumsum(LENGTHS) - LENGTHS
    for h, begin, count in zip(start, first, LENGTHS, strict=True):
        steps = range(begin, begin + count)
        for t in reversed(steps) if reverse else steps:
            h = h / 2 + x[t]
            stacked[t] = h * x[t]
            total += h * h
        ends.append(h)
    for value, want in zip(have, (ends, stacked, total), strict=True):
        np.testing.assert_allclose(value, want, rtol=1e-12)


def test_no_example_runs():
    n, body = decaying()
    graph = graph_of(body, ((n, 2, 0),), (1, 1), np.zeros(2, int), np.ones(2), np.zeros(0))
    ends, stacked, total = interpreters.evaluate(graph, [np.zeros(2, int), np.array([1.0, 2.0]), np.zeros(0)])
    assert ends.tolist() == [1.0, 2.0]
    assert stacked.shape == (0,)
    assert total == 0.0


def test_types_are_checked():
    n, body = decaying()
    with pytest.raises(ShapeError, match=r"expected f64\[6\]"):
        graph_of(body, ((n, 4, 6),), (1, 1), LENGTHS, np.ones(4), np.ones(5))
    with pytest.raises(ShapeError, match="must return the carry's types"):
        graph_of(body.replace(outputs=body.outputs[::-1]), ((n, 4, 6),), (1, 1), LENGTHS, np.ones(4), np.ones(6))


def test_rows_of_unknown_number_are_not_stacked():
    n, rows = Dim.new("running"), Dim.new("rows", rows=True)
    length, widths, keys, h = typed(n, dtype="i8"), typed(n, dtype="i8"), typed(rows), typed(n)
    body = Graph((length, widths, keys, h), (h, keys * keys))
    with pytest.raises(Unsupported, match="number of rows of all steps along rows"):
        graph_of(body, ((n, 4, 6), (rows, 5, None)), (3, 1), LENGTHS, LENGTHS, np.ones(5), np.ones(4))
