"""The same model trained by batch, stochastic and mini-batch gradient descent, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from .. import optim
from ..compiler import compile
from ..transforms.grad import value_and_grad
from ..transforms.mean import mean_loss
from ..transforms.vmap import vmap
from . import formatting

AXES = (None, 0, 0)
METHODS = (("batch", None, 0.2), ("mini-batch", 32, 0.1), ("stochastic", 1, 0.005))  # name, examples a step, rate


@dataclass(frozen=True)
class Run:
    """One method's training.

    Attributes
    ----------
    name : str
    batch : int
        Examples per step.
    rate : float
    steps : int
        Per epoch.
    losses, accuracies : tuple of float
        The mean loss of all training examples and the accuracy on those held out, before the first epoch and
        after each.
    seconds : float
        Of the steps alone.
    """

    name: str
    batch: int
    rate: float
    steps: int
    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    seconds: float


@dataclass(frozen=True)
class Training:
    """The runs of all methods, on the same number of epochs."""

    runs: tuple[Run, ...]
    epochs: int
    train: int
    held_out: int

    COLUMNS: ClassVar[tuple[str, ...]] = ("gradient descent", "examples a step", "rate", "steps", "loss",
                                          "held-out accuracy", "time")

    def __getitem__(self, name: str) -> Run:
        """Return the run called `name`."""
        return next(r for r in self.runs if r.name == name)

    @property
    def title(self) -> str:
        return (f"training on {self.train:,} digits for {self.epochs} epochs; accuracy on {self.held_out:,} held out")

    def cells(self) -> list[tuple[str, ...]]:
        """Return a row of words per method."""
        return [(r.name, f"{r.batch:,}", f"{r.rate:g}", f"{r.steps * self.epochs:,}", f"{r.losses[-1]:.4f}",
                 f"{r.accuracies[-1]:.1%}", formatting.seconds(r.seconds)) for r in self.runs]

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers and words."""
        return asdict(self)


def train(loss: Callable[..., Any], scores: Callable[..., Any], params: Any, data: Any, epochs: int = 15, seed: int = 0,
          advance: Callable[[str], None] = lambda what: None) -> Training:
    """Train a classifier by each of `METHODS`, from the same parameters.

    Parameters
    ----------
    loss : callable
        ``loss(params, x, label)`` of one example.
    scores : callable
        ``scores(params, x)`` of one example: one per class.
    params : pytree
    data : Digits
        With ``train`` and ``held_out``: pairs of examples and labels.
    epochs : int
    seed : int
        Of the order of the examples.
    advance : callable
        Called with a word before each epoch.
    """
    gradient = value_and_grad(mean_loss(loss, AXES))

    def descend(params, x, y, rate):
        value, g = gradient(params, x, y)
        return value, optim.sgd(rate).update(g, (), params)[0]

    step = compile(descend)  # one program for every batch size
    evaluate, predict = compile(mean_loss(loss, AXES)), compile(vmap(scores, (None, 0)))
    x, y = data.train
    x_out, y_out = data.held_out
    runs = []
    for name, batch, rate in METHODS:
        batch = batch or len(x)
        rng = np.random.default_rng(seed)
        now, losses, accuracies, spent = params, [], [], 0.0
        for epoch in range(epochs + 1):
            if epoch:
                advance(f"{name}, epoch {epoch}")
                order = rng.permutation(len(x))
                xs, ys = x[order], y[order]
                start = time.perf_counter()
                for k in range(0, len(x), batch):
                    _, now = step(now, xs[k:k + batch], ys[k:k + batch], rate)
                spent += time.perf_counter() - start
            losses.append(float(evaluate(now, x, y)))
            accuracies.append(float(np.mean(predict(now, x_out).argmax(1) == y_out)))
        runs.append(Run(name, batch, rate, -(-len(x) // batch), tuple(losses), tuple(accuracies), spent))
    return Training(tuple(runs), epochs, len(x), len(x_out))
