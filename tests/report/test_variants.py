"""Variants of a mean gradient: their results, their examples, and the differences between them."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.report import variants

X, Y, W = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([1.0, 0.0, 2.0]), np.array([1.0, -1.0])


def loss(w, x, y):
    return (x @ w - y) ** 2


@pytest.mark.parametrize("name", ["loop", "vmapped"])
def test_each_variant_computes_the_mean(name):
    data = variants.Data(loss, (W, X, Y), (None, 0, 0))
    function = mg.value_and_grad(loss if name == "loop" else mg.mean_loss(loss, (None, 0, 0)))
    variant = variants.Variant(name, data, function, 3, "numpy")
    for n in (1, 2, 3):
        gap = X[:n] @ W - Y[:n]
        value, (gradient,) = variant.call(n)
        assert value == pytest.approx(np.mean(gap ** 2))
        np.testing.assert_allclose(gradient, np.mean(2 * gap[:, None] * X[:n], axis=0))


def test_data_along_other_axes():
    data = variants.Data(lambda w, x: x @ w, (W, X.T), (None, 1))
    assert data.size == 3
    assert [x.tolist() for _, x in data.each] == X.tolist()
    assert data.first(2)[1].tolist() == X.T[:, :2].tolist()


def test_difference_is_relative_to_the_largest_element_of_the_same_array():
    want = [np.array([1.0, -4.0]), np.array([100.0]), np.zeros(2)]
    assert variants.difference(want, want) == 0
    assert variants.difference([np.array([1.0, -4.0]), np.array([101.0]), np.zeros(2)], want) == pytest.approx(0.01)
    assert variants.difference([np.array([2.0, -4.0]), np.array([101.0]), np.zeros(2)], want) == pytest.approx(0.25)
    assert variants.difference([*want[:2], np.array([0.0, 3.0])], want) == 3
    assert np.isnan(variants.difference([np.array([1.0, np.nan]), *want[1:]], want))


def test_interleaved_timings():
    class Fixed:
        def __init__(self, name):
            self.name = name

        def timed(self, n):
            calls.append((self.name, n))
            return 2.0

    calls = []
    seconds = variants.interleaved({"a": (Fixed("a"), 1), "b": (Fixed("b"), 2)}, 3, lambda step: None)
    assert calls == [("a", 1), ("b", 2)] * 2  # a slow variant is not timed a third time
    assert seconds == {"a": [2.0, 2.0], "b": [2.0, 2.0]}


def test_doubling():
    assert variants.doubling(1) == [1]
    assert variants.doubling(8) == [1, 2, 4, 8]
    assert variants.doubling(11) == [1, 2, 4, 8, 11]


@pytest.mark.parametrize("call", [mg.compare, mg.explore])
def test_examples_that_the_loss_does_not_take(call):
    def loss(p, t, y):
        return (p[0] * np.exp(-p[1] * t) - y) ** 2

    with pytest.raises(mg.TraceError, match=r"\(loss\): missing a required argument: 'y'.* such as \(x, y\)"):
        call(loss, np.ones(2), np.ones(5))
