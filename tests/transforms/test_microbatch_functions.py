"""microbatch equals the whole batch: many functions of an example, as they are, as losses, and their gradients."""

import numpy as np
import optree
import pytest

import minigrad as mg

from .common import close

B = 5
rng = np.random.default_rng(0)
X = rng.normal(size=(B, 4))
W = rng.normal(size=4)


def matrix(x):
    return np.outer(x, x) + np.diag([1.0, 2.0, 3.0, 4.0])


# Functions of an example x of shape (4,).
REDUCTIONS = {name: getattr(np, name) for name in (
    "sum", "mean", "var", "std", "max", "min", "prod", "median", "ptp", "average", "nanmean", "nansum", "nanmax",
    "nanmin", "nanvar", "nanstd", "cumsum", "cumprod", "sort", "diff", "flip", "trapezoid")}
STATISTICS = {
    "mean of an axis": lambda x: np.mean(np.outer(x, x), axis=0),
    "mean of both axes": lambda x: np.mean(np.outer(x, x), axis=(0, 1)),
    "centred": lambda x: x - np.mean(x, keepdims=True),
    "unbiased variance": lambda x: np.var(np.outer(x, x), axis=1, ddof=1),
    "weighted average": lambda x: np.average(x, weights=x**2),
    "cov": lambda x: np.cov(np.stack([x, x**2])),
    "corrcoef": lambda x: np.corrcoef(np.stack([x, x**2 + 1])),
    "quantile": lambda x: np.quantile(x, 0.3),
    "norm": lambda x: np.linalg.norm(x),
    "mean square error": lambda x: np.mean((np.tanh(x) - 1) ** 2),
    "mean of single precision": lambda x: np.mean(x.astype(np.float32)),
    "mean of integers": lambda x: np.mean((x * 10).astype(int)),
    "segment_mean": lambda x: mg.segment_mean(x, np.array([0, 1, 1, 0]), 2),
}
RESULTS = {
    "one of another": lambda x: (a := np.tanh(x), a * x * 2),
    "a mean of another": lambda x: (a := np.tanh(x), np.mean(a), np.mean(a * 2) + a.sum()),
    "the same twice": lambda x: (x, x, x * 2),
    "dict": lambda x: {"mean": x.mean(), "var": x.var(), "centred": x - x.mean()},
    "shared": lambda x: (np.sin(1.5) * np.ones(3), x.mean()),
    "constant": lambda x: np.array([1.0, 2.0]),
}
LINEAR_ALGEBRA = {
    "inv": lambda x: np.linalg.inv(matrix(x)),
    "det": lambda x: np.linalg.det(matrix(x)),
    "slogdet": lambda x: np.linalg.slogdet(matrix(x))[1],
    "cholesky": lambda x: np.linalg.cholesky(matrix(x)),
    "solve": lambda x: np.linalg.solve(matrix(x), x),
    "solve of one matrix": lambda x: np.linalg.solve(matrix(W), x),
    "solve of one matrix, columns": lambda x: np.linalg.solve(matrix(W), np.outer(x, x)),
    "eigvalsh": lambda x: np.linalg.eigvalsh(matrix(x)),
    "rfft": lambda x: mg.numpy.fft.rfft_parts(x),
}
INDEXING = {
    "gather": lambda x: x[np.array([3, 0, 0])],
    "sort by another": lambda x: mg.gather(x, np.argsort(np.sin(9 * x))),
    "update": lambda x: x.at[1].set(5.0).at[np.array([0, 0])].add(x[:2]),
    "roll": lambda x: np.roll(x, 1),
    "pad": lambda x: np.pad(x, 1),
    "concatenate": lambda x: np.concatenate([x, np.ones(2), x.mean(keepdims=True)]),
    "where": lambda x: np.where(x > 0, x, x.mean()),
}
SCANS = {
    "scan": lambda x: mg.scan(lambda c, v: (c * 0.5 + v, c * v), 0.0, x),
    "scan in reverse": lambda x: mg.scan(lambda c, v: (c * 0.5 + v, c * v), 0.0, x, reverse=True),
    "scan that ignores its rows": lambda x: mg.scan(lambda c, v: (c + 1.0, c), 0.0, x),
    "scan with a shared carry": lambda x: mg.scan(lambda c, v: ((c[0] + 1.0, c[1] * v + c[0]), c[0]), (0.0, 0.0), x),
    "scan with a shared stack": lambda x: mg.scan(lambda c, v: (c + 1.0, (c, c * v)), 0.0, x),
    "scan in a scan": lambda x: mg.scan(lambda c, v: mg.scan(lambda d, u: (d * 0.9 + u * v, d), c, x), 0.0, x),
    "scan in a scan that ignores its rows": lambda x: mg.scan(
        lambda c, v: (mg.scan(lambda d, u: (d + 1.0, u), c, x)[0], v), 0.0, x),
    "scan without steps": lambda x: mg.scan(lambda c, v: (c + v, c), 0.0, x[:0]),
    "fori_loop": lambda x: mg.fori_loop(0, 3, lambda i, s: s * 0.5 + x * i, x),
    "fori_loop with a shared state": lambda x: mg.fori_loop(0, 3, lambda i, s: (s[0] * 2.0, s[1] + s[0] * x), (1.0, x)),
    "choice": lambda x: mg.cond(x[0] > 0, lambda: (x * 2, 1.0), lambda: (np.exp(x), x.mean())),
    "one choice for all": lambda x: mg.cond(np.array(1.0) > 0, lambda: (x * 2, 1.0), lambda: (np.exp(x), 2.0)),
    "checkpoint": lambda x: mg.checkpoint(lambda x: (np.mean(np.sin(x)), 2.0))(x),
    "a rule of its own": mg.custom_vjp(lambda g, out, x: (g * np.sign(x),))(lambda x: np.abs(x)),
}
TRANSFORMS = {
    "vmap": lambda x: mg.vmap(lambda a: a * x.mean())(x),
    "vmap of a scan": lambda x: mg.vmap(lambda a: mg.scan(lambda c, v: (c + v * a, c), 0.0, x))(x),
    "vmap of a choice": lambda x: mg.vmap(lambda a: mg.cond(a > 0, lambda: a * 2, lambda: np.exp(a) * x.sum()))(x),
    "mean_loss": lambda x: mg.mean_loss(lambda a: (a - x.mean()) ** 2)(x),
    "microbatch": lambda x: mg.microbatch(mg.mean_loss(lambda a: (a - 1) ** 2), 3)(x),
    "jacobian": lambda x: mg.jacobian(lambda x: np.tanh(x) * x.mean())(x),
    "hessian": lambda x: mg.hessian(lambda x: np.mean(np.tanh(x)))(x),
}
SMOOTH = {**REDUCTIONS, **STATISTICS, **RESULTS, **LINEAR_ALGEBRA, **INDEXING, **SCANS, **TRANSFORMS}
FUNCTIONS = {
    **SMOOTH, **{name: getattr(np, name) for name in ("argmax", "argmin", "any", "all", "argsort", "count_nonzero")},
    "while_loop": lambda x: mg.while_loop(lambda s: s[0].sum() < 10, lambda s: (s[0] * 1.5 + 1, s[1] + 1), (x**2, 0)),
    "while_loop with a shared end": lambda x: mg.while_loop(lambda s: s[0] < 4, lambda s: (s[0] + 1, s[1] * x), (0, x)),
    "while_loop that ignores its rows": lambda x: mg.while_loop(lambda s: s < 4, lambda s: s + 1, 0),
    "vmap of a while_loop": lambda x: mg.vmap(lambda a: mg.while_loop(
        lambda s: s[0] < 3, lambda s: (s[0] + a**2 + 0.1, s[1] + 1), (0.0, 0)))(x),
    "callback": lambda x: mg.callback(lambda a: np.sin(a), mg.f64[4], x),
    "noise": lambda x: x * mg.random.normal(mg.random.key(3), (4,)),
}


def loss(f):
    """Return a loss of the parameters w and an example, made of all floating results of `f`."""

    def of_example(w, x):
        out = optree.tree_leaves(f(x * w + 0.01 * w))
        return sum(np.mean(np.sin(o)) for o in out
                   if getattr(o, "dtype", np.dtype(float)).kind == "f" and np.size(o))

    return of_example


def equal(have, want):
    single = any(np.asarray(x).dtype == np.float32 for x in optree.tree_leaves(want))
    close(have, want, rtol=1e-5 if single else 1e-9, atol=1e-6 if single else 1e-11)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_per_example(name):
    f = mg.vmap(FUNCTIONS[name])
    want = f(X)
    for size in (1, 2, 3, B, B + 1):
        equal(mg.microbatch(f, size)(X), want)


@pytest.mark.parametrize("name", SMOOTH)
def test_losses_and_gradients(name):
    per_example = loss(SMOOTH[name])
    mean = mg.mean_loss(per_example, (None, 0))
    each = mg.per_example_grad(per_example, in_axes=(None, 0))
    both = mg.value_and_grad(mean, (0, 1))
    want, rows = both(W, X), each(W, X)
    for size in (1, 2, 3, B, B + 1):
        equal(mg.value_and_grad(mg.microbatch(mean, size), (0, 1))(W, X), want)
    for size in (2, B + 1):
        equal(mg.microbatch(mg.value_and_grad(mean), size, (None, 0))(W, X), (want[0], want[1][0]))
        equal(mg.microbatch(each, size)(W, X), rows)
    np.testing.assert_allclose(np.mean(rows, axis=0), want[1][0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("name", [
    "mean", "var", "one of another", "dict", "scan with a shared carry", "scan in a scan", "scan without steps",
    "one choice for all", "vmap of a choice", "microbatch", "solve of one matrix", "mean of single precision"])
def test_compiled(name, backend):
    f = SMOOTH[name]
    equal(mg.compile(mg.microbatch(mg.vmap(f), 2), backend=backend)(X), mg.vmap(f)(X))
    mean = mg.mean_loss(loss(f), (None, 0))
    equal(mg.compile(mg.value_and_grad(mg.microbatch(mean, 2)), backend=backend)(W, X), mg.value_and_grad(mean)(W, X))


def test_a_mean_within_the_example_is_divided_once():
    rows = np.array([[1.0, 2, 3, 6], [4, 4, 4, 4]])
    close(mg.microbatch(mg.vmap(lambda x: np.mean(x)), 1)(rows), np.array([3.0, 4.0]))
    close(mg.microbatch(mg.vmap(lambda x: np.var(x)), 1)(rows), np.array([3.5, 0.0]))
    aux = mg.mean_loss(lambda x: (np.sum(x), np.mean(x)), has_aux=True)
    close(mg.microbatch(aux, 1)(rows), (np.array(14.0), np.array([3.0, 4.0])))


def test_gradients_per_example_of_a_layer_with_values_of_its_own():
    w = rng.normal(size=(4, 3))

    def layer(w, x):
        return np.sum(np.tanh(x @ (2 * w)) ** 2)

    t = np.tanh(X @ (2 * w))
    want = np.einsum("bi,bj->bij", X, 2 * t * (1 - t**2)) * 2
    close(mg.microbatch(mg.per_example_grad(layer, in_axes=(None, 0)), 2)(w, X), want)


@pytest.mark.parametrize("backend", [None, "numpy", "native"])
def test_half_precision_adds_up_many_chunks(backend):
    wrap = (lambda f: f) if backend is None else (lambda f: mg.compile(f, backend=backend))
    ones = np.ones(70_000, np.float16)
    mean = mg.microbatch(mg.mean_loss(lambda w, x: w * x, (None, 0)), 1000)
    value, slope = wrap(mg.value_and_grad(mean))(np.float16(1), ones)
    assert value.dtype == slope.dtype == np.float16
    close((value, slope), (1.0, 1.0), rtol=2e-3)
    close(wrap(mg.microbatch(lambda x: np.sum(x), 1))(np.full(5000, 3, np.float16) / 10), 1500.0, rtol=2e-3)


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: mg.compile(f, backend="numpy"), mg.compile])
def test_a_loop_of_shared_values_beside_indices_of_the_examples(wrap):
    """The derivative of tanh, which all examples share, gets a loop of its own; checks stay in that of the examples."""
    I = np.array([[0], [1], [-4], [3], [2]])  # noqa: E741

    def last(w, x, i):
        def turn(k, c):
            x[i]  # in vain
            return np.tanh(w * (1.0 + k)) + 0.25 * c

        return mg.fori_loop(0, 3, turn, x[0])

    each = wrap(mg.microbatch(mg.per_example_grad(last, in_axes=(None, 0, 0)), 2))
    slopes = [0.25 ** (2 - k) * (1 + k) / np.cosh(0.5 * (1 + k)) ** 2 for k in range(3)]
    close(each(0.5, X, I), np.full(B, sum(slopes)))
    with pytest.raises(IndexError, match="index 4 is out of range"):
        each(0.5, X, np.where(I == 2, 4, I))


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: mg.compile(f, backend="numpy"), mg.compile])
def test_indices_of_the_examples_are_checked_beside_a_shared_result(wrap):
    def shared(w, x, i):
        mg.vmap(lambda x, i: x[i])(x, i)  # in vain
        return w * 2

    for f, want in ((shared, 3.0), (lambda w, x, i: (shared(w, x, i), np.sum(x)), (3.0, X.sum())),
                    (lambda w, x, i: (shared(w, x, i), np.mean(x) + w), (3.0, X.mean() + 1.5)),
                    (lambda w, x, i: (shared(w, x, i), x * w), (3.0, X * 1.5))):
        cut = wrap(mg.microbatch(f, 2, (None, 0, 0)))
        close(cut(1.5, X, np.array([0, 1, -4, 3, 2])), want)
        with pytest.raises(IndexError, match="index -5 is out of range"):
            cut(1.5, X, np.array([0, 1, 2, 3, -5]))


@pytest.mark.parametrize("wrap", [lambda f: f, mg.compile], ids=["traced", "compiled"])
@pytest.mark.parametrize("size", [1, 2, B])
def test_hessians_check_the_indices_of_the_examples(size, wrap):
    places = rng.integers(0, 4, (B, 2))

    def loss(w, x, i):
        return np.sum((x * w).at[i].set(2.0) ** 2)

    hessian = wrap(mg.microbatch(mg.hessian(mg.mean_loss(loss, (None, 0, 0))), size, in_axes=(None, 0, 0)))
    kept = np.ones((B, 4))
    np.put_along_axis(kept, places, 0, axis=1)
    close(hessian(W, X, places), np.diag(np.mean(2 * kept * X**2, axis=0)))
    places[-2, 1] = 4
    with pytest.raises(IndexError, match="index 4 is out of"):
        hessian(W, X, places)


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: mg.compile(f, backend="numpy"), mg.compile])
@pytest.mark.parametrize("size", [1, 2, B])
def test_hessians_of_choices_per_example(size, wrap):
    def loss(w, x):
        return mg.cond(x[0] > 0, lambda: (w @ x) ** 3, lambda: np.sin(w @ x))

    z = X @ W
    curve = np.where(X[:, 0] > 0, 6 * z, -np.sin(z))
    hessian = mg.microbatch(mg.hessian(mg.mean_loss(loss, (None, 0))), size, in_axes=(None, 0))
    close(wrap(hessian)(W, X), np.einsum("b,bi,bj->ij", curve, X, X) / B)


@pytest.mark.parametrize("name", ["choice", "vmap of a choice", "one choice for all", "checkpoint", "scan", "det"])
def test_hessians(name):
    hessian = mg.hessian(mg.mean_loss(loss(SMOOTH[name]), (None, 0)))
    close(mg.microbatch(hessian, 2, in_axes=(None, 0))(W, X), hessian(W, X))


@pytest.mark.parametrize("wrap", [lambda f: f, mg.compile], ids=["traced", "compiled"])
def test_choices_of_several_models_and_examples(wrap):
    def loss(w, x):
        return mg.cond(w * x > 0, lambda: w * x, lambda: -2.0 * w)

    def by_model(w, x):
        return mg.cond(w > 0, lambda: w * x, lambda: 0.0 * w)

    models = np.array([1.0, -0.5, 2.0])
    z = models[:, None] * X[:, 0]
    for f, values, slopes in (
            (loss, np.where(z > 0, z, -2 * models[:, None]), np.where(z > 0, X[:, 0], -2.0)),
            (by_model, np.where(models[:, None] > 0, z, 0), np.where(models[:, None] > 0, X[:, 0], 0))):
        mean = mg.mean_loss(f, (None, 0))
        for size in (1, 2, B):
            cut = wrap(mg.microbatch(mg.vmap(mg.value_and_grad(mean), (0, None)), size, in_axes=(None, 0)))
            close(cut(models, X[:, 0]), (values.mean(axis=1), slopes.mean(axis=1)))


def test_a_branch_without_a_sum_beside_one_with():
    def total(c, x, other):
        return mg.cond(c > 0, lambda: np.sum(x), lambda: other)

    for c, want in ((1.0, X.sum()), (-1.0, 0.0)):
        close(mg.microbatch(lambda c, x: total(c, x, 0.0), 2, in_axes=(None, 0))(c, X), np.array(want))
    with pytest.raises(mg.BatchError, match="switch"):  # each pass would add 1
        mg.microbatch(lambda c, x: total(c, x, 1.0), 2, in_axes=(None, 0))(-1.0, X)
