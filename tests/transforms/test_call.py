"""Graphs as functions of values: structure, types and symbolic sizes of the arguments."""

import numpy as np
import pytest

import minigrad as mg

graph = mg.trace(lambda p, x: p["a"] * x + p["b"])({"a": 2.0, "b": 1.0}, mg.f64[mg.dim("n")])


def test_a_call_returns_the_value():
    for n in (1, 4):
        np.testing.assert_array_equal(graph({"a": 3.0, "b": -1.0}, np.arange(float(n))), 3 * np.arange(n) - 1)


def test_a_call_in_a_trace_is_traced_and_differentiated():
    slope = mg.grad(lambda a: np.sum(graph({"a": a, "b": 0.0}, np.array([1.0, 2.0, 4.0]))))(5.0)
    assert slope == 7.0


def test_python_numbers_take_the_dtype_of_their_input():
    narrow = mg.trace(lambda x, y: x * y)(mg.f32[2], mg.f32[()])
    assert narrow(np.ones(2, "f4"), 3).dtype == np.float32


@pytest.mark.parametrize(("args", "error", "message"), [
    (({"a": 1.0}, np.ones(2)), mg.TraceError, "expected arguments of structure"),
    (({"a": 1.0, "b": np.ones(2)}, np.ones(2)), mg.ShapeError, "b"),
    (({"a": 1.0, "b": 1.0}, np.ones(2, "f4")), mg.DtypeError, "Cast it with astype"),
    (({"a": 1.0, "b": 1.0}, np.ones((2, 2))), mg.ShapeError, "x")])
def test_arguments_that_do_not_fit(args, error, message):
    with pytest.raises(error, match=message):
        graph(*args)


def test_one_symbol_is_one_size():
    n = mg.dim("n")
    both = mg.trace(lambda x, y: x + y)(mg.f64[n], mg.f64[n])
    np.testing.assert_array_equal(both(np.ones(3), np.ones(3)), [2.0] * 3)
    with pytest.raises(mg.ShapeError, match="n"):
        both(np.ones(3), np.ones(4))
