"""Operators whose other operand is neither an array nor a number."""

from unittest.mock import ANY

import numpy as np
import pytest

import minigrad as mg

X = np.array([1.0, 2.0])


class Plain:
    def __repr__(self):  # the address would differ between the processes of a run
        return "Plain()"


class Deciding:
    """Values that answer operators themselves, as NumPy lets them."""

    __array_ufunc__ = None

    def __eq__(self, other):
        return "equal"

    def __radd__(self, other):
        return "sum"

    def __lt__(self, other):
        return "less"

    __hash__ = None


def answers(f, x=X):
    """Return a function's answer for an array, and within a trace of one."""
    seen = []
    mg.trace(lambda v: seen.append(f(v)) or v)(x)
    return f(x), seen[0]


@pytest.mark.parametrize("other", [None, "a", b"a", Plain(), float, len, ..., {}, {1}, slice(3), mg.f64[2],
                                   ["a", "b"], [None, None], np.dtype("f8")], ids=repr)
def test_no_element_equals_what_is_not_a_number(other):
    for f, same in ((lambda x: x == other, False), (lambda x: x != other, True)):
        plain, traced = answers(f)
        assert isinstance(traced, mg.numpy.Array)
        np.testing.assert_array_equal(plain, [same, same])
        np.testing.assert_array_equal(mg.compile(f)(X), [same, same])


@pytest.mark.parametrize("other", [ANY, [None, ANY]], ids=repr)
def test_objects_that_numbers_equal_are_refused(other):
    assert np.equal(X, other, dtype=object)[1]
    with pytest.raises(mg.DtypeError):
        mg.trace(lambda x: x == other)(X)


@pytest.mark.parametrize("other", [None, "a", Plain()], ids=repr)
def test_comparisons_from_the_left_and_of_scalars(other):
    np.testing.assert_array_equal(mg.vmap(lambda x: other == x)(X), [False, False])
    assert [mg.compile(f)(1.0) for f in (lambda x: x == other, lambda x: other != x)] == [False, True]
    traced = answers(lambda x: bool(x == other), np.float64(1.0))
    assert traced == (False, False)


def test_shapes_broadcast():
    f = mg.compile(lambda x: x[:, None] == ["a", "b", "c"])
    np.testing.assert_array_equal(f(X), np.zeros((2, 3), bool))
    with pytest.raises(mg.ShapeError):
        mg.trace(lambda x: x == ["a", "b", "c"])(X)


@pytest.mark.parametrize(("f", "answer"), [
    (lambda x, d: x == d, "equal"), (lambda x, d: d == x, "equal"), (lambda x, d: x + d, "sum"),
    (lambda x, d: x > d, "less")])
def test_the_other_class_decides_that_has_no_ufuncs(f, answer):
    assert answers(lambda x: f(x, Deciding())) == (answer, answer)


@pytest.mark.parametrize("f", [lambda x: x < None, lambda x: x + "a", lambda x: None - x, lambda x: x * Plain(),
                               lambda x: x < Plain(), lambda x: x + mg.f64])
def test_all_other_operators_are_refused(f):
    with pytest.raises(TypeError):
        f(X)
    with pytest.raises(TypeError):
        mg.trace(f)(X)


def test_no_array_equals_a_dtype_without_a_shape():
    for f in (lambda x: x == mg.f64, lambda x: mg.f64 == x):
        assert answers(f) == (False, False)
    assert answers(lambda x: x != mg.f64) == (True, True)
