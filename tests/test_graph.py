"""Graphs as values: frozen nodes, constants and dtypes."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import interpreters
from minigrad.graph import ArrayType, dtype_of
from minigrad.ops.control import placeholder

W = np.array([1.0, 2.0, 0.5])


def test_nodes_are_frozen():
    graph = mg.trace(np.tanh)(W)
    with pytest.raises(AttributeError, match="frozen"):
        graph.outputs[0].loc = None
    with pytest.raises(AttributeError):
        graph.name = "other"


def test_a_constant_that_changes_later_does_not_change_the_graph():
    table = np.ones(3)
    graph, compiled = mg.trace(lambda x: x * table)(W), mg.compile(lambda x: x * table)
    np.testing.assert_array_equal(compiled(W), W)
    table[:] = 5
    np.testing.assert_array_equal(interpreters.evaluate(graph, [W])[0], W)
    np.testing.assert_array_equal(compiled(W), W)


def test_a_large_constant_is_kept_once():
    big = np.ones((1000, 20))
    assert mg.trace(lambda w: sum(np.sum(big @ w) for _ in range(5)))(np.ones(20)).count("const") == 1


def test_where_on_plain_arrays_is_numpys():
    out = mg.where(W > 1, W, 0)
    assert type(out) is np.ndarray
    np.testing.assert_array_equal(out, [0, 2, 0])


@pytest.mark.parametrize("name", ["bool", "int8", "uint8", "int32", "int64", "uint64", "float16", "float32", "float64"])
def test_a_dtype_is_numpys_own_instance_of_it(name):
    for given in (name, np.dtype(name), np.dtype(name).newbyteorder(">"), np.dtype(name).newbyteorder("=")):
        assert dtype_of(given) is np.dtype(name)
    assert mg.trace(lambda x: np.where(x > 0, x, x))(np.ones(3, name)).outputs[0].dtype is np.dtype(name)


def test_substitute_accepts_values_of_another_type():
    graph = mg.trace(lambda x: np.sum(np.exp(x), axis=0))(np.ones((2, 3)))
    (x,) = graph.inputs
    for t in (ArrayType((4, 5), np.dtype("f4")), x.type):
        (out,) = interpreters.substitute(graph.outputs, {x: placeholder(t)})
        assert [n.type for n in interpreters.reachable([out])] == [t, t, ArrayType(t.shape[1:], t.dtype)]
