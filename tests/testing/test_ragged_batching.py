"""`check_batching` of examples of different size: what holds passes, and a broken rule is caught and named."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.combiners import ADD
from minigrad.graph import PRIMITIVES
from minigrad.ops.index import gather, scatter_add
from minigrad.ragged import rules
from tests.ragged.cases import SIZES, molecules

W = np.random.default_rng(2).normal(size=(4, 3))


def loss(w, g):
    h = np.tanh(g.x @ w)
    m = mg.segment_sum(h[g.src], g.dst, g.x.shape[0])
    return {"loss": np.sum((np.sum(m, axis=0) - g.y) ** 2), "h": h}


@pytest.mark.parametrize("sizes", SIZES)
def test_correct_batches_pass(sizes):
    checked = mg.check_batching(loss, (W, mg.batch(molecules(SIZES[sizes]))), in_axes=(None, 0))
    assert checked.comparisons > 0
    assert checked.largest < 1e-12


def test_dense_beside_ragged_and_derivatives():
    batch = mg.batch(molecules(SIZES["empty middle"]))
    mg.check_batching(lambda w, g, s: mg.grad(lambda w: s * loss(w, g)["loss"])(w), (W, batch, np.arange(4.0)),
                      in_axes=(None, 0, 0))


def test_negative_axis_of_an_array_beside_a_batch():
    columns = np.arange(6.0).reshape(3, 2)
    batch = mg.batch([np.array([1.0, 2.0]), np.array([3.0])], mg.f64[mg.axis("word")])
    assert mg.check_batching(lambda w, c: np.sum(w) * np.sum(c * [1.0, 2.0, 3.0]), (batch, columns), in_axes=(0, -1))


def test_broken_rules_are_named(monkeypatch):
    def wrong(x, ids, *, shape):
        return scatter_add(x, ids, shape=shape) * 1.5

    monkeypatch.setitem(rules.SEGMENT_REDUCTIONS, ADD, wrong)
    with pytest.raises(mg.CheckError, match=r"of example 0 is .* under vmap, .* in the loop") as caught:
        mg.check_batching(loss, (W, mg.batch(molecules(SIZES["mixed"]))), in_axes=(None, 0))
    assert caught.value.node.prim.name == "sum"
    assert "first node that disagrees" in str(caught.value)


def test_leaks_between_examples_are_found(monkeypatch):
    right = rules.RULES[gather]

    def leaking(rw, node, xs):
        out = right(rw, node, xs)
        return out if not out.type.floating else out + 0 * PRIMITIVES["flip"](out, axes=(0,))

    monkeypatch.setitem(rules.RULES, gather, leaking)
    batch = mg.batch(molecules(SIZES["mixed"]))
    batch.x[0] = np.nan
    with pytest.raises(mg.CheckError):
        mg.check_batching(loss, (W, batch), in_axes=(None, 0))


def test_functions_that_depend_on_tracing_are_refused():
    def two_faced(g):
        return np.sum(g.x) * (2 if isinstance(g.x, np.ndarray) else 1)

    with pytest.raises(mg.CheckError, match="something else on plain arrays"):
        mg.check_batching(two_faced, (mg.batch(molecules(SIZES["mixed"])),))
