"""The memory of a graph that is evaluated node by node."""

import tracemalloc

import numpy as np
import pytest

import minigrad as mg
from minigrad import interpreters
from minigrad.ops.evaluated_bytes import evaluated_bytes

N = 200_000


def chain(x):
    return np.tanh(np.sin(np.exp(x)))


def kept(x):
    a = np.exp(x)
    b = np.sin(a)
    return a * b + np.cos(b)


def views(x):
    return np.sum(np.exp(x).reshape(-1, 100).T * 2.0, axis=0)


def scanned(x):
    return mg.scan(lambda c, row: (np.tanh(c + row), c * 2.0), x[0], x)[1]


@pytest.mark.parametrize(("f", "values", "shape"), [
    (chain, 2, (N,)), (kept, 3, (N,)), (views, 3, (N,)), (scanned, 2, (50, N // 50))])
def test_peak_of_an_evaluation(f, values, shape):
    graph = mg.trace(f)(mg.f64[shape])
    x = np.random.default_rng(0).normal(size=shape)
    interpreters.evaluate(graph, [x])
    tracemalloc.start()
    interpreters.evaluate(graph, [x])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    need = evaluated_bytes(graph, {})
    assert values * 8 * N <= need < 1.1 * values * 8 * N
    assert need == pytest.approx(peak, rel=0.1)
