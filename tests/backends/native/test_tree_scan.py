"""Loops over trees without Python in their levels."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.backends.native.tree_scan import NativeTrees
from minigrad.backends.native.turns import Turns

node = mg.axis("node")
KINDS = {"random": [-1, 0, 0, 2, 2, 1, 4], "chain": [1, 2, 3, -1], "star": [4, 4, 4, 4, -1], "leaves": [-1, -1, -1]}
W = np.random.default_rng(0).normal(size=(3, 2)) / 2


@mg.example
class Tree:
    x: mg.f64[node, 3]
    parent: mg.index(node, null=-1)[node]


def loss(w, t):
    def cell(x, children):
        total, count = children
        return np.tanh(x @ w + np.sum(total, axis=0)), np.sum(count) + 1

    h, n = mg.tree_scan(cell, t.parent, t.x, (mg.f64[2], mg.i64[()]))
    return np.sum(h * h) + np.sum(h[:, 0] * n)


def by_recursion(w, t):
    def state(i):
        below = [state(j) for j in np.flatnonzero(t.parent == i)]
        return np.tanh(t.x[i] @ w + sum((h for h, _ in below), np.zeros(2))), 1 + sum(n for _, n in below)

    return sum(np.sum(h * h) + h[0] * n for h, n in map(state, range(len(t.parent))))


def trees(*kinds):
    rng = np.random.default_rng(1)
    return [Tree(rng.normal(size=(len(p), 3)), np.array(p, np.int64)) for p in (KINDS.get(k, []) for k in kinds)]


def loops(step):
    (entry,) = step.entries.values() if isinstance(step.entries, dict) else step.entries
    return [held for held in entry.program.held.values() if isinstance(held, NativeTrees)]


BATCHES = [("random", "none", "chain", "leaves"), ("none", "star", "none"), ("chain",), ("leaves", "none"), ("none",)]


@pytest.mark.parametrize("transform", [lambda f: mg.value_and_grad(mg.mean_loss(f, in_axes=(None, 0))),
                                       lambda f: mg.vmap(mg.value_and_grad(f), in_axes=(None, 0))])
def test_levels_need_no_python(transform, monkeypatch):
    step, runs = mg.compile(transform(loss), backend="native"), []
    monkeypatch.setattr(Turns, "run", lambda self, *args, run=Turns.run: runs.append(run(self, *args)) or runs[-1])
    for kinds in BATCHES:
        examples = trees(*kinds)
        value, slope = step(W, mg.batch(examples))
        values = [by_recursion(W, t) for t in examples]
        slopes = [mg.grad(loss)(W, t) for t in examples]
        if np.ndim(value) == 0:
            values, slopes = np.mean(values, axis=0), np.mean(slopes, axis=0)
        np.testing.assert_allclose(value, values, rtol=1e-12)
        np.testing.assert_allclose(slope, slopes, rtol=1e-10)
    assert len(step.entries) == 1
    assert all(loop.native_program is not None for loop in loops(step))
    assert len(runs) == 3 * len(loops(step))  # batches with a node that has children
    assert all(runs)


def test_second_derivatives_begin_from_the_states_of_the_first():
    examples = trees("random", "none", "star")
    v = np.cos(W)
    whole = mg.mean_loss(loss, in_axes=(None, 0))
    product = mg.compile(lambda w, b: mg.hvp(lambda w: whole(w, b), (w,), (v,)), backend="native")
    h = 1e-5
    there, back = (np.mean([mg.grad(loss)(W + s * v, t) for t in examples], axis=0) for s in (h, -h))
    np.testing.assert_allclose(product(W, mg.batch(examples)), (there - back) / (2 * h), rtol=1e-6, atol=1e-8)


def test_an_index_out_of_range_names_its_line():
    def f(t, at):
        table = np.arange(8.0)
        return mg.tree_scan(lambda own, children: mg.numpy.take(table, own[0], axis=0) + np.sum(children), t.parent,
                            (at,), mg.f64[()])[0]

    step = mg.compile(mg.vmap(lambda t: f(t, (t.x[:, 0] * 0).astype(int) + np.argsort(t.parent) * 3)),
                      backend="native")
    with pytest.raises(IndexError, match=r"test_tree_scan\.py:\d+: .*out of range"):
        step(mg.batch(trees("chain", "star")))
