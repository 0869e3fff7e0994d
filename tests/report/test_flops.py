"""Operation counts, by hand."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.graph import PRIMITIVES, ArrayType, Graph
from minigrad.ops.control import placeholder
from minigrad.report.flops import count_nodes, count_operations

f8 = mg.f64


def ops(f, *types):
    return count_operations(mg.trace(f)(*types))


@pytest.mark.parametrize(("f", "types", "want"), [
    (lambda x: x + 1.0, [f8[5]], 5),
    (lambda x: np.exp(x) * x, [f8[2, 3]], 12),
    (lambda a, b: a @ b, [f8[2, 3], f8[3, 4]], 2 * 24),
    (lambda a, b: np.outer(a, b), [f8[5], f8[7]], 35),
    (lambda a: a.T.reshape(-1)[::2], [f8[4, 4]], 0),
    (lambda a: a.sum(), [f8[4, 4]], 16),
    (lambda a, b, c: np.einsum("ij,jk,kl->il", a, b, c), [f8[2, 3], f8[3, 5], f8[5, 7]], 2 * 30 + 2 * 70),
    (lambda a: np.linalg.inv(a), [f8[6, 6]], 2 * 216),
    (lambda a: np.linalg.cholesky(a), [f8[2, 6, 6]], 2 * 72),
    (lambda a, b: np.linalg.solve(a, b), [f8[6, 6], f8[6, 2]], 144 + 144),
    (lambda a: np.argsort(a), [f8[3, 8]], 3 * 8 * 3),
    (lambda x: mg.checkpoint(lambda x: np.sin(x) + 1.0)(x), [f8[5]], 10),
])
def test_counts(f, types, want):
    assert ops(f, *types) == want


def test_counts_of_loops_and_branches():
    """A loop counts its body once per step, a switch its longest branch once per example."""
    loop = mg.trace(lambda x: mg.scan(lambda c, r: (np.sin(c) * r, None), x, np.ones((6, 3)))[0])(f8[3])
    assert count_operations(loop) == 6 * 2 * 3
    branches = mg.trace(mg.vmap(lambda i, x: mg.switch(i, [np.sin, lambda x: np.cos(x) * np.sin(x)], x)))(
        mg.i64[4], f8[4, 3])
    assert count_operations(branches, dict.fromkeys(branches.symbols, 4)) == 4 * 3 * 3


@pytest.mark.parametrize(("name", "shapes", "want"), [
    ("svd", [(3, 4, 2)], 3 * (14 * 4 * 4 + 8 * 8)), ("svd", [(2, 4)], 14 * 4 * 4 + 8 * 8),
    ("pinv", [(4, 2)], 14 * 4 * 4 + 8 * 8), ("qr", [(6, 3)], 4 * 9 * (6 - 1)), ("eigh", [(2, 3, 3)], 2 * 9 * 27),
    ("inv", [(3, 3)], 2 * 27), ("cholesky", [(3, 3)], 9), ("det", [(3, 3)], 18), ("cofactor", [(3, 3)], 24 * 27),
    ("solve", [(3, 3), (3, 4)], 18 + 2 * 9 * 4), ("triangular_solve", [(3, 3), (3, 4)], 9 * 4)])
def test_counts_of_factorizations(name, shapes, want):
    """The leading terms of Golub and Van Loan."""
    inputs = tuple(placeholder(ArrayType(s, np.dtype(float))) for s in shapes)
    params = {"pinv": {"rcond": 1e-15}, "svd": {"size": 2}, "triangular_solve": {"lower": True}}.get(name, {})
    assert count_operations(Graph(inputs, (PRIMITIVES[name](*inputs, **params),))) == want


def test_symbolic_sizes_get_their_numbers():
    graph = mg.trace(mg.mean_loss(lambda w, x: np.sum(np.sin(w * x)), (None, 0)))(f8[3], f8[10, 3])
    (symbol,) = graph.symbols
    per_example = 3 + 3 + 3 + 1  # product, sine, sum, and its part of the mean
    assert count_operations(graph, {symbol: 10}) == 10 * per_example
    assert count_operations(graph, {symbol: 1000}) == 1000 * per_example


def test_chunks_count_as_often_as_they_run():
    def mean(x):
        return np.mean(np.sin(x) * x)

    whole = ops(mean, f8[10])
    graph = mg.trace(mg.microbatch(mean, 4))(f8[10])
    (symbol,) = graph.symbols
    cut = count_operations(graph, {symbol: 10})
    assert whole == 30
    assert whole <= cut <= whole + 5  # and the division after the sums
    assert count_nodes(graph) > graph.count()
