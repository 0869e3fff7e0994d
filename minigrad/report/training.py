"""Training of one model by batch, stochastic and mini-batch gradient descent."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.random import default_rng

from .. import optim
from ..compiler import compile
from ..graph import PyTree
from ..transforms.grad import value_and_grad
from ..transforms.mean import mean_loss
from ..transforms.vmap import vmap
from . import formatting
from .digits import Digits

AXES = (None, 0, 0)
METHODS = (("batch", None, 0.2), ("mini-batch", 32, 0.1), ("stochastic", 1, 0.005))  # name, batch size, rate


@dataclass(frozen=True)
class Run:
    """The training by one method.

    Attributes
    ----------
    name : str
    batch : int
        The number of examples of a step.
    rate : float
    steps : int
        The number of steps of an epoch.
    losses, accuracies : tuple of float
        The mean loss of all training examples and the accuracy on held-out examples, before the first epoch and after
        each.
    seconds : float
        The time of the steps alone.
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
    """The runs of all methods for one number of epochs."""

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
        """The heading of the table."""
        return (f"training on {self.train:,} digits for {self.epochs} epochs; accuracy on {self.held_out:,} held out")

    def cells(self) -> list[tuple[str, ...]]:
        """Return the row of the table of each method."""
        return [(r.name, f"{r.batch:,}", f"{r.rate:g}", f"{r.steps * self.epochs:,}", f"{r.losses[-1]:.4f}",
                 f"{r.accuracies[-1]:.1%}", formatting.seconds(r.seconds)) for r in self.runs]

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes as nested dicts, for JSON."""
        return asdict(self)


def train(loss: Callable[..., PyTree], scores: Callable[..., PyTree], params: PyTree, data: Digits, epochs: int = 15,
          seed: int = 0, advance: Callable[[str], None] = lambda step: None) -> Training:
    """Train a classifier by each of `METHODS`, from the same parameters.

    Parameters
    ----------
    loss : callable
        ``loss(params, x, label)`` of one example.
    scores : callable
        ``scores(params, x)`` of one example: a score per class.
    params : pytree
    data : Digits
        ``train`` and ``held_out``: pairs of examples and labels.
    epochs : int
    seed : int
        The seed of the order of the examples.
    advance : callable
        Called with a text before each epoch.

    Returns
    -------
    Training
    """
    gradient = value_and_grad(mean_loss(loss, AXES))

    def descend(params: PyTree, x: np.ndarray, y: np.ndarray, rate: float) -> tuple[np.ndarray, PyTree]:
        value, g = gradient(params, x, y)
        return value, optim.sgd(rate).update(g, (), params)[0]

    step = compile(descend)  # one program for every batch size
    evaluate, predict = compile(mean_loss(loss, AXES)), compile(vmap(scores, (None, 0)))
    x, y = data.train
    x_out, y_out = data.held_out
    runs = []
    for name, batch_size, rate in METHODS:
        batch = batch_size or len(x)
        rng = default_rng(seed)
        current, spent = params, 0.0
        losses: list[float] = []
        accuracies: list[float] = []
        for epoch in range(epochs + 1):
            if epoch:
                advance(f"{name}, epoch {epoch}")
                order = rng.permutation(len(x))
                xs, ys = x[order], y[order]
                start = time.perf_counter()
                for k in range(0, len(x), batch):
                    _, current = step(current, xs[k:k + batch], ys[k:k + batch], rate)
                spent += time.perf_counter() - start
            losses.append(float(evaluate(current, x, y)))
            accuracies.append(float(np.mean(predict(current, x_out).argmax(1) == y_out)))
        runs.append(Run(name, batch, rate, -(-len(x) // batch), tuple(losses), tuple(accuracies), spent))
    return Training(tuple(runs), epochs, len(x), len(x_out))
