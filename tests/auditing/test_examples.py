"""Examples and gradients of other kinds than NumPy arrays."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.auditing.examples import Examples, Parameters, array_of, precision_of, without_bfloat16
from minigrad.errors import BatchError, GradError


class Tensor:
    """An array with the interface of a tensor in a graph."""

    def __init__(self, values):
        self._values = values
        self.dtype = values.dtype

    def detach(self):
        return self

    def cpu(self):
        return self._values


def test_arrays_of_other_libraries():
    assert array_of(Tensor(np.ones(2))).tolist() == [1, 1]
    assert array_of(np.arange(3)).dtype == np.float64
    assert array_of(np.ones(2, np.float32)).dtype == np.float32
    torch = pytest.importorskip("torch")
    x = torch.ones(2, requires_grad=True)
    assert array_of(x).tolist() == [1, 1]
    assert array_of(x.to(torch.bfloat16)).dtype == np.float32
    assert precision_of([x.to(torch.bfloat16)]) == 2.0**-7


def test_precision_is_the_coarsest():
    assert precision_of({"a": np.ones(2), "b": np.ones(2, np.float32)}) == 2.0**-23
    assert precision_of([1.0]) == 2.0**-52


def test_examples_of_all_kinds():
    b = mg.batch([np.arange(2.0), np.arange(3.0), np.arange(1.0)], mg.f64[mg.axis("word")])
    args = (np.arange(6.0).reshape(2, 3), [10, 11, 12], {"k": np.arange(3)}, b, "shared")
    e = Examples(args, (None, 1, 0, 0, 0, None))
    assert (e.size, e.dense) == (3, False)
    x, y, d, some, shared = e.take([2, 0])
    assert x.tolist() == [[2, 0], [5, 3]]
    assert (y, d["k"].tolist(), shared) == ([12, 10], [2, 0], "shared")
    assert [v.tolist() for v in some.unbatch()] == [[0], [0, 1]]
    assert e.one(1)[1] == 11
    assert next(iter(e.lengths().values())).tolist() == [2, 3, 1]


def test_examples_that_do_not_fit():
    with pytest.raises(BatchError, match="different numbers of examples: 2, 3"):
        Examples((np.zeros(2), [1, 2, 3]))
    with pytest.raises(BatchError, match="no examples"):
        Examples(([],))


def test_parameters():
    p = Parameters({"a": np.ones((2, 2), np.float32), "b": 2.0})
    assert p.size == 5
    vector = p.vector(p.gradient_of((0.0, {"a": np.full((2, 2), 3.0), "b": 1.0})), "the gradient")
    assert vector.tolist() == [3, 3, 3, 3, 1]
    assert p.split(vector)["a"].dtype == np.float32
    near = p.near(np.random.default_rng(0))
    assert near["a"].shape == (2, 2)
    assert near["a"].dtype == np.float32
    with pytest.raises(GradError, match=r"not finite at \['a'\]"):
        p.vector({"a": np.full((2, 2), np.inf), "b": 1.0}, "the gradient")


def test_bfloat16_becomes_float32():
    class Brain:
        """An array of another library, in bfloat16."""

        dtype = "bfloat16"

        def __array__(self, dtype=None, copy=None):
            return np.array([1.5, 2], np.float32)

    other = np.arange(3)
    got = without_bfloat16({"a": Brain(), "b": other})
    assert got["a"].dtype == np.float32
    assert got["a"].tolist() == [1.5, 2]
    assert got["b"] is other
    assert without_bfloat16(got) is got


def test_pairs_are_a_gradient_where_the_parameters_are_a_pair():
    p = Parameters((np.ones(2), 1.0))
    pair = (np.zeros(2), 3.0)
    assert p.gradient_of(pair) is pair
    assert p.gradient_of((0.5, pair)) is pair


def test_negative_axes():
    e = Examples((np.arange(6.0).reshape(2, 3),), (None, -1))
    assert e.size == 3
    assert e.one(1)[0].tolist() == [1, 4]
    assert e.take([2, 0])[0].tolist() == [[2, 0], [5, 3]]


def test_arguments_without_examples():
    for shared, words in ((0.5, "argument 1 of the examples holds a float, without an axis 0"),
                          (np.ones(()), r"holds an array of shape \(\), without an axis 0"),
                          ((x for x in "ab"), "holds a generator")):
        with pytest.raises(BatchError, match=words):
            Examples((np.ones(2), shared))
    with pytest.raises(BatchError, match=r"in_axes\[0\] is 0, but all examples share the parameters"):
        Examples((np.ones(2),), (0, 0))


def test_complex_numbers_are_refused():
    with pytest.raises(GradError, match="real numbers, not of type complex128"):
        array_of(np.ones(2) * 1j)


def test_drawn_tensors_are_differentiated_like_the_given_ones():
    torch = pytest.importorskip("torch")
    p = Parameters({"a": torch.ones(2, requires_grad=True), "b": torch.ones(2)})
    near = p.near(np.random.default_rng(0))
    assert (near["a"].requires_grad, near["b"].requires_grad) == (True, False)
