"""Expand: values, adjoint, composition, and shapes that do not fit."""

import numpy as np
import pytest

from minigrad import interpreters
from minigrad.errors import ShapeError
from minigrad.graph import Graph, full
from minigrad.ops.broadcast import broadcast_along, expand, without
from tests import checks


@pytest.mark.parametrize(("axes", "index"), [
    ((0,), np.s_[None]), ((1,), np.s_[:, None]), ((0, 2), np.s_[None, :, None]), ((), np.s_[:])])
def test_expand_repeats_along_new_axes_and_its_adjoint_sums_over_them(axes, index):
    x = np.array([1.0, -2.0, 4.0])
    shape = tuple(2 if a in axes else 3 for a in range(1 + len(axes)))
    graph = checks.program(expand, [x], {"shape": shape, "axes": axes})
    (have,) = interpreters.evaluate(graph, [x])
    np.testing.assert_array_equal(have, np.broadcast_to(x[index], shape))
    g = np.random.default_rng(0).normal(size=shape)
    (back,) = interpreters.evaluate(checks.reverse(graph), [x, g])
    np.testing.assert_allclose(back, g.sum(axis=axes) if axes else g, rtol=1e-15)


def test_composition_of_two_expands_is_one():
    x = checks.placeholder((3,), "f8")
    inner = expand(x, shape=(3, 4), axes=(1,))
    outer = expand(inner, shape=(3, 2, 4), axes=(1,))
    params = expand.laws.compose(inner.params, outer.params)
    array = np.arange(3.0)
    (want,), (have,) = (interpreters.evaluate(Graph((x,), (n,)), [array]) for n in (outer, expand(x, **params)))
    np.testing.assert_array_equal(have, want)


def test_broadcast_along_adds_no_node_where_it_need_not():
    x = checks.placeholder((3,), "f8")
    assert broadcast_along(x, (3,), ()) is x
    constant = broadcast_along(full(2.0, (3,), np.dtype("f8")), (5, 3), (0,))
    assert (constant.prim.name, constant.shape) == ("full", (5, 3))


@pytest.mark.parametrize(("shape", "axes"), [((4, 2), (0,)), ((4, 3, 3), (0,)), ((3,), (0,))])
def test_shapes_that_do_not_fit(shape, axes):
    with pytest.raises(ShapeError, match="does not fit"):
        expand(checks.placeholder((3,), "f8"), shape=shape, axes=axes)


def test_entries_of_the_other_axes():
    assert without("abcd", (0, 2)) == ("b", "d")
