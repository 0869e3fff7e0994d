"""`batch_loss`: one program for all sizes of the batch, its derivatives, and the errors of other losses."""

import numpy as np
import pytest

import minigrad as mg

RNG = np.random.default_rng(0)
W, X, Y = 0.3 * RNG.normal(size=(6, 4)), RNG.normal(size=(12, 6)), RNG.normal(size=(12, 6))
AXES = (None, 0, 0)


def log_sum_exp(s, axis):
    top = np.max(s, axis=axis, keepdims=True)
    return np.squeeze(top, axis) + np.log(np.sum(np.exp(s - top), axis=axis))


def clip(w, X, Y):
    s = (X @ w) @ (Y @ w).T
    return np.mean(log_sum_exp(s, 1) - np.diag(s)) + np.mean(log_sum_exp(s, 0) - np.diagonal(s))


def simclr(w, X, Y):
    z = np.concatenate([X @ w, Y @ w])
    n = X.shape[0]
    s = z @ z.T - 1e9 * np.eye(2 * n)
    positive = np.concatenate([np.diag(s, n), np.diag(s, -n)])
    return np.mean(log_sum_exp(s, 1) - positive)


def indexed(w, X, Y):
    s, i = (X @ w) @ (Y @ w).T, np.arange(len(X))
    return np.mean(log_sum_exp(s, 1) - s[i, i])


def normalized(w, X, Y):
    h = X @ w
    h = (h - h.mean(axis=0)) / np.sqrt(h.var(axis=0) + 1e-5)
    return np.mean((h - Y[:, :4]) ** 2)


def barlow(w, X, Y):
    a, b = X @ w, Y @ w
    a, b = (a - a.mean(0)) / a.std(0), (b - b.mean(0)) / b.std(0)
    c = a.T @ b / len(X)
    return np.sum((1 - np.diag(c)) ** 2) + 0.1 * np.sum((c - np.diag(np.diag(c))) ** 2)


def vicreg(w, X, Y):
    covariance = np.cov(X @ w, rowvar=False)
    return np.sum(covariance**2) - np.sum(np.diag(covariance) ** 2)


def ranking(w, X, Y):
    s, y = (X @ w)[:, 0], Y[:, 0]
    above = y[:, None] > y[None, :]
    return np.sum(np.where(above, np.logaddexp(0, s[None, :] - s[:, None]), 0)) / np.sum(above)


def pairs(w, X, Y):
    s = (X @ w)[:, 0]
    return np.sum(np.triu((s[:, None] - s) ** 2, 1)) / (len(X) * (len(X) - 1))


def triplets(w, X, Y):
    a, b = X @ w, Y @ w
    return np.mean(np.maximum(0, 1 - np.sum(a * b, 1) + np.sum(a * np.roll(b, 1, axis=0), 1)))


def discrepancy(w, X, Y):
    def kernel(p, q):
        return np.exp(-np.sum((p[:, None] - q[None]) ** 2, axis=-1))

    a, b = X @ w, Y @ w
    n = len(a)
    return (kernel(a, a).sum() - np.trace(kernel(a, a))) / (n * (n - 1)) - 2 * kernel(a, b).mean()


def hardest(w, X, Y):
    s = (X @ w) @ (Y @ w).T
    return np.mean(np.maximum(0, 1 + (s - 1e9 * np.eye(len(X))).max(1) - np.diag(s)))


def transport(w, X, Y):
    return np.mean(np.abs(np.sort((X @ w)[:, 0]) - np.sort((Y @ w)[:, 0])))


def evidence(w, X, Y):
    K = X @ X.T + np.eye(len(X)) * np.exp(w[0, 0])
    return Y[:, 0] @ np.linalg.solve(K, Y[:, 0]) + np.linalg.slogdet(K)[1]


LOSSES = [clip, simclr, indexed, normalized, barlow, vicreg, ranking, pairs, triplets, discrepancy, hardest, transport,
          evidence]


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
def test_one_program_serves_all_sizes(loss, backend):
    if backend == "native":
        pytest.importorskip("llvmlite")
    step = mg.compile(mg.value_and_grad(mg.batch_loss(mg.numpy_code(loss), AXES)), backend=backend)
    for n in (12, 5, 8):
        value, gradient = step(W, X[:n], Y[:n])
        np.testing.assert_allclose(value, loss(W, X[:n], Y[:n]), rtol=1e-9)
        np.testing.assert_allclose(gradient, mg.grad(mg.numpy_code(loss))(W, X[:n], Y[:n]), rtol=1e-6, atol=1e-10)
    assert len(step.entries) == 1
    assert not step.graph.notes


@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
def test_derivatives_agree_with_finite_differences(loss):
    mg.check_grads(mg.batch_loss(mg.numpy_code(loss), AXES), (W, X[:4], Y[:4]), order=1)


def test_vmaps_within_have_the_size_of_the_batch():
    def embed(w, x):
        return np.tanh(x @ w)

    def loss(w, X, Y):
        rows = mg.vmap(embed, in_axes=(None, 0))
        s = rows(w, X) @ rows(w, Y).T
        return np.mean(mg.special.logsumexp(s, axis=1) - np.diag(s))

    step = mg.compile(mg.grad(mg.batch_loss(loss, AXES)))
    for n in (12, 3):
        np.testing.assert_allclose(step(W, X[:n], Y[:n]), mg.grad(loss)(W, X[:n], Y[:n]))
    assert len(step.entries) == 1
    assert "B2" not in str(step.graph)


def test_it_composes():
    loss = mg.batch_loss(mg.numpy_code(clip), AXES)
    groups = X.reshape(3, 4, 6), Y.reshape(3, 4, 6)
    each = list(zip(*groups, strict=True))
    np.testing.assert_allclose(mg.vmap(loss, in_axes=AXES)(W, *groups), [clip(W, a, b) for a, b in each])
    mean = mg.compile(mg.grad(mg.mean_loss(loss, in_axes=AXES)))
    np.testing.assert_allclose(mean(W, *groups), np.mean([mg.grad(loss)(W, a, b) for a, b in each], axis=0))
    product = mg.hvp(lambda w: loss(w, X, Y), (W,), (np.ones_like(W),))
    slope = (mg.grad(loss)(W + 1e-5, X, Y) - mg.grad(loss)(W - 1e-5, X, Y)) / 2e-5
    np.testing.assert_allclose(product, slope, rtol=1e-5, atol=1e-8)


def test_axes_structures_and_aux():
    def loss(w, data):
        return clip(w, data["a"], data["b"].T), data["a"].mean(0)

    f = mg.compile(mg.value_and_grad(mg.batch_loss(mg.numpy_code(loss), (None, {"a": 0, "b": 1}), has_aux=True),
                                     has_aux=True))
    for n in (12, 7):
        (value, mean), _ = f(W, {"a": X[:n], "b": Y[:n].T})
        np.testing.assert_allclose(value, clip(W, X[:n], Y[:n]))
        np.testing.assert_allclose(mean, X[:n].mean(0))
    assert len(f.entries) == 1


def test_microbatch_refuses_with_the_reason():
    for loss, said in ((clip, "mixes examples"), (normalized, r"a value of the whole batch \(a batch statistic\)"),
                       (ranking, "its result has the batch axis twice"), (transport, "it works along the batch axis")):
        with pytest.raises(mg.BatchError, match=rf"test_batch_loss\.py:\d+: microbatch\({loss.__name__}\): .*{said}"):
            mg.microbatch(mg.batch_loss(mg.numpy_code(loss), AXES), 4, in_axes=AXES)(W, X, Y)


def test_microbatch_cuts_a_mean_of_losses_of_the_examples():
    def squares(w, X, Y):
        return np.mean((X @ w - Y[:, :4]) ** 2)

    loss = mg.grad(mg.microbatch(mg.batch_loss(squares, AXES), 4, in_axes=AXES))
    np.testing.assert_allclose(loss(W, X, Y), mg.grad(squares)(W, X, Y))


def test_wrong_batches_and_losses_are_refused():
    loss = mg.batch_loss(clip, AXES)
    wrong = [
        (lambda: loss(W, X, Y[:3]), r"batch_loss\(clip\): batch sizes differ: 12 .*X.* 3 .*Y"),
        (lambda: loss(W, X[:0], Y[:0]), r"an empty batch: X"),
        (lambda: mg.batch_loss(clip, None)(W, X, Y), "nothing is mapped"),
        (lambda: mg.batch_loss(lambda w, X: X @ w, (None, 0))(W, X), r"one floating number; it is f64\[12, 4\]\. "),
        (lambda: mg.batch_loss(lambda w, X: np.argmax(X), (None, 0))(W, X), r"one floating number; it is i64\[\]"),
        (lambda: mg.batch_loss(lambda w, X: (np.sum(X @ w), X), (None, 0))(W, X), "has_aux=True"),
        (lambda: mg.batch_loss(lambda w, X: np.sum(X @ w), (None, 0), True)(W, X), r"must return \(loss, aux\)")]
    for call, said in wrong:
        with pytest.raises(mg.BatchError, match=rf"test_batch_loss\.py:\d+: .*{said}"):
            call()


def test_mean_loss_points_to_it():
    with pytest.raises(mg.BatchError, match=r"mg\.batch_loss\(f, in_axes\)"):
        mg.mean_loss(lambda w, x, y: x @ w, in_axes=AXES)(W, X, Y)
    with pytest.raises(mg.ShapeError, match=r"mean_loss\(normalized\) calls normalized with one .*mg\.batch_loss"):
        mg.mean_loss(normalized, in_axes=AXES)(W, X, Y)
    np.testing.assert_allclose(mg.batch_loss(normalized, AXES)(W, X, Y), normalized(W, X, Y))


@pytest.mark.parametrize(("loss", "error"), [
    (lambda w, X: np.mean(np.linalg.norm(X @ w, axis=1)), "norm: no axis 1 in an array of 1 axes"),
    (lambda w, X: np.mean(np.sort(X @ w, axis=1)), "sort: no axis 1 in an array of 1 axes"),
    (lambda w, X: np.mean(mg.special.logsumexp(X @ X.T, axis=1)), "logsumexp: no axis 1 in an array of 0 axes"),
    (lambda w, X: np.mean((X @ w)[:, 0]), r"2 indices into f64\[4\], which has 1 axes"),
    (lambda w, X: np.mean((X @ w)[:, None] - (X @ w)[None, :, :]), r"2 indices into f64\[4\], which has 1 axes")])
def test_the_error_of_an_axis_that_one_example_lacks_names_batch_loss(loss, error):
    said = rf"test_batch_loss\.py:\d+: .*{error}\. mean_loss\(lambda_\) calls lambda_ with one example, without the"
    with pytest.raises(mg.ShapeError, match=rf"{said} axes that in_axes maps\. .* is mg\.batch_loss\(f, in_axes\)"):
        mg.mean_loss(loss, in_axes=(None, 0))(W, X)
    assert np.shape(mg.batch_loss(loss, in_axes=(None, 0))(W, X)) == ()


def test_errors_of_shapes_that_python_takes_apart_have_a_note_of_it():
    def loss(w, X):
        n, d = X.shape
        return np.sum(X @ w) / n / d

    with pytest.raises(ValueError, match="not enough values to unpack") as caught:
        mg.mean_loss(loss, in_axes=(None, 0))(W, X)
    assert "mg.batch_loss" in caught.value.__notes__[0]


@pytest.mark.parametrize("loss", [
    lambda w, X, Y: np.mean((X @ w) / np.linalg.norm(X @ w, axis=1, keepdims=True) * Y[:, None]),
    lambda w, X, Y: np.mean((X @ w - np.mean(X @ w, axis=0)) ** 2 * Y[:, None]),
    lambda w, X, Y: np.sum((X @ w)[:, None] - 2 * (X @ w)[None]),
    lambda w, X, Y: np.sum(np.where(Y[:, None] > Y[None, :], (X @ w) @ (X @ w).T, 0.5)),
    lambda w, X, Y: np.sum(np.ones(1) * Y) * np.sum(w)])
def test_one_program_whichever_size_comes_first(loss):
    y = Y[:, 0]
    for sizes in ((1, 5, 9), (5, 1, 9)):
        step = mg.compile(mg.value_and_grad(mg.batch_loss(loss, AXES)), backend="numpy")
        for n in sizes:
            value, _ = step(W, X[:n], y[:n])
            np.testing.assert_allclose(value, loss(W, X[:n], y[:n]), rtol=1e-12)
        assert len(step.entries) == 1


NODE = mg.axis("node")


@mg.example
class Cloud:
    points: mg.f64[NODE, 6]


def test_batches_of_examples_of_different_size():
    def embed(w, cloud):
        return np.tanh(cloud.points @ w).sum(axis=0)

    def loss(w, clouds, Y):
        s = mg.vmap(embed, in_axes=(None, 0))(w, clouds) @ (Y @ w).T
        return np.mean(mg.special.logsumexp(s, axis=1) - np.diag(s))

    def by_loop(w, sizes, Y):
        a = np.stack([np.tanh(X[:n] @ w).sum(axis=0) for n in sizes])
        s = a @ (Y @ w).T
        return np.mean(log_sum_exp(s, 1) - np.diag(s))

    whole = mg.batch_loss(loss, AXES)
    step = mg.compile(mg.value_and_grad(whole))
    for sizes in ((3, 1, 5), (2, 0, 7, 4)):
        clouds = mg.batch([Cloud(points=X[:n]) for n in sizes])
        value, gradient = step(W, clouds, Y[:len(sizes)])
        np.testing.assert_allclose(value, by_loop(W, sizes, Y[:len(sizes)]))
        moved = (by_loop(W + 1e-6, sizes, Y[:len(sizes)]) - by_loop(W - 1e-6, sizes, Y[:len(sizes)])) / 2e-6
        np.testing.assert_allclose(gradient.sum(), moved, rtol=1e-6)
    assert len(step.entries) == 1
    with pytest.raises(mg.BatchError, match="3"):
        whole(W, mg.batch([Cloud(points=X[:2])] * 3), Y)


def test_a_loss_without_in_axes_is_told_the_axis_of_every_argument():
    def loss(w, x):
        return np.sum(x @ w)

    for in_axes, words in (0, r"maps (axis 0 of every argument; None in a tuple shares one)."), ((0, 0), "maps."):
        with pytest.raises(mg.ShapeError, match="a scalar has no axis") as caught:  # as many weights as examples
            mg.mean_loss(loss, in_axes=in_axes)(np.ones(3), np.ones((3, 4)))
        assert f"without the axes that in_axes {words}" in caught.value.__notes__[0]
