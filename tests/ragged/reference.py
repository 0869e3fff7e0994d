"""What PyTorch Geometric and jraph compute for a few small graphs, in float64, stored as data.

``python -m tests.ragged.reference`` writes ``reference.json``; it needs torch_geometric and jraph. `test_reference`
compares minigrad with that file and needs neither. The graphs are stored too, so that the file stands for itself.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).with_suffix(".json")

# Nodes and edges of each graph. In LAYERS every graph has a node, because PyG's mean and max of no rows are 0.
COLLATE = ((0, 0), (3, 5), (1, 0), (0, 0), (4, 2), (2, 6), (0, 0))
LAYERS = ((3, 5), (1, 0), (4, 2), (2, 6), (5, 9), (2, 0))
BIPARTITE = ((2, 3, 4), (1, 0, 0), (0, 2, 0), (3, 1, 5))  # users, items, edges from a user to an item


def graphs(sizes: Any, seed: int) -> list[dict[str, Any]]:
    """Return random graphs as plain lists: four numbers per node, two per edge, one per graph.

    Edges may be there twice. None joins a node to itself, because PyG's layers take such edges out before they add
    one to every node.
    """
    rng = np.random.default_rng(seed)
    found = []
    for n, m in sizes:
        src = rng.integers(0, max(n, 1), m)
        dst = (src + rng.integers(1, max(n, 2), m)) % max(n, 1)
        found.append({"x": rng.normal(size=(n, 4)).round(3).tolist(), "e": rng.normal(size=(m, 2)).round(3).tolist(),
                      "src": src.tolist(), "dst": dst.tolist(), "y": round(rng.normal(), 3)})
    return found


def bipartite(sizes: Any, seed: int) -> list[dict[str, Any]]:
    """Return random bipartite graphs: four numbers per user, two per item."""
    rng = np.random.default_rng(seed)
    return [{"user": rng.normal(size=(n, 4)).round(3).tolist(), "item": rng.normal(size=(k, 2)).round(3).tolist(),
             "src": rng.integers(0, max(n, 1), m).tolist(), "dst": rng.integers(0, max(k, 1), m).tolist()}
            for n, k, m in sizes]


def array(rows: list, *tail: int) -> np.ndarray:
    """Return rows of numbers as an array, also where there are none."""
    return np.asarray(rows, np.float64).reshape(len(rows), *tail)


def indices(rows: list) -> np.ndarray:
    return np.asarray(rows, np.int64)


def stored(value: Any) -> Any:
    """Return arrays and tensors as lists."""
    if isinstance(value, dict):
        return {k: stored(v) for k, v in value.items()}
    if hasattr(value, "detach"):
        value = value.detach()
    return np.asarray(value).tolist()


# -- PyTorch Geometric -------------------------------------------------------------------------------------


def pyg_data(graph: dict[str, Any]) -> Any:
    """Return one graph as PyG's `Data`."""
    import torch
    from torch_geometric.data import Data

    return Data(x=torch.from_numpy(array(graph["x"], 4)), edge_attr=torch.from_numpy(array(graph["e"], 2)),
                edge_index=torch.from_numpy(np.stack([indices(graph["src"]), indices(graph["dst"])])),
                y=torch.tensor(graph["y"], dtype=torch.float64))


def pyg_collate(some: list[dict[str, Any]]) -> dict[str, Any]:
    from torch_geometric.data import Batch

    batch = Batch.from_data_list(list(map(pyg_data, some)))
    return stored({"x": batch.x, "e": batch.edge_attr, "src": batch.edge_index[0], "dst": batch.edge_index[1],
                   "y": batch.y, "node_ids": batch.batch, "node_offsets": batch.ptr})


def pyg_bipartite(some: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what PyG makes of `HeteroData`, and a mean over each item's users in it."""
    import torch
    from torch_geometric.data import Batch, HeteroData
    from torch_geometric.nn import SAGEConv

    def data(graph: dict[str, Any]) -> Any:
        d = HeteroData()
        d["user"].x, d["item"].x = (torch.from_numpy(array(graph[k], n)) for k, n in (("user", 4), ("item", 2)))
        d["user", "rates", "item"].edge_index = torch.from_numpy(
            np.stack([indices(graph["src"]), indices(graph["dst"])]))
        return d

    batch = Batch.from_data_list(list(map(data, some)))
    edges = batch["user", "rates", "item"].edge_index
    torch.manual_seed(0)
    layer = SAGEConv((4, 2), 3).double()
    return stored({"src": edges[0], "dst": edges[1], "user_offsets": batch["user"].ptr,
                   "item_offsets": batch["item"].ptr, "params": dict(layer.named_parameters()),
                   "sage": layer((batch["user"].x, batch["item"].x), edges)})


def pyg_layers(some: list[dict[str, Any]]) -> dict[str, Any]:
    """Return parameters, output, and gradient of the mean over graphs of sum(tanh(output)), for each layer."""
    import torch
    from torch_geometric import nn
    from torch_geometric.data import Batch

    batch = Batch.from_data_list(list(map(pyg_data, some)))
    torch.manual_seed(0)
    mlp = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
    layers = {"gcn": nn.GCNConv(4, 3), "gat": nn.GATConv(4, 3, heads=2),
              "gin": nn.GINConv(mlp, eps=0.1, train_eps=True)}
    found = {}
    for name, layer in layers.items():
        layer = layer.double()
        for p in layer.parameters():  # biases begin at 0, which would test nothing
            p.data += 0.1 * torch.randn(p.shape)
        x = batch.x.clone().requires_grad_()
        out = layer(x, batch.edge_index)
        params = dict(layer.named_parameters())
        *grads, slope = torch.autograd.grad(torch.tanh(out).sum() / len(some), [*params.values(), x])
        found[name] = stored({"params": params, "out": out, "grads": dict(zip(params, grads, strict=True)),
                              "dx": slope})
    pools = {"add": nn.global_add_pool, "mean": nn.global_mean_pool, "max": nn.global_max_pool}
    for name, pool in pools.items():
        x = batch.x.clone().requires_grad_()
        out = pool(x, batch.batch)
        (slope,) = torch.autograd.grad(torch.tanh(out).sum() / len(some), x)
        found[name] = stored({"out": out, "dx": slope})
    return found


# -- jraph -------------------------------------------------------------------------------------------------


def jraph_graph(graph: dict[str, Any]) -> Any:
    import jraph

    return jraph.GraphsTuple(
        nodes=array(graph["x"], 4), edges=array(graph["e"], 2), senders=indices(graph["src"]),
        receivers=indices(graph["dst"]), n_node=np.array([len(graph["x"])]), n_edge=np.array([len(graph["src"])]),
        globals=np.array([graph["y"]]))


def jraph_collate(some: list[dict[str, Any]]) -> dict[str, Any]:
    import jraph

    batch = jraph.batch_np(list(map(jraph_graph, some)))
    return stored({"x": batch.nodes, "e": batch.edges, "src": batch.senders, "dst": batch.receivers,
                   "y": batch.globals, "nodes": batch.n_node, "edges": batch.n_edge})


def jraph_layers(some: list[dict[str, Any]]) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp
    import jraph

    jax.config.update("jax_enable_x64", True)
    batch = jraph.batch(list(map(jraph_graph, some)))
    w = np.random.default_rng(5).normal(size=(4, 3)).round(3)
    a = np.random.default_rng(6).normal(size=8).round(3)

    def gcn(w: Any) -> Any:
        return jraph.GraphConvolution(lambda x: x @ w, add_self_edges=True, symmetric_normalization=True)(batch).nodes

    def gat(w: Any) -> Any:
        def logit(sent: Any, received: Any, edges: Any) -> Any:
            return jax.nn.leaky_relu(jnp.concatenate([sent, received, edges], axis=1) @ a)[:, None]

        return jraph.GAT(lambda x: x @ w, logit, lambda x: x)(batch).nodes

    def slope(layer: Any) -> Any:
        return jax.grad(lambda w: jnp.tanh(layer(w)).sum() / len(some))(w)

    return stored({"w": w, "a": a, "gcn": {"out": gcn(w), "dw": slope(gcn)}, "gat": {"out": gat(w), "dw": slope(gat)}})


def main() -> None:
    """Write the file."""
    empties, full, sides = graphs(COLLATE, 0), graphs(LAYERS, 1), bipartite(BIPARTITE, 2)
    versions = {name: importlib.metadata.version(name) for name in ("torch", "torch_geometric", "jax", "jraph")}
    data = {"versions": versions,
            "collate": {"graphs": empties, "pyg": pyg_collate(empties), "jraph": jraph_collate(empties)},
            "bipartite": {"graphs": sides, "pyg": pyg_bipartite(sides)},
            "layers": {"graphs": full, "pyg": pyg_layers(full), "jraph": jraph_layers(full)}}
    text = re.sub(r"\[[^][]*\]", lambda row: re.sub(r"\s+", " ", row[0]), json.dumps(data, indent=1))  # a row a line
    FILE.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
