"""Rows of arrays, and their stacks: the array itself, a slice, a gather, joined arrays, constants."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import interpreters
from minigrad.graph import Graph
from minigrad.ops.constants import constant
from minigrad.ops.shape import slice_
from minigrad.passes.stacked_rows import Row, Rows, element_axis, reshaped, take
from minigrad.primitive import placeholder


def array(*shape):
    return placeholder(mg.ArrayType(shape, np.dtype("f8")))


def value(node, *inputs):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=n.shape) for n in inputs]
    return interpreters.evaluate(Graph(inputs, (node,)), arrays)[0], arrays


@pytest.mark.parametrize(("positions", "operation"), [
    ([0, 1, 2, 3, 4, 5], "input"), ([1, 2, 3], "slice"), ([1, 3, 5], "slice"), ([4], "slice"), ([2, 2], "gather"),
    ([3, 1], "gather"), ([0, 1, 3], "gather"), ([5, 0, 1, 2, 3, 4], "gather")])
def test_taken_rows(positions, operation):
    x = array(6, 2)
    node = take(x, positions)
    assert node.prim.name == operation
    have, (data,) = value(node, x)
    np.testing.assert_array_equal(have, data[positions])


def test_rows_of_several_arrays_are_joined_once():
    x, y, z = array(3, 2), array(4, 2), array(2)
    rows = Rows({})
    wanted = [Row(y, 1), Row(x, 0), Row(z), Row(y, 3), Row(x, 2), Row(z)]
    node = rows.stack(wanted)
    assert rows.stack(list(wanted)) is node
    have, (a, b, c) = value(node, x, y, z)
    np.testing.assert_array_equal(have, [b[1], a[0], c, b[3], a[2], c])


def test_equal_constants_are_one_value():
    rows = Rows({})
    ones, other = constant(np.ones(2)), constant(np.arange(2.0))
    assert rows[ones] == rows[constant(np.ones(2))]
    node = rows.stack([rows[ones], rows[other]])
    assert node.prim.name == "const"
    np.testing.assert_array_equal(node.params["value"], [[1, 1], [0, 1]])


def test_elements_of_elements_are_rows_of_one_array():
    x = array(3, 4, 2)
    first = slice_(x, start=(1, 0, 0), stop=(2, 4, 2), step=(1, 1, 1))
    second = slice_(first, start=(0, 2, 0), stop=(1, 3, 2), step=(1, 1, 1))
    assert (element_axis(first), element_axis(second), element_axis(x)) == (0, 1, None)
    rows = Rows({first: 0, second: 1})
    assert rows[second].position == 1 * 4 + 2
    have, (data,) = value(rows.value(rows[second]), x)
    np.testing.assert_array_equal(have, data[1:2, 2:3])


def test_reshapes_of_reshapes_read_the_array():
    x = array(6)
    assert reshaped(reshaped(x, (2, 3)), (6,)) is x
    assert reshaped(reshaped(x, (2, 3)), (3, 2)).inputs == (x,)
