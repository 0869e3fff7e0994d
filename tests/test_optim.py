"""Optimizers against their formulas, and the helper that makes a vector of a pytree."""

import numpy as np
import optree
import pytest

import minigrad as mg

W = np.array([1.0, -2.0, 0.5])
P = {"w": W, "b": [np.array(0.5), None]}
G = optree.tree_map(lambda p: np.cos(p), P)


def test_sgd_and_momentum():
    p, state = mg.optim.sgd(0.1).update(G, (), P)
    np.testing.assert_allclose(p["w"], W - 0.1 * np.cos(W))
    assert state == ()
    m = mg.optim.momentum(0.1, 0.8)
    p, v = m.update(G, m.init(P), P)
    p, v = m.update(G, v, p)
    np.testing.assert_allclose(v["w"], 1.8 * np.cos(W))
    np.testing.assert_allclose(p["w"], W - 0.1 * np.cos(W) - 0.18 * np.cos(W))
    assert p["b"][1] is None


def test_adam_is_kingma_and_bas():
    opt = mg.optim.adam(0.01, 0.9, 0.99, 1e-8)
    p, state = P, opt.init(P)
    w, m, v = W, np.zeros(3), np.zeros(3)
    for t in range(1, 6):
        g = np.cos(w)
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        w = w - 0.01 * (m / (1 - 0.9 ** t)) / (np.sqrt(v / (1 - 0.99 ** t)) + 1e-8)
        p, state = opt.update(optree.tree_map(np.cos, p), state, p)
        np.testing.assert_allclose(p["w"], w, rtol=1e-12)
    assert state[0] == 5


@pytest.mark.parametrize("opt", [mg.optim.sgd(0.1), mg.optim.momentum(0.1), mg.optim.adam()],
                         ids=["sgd", "momentum", "adam"])
def test_nothing_changes_in_place_and_dtypes_are_kept(opt):
    p = optree.tree_map(lambda x: x.astype("f4"), P)
    before = optree.tree_map(np.copy, p)
    new, state = opt.update(p, opt.init(p), p)
    np.testing.assert_array_equal(p["w"], before["w"])
    assert {x.dtype.name for x in optree.tree_leaves(new)} == {"float32"}
    assert all(x.dtype == np.float32 for x in optree.tree_leaves(state) if isinstance(x, np.ndarray))


def test_a_compiled_update_is_one_program_for_all_steps():
    opt = mg.optim.adam()
    update = mg.compile(lambda g, s, p: opt.update(g, s, p))
    p, state, q, other = P, opt.init(P), P, opt.init(P)
    for _ in range(3):
        p, state = update(optree.tree_map(np.cos, p), state, p)
        q, other = opt.update(optree.tree_map(np.cos, q), other, q)
    np.testing.assert_allclose(p["w"], q["w"], rtol=1e-12)
    assert state[0] == 3
    assert type(state[0]) is int
    assert len(update.entries) == 1


def test_ravel_is_undone_by_unravel():
    tree = {"a": np.arange(6, dtype="f4").reshape(2, 3), "n": None, "s": 2.5, "i": np.array([1, 2])}
    vector, unravel = mg.optim.ravel(tree)
    assert vector.dtype == np.float64
    back = unravel(vector)
    assert optree.tree_structure(back) == optree.tree_structure(tree)
    for x, y in zip(optree.tree_leaves(back), optree.tree_leaves(tree), strict=True):
        assert np.asarray(x).dtype == np.asarray(y).dtype
        np.testing.assert_array_equal(x, y)
    empty, unravel = mg.optim.ravel({"a": None})
    assert unravel(empty) == {"a": None}
    with pytest.raises(mg.ShapeError, match="expected a vector of 0 numbers"):
        unravel(np.ones(2))


def test_scipys_optimizers_work_through_ravel():
    optimize = pytest.importorskip("scipy.optimize", reason="SciPy is an extra")
    loss = mg.compile(mg.value_and_grad(lambda p: np.sum((p["w"] - W) ** 2) + (p["b"] - 2) ** 2))
    vector, unravel = mg.optim.ravel({"w": np.zeros(3), "b": 0.0})

    def value_and_slope(v):
        value, g = loss(unravel(v))
        return value, mg.optim.ravel(g)[0]

    found = unravel(optimize.minimize(value_and_slope, vector, jac=True).x)
    np.testing.assert_allclose(found["w"], W, atol=1e-6)
    np.testing.assert_allclose(found["b"], 2, atol=1e-6)


@pytest.mark.parametrize("make", [mg.optim.sgd, mg.optim.momentum, mg.optim.adam])
def test_update_names_an_argument_of_another_structure(make):
    init, update = make(0.1)
    params = {"w": np.ones(2)}
    state = init(params)
    with pytest.raises(mg.ShapeError, match=r"update\(gradient, state, params\): the gradient must have"):
        update({"v": np.ones(2)}, state, params)
    with pytest.raises(mg.ShapeError, match=r"update\(gradient, state, params\): the (gradient|state)"):
        update(state, params, {"w": np.ones(2), "b": np.ones(())})
    update({"w": np.ones(2)}, state, params)
