"""The whole of minigrad on one page: one example's loss, and everything that a mini-batch makes of it."""

import numpy as np
import pytest

import minigrad as mg

rng = np.random.default_rng(0)
params = {"W": rng.normal(size=(4, 3)), "b": np.zeros(3)}
X, Y = rng.normal(size=(50, 4)), rng.integers(0, 3, 50)
AXES = (None, 0, 0)  # all examples share the parameters; inputs and labels come along axis 0


def loss(params, x, y):
    """The loss of ONE example, in plain NumPy: cross entropy, and a regulariser that depends on no example."""
    z = np.tanh(x @ params["W"] + params["b"])
    return np.log(np.sum(np.exp(z))) - z[y] + 0.01 * np.sum(params["W"] ** 2)


def same(a, b):
    np.testing.assert_allclose(mg.optim.ravel(a)[0], mg.optim.ravel(b)[0], rtol=1e-10, atol=1e-13)


def test_the_whole_surface():
    # The reference: a loop over the examples, in NumPy alone.
    looped = np.mean([loss(params, x, y) for x, y in zip(X, Y, strict=True)])
    gradients = [mg.grad(loss)(params, x, y) for x, y in zip(X, Y, strict=True)]
    mean_gradient = {k: np.mean([g[k] for g in gradients], axis=0) for k in params}

    # One example is a graph; the batch is the same graph, rewritten; so is the gradient.
    graph = mg.trace(loss)(params, X[0], Y[0])
    assert str(graph).startswith("loss(params['W']: f64[4, 3], params['b']: f64[3], x: f64[4], y: i64[])")
    assert "test_tiny.py" in str(graph)
    assert "<svg" in graph.to_svg()
    assert str(mg.Graph.from_json(graph.to_json())) == str(graph)
    same(mg.vmap(loss, in_axes=AXES)(params, X, Y).mean(), looped)

    # The mean over the batch is a node, the regulariser stands outside it, and grad goes through both.
    batch_loss = mg.mean_loss(loss, in_axes=AXES)
    step = mg.value_and_grad(batch_loss)
    same(step(params, X, Y), (looped, mean_gradient))
    assert mg.trace(batch_loss)(params, X, Y).count("mean") == 1
    same(mg.per_example_grad(loss, in_axes=AXES)(params, X, Y)["W"], np.stack([g["W"] for g in gradients]))

    # The literal mini-batch, 50 copies and an average; and ten passes of five, or eight of seven.
    same(mg.unroll(loss, 50, AXES)(params, X, Y), looped)
    for size in (5, 7):
        same(mg.value_and_grad(mg.microbatch(batch_loss, size))(params, X, Y), (looped, mean_gradient))
        same(mg.microbatch(step, size, in_axes=AXES)(params, X, Y), (looped, mean_gradient))
    with pytest.raises(mg.BatchError, match=r"test_tiny.py:\d+: microbatch.*batch statistic"):
        mg.microbatch(lambda X: np.mean((X - X.mean(axis=0)) ** 2), 5)(X)

    # Compiled: one program for every batch size; it can be read.
    compiled = mg.compile(step)
    for n in (50, 1, 7):
        same(compiled(params, X[:n], Y[:n]), step(params, X[:n], Y[:n]))
    assert len(compiled.entries) == 1
    assert "def main(" in compiled.source
    assert compiled.stages[0].name == "trace"

    # Every other derivative, alone or one inside the other.
    f, w, v = lambda w: np.sum(np.sin(w) * w[::-1]), X[0], X[1]
    H = mg.hessian(f)(w)
    same(mg.jacobian(mg.grad(f))(w), H)
    same(mg.hvp(f, (w,), (v,)), H @ v)
    same(mg.jvp(mg.grad(f), (w,), (v,))[1], H @ v)
    same(mg.vjp(mg.grad(f), w)[1](v)[0], H @ v)
    same(mg.vmap(mg.hessian(f))(X[:2])[0], H)
    same(mg.grad(mg.checkpoint(f))(w), mg.grad(f)(w))
    same(mg.grad(lambda w: np.sum(mg.stop_gradient(w) * w))(w), w)
    same(mg.grad(lambda w: np.sum(mg.where(w > 0, w ** 2, w)))(np.array([4.0, -1.0])), np.array([8.0, 1.0]))
    with mg.debug_nans(), pytest.raises(FloatingPointError, match=r"test_tiny.py:\d+: log"):
        mg.vmap(lambda x: np.log(x))(-np.ones(3))

    # Types in the place of arrays; sizes may be symbols.
    assert "f32[B, 2]" in str(mg.trace(lambda x: np.sum(x, axis=1))(mg.f32[mg.dim("B"), 2]))

    # Training: the optimizer never sees a batch, and the batch never sees an optimizer.
    for optimizer in (mg.optim.sgd(0.5), mg.optim.momentum(0.1), mg.optim.adam(0.05)):
        p, state = params, optimizer.init(params)
        for _ in range(30):
            _, g = compiled(p, X, Y)
            p, state = optimizer.update(g, state, p)
        assert compiled(p, X, Y)[0] < looped - 0.05
