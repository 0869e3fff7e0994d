"""Beside PyTorch Geometric and jraph: batches of the same graphs, and layers written for one graph.

What they compute is in ``reference.json``, written by ``python -m tests.ragged.reference``.
"""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import minigrad as mg

from .reference import FILE, array, indices

DATA = json.loads(FILE.read_text(encoding="utf-8"))
node, edge, user, item = map(mg.axis, ("node", "edge", "user", "item"))


@mg.example
class Graph:
    x: mg.f64[node, 4]
    e: mg.f64[edge, 2]
    src: mg.index(node)[edge]
    dst: mg.index(node)[edge]
    y: mg.f64[()]


@mg.example
class Sides:
    user: mg.f64[user, 4]
    item: mg.f64[item, 2]
    src: mg.index(user)[edge]
    dst: mg.index(item)[edge]


def graph(g, loops=False):
    """Return a stored graph, with an edge from every node to itself if asked for."""
    every = np.arange(len(g["x"]) if loops else 0)
    return Graph(x=array(g["x"], 4), e=np.concatenate([array(g["e"], 2), np.zeros((len(every), 2))]),
                 src=np.concatenate([indices(g["src"]), every]), dst=np.concatenate([indices(g["dst"]), every]),
                 y=np.float64(g["y"]))


def sides(g):
    return Sides(user=array(g["user"], 4), item=array(g["item"], 2), src=indices(g["src"]), dst=indices(g["dst"]))


# -- batches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["pyg", "jraph"])
def test_collate(library):
    stored, theirs = DATA["collate"]["graphs"], DATA["collate"][library]
    batch = mg.batch(map(graph, stored))
    for name in ("x", "e", "src", "dst", "y"):
        np.testing.assert_array_equal(getattr(batch, name), theirs[name])
    if library == "pyg":
        np.testing.assert_array_equal(batch.segment_ids[node], theirs["node_ids"])
        np.testing.assert_array_equal(batch.offsets[node], theirs["node_offsets"])
    else:
        np.testing.assert_array_equal(batch.lengths[node], theirs["nodes"])
        np.testing.assert_array_equal(batch.lengths[edge], theirs["edges"])
    back = batch.unbatch()
    assert len(back) == len(stored), "also the empty ones at the end"
    for one, g in zip(back, map(graph, stored), strict=True):
        for name in ("x", "e", "src", "dst", "y"):
            np.testing.assert_array_equal(getattr(one, name), getattr(g, name))


def test_collate_of_bipartite_graphs():
    theirs = DATA["bipartite"]["pyg"]
    batch = mg.batch(map(sides, DATA["bipartite"]["graphs"]))
    np.testing.assert_array_equal(batch.src, theirs["src"])
    np.testing.assert_array_equal(batch.dst, theirs["dst"])
    np.testing.assert_array_equal(batch.offsets[user], theirs["user_offsets"])
    np.testing.assert_array_equal(batch.offsets[item], theirs["item_offsets"])


# -- layers, for one graph ---------------------------------------------------------------------------------


def leaky(x, slope):
    return np.where(x > 0, x, slope * x)


def gcn(p, g):
    n = g.x.shape[0]
    scale = 1 / np.sqrt(1 + mg.segment_sum(np.ones_like(g.e[:, 0]), g.dst, n))[:, None]
    h = (g.x @ p["lin.weight"].T) * scale
    return (mg.segment_sum(h[g.src], g.dst, n) + h) * scale + p["bias"]


def gat(p, g):
    """Two heads; the graph has its loops."""
    n = g.x.shape[0]
    h = (g.x @ p["lin.weight"].T).reshape(n, 2, 3)
    source, target = (np.sum(h * p[name], axis=2) for name in ("att_src", "att_dst"))
    share = mg.segment_softmax(leaky(source[g.src] + target[g.dst], 0.2), g.dst, n)
    return mg.segment_sum(share[:, :, None] * h[g.src], g.dst, n).reshape(n, 6) + p["bias"]


def gin(p, g):
    total = (1 + p["eps"]) * g.x + mg.segment_sum(g.x[g.src], g.dst, g.x.shape[0])
    return np.tanh(total @ p["nn.0.weight"].T + p["nn.0.bias"]) @ p["nn.2.weight"].T + p["nn.2.bias"]


def pool(how):
    return lambda p, g: how(g.x, axis=0)


LAYERS = {"gcn": (gcn, False), "gat": (gat, True), "gin": (gin, False), "add": (pool(np.sum), False),
          "mean": (pool(np.mean), False), "max": (pool(np.max), False)}


def packed(out):
    return out.values if isinstance(out, mg.Batch) else out


def check(layer, params, stored, examples):
    """Compare output, gradients by the parameters and by the nodes, with and without a compiler, and one by one."""
    batch, n = mg.batch(examples), len(examples)
    want = np.array(stored["out"])

    def total(p, g):
        return np.sum(np.tanh(layer(p, g)))

    def by_nodes(p, g):
        return mg.grad(lambda x: total(p, SimpleNamespace(x=x, e=g.e, src=g.src, dst=g.dst)))(g.x)

    one_by_one = [layer(params, g) for g in examples]
    together = np.concatenate if one_by_one[0].ndim == 2 else np.stack
    np.testing.assert_allclose(together(one_by_one), want, rtol=1e-12, atol=1e-12)
    run = mg.vmap(layer, in_axes=(None, 0))
    slopes = mg.vmap(by_nodes, in_axes=(None, 0))
    for how in (lambda f: f, mg.compile):
        np.testing.assert_allclose(packed(how(run)(params, batch)), want, rtol=1e-12, atol=1e-12)
        if "grads" in stored:
            got = how(mg.grad(mg.mean_loss(total, in_axes=(None, 0))))(params, batch)
            for name, slope in stored["grads"].items():
                np.testing.assert_allclose(got[name], slope, rtol=1e-10, atol=1e-12, err_msg=name)
        if "dx" in stored:
            np.testing.assert_allclose(packed(how(slopes)(params, batch)) / n, stored["dx"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_pyg_layer(name):
    layer, loops = LAYERS[name]
    stored = DATA["layers"]["pyg"][name]
    params = {k: np.array(v) for k, v in stored.get("params", {}).items()}
    check(layer, params, stored, [graph(g, loops) for g in DATA["layers"]["graphs"]])


def jraph_gcn(p, g):
    n = g.x.shape[0]
    ones = np.ones_like(g.e[:, 0])
    sent, received = (1 / np.sqrt(1 + mg.segment_sum(ones, ends, n))[:, None] for ends in (g.src, g.dst))
    h = (g.x @ p["w"]) * sent
    return (mg.segment_sum(h[g.src], g.dst, n) + h) * received


def jraph_gat(p, g):
    n = g.x.shape[0]
    h = g.x @ p["w"]
    logit = leaky(np.concatenate([h[g.src], h[g.dst], g.e], axis=1) @ p["a"], 0.01)
    return mg.segment_sum(mg.segment_softmax(logit, g.dst, n)[:, None] * h[g.src], g.dst, n)


@pytest.mark.parametrize("layer", [jraph_gcn, jraph_gat])
def test_jraph_layer(layer):
    everything = DATA["layers"]["jraph"]
    stored = everything[layer.__name__.removeprefix("jraph_")]
    params = {k: np.array(everything[k]) for k in ("w", "a")}
    check(layer, params, {"out": stored["out"], "grads": {"w": stored["dw"]}},
          list(map(graph, DATA["layers"]["graphs"])))


def test_pyg_mean_over_the_users_of_an_item():
    stored = DATA["bipartite"]["pyg"]
    params = {k: np.array(v) for k, v in stored["params"].items()}

    def sage(p, g):
        n = g.item.shape[0]
        total = mg.segment_sum(g.user[g.src], g.dst, n)
        count = mg.segment_sum(np.ones_like(g.user[:, 0])[g.src], g.dst, n)
        mean = total / np.maximum(count, 1)[:, None]
        return mean @ p["lin_l.weight"].T + p["lin_l.bias"] + g.item @ p["lin_r.weight"].T

    batch = mg.batch(map(sides, DATA["bipartite"]["graphs"]))
    for run in (mg.vmap(sage, in_axes=(None, 0)), mg.compile(mg.vmap(sage, in_axes=(None, 0)))):
        np.testing.assert_allclose(packed(run(params, batch)), stored["sage"], rtol=1e-12, atol=1e-12)
