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


MASK, ONES = np.array([True, False, True]), np.ones(3, np.float32)
NODE = mg.axis("node")
BY_A_SIZE = {  # of arrays outside the trace
    "where": lambda n: np.where(MASK, n, ONES), "where, last": lambda n: np.where(MASK, ONES, n),
    "where of scalars": lambda n: np.where(np.True_, n, np.float32(1)),
    "select": lambda n: np.select([MASK], [n], ONES), "choose": lambda n: np.choose(MASK.astype(int), [n, ONES]),
    "clip": lambda n: np.clip(4 * ONES, 0, n), "clip of a size": lambda n: np.clip(n, 0, np.int8([1, 9])),
    "ufunc.outer": lambda n: np.add.outer(ONES, n),
    "linspace": lambda n: np.linspace(np.float32(0), n, 3), "insert": lambda n: np.insert(ONES, 0, n),
    "append": lambda n: np.append(ONES, n), "stack": lambda n: np.stack([n, np.float32(1)]),
    "isclose": lambda n: np.isclose(3 * ONES, n), "gradient": lambda n: np.gradient(ONES * MASK, n),
    "joined": lambda n: np.concatenate([ONES, n], axis=None), "union1d": lambda n: np.union1d(ONES, n),
    "result_type": lambda n: np.ones(2, np.result_type(MASK, n, ONES)),
    "polyval": lambda n: np.polyval(ONES, n), "dot": lambda n: np.dot(ONES, n), "outer": lambda n: np.outer(ONES, n)}
OF_A_SIZE = {  # the size, or the index, is the function's
    "tile": lambda n: np.tile(ONES, n), "tile 2": lambda n: np.tile(ONES, (2, n)),
    "repeat": lambda n: np.repeat(MASK, n), "take": lambda n: np.take(ONES, n - 1),
    "split": lambda n: np.split(np.arange(6), n)[0], "delete": lambda n: np.delete(np.arange(6), n),
    "array_split": lambda n: np.array_split(np.arange(6), n)[0],
    "insert at": lambda n: np.insert(ONES, n, 2), "shape": lambda n: np.broadcast_to(np.float32(1), (n, 2)),
    "reshape": lambda n: np.reshape(np.arange(6), (n, -1)), "roll": lambda n: np.roll(np.arange(6), n),
    "roots": lambda n: np.roots([1, n]), "range": lambda n: np.histogram(ONES, 2, (0, n))[0],
    "text": lambda n: len(np.array2string(np.full(n, 7)))}


@pytest.mark.parametrize("name", BY_A_SIZE)
def test_sizes_of_examples_are_numbers_for_functions_of_other_arrays(name):
    f = BY_A_SIZE[name]
    batch = mg.batch([np.ones((n, 2), np.float32) for n in (3, 2)], mg.f32[NODE, 2])
    for have, n in zip(mg.vmap(lambda x: f(x.shape[0]))(batch), (3, 2), strict=True):
        assert have.dtype == f(n).dtype
        np.testing.assert_allclose(have, f(n), rtol=1e-6)


@pytest.mark.parametrize("name", BY_A_SIZE | OF_A_SIZE)
def test_sizes_are_numbers_for_functions_of_other_arrays(name):
    f = (BY_A_SIZE | OF_A_SIZE)[name]
    compiled = mg.compile(lambda x: (mg.vmap(np.sum)(x), f(x.shape[0])))  # the map makes the size symbolic
    for n in (3, 2):
        (_, have), want = compiled(np.ones((n, 2))), f(n)
        assert np.asarray(have).dtype == np.asarray(want).dtype
        np.testing.assert_allclose(have, want, rtol=1e-6)


def test_rows_at_places_of_a_size_are_deleted():
    compiled = mg.compile(lambda x: (mg.vmap(np.sum)(x), np.delete(x, [0, x.shape[0] - 1], axis=0)))
    for n in (4, 3):
        np.testing.assert_array_equal(compiled(X[:n])[1], X[1:n - 1])
