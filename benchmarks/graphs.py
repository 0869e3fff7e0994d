"""Molecules in mini-batches beside PyTorch Geometric: collating, a training step of a GCN, an epoch, and the loop.

The graphs are the 4,991 molecules that RDKit ships and can read, in the file's order. The network has two graph
convolutions, 64 wide, and sums over the atoms; it is trained by Adam towards the polar surface area. All contestants
begin with the same parameters, and their values and gradients are compared before anything is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg

from . import harness

BATCH, WIDTH, RATE = 128, 64, 1e-3
ELEMENTS = ("C", "O", "N", "S", "Cl", "Br", "F", "P", "I")
FEATURES = len(ELEMENTS) + 7

node, edge = mg.axis("node"), mg.axis("edge")


@mg.example
class Molecule:
    """Atoms, and bonds in both directions."""

    x: mg.f32[node, FEATURES]
    src: mg.index(node)[edge]
    dst: mg.index(node)[edge]
    y: mg.f32[()]


def read() -> list[Any]:
    """Return RDKit's molecules."""
    from rdkit import Chem, RDConfig, rdBase

    found = []
    with rdBase.BlockLogs():
        for line in Path(RDConfig.RDDataDir, "NCI", "first_5k.tpsa.csv").read_text().splitlines()[1:]:
            smiles, area = line.split(",")
            molecule = Chem.MolFromSmiles(smiles)
            if molecule is not None:
                found.append(example(molecule, float(area)))
    return found


def example(molecule: Any, area: float) -> Any:
    """Return a molecule's features: element, hydrogens, charge, neighbours, in a ring."""
    x = np.zeros((molecule.GetNumAtoms(), FEATURES), np.float32)
    for row, atom in zip(x, molecule.GetAtoms(), strict=True):
        if atom.GetSymbol() in ELEMENTS:
            row[ELEMENTS.index(atom.GetSymbol())] = 1
        row[-7:] = (atom.GetTotalNumHs(), atom.GetFormalCharge(), atom.GetDegree(), atom.GetIsAromatic(),
                    atom.IsInRing(), atom.IsInRingSize(3), 1)
    bonds = np.array([(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in molecule.GetBonds()], np.int64).reshape(-1, 2)
    return Molecule(x=x, src=np.concatenate([bonds[:, 0], bonds[:, 1]]),
                    dst=np.concatenate([bonds[:, 1], bonds[:, 0]]), y=np.float32(area / 50))


def drawn(count: int) -> list[Any]:
    """Return made-up graphs as large as the molecules: trees with a few rings, in place of RDKit's."""
    rng = np.random.default_rng(0)
    found = []
    for n in rng.integers(4, 30, count):
        ends = [(k, rng.integers(0, k)) for k in (*range(1, n), *rng.integers(1, n, n // 12))]
        one, other = np.array(ends, np.int64).T
        found.append(Molecule(x=rng.random((n, FEATURES), np.float32), src=np.concatenate([one, other]),
                              dst=np.concatenate([other, one]), y=np.float32(rng.random())))
    return found


def parameters() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)

    def matrix(n: int, m: int) -> np.ndarray:
        return rng.normal(0, n ** -0.5, (n, m)).astype(np.float32)

    return {"W1": matrix(FEATURES, WIDTH), "b1": np.zeros(WIDTH, np.float32), "W2": matrix(WIDTH, WIDTH),
            "b2": np.zeros(WIDTH, np.float32), "w": matrix(WIDTH, 1)[:, 0] / 10}


def loss(p: Any, m: Any) -> Any:
    """Return the squared error of one molecule: two layers of Kipf and Welling's convolution, and a sum."""
    n = m.x.shape[0]
    scale = 1 / np.sqrt(1 + mg.segment_sum(np.ones_like(m.x[:, 0])[m.src], m.dst, n))[:, None]
    h = m.x
    for w, b in ((p["W1"], p["b1"]), (p["W2"], p["b2"])):
        h = (h @ w) * scale
        h = np.maximum((mg.segment_sum(h[m.src], m.dst, n) + h) * scale + b, 0)
    return (np.sum(h, axis=0) @ p["w"] - m.y) ** 2


# -- PyTorch Geometric ---------------------------------------------------------------------------------------


class PyG:
    """The same network, data, parameters and optimizer in PyTorch Geometric.

    `once` leaves the normalisation of the adjacency matrix, which both layers share, to be computed once per batch; as
    the library's layer is used by most, each layer computes its own.
    """

    def __init__(self, examples: list[Any], start: dict[str, np.ndarray], once: bool = False, device: str = "cpu"):
        import torch
        from torch_geometric.nn import GCNConv, global_add_pool
        from torch_geometric.nn.conv.gcn_conv import gcn_norm

        torch.set_num_threads(harness.cores())
        self.torch = torch
        self.graphs = list(map(mg.to_pyg, examples))
        self.first, self.second = (GCNConv(n, WIDTH, normalize=not once) for n in (FEATURES, WIDTH))
        self.out = torch.nn.Linear(WIDTH, 1, bias=False)
        with torch.no_grad():
            for layer, w, b in ((self.first, "W1", "b1"), (self.second, "W2", "b2")):
                layer.lin.weight.copy_(torch.from_numpy(start[w].T))
                layer.bias.copy_(torch.from_numpy(start[b]))
            self.out.weight.copy_(torch.from_numpy(start["w"])[None])
        for layer in (self.first, self.second, self.out):
            layer.to(device)
        self.device = device
        self.params = [self.first.lin.weight, self.first.bias, self.second.lin.weight, self.second.bias,
                       self.out.weight]
        self.optimizer = torch.optim.Adam(self.params, RATE)
        self.once, self.norm, self.pool = once, gcn_norm, global_add_pool

    def collate(self, which: Any) -> Any:
        from torch_geometric.data import Batch

        return Batch.from_data_list([self.graphs[i] for i in which]).to(self.device)

    def gradient(self, b: Any) -> Any:
        """Return the value; the gradient is in the parameters then."""
        for p in self.params:
            p.grad = None
        weights = ()
        edges = b.edge_index
        if self.once:
            edges, *weights = self.norm(edges, None, b.num_nodes)
        h = self.torch.relu(self.first(b.x, edges, *weights))
        h = self.torch.relu(self.second(h, edges, *weights))
        pooled = self.pool(h, b.batch, b.num_graphs)
        value = ((self.out(pooled)[:, 0] - b.y) ** 2).mean()
        value.backward()
        return value.detach()

    def step(self, b: Any) -> Any:
        value = self.gradient(b)
        self.optimizer.step()
        return value

    def loop(self, which: Any) -> Any:
        """Return the value and gradient of the mean, one molecule after the other."""
        total = [0.0] * len(self.params)
        for i in which:
            self.gradient(self.collate([i]))
            total = [t + p.grad for t, p in zip(total, self.params, strict=True)]
        return [t / len(which) for t in total]

    def epoch(self, loader: Any) -> None:
        for b in loader:
            self.step(b)


# -- minigrad ------------------------------------------------------------------------------------------------


class Ours:
    """minigrad's side: everything runs one compiled function."""

    def __init__(self, examples: list[Any], start: dict[str, np.ndarray]):
        self.examples, self.packed, self.start = examples, mg.batch(examples), start
        self.gradient = mg.compile(mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0))))
        init, update = mg.optim.adam(RATE)

        def train(params: Any, state: Any, b: Any) -> Any:
            value, gradient = self.gradient(params, b)
            return value, *update(gradient, state, params)

        self.train = mg.compile(train)
        self.params, self.state = start, init(start)

    def step(self, b: Any) -> Any:
        value, self.params, self.state = self.train(self.params, self.state, b)
        return value

    def loop(self, which: Any) -> Any:
        """Return the gradient of the mean, by the compiled function, for one molecule after the other."""
        total = None
        for i in which:
            _, g = self.gradient(self.start, mg.batch([self.examples[i]]))
            total = g if total is None else {k: total[k] + g[k] for k in g}
        return {k: v / len(which) for k, v in total.items()}

    def epoch(self, loader: Any) -> None:
        for b in loader:
            self.step(b)


def uncompiled_loop(examples: list[Any], params: Any) -> dict[str, np.ndarray]:
    """Return the gradient of the mean as a tutorial computes it: traced and run anew for each molecule."""
    gradient = mg.grad(loss)
    each = [gradient(params, m) for m in examples]
    return {k: np.mean([g[k] for g in each], axis=0) for k in params}


def difference(ours: Any, theirs: PyG) -> float:
    """Return the largest difference of two gradients, relative to the largest number of each."""
    got = [p.grad.numpy() for p in theirs.params]
    pairs = zip((ours[k] for k in ("W1", "b1", "W2", "b2", "w")), (got[0].T, got[1], got[2].T, got[3], got[4][0]),
                strict=True)
    return max(float(np.max(np.abs(a - b)) / np.max(np.abs(b))) for a, b in pairs)


def run(quick: bool) -> harness.Result:
    """Measure collating, a step, an epoch and the loop."""
    examples, start = read(), parameters()
    rng = np.random.default_rng(1)
    # More batches than a program stays bound to: each call's sizes are new to it, as in training.
    picks = [rng.permutation(len(examples))[:BATCH] for _ in range(160)]
    ours = Ours(examples, start)
    peers, absent = harness.gather({"PyG": lambda: PyG(examples, start),
                                    "PyG, normalised once": lambda: PyG(examples, start, once=True)})
    notes: dict[str, Any] = {"molecules": len(examples), "atoms": len(ours.packed.x), "edges": len(ours.packed.src)}
    for name, peer in peers.items():
        peer.gradient(peer.collate(picks[0]))
        _, gradient = ours.gradient(start, ours.packed[picks[0]])
        notes[f"largest difference of the gradient from {name}"] = worst = difference(gradient, peer)
        assert worst < 1e-3, f"the contestants disagree: {worst}"

    rounds = 5 if quick else 25
    cases = [
        harness.Case.of(f"collating {BATCH} molecules", "ms", "minigrad, from the packed dataset", harness.race({
            "minigrad, from the packed dataset": harness.cycle(ours.packed.__getitem__, picks),
            "minigrad, from a list": harness.cycle(lambda which: mg.batch([examples[i] for i in which]), picks),
            **{n: harness.cycle(p.collate, picks) for n, p in peers.items() if n == "PyG"}}, rounds), absent),
        harness.Case.of(f"training step, {BATCH} molecules, batches collated before", "ms", "minigrad", harness.race({
            "minigrad": harness.cycle(ours.step, [ours.packed[w] for w in picks]),
            **{n: harness.cycle(p.step, list(map(p.collate, picks))) for n, p in peers.items()}}, rounds), absent)]
    loader = mg.DataLoader(ours.packed, BATCH, shuffle=True, seed=0)
    cases.append(harness.Case.of(f"an epoch over all molecules, {BATCH} at a time", "ms", "minigrad", harness.race({
        "minigrad": lambda: ours.epoch(loader), **{n: epoch_of(p) for n, p in peers.items()}},
        3 if quick else 9, turn=0.3), absent))
    few = picks[0]
    loops = {"minigrad, one batch": lambda: ours.gradient(start, mg.batch([examples[i] for i in few])),
             "minigrad, compiled, one by one": lambda: ours.loop(few),
             "minigrad, one by one": lambda: uncompiled_loop([examples[i] for i in few], start),
             **{f"{n}, one by one": lambda p=p: p.loop(few) for n, p in peers.items() if n == "PyG"}}
    cases.append(harness.Case.of(f"gradient of the mean over {BATCH} molecules, collating included", "ms",
                                 "minigrad, one batch", harness.race(loops, 3 if quick else 9), absent))
    programs = max(len(f.entries) for f in (ours.gradient, ours.train))
    notes["programs compiled for all of this"] = programs
    collate, step, epoch, loop = cases

    def ratio(case: harness.Case, name: str) -> float | None:
        return case.ratio(name) if name in case.rows else None

    return harness.Result(cases, [
        harness.Target("collating: PyG's time over ours", ratio(collate, "PyG"), 10),
        harness.Target("a training step: PyG's time over ours", ratio(step, "PyG"), 1.5),
        harness.Target("an epoch, loading included: PyG's time over ours", ratio(epoch, "PyG"), 3),
        harness.Target("the loop over molecules: its time over ours", ratio(loop, "minigrad, one by one"), 30),
        harness.Target("programs for batches of all sizes", programs, 1, at_least=False)], notes)


def epoch_of(peer: PyG) -> Callable[[], None]:
    """Return the call of an epoch by PyG's own loader."""
    from torch_geometric.loader import DataLoader

    loader = DataLoader(peer.graphs, BATCH, shuffle=True)
    return lambda: peer.epoch(loader)


if __name__ == "__main__":
    harness.main("graphs", run)
