"""An LSTM over sequences of different length: each step on the strings that still run, beside PyTorch's packed LSTM.

The sequences are the SMILES strings of RDKit's molecules, whose lengths go from 1 to a few hundred. One layer of 128
units reads the characters and guesses the polar surface area; measured are value and gradient for 64 strings. PyTorch
packs each batch with `pack_sequence`, which steps over the same rows, or pads it. Batches come in two orders: as they
come, or of similar length, where no string waits for another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg

from . import harness
from .sequences import read

BATCH, WIDTH, UNITS = 64, 64, 128


def parameters(alphabet: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)

    def matrix(n: int, m: int, scale: float = 1.0) -> np.ndarray:
        return (rng.normal(0, scale * m ** -0.5, (n, m))).astype(np.float32)

    return {"embed": matrix(alphabet, WIDTH, 4.0), "in": matrix(4 * UNITS, WIDTH), "again": matrix(4 * UNITS, UNITS),
            "bias": np.zeros(4 * UNITS, np.float32), "out": matrix(1, UNITS)[0]}


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def loss(p: Any, s: Any) -> Any:
    """Return the squared error of one string."""
    def step(state: Any, x: Any) -> Any:
        h, c = state
        gates = p["in"] @ x + p["again"] @ h + p["bias"]
        keep, write, show, new = (gates[k * UNITS:(k + 1) * UNITS] for k in range(4))
        c = sigmoid(keep) * c + sigmoid(write) * np.tanh(new)
        return (sigmoid(show) * np.tanh(c), c), None

    start = np.zeros(UNITS, np.float32)
    (h, _), _ = mg.scan(step, (start, start), p["embed"][s.chars])
    return (h @ p["out"] - s.area) ** 2


class Packed:
    """The same in PyTorch, by `torch.nn.LSTM`, on packed or padded strings."""

    def __init__(self, start: dict[str, np.ndarray]):
        import torch

        torch.set_num_threads(harness.cores())
        self.torch = torch
        self.p = {k: torch.tensor(v, requires_grad=True) for k, v in start.items()}
        self.cell = torch.nn.LSTM(WIDTH, UNITS, bias=True)
        # PyTorch's order of the gates is write, keep, new, show.
        order = np.concatenate([np.arange(UNITS) + k * UNITS for k in (1, 0, 3, 2)])
        with torch.no_grad():
            for own, name in (("weight_ih_l0", "in"), ("weight_hh_l0", "again"), ("bias_ih_l0", "bias")):
                getattr(self.cell, own).copy_(self.p[name][order])
            self.cell.bias_hh_l0.zero_()
        self.cell.bias_hh_l0.requires_grad_(False)
        self.order = order

    def collate(self, examples: list[Any]) -> tuple[Any, Any]:
        """Return the characters of each string, and the areas."""
        torch = self.torch
        return [torch.from_numpy(s.chars) for s in examples], torch.tensor([float(s.area) for s in examples])

    def _gradient(self, h: Any, area: Any) -> list[Any]:
        value = ((h @ self.p["out"] - area) ** 2).mean()
        cell = self.cell
        wrt = [self.p["embed"], cell.weight_ih_l0, cell.weight_hh_l0, cell.bias_ih_l0, self.p["out"]]
        return [value, *self.torch.autograd.grad(value, wrt)]

    def gradient(self, batch: tuple[Any, Any]) -> list[Any]:
        strings, area = batch
        rnn = self.torch.nn.utils.rnn
        packed = rnn.pack_sequence(strings, enforce_sorted=False)
        x = self.torch.nn.functional.embedding(packed.data, self.p["embed"])
        sequence = rnn.PackedSequence(x, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        _, (h, _) = self.cell(sequence)
        return self._gradient(h[0], area)

    def padded(self, batch: tuple[Any, Any]) -> list[Any]:
        strings, area = batch
        chars = self.torch.nn.utils.rnn.pad_sequence(strings)
        out, _ = self.cell(self.torch.nn.functional.embedding(chars, self.p["embed"]))
        last = self.torch.tensor([len(s) - 1 for s in strings])
        return self._gradient(out[last, self.torch.arange(len(strings))], area)


def run(quick: bool) -> harness.Result:
    """Measure value and gradient on batches that are collated before."""
    examples, alphabet = read()
    start = parameters(alphabet)
    f = mg.compile(mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0))))
    packed = mg.batch(examples)
    lengths = np.array([len(s.chars) for s in examples])
    peers, absent = harness.gather({"PyTorch": lambda: Packed(start)})
    rng = np.random.default_rng(1)
    order = rng.permutation(len(examples))
    picks = {"as they come": [order[k:k + BATCH] for k in range(0, len(order) - BATCH, BATCH)],
             "of similar length": [np.argsort(lengths, kind="stable")[k:k + BATCH]
                                   for k in rng.permutation(range(0, len(order) - BATCH, BATCH))]}
    notes: dict[str, Any] = {"strings": len(examples), "characters": int(lengths.sum())}
    cases = []
    for how, which in picks.items():
        which = which[:12] if quick else which
        notes[f"steps computed with padding over those needed, {how}"] = round(
            sum(len(w) * float(lengths[w].max()) for w in which) / sum(float(lengths[w].sum()) for w in which), 2)
        batches = [packed[w] for w in which]
        for batch in batches:  # a body is bound to each number of strings that it meets
            f(start, batch)
        calls: dict[str, Callable[[], Any]] = {"minigrad": harness.cycle(lambda b: f(start, b), batches)}
        for name, peer in peers.items():
            collated = [peer.collate([examples[i] for i in w]) for w in which]
            value, gradient = f(start, batches[0])
            loss_, embed, inner, again, bias, out = (x.detach().numpy() for x in peer.gradient(collated[0]))
            inverse = np.argsort(peer.order)
            want = {"embed": embed, "in": inner[inverse], "again": again[inverse], "bias": bias[inverse], "out": out}
            notes[f"largest difference of the gradient from {name}, {how}"] = worst = max(
                float(np.max(np.abs(a - b)) / np.max(np.abs(a)))
                for a, b in ((value, loss_), *((gradient[k], want[k]) for k in want)))
            assert worst < 1e-3, f"the contestants disagree: {worst}"
            calls[f"{name}, packed"] = harness.cycle(peer.gradient, collated)
            calls[f"{name}, padded"] = harness.cycle(peer.padded, collated)
        cases.append(harness.Case.of(f"value and gradient of an LSTM, {BATCH} strings {how}", "ms", "minigrad",
                                     harness.race(calls, 5 if quick else 15), absent))
    notes["programs compiled for all of this"] = len(f.entries)
    return harness.Result(cases, [], notes)


if __name__ == "__main__":
    harness.main("sentences", run)
