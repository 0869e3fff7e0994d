"""Graphs as values: JSON of everything that a node may hold, copies, and what is frozen."""

import copy
import pickle

import numpy as np
import pytest

import minigrad as mg
from minigrad import walk
from minigrad.graph import dtype_of

W = np.array([1.0, 2.0, 0.5])
X = np.arange(15.0).reshape(5, 3)

GRAPHS = {
    "plain": mg.trace(lambda w: np.sum(np.tanh(w) * 2))(W),
    "two symbols": mg.trace(lambda X, Y: (mg.vmap(np.sum)(X), mg.vmap(np.sum)(Y), X.shape[0] * 2 + 1))(X, X),
    "chunks of checkpoints": mg.trace(mg.grad(mg.microbatch(mg.mean_loss(
        mg.checkpoint(lambda w, x: np.sum(np.tanh(w * x))), (None, 0)), 2)))(W, X),
    "special numbers": mg.trace(lambda x: (x * np.inf + np.nan, x * -np.inf, x - -0.0, x + 1e-320, x + 0.1))(W),
    "constants": mg.trace(lambda x: (x + np.array([1, 2, 3], "u1"), x * np.array([0.1, np.nan, np.inf], "f4")[::-1],
                                     np.where(np.array([True, False, True]), x, 0)))(W),
    "pytrees": mg.trace(lambda p: {1: p[2], (3, "a"): [p["n"], None, ()], False: {}})({2: W, "n": W}),
    "linear algebra": mg.trace(lambda A: (np.linalg.inv(A), *np.linalg.slogdet(A)))(np.eye(3)),
}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("again", [
    lambda g: mg.Graph.from_json(g.to_json()), lambda g: pickle.loads(pickle.dumps(g)), copy.deepcopy, copy.copy],
    ids=["json", "pickle", "deepcopy", "copy"])
def test_round_trip(name, again):
    graph = GRAPHS[name]
    other = again(graph).check()
    assert str(other) == str(graph)
    assert other.to_json() == graph.to_json()
    assert (other.in_tree, other.out_tree, other.names) == (graph.in_tree, graph.out_tree, graph.names)
    sizes = dict.fromkeys(graph.symbols, 5)
    arrays = [np.eye(3) if name == "linear algebra" else X if n.ndim == 2 else W for n in graph.inputs]
    want = walk.evaluate(graph, arrays, sizes)
    have = walk.evaluate(other, arrays, dict.fromkeys(other.symbols, 5))
    for h, w in zip(have, want, strict=True):
        assert np.asarray(h).dtype == np.asarray(w).dtype
        np.testing.assert_array_equal(h, w)


def test_nodes_are_frozen():
    node = GRAPHS["plain"].outputs[0]
    with pytest.raises(AttributeError, match="frozen"):
        node.loc = None
    with pytest.raises(AttributeError):
        GRAPHS["plain"].name = "other"


def test_a_constant_that_changes_later_does_not_change_the_graph():
    table = np.ones(3)
    graph, compiled = mg.trace(lambda x: x * table)(W), mg.compile(lambda x: x * table)
    np.testing.assert_array_equal(compiled(W), W)
    table[:] = 5
    np.testing.assert_array_equal(walk.evaluate(graph, [W])[0], W)
    np.testing.assert_array_equal(compiled(W), W)


def test_a_large_constant_is_kept_once():
    big = np.ones((1000, 20))
    assert mg.trace(lambda w: sum(np.sum(big @ w) for _ in range(5)))(np.ones(20)).count("const") == 1


def test_where_on_plain_arrays_is_numpys():
    out = mg.where(W > 1, W, 0)
    assert type(out) is np.ndarray
    np.testing.assert_array_equal(out, [0, 2, 0])


@pytest.mark.parametrize("name", ["bool", "int8", "uint8", "int32", "int64", "uint64", "float16", "float32", "float64"])
def test_a_dtype_is_numpys_own_instance_of_it(name):
    for given in (name, np.dtype(name), np.dtype(name).newbyteorder(">"), np.dtype(name).newbyteorder("=")):
        assert dtype_of(given) is np.dtype(name)
    assert mg.trace(lambda x: np.where(x > 0, x, x))(np.ones(3, name)).outputs[0].dtype is np.dtype(name)
