"""split_sums: sums over concatenated parts, and over the segments of examples."""

import numpy as np
import pytest

import minigrad as mg

X, PLACES = np.arange(24.0).reshape(4, 3, 2), np.array([0, 1, 1, 0])


@pytest.mark.parametrize(("axes", "whole"), [((0,), True), ((0, 1), True), ((0, 2), True), ((0, 1, 2), True),
                                             ((1,), False), ((1, 2), False)])
@pytest.mark.parametrize("reduce", [np.sum, np.mean], ids=lambda f: f.__name__)
def test_sums_over_all_segments_are_sums_over_all_rows(reduce, axes, whole):
    def f(x):
        return reduce(mg.segment_sum(x, PLACES, 5), axis=axes)

    by_place = np.zeros((5, 3, 2))
    np.add.at(by_place, PLACES, X)
    fast = mg.compile(f)
    np.testing.assert_allclose(fast(X), reduce(by_place, axis=axes), rtol=1e-12)
    (last,) = [s.before for s in fast.stages if s.name == "fuse"]
    assert last.count("scatter_add") == (not whole)


def test_segments_that_the_program_reads_are_summed_themselves():
    def f(x):
        by_place = mg.segment_sum(x, PLACES, 5)
        return np.sum(by_place, axis=0), np.sum(by_place), np.max(by_place, axis=0)

    by_place = np.zeros((5, 3, 2))
    np.add.at(by_place, PLACES, X)
    fast = mg.compile(f)
    for have, want in zip(fast(X), (by_place.sum(axis=0), by_place.sum(), by_place.max(axis=0)), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-12)
    (last,) = [s.before for s in fast.stages if s.name == "fuse"]
    assert last.count("scatter_add") == 1
    assert all(n.inputs[0].prim.name != "input" for n in last.nodes if n.prim.name == "sum")


def test_a_sum_of_products_of_blocks_is_one_product_of_all_rows():
    node = mg.axis("node")
    examples = [np.arange(6.0).reshape(3, 2), np.zeros((0, 2)), np.ones((2, 2))]
    gram = mg.compile(lambda b: np.sum(mg.vmap(lambda x: x.T @ x)(b), axis=0))
    np.testing.assert_allclose(gram(mg.batch(examples, mg.f64[node, 2])), sum(x.T @ x for x in examples), rtol=1e-12)
    (last,) = [s.before for s in gram.stages if s.name == "fuse"]
    assert last.count("block_einsum") == 0
