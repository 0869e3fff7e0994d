"""A Tree-LSTM over syntax trees: batches found in the literal graph, beside batches by hand and one tree at a time.

The model and the trees are those of `examples/autobatch_trees.py`. By hand, all nodes of one height are a batch: their
children's states are gathered, and added by segments. One tree at a time, each tree has a program of its own, compiled
before. Measured are value and gradient of the mean loss, and the seconds before the first gradient.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg
from examples import autobatch_trees as model
from examples import trees as syntax

from . import harness

TREES = 48


class Level:
    """The nodes of one height: their kinds, their children's rows among all nodes before, and the parent of each."""

    def __init__(self, kinds: list[int], children: list[list[int]]):
        self.kinds = np.array(kinds)
        self.children = np.array(list(itertools.chain(*children)), dtype=np.int64)
        self.parents = np.repeat(np.arange(len(kinds)), [len(c) for c in children])


def by_height(trees: list[Any]) -> tuple[list[Level], np.ndarray]:
    """Return the levels of trees, from the leaves on, and the rows of the roots."""
    levels: list[list[tuple[int, list[tuple[int, int]]]]] = []

    def visit(tree: Any) -> tuple[int, int]:
        kind, children = tree
        below = [visit(c) for c in children]
        height = 1 + max((h for h, _ in below), default=-1)
        levels.extend([] for _ in range(height + 1 - len(levels)))
        levels[height].append((kind, below))
        return height, len(levels[height]) - 1

    roots = [visit(t) for t in trees]
    first = [0, *itertools.accumulate(map(len, levels))]
    rows = [Level([kind for kind, _ in level], [[first[h] + k for h, k in below] for _, below in level])
            for level in levels]
    return rows, np.array([first[h] + k for h, k in roots])


def by_hand(p: Any, levels: list[Level], roots: np.ndarray, labels: np.ndarray) -> Any:
    """Return the mean loss, level by level."""
    width = model.WIDTH
    hs, cs = [], []
    for level in levels:
        n = len(level.kinds)
        x = p["embed"][level.kinds]
        gates = x @ p["W"] + p["b"]
        if hs:
            h, c = np.concatenate(hs)[level.children], np.concatenate(cs)[level.children]
            gates = gates + mg.segment_sum(h, level.parents, n) @ p["U"]
        new = model.sigmoid(gates[:, :width]) * np.tanh(gates[:, 2 * width:])
        if hs:
            kept = (x @ p["Wf"] + p["bf"])[level.parents] + h @ p["Uf"]
            new = new + mg.segment_sum(model.sigmoid(kept) * c, level.parents, n)
        cs.append(new)
        hs.append(model.sigmoid(gates[:, width:2 * width]) * np.tanh(new))
    score = np.concatenate(hs)[roots] @ p["w"]
    return np.mean(np.logaddexp(0, score) - labels * score)


def packed(trees: list[Any], labels: Any) -> Any:
    """Return trees as a batch of nodes with their parents, the roots first."""
    def nodes(tree: Any) -> Any:
        kinds: list[int] = []
        parents: list[int] = []

        def add(tree: Any, above: int) -> None:
            kinds.append(tree[0])
            parents.append(above)
            own = len(kinds) - 1
            for child in tree[1]:
                add(child, own)

        add(tree, -1)
        return kinds, parents

    return mg.batch([syntax.Tree(*nodes(t), np.float32(label)) for t, label in zip(trees, labels, strict=True)])


def by_tree_scan(batch: Any) -> Callable[[Any], Any]:
    """Return value and gradient of the mean loss, whose one tree runs level by level."""
    step = mg.compile(mg.value_and_grad(mg.mean_loss(syntax.loss, in_axes=(None, 0))))
    return lambda p: step(p, batch)


class Torch:
    """The same in PyTorch."""

    def __init__(self, start: dict[str, np.ndarray], trees: list[Any], labels: np.ndarray):
        import torch

        torch.set_num_threads(harness.cores())
        self.torch = torch
        self.p = {k: torch.tensor(v, requires_grad=True) for k, v in start.items()}
        self.trees, self.labels = trees, torch.tensor(labels)
        levels, roots = by_height(trees)
        self.levels = [tuple(map(torch.from_numpy, (v.kinds, v.children, v.parents))) for v in levels]
        self.roots = torch.from_numpy(roots)

    def encode(self, tree: Any) -> Any:
        torch, p, width = self.torch, self.p, model.WIDTH
        kind, children = tree
        x = p["embed"][kind]
        states = [self.encode(c) for c in children]
        total = sum(h for h, _ in states) if states else torch.zeros(width)
        gates = x @ p["W"] + total @ p["U"] + p["b"]
        c = torch.sigmoid(gates[:width]) * torch.tanh(gates[2 * width:])
        if states:
            kept = x @ p["Wf"] + p["bf"]
            c = c + sum(torch.sigmoid(kept + h @ p["Uf"]) * child for h, child in states)
        return torch.sigmoid(gates[width:2 * width]) * torch.tanh(c), c

    def mean(self, score: Any) -> list[Any]:
        torch = self.torch
        value = (torch.nn.functional.softplus(score) - self.labels * score).mean()
        return [value, *torch.autograd.grad(value, list(self.p.values()))]

    def loop(self) -> list[Any]:
        """Return value and gradient, tree by tree."""
        return self.mean(self.torch.stack([self.encode(t)[0] @ self.p["w"] for t in self.trees]))

    def by_hand(self) -> list[Any]:
        """Return value and gradient, level by level."""
        torch, p, width = self.torch, self.p, model.WIDTH
        hs: list[Any] = []
        cs: list[Any] = []
        for kinds, children, parents in self.levels:
            x = p["embed"][kinds]
            gates = x @ p["W"] + p["b"]
            if hs:
                h, c = torch.cat(hs)[children], torch.cat(cs)[children]
                gates = gates + torch.zeros(len(kinds), width).index_add(0, parents, h) @ p["U"]
            new = torch.sigmoid(gates[:, :width]) * torch.tanh(gates[:, 2 * width:])
            if hs:
                kept = (x @ p["Wf"] + p["bf"])[parents] + h @ p["Uf"]
                new = new.index_add(0, parents, torch.sigmoid(kept) * c)
            cs.append(new)
            hs.append(torch.sigmoid(gates[:, width:2 * width]) * torch.tanh(new))
        return self.mean(torch.cat(hs)[self.roots] @ p["w"])


def run(quick: bool) -> harness.Result:
    """Measure value and gradient of the mean loss of trees."""
    trees, labels, kinds = model.read(12 if quick else TREES)
    p, y = model.parameters(kinds), np.array(labels, np.float32)
    before: dict[str, float] = {}

    def timed(name: str, make: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        f = make()
        f(p)
        before[name] = round(time.perf_counter() - began, 2)
        return f

    def each() -> Callable[[Any], Any]:
        steps = [mg.compile(mg.value_and_grad(functools.partial(model.loss, tree=t, label=label)))
                 for t, label in zip(trees, labels, strict=True)]
        return lambda p: [step(p) for step in steps]

    levels, roots = by_height(trees)
    graph = model.batched(p, trees, labels)
    functions = {
        "autobatch": timed("autobatch", lambda: mg.compile(
            model.batched(p, trees, labels).mean().value_and_grad("p"))),
        "autobatch, NumPy": timed("autobatch, NumPy", lambda: mg.compile(
            graph.mean().value_and_grad("p"), backend="numpy")),
        "by hand, by height": timed("by hand, by height", lambda: mg.compile(mg.value_and_grad(
            lambda p: by_hand(p, levels, roots, y)))),
        "by hand, NumPy": timed("by hand, NumPy", lambda: mg.compile(mg.value_and_grad(
            lambda p: by_hand(p, levels, roots, y)), backend="numpy")),
        "tree_scan": timed("tree_scan", lambda: by_tree_scan(packed(trees, labels))),
        "one by one": timed("one by one", each)}
    calls = {name: functools.partial(f, p) for name, f in functions.items()}
    value, gradient = functions["autobatch"](p)
    singles = functions["one by one"](p)
    found = {"by hand": functions["by hand, by height"](p), "tree_scan": functions["tree_scan"](p), "one by one": (
        np.mean([v for v, _ in singles]), {k: np.mean([g[k] for _, g in singles], axis=0) for k in p})}
    peers, absent = harness.gather({"PyTorch": lambda: Torch(p, trees, y)})
    for name, peer in peers.items():
        calls |= {f"{name}, by height": peer.by_hand, f"{name}, one by one": peer.loop}
        for call in (peer.by_hand, peer.loop):
            first, *others = (t.detach().numpy() for t in call())
            found[f"{name}, {call.__name__}"] = first, dict(zip(p, others, strict=True))
    for name, (v, g) in found.items():
        worst = max(float(np.max(np.abs(gradient[k] - g[k])) / np.max(np.abs(gradient[k]))) for k in p)
        assert worst < 1e-3, f"{name} disagrees: {worst}"
        assert abs(value - v) < 1e-4, f"{name} disagrees: {value}, {v}"
    cases = [harness.Case.of(f"value and gradient of {len(trees)} trees", "ms", "autobatch",
                             harness.race(calls, 5 if quick else 15), absent)]
    literal = graph.notes[-1].removeprefix("autobatch: ")
    return harness.Result(cases, [], {"literal graph": literal, "seconds before the first gradient": before})


if __name__ == "__main__":
    harness.main("trees", run)
