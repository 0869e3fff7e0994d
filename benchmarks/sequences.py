"""Self-attention over sequences of different length: blocks end to end, beside padding with a mask, and the loop.

The sequences are the SMILES strings of RDKit's molecules, whose lengths go from 1 to a few hundred. One layer of
attention, 32 wide, reads a string and guesses the polar surface area; measured are value and gradient for 64 strings.
PyTorch pads each batch to its own longest string (of two orders: as they come, or sorted by length first, which wastes
less), or runs one string after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg

from . import harness

BATCH, WIDTH = 64, 32

char = mg.axis("char")


@mg.example
class Smiles:
    """The characters of a string, by number, and the area."""

    chars: mg.i64[char]
    area: mg.f32[()]


def read() -> tuple[list[Any], int]:
    """Return the strings, and how many characters there are."""
    from rdkit import RDConfig

    lines = Path(RDConfig.RDDataDir, "NCI", "first_5k.tpsa.csv").read_text().splitlines()[1:]
    rows = [line.split(",") for line in lines]
    alphabet = {c: k for k, c in enumerate(sorted({c for smiles, _ in rows for c in smiles}))}
    return [Smiles(chars=np.array([alphabet[c] for c in smiles], np.int64), area=np.float32(float(area) / 50))
            for smiles, area in rows], len(alphabet)


def parameters(alphabet: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)

    def matrix(n: int, m: int) -> np.ndarray:
        return rng.normal(0, n ** -0.5, (n, m)).astype(np.float32)

    return {"embed": matrix(alphabet, WIDTH) * 4, "query": matrix(WIDTH, WIDTH), "key": matrix(WIDTH, WIDTH),
            "value": matrix(WIDTH, WIDTH), "out": matrix(WIDTH, 1)[:, 0] / 10}


def loss(p: Any, s: Any) -> Any:
    """Return the squared error of one string."""
    h = p["embed"][s.chars]
    scores = (h @ p["query"]) @ (h @ p["key"]).T * np.float32(WIDTH ** -0.5)
    weights = np.exp(scores - mg.stop_gradient(np.max(scores, axis=1, keepdims=True)))
    seen = (weights / np.sum(weights, axis=1, keepdims=True)) @ (h @ p["value"])
    return (np.sum(np.tanh(h + seen), axis=0) @ p["out"] - s.area) ** 2


class Padded:
    """The same in PyTorch, on strings padded to the longest of the batch."""

    def __init__(self, start: dict[str, np.ndarray]):
        import torch

        torch.set_num_threads(harness.cores())
        self.torch = torch
        self.p = {k: torch.tensor(v, requires_grad=True) for k, v in start.items()}

    def collate(self, examples: list[Any]) -> tuple[Any, Any, Any]:
        """Return characters, which of them are there, and areas."""
        torch = self.torch
        chars = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(s.chars) for s in examples], batch_first=True)
        there = torch.arange(chars.shape[1])[None] < torch.tensor([len(s.chars) for s in examples])[:, None]
        return chars, there, torch.tensor([float(s.area) for s in examples])

    def gradient(self, batch: tuple[Any, Any, Any]) -> list[Any]:
        chars, there, area = batch
        torch, p = self.torch, self.p
        h = torch.nn.functional.embedding(chars, p["embed"])
        seen = torch.nn.functional.scaled_dot_product_attention(
            h @ p["query"], h @ p["key"], h @ p["value"], attn_mask=there[:, None, :])
        total = (torch.tanh(h + seen) * there[:, :, None]).sum(1)
        value = ((total @ p["out"] - area) ** 2).mean()
        return [value, *torch.autograd.grad(value, list(p.values()))]

    def loop(self, batches: list[tuple[Any, Any, Any]]) -> list[Any]:
        """Return the mean over batches of one string."""
        each = [self.gradient(b) for b in batches]
        return [sum(parts) / len(each) for parts in zip(*each, strict=True)]


def run(quick: bool) -> harness.Result:
    """Measure value and gradient on batches that are collated before."""
    examples, alphabet = read()
    start = parameters(alphabet)
    f = mg.compile(mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0))))
    packed = mg.batch(examples)
    lengths = np.array([len(s.chars) for s in examples])
    peers, absent = harness.gather({"PyTorch": lambda: Padded(start)})
    rng = np.random.default_rng(1)
    order = rng.permutation(len(examples))
    # More batches than a program stays bound to: each call's sizes are new to it, as in training.
    picks = {"as they come": [order[k:k + BATCH] for k in range(0, len(order) - BATCH, BATCH)],
             "of similar length": [np.argsort(lengths, kind="stable")[k:k + BATCH]
                                   for k in rng.permutation(range(0, len(order) - BATCH, BATCH))]}
    notes: dict[str, Any] = {"strings": len(examples), "characters": int(lengths.sum())}
    cases = []
    for how, which in picks.items():
        squares = sum(float((lengths[w] ** 2).sum()) for w in which)
        notes[f"scores computed with padding over those needed, {how}"] = round(
            sum(len(w) * float(lengths[w].max()) ** 2 for w in which) / squares, 2)
        batches = [packed[w] for w in which]
        calls: dict[str, Callable[[], Any]] = {"minigrad": harness.cycle(lambda b: f(start, b), batches)}
        for name, peer in peers.items():
            collated = [peer.collate([examples[i] for i in w]) for w in which]
            ones = [[peer.collate([examples[i]]) for i in w] for w in which[:3]]
            value, gradient = f(start, batches[0])
            want = peer.gradient(collated[0])
            notes[f"largest difference of the gradient from {name}, {how}"] = worst = max(
                float(np.max(np.abs(a - b.detach().numpy())) / np.max(np.abs(a)))
                for a, b in zip([value, *gradient.values()], want, strict=True))
            assert worst < 1e-3, f"the contestants disagree: {worst}"
            calls[f"{name}, padded"] = harness.cycle(peer.gradient, collated)
            calls[f"{name}, one by one"] = harness.cycle(peer.loop, ones)
        cases.append(harness.Case.of(f"value and gradient, {BATCH} strings {how}", "ms", "minigrad",
                                     harness.race(calls, 5 if quick else 15), absent))
    notes["programs compiled for all of this"] = len(f.entries)
    return harness.Result(cases, [], notes)


if __name__ == "__main__":
    harness.main("sequences", run)
