"""Steps on arrays of many elements, which machine code computes by ways of its own.

Products thin and thick, stacks of small matrices, systems, sums of gathered rows, scans of small and of large steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .choices import Choices

LARGEST = 4000  # elements of a value
ROWS = (1, 2, 3, 15, 16, 17, 31, 33, 64, 65, 127, 129, 300)
COLUMNS = (1, 2, 3, 4, 5, 8, 15, 16, 17, 33)


def shapes(choices: Choices) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of a shared matrix, and of a mapped one that it can multiply."""
    rows, inner = choices.pick(ROWS), choices.pick(COLUMNS)
    return (inner, choices.pick(COLUMNS)), (rows, inner) if rows * inner <= LARGEST else (17, inner)


def _squares(F: Any, x: Any, side: int) -> Any:
    """Return a stack of square matrices with a large diagonal."""
    flat = F("ravel")(x)
    count = np.prod(x.shape, dtype=int) // side**2
    return F("reshape")(F("tanh")(flat[:count * side**2]), (count, side, side)) + side * np.eye(side)


def _definite(F: Any, x: Any) -> Any:
    """Return a symmetric positive definite matrix with a row for each of `x`."""
    return F("tanh")(x) @ F("tanh")(x).T + len(x) * np.eye(len(x))


def _places(count: int, rows: int, step: int) -> np.ndarray:
    """Return row numbers: sorted ones without a step, in no order with one, the last rows unnamed."""
    k = np.arange(count)
    return (k * step % max(rows - 1, 1)) if step else k * max(rows - 1, 1) // count


def _gathered(F: Any, x: Any, step: int) -> Any:
    """Return sums of gathered rows."""
    rows = len(x)
    return F.at(F("zeros_like")(x), _places(2 * rows, rows, step), "add", x[_places(2 * rows, rows, 5)])


def _small_scan(F: Any, x: Any, side: int, reverse: bool) -> Any:
    """Run a linear recurrence whose matrix is the solution of a system, over a few numbers of each row."""
    a = _squares(F, x, side)[0]

    def turn(carry: Any, row: Any) -> tuple[Any, Any]:
        v, m = carry
        new = F("tanh")(m @ v) + row[:1]
        return (new, F("linalg.solve")(a, m.T)), F("sum")(new) * F("max")(m)

    (v, m), totals = F.scan(turn, (F("tanh")(x[0, :side]), a), x, reverse)
    return F("concatenate")([v, F("ravel")(m), totals])


def _wide_scan(F: Any, x: Any, w: Any) -> Any:
    """Run a recurrent network over the rows."""
    def turn(c: Any, row: Any) -> tuple[Any, Any]:
        new = F("tanh")(c @ w.T @ w * 0.1 + row)
        return new, new

    carry, states = F.scan(turn, x[0], x, False)
    return states + carry


WIDE: dict[str, Callable[[Any, Any, Any], Any]] = {
    "product": lambda F, x, w: x @ w,
    "layer": lambda F, x, w: F("maximum")(x @ w + w[0], 0.0),
    "residual": lambda F, x, w: x @ w[:, 0] - x[:, 0],
    "slope": lambda F, x, w: x.T @ (x @ w[:, 0] - x[:, 0]),
    "columns": lambda F, x, w: x.T @ x,
    "pairs of rows": lambda F, x, w: F("tanh")(x) @ x.T,
    "turned product": lambda F, x, w: w.T @ x.T,
    "stacked products": lambda F, x, w: F("stack")([x, x[::-1]]) @ w,
    "bilinear": lambda F, x, w: F("einsum")("ij,jk,ik->i", x, w @ w.T, x),
    "solve 2": lambda F, x, w: F("linalg.solve")(_squares(F, x, 2), _squares(F, x, 2)[:, :, 0:1]),
    "solve 3": lambda F, x, w: F("linalg.solve")(_squares(F, x, 3), _squares(F, x[::-1], 3)),
    "invert 2": lambda F, x, w: F("linalg.inv")(_squares(F, x, 2)),
    "invert 5": lambda F, x, w: F("linalg.inv")(_squares(F, x, 5)),
    "det 3": lambda F, x, w: F("linalg.det")(_squares(F, x, 3)),
    "log det 4": lambda F, x, w: F("linalg.slogdet")(_squares(F, x, 4))[1],
    "factor": lambda F, x, w: F("linalg.cholesky")(_definite(F, x)),
    "system": lambda F, x, w: F("linalg.solve")(_definite(F, x), x),
    "triangle": lambda F, x, w: F("linalg.solve")(F("linalg.cholesky")(_definite(F, x)), x),
    "sums of gathered rows": lambda F, x, w: _gathered(F, x, 3),
    "sorted sums of rows": lambda F, x, w: _gathered(F, x, 0),
    "sums of a column": lambda F, x, w: F.at(w[0, 0] * np.ones(7), _places(len(x), 7, 3), "add", x[:, 0]),
    "extremes by place": lambda F, x, w: F.at(w[:1, 0] * np.ones(5), _places(len(x), 5, 3), "max", x[:, 0]),
    "small scan": lambda F, x, w: _small_scan(F, x, 2, False),
    "small scan back": lambda F, x, w: _small_scan(F, x, 3, True),
    "recurrent": _wide_scan,
    "softmax": lambda F, x, w: F("exp")(x - F("max")(x, axis=-1, keepdims=True)) / F("sum")(
        F("exp")(x - F("max")(x, axis=-1, keepdims=True)), axis=-1, keepdims=True),
    "norm of rows": lambda F, x, w: x / F("sqrt")(F("mean")(x * x, axis=-1, keepdims=True) + 0.1),
    "centred": lambda F, x, w: x - F("mean")(x, axis=0),
    "elementwise": lambda F, x, w: F("sin")(x) * F("exp")(-x * x) + F("log1p")(x * x),
    "running sums": lambda F, x, w: F("cumsum")(x, axis=0) * 0.1 + F("cumsum")(x, axis=-1) * 0.1,
    "order": lambda F, x, w: F("sort")(x, axis=0) - F("sort")(x, axis=-1),
    "turned": lambda F, x, w: x.T,
    "every second": lambda F, x, w: x[::-2],
    "steps": lambda F, x, w: F("cumprod")(1 + 0.01 * F("tanh")(x), axis=0),
    "convolution": lambda F, x, w: F("convolve")(x[:, 0], w[:, 0]),
    "distances": lambda F, x, w: F("sum")((x[:, None] - w.T[None]) ** 2, axis=-1),
}
