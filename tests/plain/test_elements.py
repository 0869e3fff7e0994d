"""Pieces of an array, and the places of its elements: values, and the operations that they take in the graph."""

import numpy as np

import minigrad as mg
from minigrad.plain.elements import Elements


def graph_of(f, *args):
    return mg.trace(mg.numpy_code(f))(*args)


def primitives(graph):
    return {n.prim.name for n in graph.nodes} - {"input"}


def test_reading_finds_each_element_in_the_piece_that_wrote_it_last():
    elements = Elements(np.arange(6.0).reshape(2, 3))
    elements.write(elements.places, (0, 1), np.array(10.0))
    elements.write(elements.places, (slice(None), 2), np.array([20.0, 21.0]))
    elements.write(elements.places[1], slice(0, 2), np.array(30.0))  # of a view, broadcast

    expected = np.array([[0.0, 10.0, 20.0], [30.0, 30.0, 21.0]])
    graph = mg.trace(lambda x: x * 0 + elements.read(elements.places))(mg.f64[2, 3])
    np.testing.assert_array_equal(graph(np.zeros((2, 3))), expected)
    part = mg.trace(lambda x: x * 0 + elements.read(elements.places.T[::-1]))(mg.f64[3, 2])
    np.testing.assert_array_equal(part(np.zeros((3, 2))), expected.T[::-1])


def test_an_array_that_is_filled_in_order_is_one_concatenation():
    def filled(x):
        out = np.zeros((4, 2))
        for i in range(4):
            out[i] = i * x
        return out

    assert primitives(graph_of(filled, mg.f64[2])) <= {"mul", "concatenate", "reshape", "full", "expand"}


def test_a_row_that_was_written_is_read_without_an_operation():
    def last(x):
        out = np.zeros((5, 2))
        out[3] = np.exp(x)
        return out[3]

    assert primitives(graph_of(last, mg.f64[2])) == {"exp"}


def test_columns_are_gathered_once():
    def columns(x):
        out = np.zeros((3, 4))
        for j in range(4):
            out[:, j] = x + j
        return out

    graph = graph_of(columns, mg.f64[3])
    assert sum(n.prim.name == "gather" for n in graph.nodes) == 1
    x = np.arange(3.0)
    np.testing.assert_array_equal(graph(x), columns(x))


def test_empty_arrays():
    def f(x):
        out = np.zeros((0, 2))
        out[:] = x
        rows = np.zeros((2, 2))
        rows[:0] = x
        rows[1] += x
        return out, rows, rows[:0]

    x = np.array([1.0, 2.0])
    for ours, numpys in zip(graph_of(f, x)(x), f(x), strict=True):
        np.testing.assert_array_equal(ours, numpys)
