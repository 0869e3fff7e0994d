"""fuse: the groups of statements, and the roles of nodes."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.ops.control import barrier
from minigrad.passes.fuse import Roles, fuse
from minigrad.traced_array import Array

X, Y = np.ones((40, 3)), np.ones((40, 3))


def groups(f, *args):
    graph = mg.trace(f)(*args)
    return [[n.prim.name for n in group.nodes] for group in fuse(graph, Roles.of(graph))]


@pytest.mark.parametrize(("f", "names"), [
    (lambda x, y: (x * 2, np.sum(x, axis=1)), [["mul", "sum"]]),  # readers of one value
    (lambda x, y: (x + 2, y[::-1] * x), [["add", "mul"]]),
    (lambda x, y: (lambda c: (x + c, y * c))(np.full_like(x, 2)), [["add"], ["mul"]]),  # of one number: no reason
    (lambda x, y: (x + 2) * y, [["add", "mul"]]),  # of each other
    (lambda x, y: (x + 2)[::-1] * y, [["add"], ["mul"]])])  # row 0 wants the last one
def test_groups_of_row_local_statements(f, names):
    assert groups(f, X, Y) == names


def test_values_sink_to_their_reader():
    """The square is wanted with the sum of all rows alone, when the tangent is there anyway."""
    def f(x, y):
        h = np.tanh(x)
        return (h * h) * np.sum(h, axis=0)

    assert groups(f, X, Y) == [["tanh", "sum"], ["mul", "mul"]]


def test_values_sink_with_their_operand():
    """The sums of rows are wanted with the sum over all rows alone; only the tangent is left for them to keep."""
    def f(x):
        return np.sum(np.tanh(x), axis=1, keepdims=True) * (x + np.sum(x, axis=0))

    assert groups(f, X) == [["tanh", "sum", "add", "mul"], ["sum"]]


def test_values_with_an_earlier_reader_of_their_operand_stay():
    """The product is in memory for the sum of all rows: a sum of its rows that came later would keep it there."""
    def f(x, y):
        z = x * y
        return np.sum(z, axis=1, keepdims=True) * (y + np.sum(z, axis=0))

    assert groups(f, X, Y[:, :1]) == [["mul", "sum", "sum"], ["add", "mul"]]


def test_values_that_a_barrier_waits_for_stay():
    def f(x, y):
        n = np.sin(x)
        return Array(barrier(y._node, n._node)) * n

    assert groups(f, X, Y) == [["sin"], ["mul"]]


def test_reshapes_of_computed_values_are_views():
    (reshaped,) = (graph := mg.trace(lambda x: np.reshape(x + 1, 120))(X)).outputs
    roles = Roles.of(graph)
    assert roles.is_view(reshaped)
    assert not roles.is_statement(reshaped)


@pytest.mark.parametrize(("view", "free"), [
    (lambda x: x[10:30], True), (lambda x: x[::2], False), (lambda x: x[:, 1:], False), (lambda x: x.T, False),
    (lambda x: x.reshape(60, 2)[5:], True), (lambda x: x[5:].reshape(21, 5)[1:], True)])
def test_reshapes_of_contiguous_views_are_views(view, free):
    (reshaped,) = (graph := mg.trace(lambda x: view(x * 2).reshape(-1))(X)).outputs
    assert Roles.of(graph).is_view(reshaped) == free
