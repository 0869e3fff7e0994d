"""Networks whose graphs the data determine, beside PyTorch Geometric: nearest neighbours of each layer, pooled nodes.

The first joins each point of a cloud to its nearest ones in the space of the layer before (DGCNN, Wang et al. 2019);
the second keeps the half of the nodes with the largest scores, and the edges between them, after each convolution
(SAGPool, Lee et al. 2019). Measured are value and gradient of a mean loss, each time over another batch.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import minigrad as mg

from . import graphs, harness

WIDTH, K, BATCH = 64, 8, 32
LOW = np.float32(-1e30)  # below all features

point = mg.axis("point")


@mg.example
class Cloud:
    """Points, and whether they are of the first kind."""

    x: mg.f32[point, 3]
    y: mg.f32[()]


def clouds(count: int) -> list[Any]:
    """Return shells and full balls of random points."""
    rng = np.random.default_rng(0)
    found = []
    for n in rng.integers(K, 80, count):
        x, kind = rng.normal(size=(n, 3)), rng.integers(2)
        x = x / np.linalg.norm(x, axis=1, keepdims=True) * (1 if kind else rng.random((n, 1)) ** (1 / 3))
        found.append(Cloud(x.astype(np.float32), np.float32(kind)))
    return found


def relu(x: Any) -> Any:
    return np.maximum(x, 0)


def readout(x: Any) -> Any:
    """Return the largest and the mean features; zeros without rows."""
    n = x.shape[0]
    return np.concatenate([np.where(n > 0, np.max(x, axis=0, initial=LOW), 0), np.sum(x, axis=0) / np.maximum(n, 1)])


def logistic(score: Any, y: Any) -> Any:
    return np.logaddexp(0, score) - y * score


def edge_conv(p: Any, x: Any, few: bool) -> Any:
    """Return the largest message from the K nearest points, or from all of them where there are `few`."""
    squares = np.sum(x * x, axis=1)
    order = np.argsort(squares[:, None] - 2 * (x @ x.T) + squares, axis=1)
    near = x[order[:, :np.minimum(x.shape[0], K) if few else K]]
    centre = np.broadcast_to(x[:, None], near.shape)
    return np.max(relu(np.concatenate([centre, near - centre], axis=2) @ p["w"] + p["b"]), axis=1)


def dgcnn(p: Any, c: Any, few: bool = False) -> Any:
    """Return the loss of one cloud."""
    h = edge_conv(p["second"], edge_conv(p["first"], c.x, few), few)
    return logistic(readout(h) @ p["out"], c.y)


def graph_conv(p: Any, x: Any, src: Any, dst: Any) -> Any:
    return mg.segment_sum(x[src], dst, x.shape[0]) @ p["near"] + p["b"] + x @ p["own"]


def pooled(p: Any, x: Any, src: Any, dst: Any) -> Any:
    """Return the half of the nodes with the largest scores, weighted by these, and the edges between them."""
    score = np.tanh(graph_conv(p, x, src, dst))[:, 0]
    keep = np.argsort(np.argsort(-score)) < np.ceil(0.5 * x.shape[0])
    nodes, new, edges = mg.select(keep), mg.renumber(keep), mg.select(keep[src] & keep[dst])
    return x[nodes] * score[nodes][:, None], new[src[edges]], new[dst[edges]]


def sagpool(p: Any, g: Any) -> Any:
    """Return the loss of one graph."""
    graph, total = (g.x, g.src, g.dst), 0.0
    for conv, pool in (("first", "pool1"), ("second", "pool2")):
        x, src, dst = graph
        graph = pooled(p[pool], relu(graph_conv(p[conv], x, src, dst)), src, dst)
        total = total + readout(graph[0])
    return logistic(total @ p["out"], g.y)


# -- parameters ----------------------------------------------------------------------------------------------


def _matrix(rng: np.random.Generator, n: int, m: int) -> np.ndarray:
    return rng.normal(0, n ** -0.5, (n, m)).astype(np.float32)


def of_clouds(width: int = WIDTH) -> dict[str, Any]:
    """Return the parameters of `dgcnn`."""
    rng = np.random.default_rng(1)
    layers = {name: {"w": _matrix(rng, 2 * n, width), "b": 0.1 * _matrix(rng, 1, width)[0]}
              for name, n in (("first", 3), ("second", width))}
    return {**layers, "out": _matrix(rng, 2 * width, 1)[:, 0]}


def of_graphs(features: int = graphs.FEATURES, width: int = WIDTH) -> dict[str, Any]:
    """Return the parameters of `sagpool`."""
    rng = np.random.default_rng(1)
    layers = {name: {"near": _matrix(rng, n, m) / 2, "own": _matrix(rng, n, m), "b": 0.1 * _matrix(rng, 1, m)[0]}
              for name, n, m in (("first", features, width), ("pool1", width, 1), ("second", width, width),
                                 ("pool2", width, 1))}
    return {**layers, "out": _matrix(rng, 2 * width, 1)[:, 0]}


# -- PyTorch Geometric ---------------------------------------------------------------------------------------


class PyG(ABC):
    """The networks with the layers of PyTorch Geometric."""

    def __init__(self, params: Any, examples: Sequence[Any]):
        import torch
        from torch_geometric import nn

        torch.set_num_threads(harness.cores())
        self.torch, self.nn = torch, nn
        self.examples = [self.data(e) for e in examples]
        self.tree, self.out = params, torch.from_numpy(params["out"].copy()).requires_grad_()

    def data(self, example: Any) -> Any:
        from torch_geometric.data import Data

        torch = self.torch
        edges = {}
        if hasattr(example, "src"):
            edges["edge_index"] = torch.from_numpy(np.stack([example.src, example.dst]))
        return Data(x=torch.from_numpy(np.array(example.x)), y=torch.tensor(np.array(example.y)), **edges)

    def collate(self, which: Sequence[int]) -> Any:
        from torch_geometric.data import Batch

        return Batch.from_data_list([self.examples[i] for i in which])

    def linear(self, weight: np.ndarray, bias: np.ndarray | None = None) -> Any:
        """Return a linear layer of the weights."""
        torch = self.torch
        layer = torch.nn.Linear(*weight.shape, bias=bias is not None)
        layer.weight = torch.nn.Parameter(torch.from_numpy(np.ascontiguousarray(weight.T)))
        if bias is not None:
            layer.bias = torch.nn.Parameter(torch.from_numpy(bias.copy()))
        return layer

    def convolution(self, p: Any) -> Any:
        layer = self.nn.GraphConv(*p["near"].shape)
        layer.lin_rel, layer.lin_root = self.linear(p["near"], p["b"]), self.linear(p["own"])
        return layer

    def readout(self, x: Any, rows: Any, size: int) -> Any:
        nn = self.nn
        return self.torch.cat([nn.global_max_pool(x, rows, size), nn.global_mean_pool(x, rows, size)], dim=1)

    @abstractmethod
    def scores(self, b: Any) -> Any:
        """Return a number per example."""

    def value_and_grad(self, b: Any) -> list[Any]:
        """Return the mean loss and its gradient, by the parameters as `weights` orders them."""
        torch, score = self.torch, self.scores(b)
        value = (torch.nn.functional.softplus(score) - b.y * score).mean()
        return [value.detach(), *torch.autograd.grad(value, self.weights)]

    weights: list[Any]

    def difference(self, value: Any, gradient: Any, b: Any) -> float:
        """Return the largest difference of a value and a gradient, relative to the largest number of each."""
        own = [value, *(gradient[layer][name] for layer, name in self.places), gradient["out"]]
        found = [x.numpy() for x in self.value_and_grad(b)]
        pairs = zip(own, [x.T if x.ndim == 2 else x for x in found], strict=True)
        return max(float(np.max(np.abs(a - b)) / max(float(np.max(np.abs(b))), 1e-3)) for a, b in pairs)

    places: list[tuple[str, str]]


class Dgcnn(PyG):
    """DGCNN: the nearest points by `to_dense_batch` and distances, and `EdgeConv`."""

    def __init__(self, params: Any, examples: Sequence[Any]):
        super().__init__(params, examples)
        linear, self.layers = [], []
        for name in ("first", "second"):
            network = self.torch.nn.Sequential(self.torch.nn.Identity(), self.torch.nn.ReLU())
            self.layers.append(self.nn.EdgeConv(network, aggr="max"))  # which resets the weights that it is given
            network[0] = self.linear(params[name]["w"], params[name]["b"])
            linear.append(network[0])
        self.weights = [w for one in linear for w in (one.weight, one.bias)] + [self.out]
        self.places = [(layer, name) for layer in ("first", "second") for name in ("w", "b")]

    def nearest(self, x: Any, b: Any) -> Any:
        """Return the edges from the K nearest points, or from all of fewer."""
        from torch_geometric.utils import to_dense_batch

        torch = self.torch
        with torch.no_grad():
            dense, mask = to_dense_batch(x, b.batch, batch_size=b.num_graphs)
            apart = torch.cdist(dense, dense, compute_mode="donot_use_mm_for_euclid_dist")
            apart = apart.masked_fill(~mask[:, None, :], float("inf"))
            near = apart.topk(min(K, apart.shape[2]), dim=2, largest=False)
            sources = (near.indices + b.ptr[:-1, None, None])[mask]
            there = near.values[mask] < float("inf")
            targets = torch.arange(len(x))[:, None].expand_as(sources)
            return torch.stack([sources[there], targets[there]])

    def scores(self, b: Any) -> Any:
        x = b.x
        for layer in self.layers:
            x = layer(x, self.nearest(x, b))
        return self.readout(x, b.batch, b.num_graphs) @ self.out


class SagPool(PyG):
    """SAGPool: `GraphConv` and `SAGPooling`."""

    def __init__(self, params: Any, examples: Sequence[Any]):
        super().__init__(params, examples)
        torch = self.torch
        self.layers = []
        self.weights, self.places = [], []
        for conv, pool in (("first", "pool1"), ("second", "pool2")):
            pair = self.convolution(params[conv]), self.nn.SAGPooling(params[pool]["near"].shape[0])
            pair[1].gnn = self.convolution(params[pool])
            pair[1].select.weight = torch.nn.Parameter(self.out.detach().new_ones(1, 1))  # divides itself out
            self.layers.append(pair)
            for layer, name in ((pair[0], conv), (pair[1].gnn, pool)):
                self.weights += [layer.lin_rel.weight, layer.lin_root.weight, layer.lin_rel.bias]
                self.places += [(name, "near"), (name, "own"), (name, "b")]
        self.weights.append(self.out)

    def scores(self, b: Any) -> Any:
        x, edges, rows, total = b.x, b.edge_index, b.batch, 0
        for conv, pool in self.layers:
            x, edges, _, rows, _, _ = pool(conv(x, edges).relu(), edges, batch=rows)
            total = total + self.readout(x, rows, b.num_graphs)
        return total @ self.out


# -- measurements --------------------------------------------------------------------------------------------


def run(quick: bool) -> harness.Result:
    """Measure value and gradient of both networks."""
    rng = np.random.default_rng(2)
    cases, targets, notes = [], [], {}
    contests: list[tuple[str, Callable[..., Any], Any, list[Any], type[PyG]]] = [
        ("DGCNN, clouds", dgcnn, of_clouds(), clouds(300), Dgcnn),
        ("SAGPool, graphs", sagpool, of_graphs(), graphs.drawn(1000), SagPool)]
    for title, loss, params, examples, peer in contests:
        step = mg.compile(mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0))))
        packed = mg.batch(examples)
        picks = [rng.permutation(len(examples))[:BATCH] for _ in range(40)]
        calls: dict[str, Callable[[], Any]] = {
            "minigrad": harness.cycle(functools.partial(step, params), [packed[w] for w in picks])}
        peers, absent = harness.gather({"PyG": lambda peer=peer, p=params, e=examples: peer(p, e)})  # type: ignore[misc]
        for name, other in peers.items():
            worst = max(other.difference(*step(params, packed[w]), other.collate(w)) for w in picks[:5])
            notes[f"{title}: largest difference of value and gradient from {name}"] = worst
            assert worst < 1e-3, f"{name} disagrees: {worst}"
            calls[name] = harness.cycle(other.value_and_grad, [other.collate(w) for w in picks])
        case = harness.Case.of(f"{title}: value and gradient, {BATCH} at a time", "ms", "minigrad",
                               harness.race(calls, 5 if quick else 15), absent)
        cases.append(case)
        ratio = case.ratio("PyG") if "PyG" in case.rows else None
        targets.append(harness.Target(f"{title}: PyG's time over ours", ratio, 1))
        notes[f"{title}: programs for all batches"] = len(step.entries)
    return harness.Result(cases, targets, notes)


if __name__ == "__main__":
    harness.main("dynamic", run)
