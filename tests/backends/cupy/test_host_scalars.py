"""Scalars that the host computes."""

import enum

import numpy as np

import minigrad as mg
from minigrad.primitive import on_host

from .programs import close, same


def test_numbers_made_of_numbers_stay_on_the_host(on_stand_in):
    """An optimizer's step count stays a Python number, so parameters keep their dtype; no launch computes it."""
    init, update = mg.optim.adam(0.01)

    def loss(p, x):
        return np.sum(np.tanh(x @ p) ** 2)

    def train(params, state, x):
        value, gradient = mg.value_and_grad(mg.mean_loss(loss, (None, 0)))(params, x)
        return value, *update(gradient, state, params)

    ours, numpys = mg.compile(train, backend="cupy"), mg.compile(train, backend="numpy")
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("f4")
    params = wanted = np.ones((3, 2), "f4")
    state, expected = init(params), init(params)
    for k in range(1, 5):
        _, params, state = ours(params, state, x)
        _, wanted, expected = numpys(wanted, expected, x)
        assert state[0] == k
        assert type(state[0]) is int
        assert params.dtype == np.float32
        same((params, state), (wanted, expected), 1e-5)
    assert len(ours.entries) == 1
    found = ours.entries[0].program
    assert not any(n in found.host.nodes for op in found.plan.ops for n in getattr(op, "nodes", ()))


def test_kinds_of_python_numbers(on_stand_in):
    class Level(enum.IntEnum):
        HIGH = 3

    ours = mg.compile(lambda n, x: (n + 1, x * n), backend="cupy")
    for n, kind in ((2, int), (0.5, float)):
        for _ in range(3):
            number, scaled = ours(n, np.arange(2.0))
            assert (number, type(number)) == (n + 1, kind)
            close([on_host(scaled)], [np.arange(2.0) * n], 0)
    number, scaled = ours(Level.HIGH, np.arange(2.0))  # static, so that the number is a constant of the program
    assert int(on_host(number)) == 4
    close([on_host(scaled)], [np.arange(2.0) * 3], 0)
    same(ours(True, np.arange(2.0)), (np.int64(2), np.arange(2.0)), 0)


def test_scalars_of_sizes_need_no_launch(on_stand_in):
    ours, numpys = (mg.compile(lambda x: mg.vmap(lambda r: r * 2)(x) / (1 + np.sqrt(x.shape[0])), backend=b)
                    for b in ("cupy", "numpy"))
    for n in (3, 4, 3):
        x = np.arange(2.0 * n).reshape(n, 2)
        same(ours(x), numpys(x))
    mean = mg.compile(mg.value_and_grad(mg.mean_loss(lambda w, x: np.tanh(w * x), (None, 0))), backend="cupy")
    for n in (5, 6, 5, 5):
        same(mean(0.5, np.arange(n) / n), (np.mean(np.tanh(np.arange(n) / n / 2)),
                                           np.mean(np.arange(n) / n / np.cosh(np.arange(n) / n / 2) ** 2)))
    found = mean.entries[0].program
    assert len(found.host.nodes) > 1
    assert len(found.plan.ops) == 2, "a reduction, and what divides its result"
