"""Scatters of maxima and minima against a loop, with empty places, ties and negative indices."""

import numpy as np
import pytest

from minigrad import interpreters
from minigrad.graph import PRIMITIVES as P
from tests import checks


def looped(better, rows, index, shape, start):
    out = np.full(shape, start, rows.dtype)
    for row, i in zip(rows, index, strict=True):
        out[i] = better(out[i], row)
    return out


@pytest.mark.parametrize(("name", "better", "start"), [
    ("scatter_max", np.maximum, -np.inf), ("scatter_min", np.minimum, np.inf)])
def test_against_a_loop(name, better, start):
    rows, index = np.random.default_rng(0).normal(size=(6, 2)), np.array([2, 0, 2, -1, 0, 2])
    graph = checks.program(P[name], [rows, index], {"shape": (4, 2)})
    (have,) = interpreters.evaluate(graph, [rows, index])
    np.testing.assert_array_equal(have, looped(better, rows, index, (4, 2), start))
    assert (have[1] == start).all()  # no update


@pytest.mark.parametrize(("name", "value"), [("scatter_max", -2**31), ("scatter_min", 2**31 - 1)])
def test_empty_places_of_integers(name, value):
    u, index = np.array([5, 3], "i4"), np.array([0, 0])
    (have,) = interpreters.evaluate(checks.program(P[name], [u, index], {"shape": (2,)}), [u, index])
    assert have.tolist() == [5 if name == "scatter_max" else 3, value]


def test_ties_share_the_cotangent_equally():
    u, index = np.array([1.0, 4.0, 4.0, 2.0, 4.0]), np.array([0, 0, 0, 1, 1])
    back = checks.reverse(checks.program(P["scatter_max"], [u, index], {"shape": (2,)}))
    have = interpreters.evaluate(back, [u, index, np.array([10.0, 7.0])])[0]
    np.testing.assert_allclose(have, [0, 5, 5, 0, 7])


def test_index_out_of_range():
    u, index = np.array([1.0]), np.array([2])
    with pytest.raises(IndexError):
        interpreters.evaluate(checks.program(P["scatter_max"], [u, index], {"shape": (2,)}), [u, index])
