"""Matrices of ragged size, one example after the other, against the loop over examples."""

import numpy as np
import pytest

import minigrad as mg

node = mg.axis("node")
P, SIZES = np.float64(0.7), (0, 4, 1, 3, 0)


@mg.example
class Points:
    x: mg.f64[node, 3]
    y: mg.f64[node]


def points(sizes=SIZES):
    rng = np.random.default_rng(0)
    return [Points(rng.normal(size=(n, 3)), rng.normal(size=n)) for n in sizes]


def kernel(p, x):
    """Return the covariances of a Gaussian process."""
    same = np.arange(len(x)) if isinstance(x, np.ndarray) else mg.numpy.arange(x.shape[0])
    squares = np.sum((x[:, None] - x[None]) ** 2, axis=-1)
    return np.exp(-p * squares) + np.where(same[:, None] == same, 0.5, 0.0)


LOSSES = {
    "solve": lambda p, g: g.y @ np.linalg.solve(kernel(p, g.x), g.y),
    "solve of a matrix": lambda p, g: np.sum(np.linalg.solve(kernel(p, g.x), g.x) ** 2),
    "likelihood": lambda p, g: 0.5 * g.y @ np.linalg.solve(kernel(p, g.x), g.y) + np.linalg.slogdet(kernel(p, g.x))[1],
    "det": lambda p, g: np.linalg.det(kernel(p, g.x)), "inv": lambda p, g: np.sum(np.linalg.inv(kernel(p, g.x)) ** 3),
    "cholesky": lambda p, g: np.sum(np.log(np.diag(np.linalg.cholesky(kernel(p, g.x))))),
    "eigvalsh": lambda p, g: np.sum(np.linalg.eigvalsh(kernel(p, g.x)) ** 3),
    "products": lambda p, g: np.sum(np.linalg.matrix_power(kernel(p, g.x), 3) @ g.x)}


def close(have, want, tolerance=1e-8):
    np.testing.assert_allclose(have, want, rtol=tolerance, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("how", [lambda f: f, lambda f: mg.compile(f, backend="numpy"),
                                 lambda f: mg.compile(f, backend="native")], ids=["eager", "numpy", "native"])
def test_batches_equal_the_loop(loss, how):
    examples, mean = points(), mg.mean_loss(loss, in_axes=(None, 0))
    batch, v = mg.batch(examples), np.float64(1.0)
    slopes = [mg.grad(loss)(P, g) for g in examples]
    bends = [mg.hvp(lambda p, g=g: loss(p, g), (P,), (v,)) for g in examples]
    close(how(mg.vmap(loss, in_axes=(None, 0)))(P, batch), [loss(P, g) for g in examples])
    close(how(mg.vmap(mg.grad(loss), in_axes=(None, 0)))(P, batch), slopes)
    close(how(mg.grad(mean))(P, batch), np.mean(slopes))
    close(how(lambda b: mg.hvp(lambda p: mean(p, b), (P,), (v,)))(batch), np.mean(bends), 1e-7)
    for size in (1, 2, 5):
        close(how(mg.grad(mg.microbatch(mean, size)))(P, batch), np.mean(slopes))


def test_gradients_of_a_likelihood_equal_finite_differences():
    (g,) = points((5,))
    loss, h = LOSSES["likelihood"], 1e-6
    batch = mg.mean_loss(loss, in_axes=(None, 0))
    slope = mg.compile(mg.grad(batch))(P, mg.batch([g]))
    close(slope, (loss(P + h, g) - loss(P - h, g)) / (2 * h), 1e-6)


def test_results_are_ragged_and_one_program_serves_all_sizes():
    run = mg.compile(mg.vmap(lambda g: (np.linalg.inv(kernel(P, g.x)), np.linalg.eigh(kernel(P, g.x))[0])))
    for sizes in (SIZES, (2,), (3, 0)):
        examples = points(sizes)
        inverses, values = run(mg.batch(examples))
        for own, some, g in zip(inverses, values, examples, strict=True):
            close(own, np.linalg.inv(kernel(P, g.x)))
            close(some, np.linalg.eigvalsh(kernel(P, g.x)))
    assert len(run.entries) == 1


def test_matrices_of_two_axes_and_of_shared_values():
    film = mg.axis("film")

    @mg.example
    class Club:
        a: mg.f64[node, film]
        b: mg.f64[film, node]

    rng = np.random.default_rng(1)
    examples = [Club(rng.normal(size=(n, m)), rng.normal(size=(m, n))) for n, m in ((2, 3), (0, 2), (4, 1), (3, 0))]

    def f(w, c):
        return np.linalg.det(w * (c.a @ c.b) + 2.0 * (c.a @ c.a.T)), c.a @ c.b @ c.a

    dets, products = mg.compile(mg.vmap(f, in_axes=(None, 0)))(P, mg.batch(examples))
    for det, product, c in zip(dets, products, examples, strict=True):
        close(det, f(P, c)[0])
        close(product, c.a @ c.b @ c.a)


def test_a_singular_matrix_is_an_error():
    with pytest.raises(np.linalg.LinAlgError):
        mg.compile(mg.vmap(lambda g: np.sum(np.linalg.inv(g.x @ g.x.T))))(mg.batch([
            Points(np.zeros((2, 3)), np.zeros(2))]))
