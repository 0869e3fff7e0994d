"""Whole networks beside PyTorch Geometric, value and gradient: graphs that the data determine, and small examples."""

import numpy as np
import optree
import pytest

import minigrad as mg

pytest.importorskip("torch", reason="PyTorch Geometric needs PyTorch (extra bench)")
pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed (extra bench)")

from benchmarks import dynamic

point, node, edge = map(mg.axis, ("point", "node", "edge"))


@mg.example
class Cloud:
    x: mg.f64[point, 3]
    y: mg.f64[()]


@mg.example
class Graph:
    x: mg.f64[node, 4]
    src: mg.index(node)[edge]
    dst: mg.index(node)[edge]
    y: mg.f64[()]


def cloud(rng, n):
    return Cloud(rng.normal(size=(n, 3)), float(rng.integers(2)))


def graph(rng, n):
    src, dst = rng.integers(0, max(n, 1), (2, 3 * n if n > 1 else 0))
    return Graph(rng.normal(size=(n, 4)), src, dst, float(rng.integers(2)))


NETWORKS = {"nearest neighbours": (lambda p, c: dynamic.dgcnn(p, c, few=True), dynamic.of_clouds(5), cloud,
                                   dynamic.Dgcnn),
            "pooled nodes": (dynamic.sagpool, dynamic.of_graphs(4, 5), graph, dynamic.SagPool)}
SIZES = {"mixed": (12, 3, 20), "empty first": (0, 9, 1), "empty in the middle": (9, 0, 12), "empty last": (1, 12, 0),
         "one row each": (1, 1, 1), "nothing": (0, 0)}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_value_and_gradient(network, sizes):
    loss, params, draw, peer = network
    rng = np.random.default_rng(0)
    params = optree.tree_map(lambda x: x.astype(np.float64), params)
    examples = [draw(rng, n) for n in sizes]
    other, mean = peer(params, examples), mg.mean_loss(loss, in_axes=(None, 0))
    batch, collated = mg.batch(examples), other.collate(range(len(examples)))
    step = mg.value_and_grad(mean)
    for f in (step, mg.compile(step, backend="numpy"), mg.compile(mg.value_and_grad(mg.microbatch(mean, 2)))):
        assert other.difference(*f(params, batch), collated) < 1e-9
