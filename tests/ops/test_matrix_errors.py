"""Errors of matrices that LAPACK refuses: they name the example where the loop over examples raises first."""

import importlib.util

import numpy as np
import pytest

import minigrad as mg

BACKENDS = ["numpy", *["native"] * bool(importlib.util.find_spec("llvmlite"))]
NODE = mg.axis("node")
SINGULAR, INDEFINITE = np.array([[1.0, 2.0], [2.0, 4.0]]), np.array([[1.0, 2.0], [2.0, 1.0]])
FUNCTIONS = {
    "inv": (lambda a: np.sum(np.linalg.inv(a)), SINGULAR, "Singular matrix"),
    "solve": (lambda a: np.sum(np.linalg.solve(a, a[:, 0])), SINGULAR, "Singular matrix"),
    "cholesky": (lambda a: np.sum(np.linalg.cholesky(a)), INDEFINITE, "Matrix is not positive definite"),
    "svd": (lambda a: np.sum(np.linalg.svd(a)[1]), np.full((2, 2), np.nan), "SVD did not converge")}


def refused(f, *args):
    with pytest.raises(np.linalg.LinAlgError, match=r"^test_matrix_errors.py:\d+: `") as found:
        f(*args)
    return str(found.value).partition("`: ")[2]


def ways(f):
    """Return functions of a batch that compute `f` of each example."""
    each = mg.vmap(f)
    return [each, mg.microbatch(each, 2), *(mg.compile(each, backend=backend) for backend in BACKENDS)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_first_refused_matrix_of_a_batch_is_named(name):
    f, bad, words = FUNCTIONS[name]
    for way in [*ways(f), mg.compile(mg.grad(mg.mean_loss(f)))]:
        assert refused(way, np.stack([np.eye(2), 2 * np.eye(2), np.eye(2), bad, bad])) == f"{words}, in example 3"


@pytest.mark.parametrize("name", ["inv", "cholesky"])
def test_the_refused_matrix_of_a_ragged_batch_is_named(name):
    f, bad, words = FUNCTIONS[name]
    batch = mg.batch([np.eye(3), np.eye(1), np.eye(2), bad, np.eye(2)], mg.f64[NODE, NODE])
    for way in ways(f):
        assert refused(way, batch) == f"{words}, in example 3"


def test_a_stack_within_an_example_is_that_example():
    f, bad, words = FUNCTIONS["inv"]
    X = np.stack([np.eye(2)] * 6).reshape(2, 3, 2, 2)
    X[1, 0] = bad
    assert refused(mg.vmap(f), X) == f"{words}, in example 1"


def test_without_a_batch_no_example_is_named():
    for name, (f, bad, words) in FUNCTIONS.items():
        assert refused(mg.compile(f, backend="numpy"), bad) == words, name
        assert refused(mg.vmap(lambda x, a, f=f: f(a) * x, in_axes=(0, None)), np.ones(3), bad) == words, name


def test_few_runs_find_the_example(monkeypatch):
    f, bad, words = FUNCTIONS["inv"]
    runs, numpys = [], np.linalg.inv
    each = mg.trace(f)(bad).vmap()
    X = np.stack([np.eye(2)] * 700 + [bad] * 300)
    monkeypatch.setattr(np.linalg, "inv", lambda a: runs.append(len(a)) or numpys(a))
    assert refused(each, X) == f"{words}, in example 700"
    assert 2 < len(runs) < 16
