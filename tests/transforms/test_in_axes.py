"""Kinds of batches: a function of examples has one implementation for arrays, and others that plug in."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.transforms.in_axes import by_kind


class Pair:
    def __init__(self, a, b):
        self.a, self.b = a, b


def test_a_kind_of_batch_plugs_into_a_function_of_examples():
    @by_kind
    def count(examples, factor):
        """Count."""
        return factor * sum(len(x) for x in examples)

    assert count.__doc__ == "Count."
    assert count([[1, 2], [3]], 10) == 30

    @count.register(lambda x: isinstance(x, Pair))
    def _pairs(examples, factor):
        return factor * len(examples)

    assert count([[1, 2], [3]], 10) == 30
    assert count([[1, 2], {"k": Pair(3, 4)}], 10) == 20


def test_a_list_of_numbers_is_no_array():
    def loss(w, x):
        return (w * x) ** 2

    with pytest.raises(mg.BatchError, match=r"x\[0\]: f64\[\] has no axis 0 .*np\.array\(a list\)"):
        mg.mean_loss(loss, in_axes=(None, 0))(1.0, [1.0, 2.0])
    with pytest.raises(mg.BatchError, match=r"Say None in in_axes for what all examples share\.$"):
        mg.mean_loss(loss)(1.0, np.ones(2))


def test_two_symbols_of_one_name_are_told_apart():
    def loss(x, y):
        return x * y

    with pytest.raises(mg.BatchError, match=r"sizes differ: B .*x.* and B .*y.*Make one symbol for both, B = mg.dim"):
        mg.trace(mg.mean_loss(loss))(mg.f64[mg.dim("B")], mg.f64[mg.dim("B")])


def test_a_list_of_arrays_of_different_length_leads_to_a_batch():
    arrays = [np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)]
    with pytest.raises(mg.BatchError, match=r"x\[1\].*mg\.batch\(list, mg\.f32\[mg\.axis\('row'\), 3\]\)"):
        mg.mean_loss(lambda x: np.sum(x[0]))(arrays)
    with pytest.raises(mg.DtypeError, match=r"mg\.batch\(list, type\) arrays of different length"):
        mg.vmap(np.sum)(np.array(arrays, dtype=object))
    with pytest.raises(mg.BatchError, match=r"\(axis 0 of b: f64\[4\]\)\. Say None"):
        mg.vmap(np.dot)(np.ones(3), np.ones(4))
