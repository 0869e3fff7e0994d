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


def reconstructed(p, g):
    """Return a function of all three results of `svd` that does not depend on signs."""
    u, s, vh = np.linalg.svd(bent(p, g), full_matrices=False)
    return np.sum((u @ (np.sqrt(s)[:, None] * vh)) ** 3)


def bent(p, g):
    """Return a matrix with a row per point, nonlinear in p."""
    return g.x * np.exp(p * g.x) + p * g.y[:, None]


def upper(p, g):
    q, r = np.linalg.qr(bent(p, g))
    return np.sum(r @ np.array([1.0, 2.0, -0.5])) + np.sum(q * q * q)


# Of a row per point: taller than wide, wider than tall, square, or empty.
LOSSES |= {
    "svdvals": lambda p, g: np.sum(np.linalg.svdvals(bent(p, g)) ** 3), "svd": reconstructed, "qr": upper,
    "svdvals of a transpose": lambda p, g: np.sum(np.sqrt(np.linalg.svdvals(bent(p, g).T))),
    "pinv": lambda p, g: np.sum(np.linalg.pinv(bent(p, g)) ** 2),
    "lstsq": lambda p, g: np.sum(np.linalg.lstsq(bent(p, g), g.y)[0] ** 2),
    "residuals": lambda p, g: np.sum(np.linalg.lstsq(bent(p, g), g.y)[1]),
    "nuclear norm": lambda p, g: np.linalg.norm(bent(p, g), "nuc"),
    "polyfit": lambda p, g: np.sum(np.polyfit(np.append(p * g.x[:, 0], [1, 2]), np.append(g.y, [0.5, 0.3]), 1) ** 2)}


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


def test_sides_that_differ_equal_numpy():
    """The shapes too are those of NumPy's results for each example, residuals included."""
    def f(x, y):
        return (*np.linalg.svd(x, full_matrices=False), *np.linalg.qr(x), *np.linalg.lstsq(x, y), np.linalg.pinv(x.T),
                np.linalg.pinv(x, rtol=None))

    examples = points((4, 1, 3, 2, 5, 3))
    run = mg.compile(mg.vmap(lambda g: f(g.x, g.y)))
    for some in (examples, examples[::-1], examples[1:3]):
        results = [r.unbatch() if isinstance(r, mg.Batch) else r for r in run(mg.batch(some))]
        for k, g in enumerate(some):
            for have, want in zip(results, f(g.x, g.y), strict=True):
                assert np.shape(have[k]) == np.shape(want)
                close(have[k], want)
    assert len(run.entries) == 1


def test_rank_norms_and_condition_of_sides_that_differ():
    examples = points((4, 1, 3, 7))
    examples[0].x[:, 2] = examples[0].x[:, 1]
    for f in (np.linalg.matrix_rank, np.linalg.cond, lambda x: np.linalg.norm(x, 2), lambda x: np.linalg.norm(x, -2)):
        if f is np.linalg.cond:
            examples = examples[1:]
        close(mg.vmap(lambda g, f=f: f(g.x))(mg.batch(examples)), [f(g.x) for g in examples])
    examples = points((2, 0))
    with pytest.raises(ValueError, match="example 1 has no rows"):
        mg.vmap(lambda g: np.linalg.norm(g.x, -2))(mg.batch(examples))
    largest = mg.vmap(lambda g: np.linalg.norm(g.x, 2))(mg.batch(examples))
    close(largest, [np.linalg.norm(examples[0].x, 2), 0])
    close(mg.vmap(lambda g: np.linalg.matrix_rank(g.x))(mg.batch(examples)), [2, 0])


def test_a_singular_matrix_is_an_error():
    with pytest.raises(np.linalg.LinAlgError):
        mg.compile(mg.vmap(lambda g: np.sum(np.linalg.inv(g.x @ g.x.T))))(mg.batch([
            Points(np.zeros((2, 3)), np.zeros(2))]))
