"""Symbolic sizes in the user's code."""

import copy
import operator

import numpy as np
import pytest

import minigrad as mg
from minigrad.sizes import Size, shown, unwrap
from minigrad.symbolic import Dim
from minigrad.tracing import Guards, new_trace

X = np.arange(12.0).reshape(4, 3)


def test_exact_arithmetic_needs_no_number():
    dim = Dim.new("n", 5)
    n = Size(dim)
    with new_trace(Guards(insisted={}, merged=[])) as trace:
        assert unwrap(2 * n + 1) == dim * 2 + 1
        assert unwrap(10 - n) == 10 - dim
        assert unwrap(-n) == -dim
        assert unwrap(n * n) == dim * dim
        assert type(n - n) is int
        assert n - n == 0
        assert abs(n) is n
        assert str(n) == "n"
    assert not trace.guards.insisted


@pytest.mark.parametrize(("function", "want"), [
    (int, 5), (float, 5.0), (bool, True), (operator.index, 5), (lambda n: n // 2, 2), (lambda n: 13 // n, 2),
    (lambda n: n % 3, 2), (lambda n: 12 % n, 2), (lambda n: n**2, 25), (lambda n: 2**n, 32), (lambda n: n > 3, True),
    (lambda n: n <= 3, False), (lambda n: divmod(n, 3), (1, 2)), (lambda n: list(range(n)), [0, 1, 2, 3, 4]),
    (lambda n: n == 5, True), (lambda n: {5: "five"}[n], "five")])
def test_other_uses_fix_the_size_by_a_guard(function, want):
    dim = Dim.new("n", 5)
    with new_trace(Guards(insisted={}, merged=[])) as trace:
        result = function(Size(dim))
    assert result == want
    assert type(result) is type(want)
    assert list(trace.guards.insisted) == [dim.symbol]


def test_shown_and_unwrap_are_inverse():
    dim = Dim.new("n")
    assert isinstance(shown(dim), Size)
    assert unwrap(shown(dim)) is dim
    assert shown(3) == unwrap(3) == 3


def test_copies_have_the_same_symbol():
    n = Size(Dim.new("n"))
    assert copy.copy(n) is copy.deepcopy(n) is n
    function, arguments = n.__reduce__()
    assert function(*arguments).dim is n.dim


@pytest.mark.parametrize(("f", "traces"), [
    (lambda x: mg.vmap(np.sum)(x) / x.shape[0], 1), (lambda x: mg.vmap(np.sum)(x) * (1.5 / x.shape[0]), 1),
    (lambda x: mg.vmap(np.sum)(x) * np.sqrt(x.shape[0]), 1), (lambda x: mg.vmap(np.sum)(x) + x.shape[0] // 2, 2)])
def test_traced_scalars_hold_for_every_size(f, traces):
    compiled = mg.compile(f)
    for rows in (4, 2):
        np.testing.assert_allclose(compiled(X[:rows]), f(X[:rows]))
    assert len(compiled.entries) == traces


@pytest.mark.parametrize("f", [
    lambda x: x.shape[0] * np.ones(3, np.float32), lambda x: np.ones(3, np.float32) / len(x),
    lambda x: np.float32(2) * x.size, lambda x: np.where(x[0] > 0, x.shape[0], np.float32(1)),
    lambda x: np.maximum(np.ones(3, np.int8), np.shape(x)[0])])
def test_numbers_of_static_sizes_leave_dtypes_as_they_are(f):
    # NumPy takes a subclass of int for an int64 array, not for a number of Python's, whose type follows the others'
    x = np.ones((4, 3), np.float32)
    want, have = f(x), mg.compile(f)(x)
    assert have.dtype == want.dtype
    np.testing.assert_array_equal(have, want)


def test_shapes_of_traced_arrays_are_numbers_of_python():
    def f(x):
        assert {*map(type, (*x.shape, len(x), x.size, x.nbytes, *np.shape(x)))} == {int}
        return x

    mg.compile(f)(np.ones((2, 3)))
