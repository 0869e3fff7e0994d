"""`examples/tiny.py` makes the graphs and the numbers that minigrad makes, in 200 lines and one import."""

import ast
import importlib
import runpy
from pathlib import Path
from types import SimpleNamespace

import array_api_strict
import numpy as np
import pytest

import minigrad as mg

from .backends.cupy import cupy_on_numpy

PATH = Path(__file__).parents[1] / "examples" / "tiny.py"
AXES = (None, 0)
rng = np.random.default_rng(0)
W, X = rng.normal(size=4), rng.normal(size=(6, 4))


@pytest.fixture
def tiny():
    return SimpleNamespace(**runpy.run_path(str(PATH)))


def seed(w, x):
    def f(x, w):
        return np.tanh(np.sum(x * w)) * np.exp(-np.sum(w * w))

    def g(a, b, x):
        return np.square(a - 0.5) + a * b * np.sum(x)

    return g(f(x, w), f(x, w), x)


def quotient(w, x):
    z = np.exp(x * w)
    return -np.sum(x / (1 + z)) + np.sum(z)


def tables(w, x):
    return np.square(np.sum(np.tanh(np.sum(w * x, axis=1)) / 3))


def shared_alone(w, x):
    return np.sum(np.square(w) - 2 * w)


PROGRAMS = {
    "seed": (seed, W, X), "quotient": (quotient, W, X), "shared alone": (shared_alone, W, X),
    "tables": (tables, rng.normal(size=(3, 4)), rng.normal(size=(5, 3, 4)))}


def lines(graph):
    """Return the library's text of a graph without the users' lines."""
    return [line.split("  # ")[0].rstrip() for line in str(graph).splitlines()]


def summed(tiny, graph):
    return tiny.Graph(graph.name, graph.names, graph.inputs, tiny.reduce("sum", graph.output, (0,)))


@pytest.mark.parametrize("name", PROGRAMS)
def test_graphs_and_numbers_equal_the_librarys(tiny, name):
    f, w, x = PROGRAMS[name]
    small, large = tiny.trace(f, w, x[0]), mg.trace(f)(w, x[0])
    pairs = {
        "one": (small, large, x[0]),
        "gradient": (tiny.grad(small, "w"), large.grad("w"), x[0]),
        "batch": (tiny.vmap(small, AXES), large.vmap(AXES), x),
        "gradients": (tiny.vmap(tiny.grad(small, "w"), AXES), large.grad("w").vmap(AXES), x)}
    if name != "shared alone":  # the library takes terms that no example enters out of the mean
        mean, mean_large = tiny.mean(tiny.vmap(small, AXES)), large.vmap(AXES).mean()
        pairs |= {
            "mean": (mean, mean_large, x),
            "gradient of mean": (tiny.grad(mean, "w"), mean_large.grad("w"), x),
            "mean of gradients": (tiny.mean(pairs["gradients"][0]), pairs["gradients"][1].mean(), x)}
    if w.ndim == 1:
        pairs["second"] = (tiny.grad(summed(tiny, pairs["gradient"][0]), "w"), large.grad("w").sum().grad("w"), x[0])
    for which, (a, b, data) in pairs.items():
        assert tiny.show(a).splitlines() == lines(b), which
        np.testing.assert_allclose(tiny.evaluate(a, w, data), b(w, data), rtol=1e-13, err_msg=which)


def test_batch_equals_the_plain_loop(tiny):
    mean = tiny.mean(tiny.vmap(tiny.trace(seed, W, X[0]), AXES))
    np.testing.assert_allclose(tiny.evaluate(mean, W, X), np.mean([seed(W, x) for x in X]), rtol=1e-13)
    numeric = [(np.mean([seed(W + h, x) - seed(W - h, x) for x in X])) / 2e-6 for h in 1e-6 * np.eye(4)]
    np.testing.assert_allclose(tiny.evaluate(tiny.grad(mean, "w"), W, X), numeric, rtol=1e-6)


def test_another_array_namespace_runs_the_graphs(tiny):
    xp = array_api_strict
    gradient = tiny.grad(tiny.mean(tiny.vmap(tiny.trace(seed, W, X[0]), AXES)), "w")
    found = tiny.evaluate(gradient, xp.asarray(W), xp.asarray(X), xp=xp)
    np.testing.assert_allclose(np.asarray(found), tiny.evaluate(gradient, W, X), rtol=1e-13)


def test_main_runs_on_cupy(tiny, monkeypatch, capsys):
    cupy_on_numpy.install(monkeypatch)
    tiny.main(importlib.import_module("cupy"))
    assert "mean gradient: batch and loop differ" in capsys.readouterr().out


def test_a_broken_batch_rule_is_caught(tiny, monkeypatch):
    def unshifted(node, inputs, size):
        return tiny.Node(node.op, inputs, (size, *node.shape), **node.params)

    monkeypatch.setitem(tiny.BATCH, "sum", unshifted)
    with pytest.raises((AssertionError, ValueError)):
        tiny.main()


def test_the_file_is_short_and_imports_numpy_alone():
    text = PATH.read_text()
    assert len(text.splitlines()) <= 200
    names = [n for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.Import, ast.ImportFrom))
             for n in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module])]
    assert names == ["numpy"]
