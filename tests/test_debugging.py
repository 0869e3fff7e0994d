"""Faults of programs: the first NaN, node by node and in compiled programs, and the user's line of an error."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.debugging import debugging, explain

W = np.ones(3)
X = np.linspace(0.5, 2.0, 6).reshape(2, 3)


def test_debug_nans_names_the_first_node():
    def f(w):
        root = np.sqrt(w)
        return np.sum(root * 2)

    line = f.__code__.co_firstlineno + 1
    first = rf"test_debugging.py:{line}: sqrt\(f64\[3\]\) made the first NaN"
    with mg.debug_nans(), pytest.raises(FloatingPointError, match=first):
        mg.grad(f)(-W)
    assert np.isnan(mg.grad(f)(-W)).all()
    with mg.debug_nans():
        assert np.isnan(mg.vmap(lambda x: x + 1)(np.full(3, np.nan))).all()  # it came in: no node made it


def test_debug_nans_names_the_node_in_compiled_programs_too():
    def f(w, X):
        return mg.vmap(lambda w, x: np.sum(np.log(w * x)), (None, 0))(w, X)

    compiled = mg.compile(f)
    assert np.isnan(compiled(-W, X)).all()
    line = f.__code__.co_firstlineno + 1
    for g in (compiled, f):
        with mg.debug_nans(), pytest.raises(FloatingPointError, match=rf"test_debugging.py:{line}: log\(.* first NaN"):
            g(-W, X)
        assert np.isnan(g(-W, X)).all()
    with mg.debug_nans():
        np.testing.assert_allclose(compiled(W, X), f(W, X), rtol=1e-15)


def test_blocks_nest():
    assert not debugging()
    with mg.debug_nans():
        with mg.debug_nans(False):
            assert not debugging()
        assert debugging()
    assert not debugging()


def test_error_of_a_program_is_that_of_the_reference():
    graph = mg.trace(lambda t, i: t[i])(mg.f64[4], mg.i64[()])
    with_line = explain(IndexError("an index is out of range"), graph, [np.zeros(4), np.int64(7)], {})
    assert isinstance(with_line, IndexError)
    assert "test_debugging.py" in str(with_line)
    assert "index 7 is out of range for an axis of size 4, in i" in str(with_line)
    error = ValueError("no such value")
    assert explain(error, graph, [np.zeros(4), np.int64(3)], {}) is error
