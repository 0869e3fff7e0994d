"""Programs with large products, with and without the pass `factorize`: operations, bytes and time.

The last rows are programs that offer it nothing, and that it must not slow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optree

import minigrad as mg
from minigrad.report.flops import count_operations

from . import harness, mlp
from .memory import peak

rng = np.random.default_rng(0)


def _normal(*shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32) / np.float32(np.sqrt(shape[-1]))


def logits(p: Any, x: Any) -> Any:
    """Return the output of a small network."""
    return np.tanh(x @ p["W"]) @ p["V"]


def gauss_newton(p: Any, x: Any) -> Any:
    """Return the diagonal of the generalised Gauss-Newton matrix of the cross-entropy."""
    j = mg.vmap(mg.jacobian(logits), in_axes=(None, 0))(p, x)
    z = mg.vmap(logits, in_axes=(None, 0))(p, x)
    q = np.exp(z - z.max(axis=1, keepdims=True))
    q = q / q.sum(axis=1, keepdims=True)
    h = np.einsum("bc,cd->bcd", q, np.eye(z.shape[1], dtype=z.dtype)) - np.einsum("bc,bd->bcd", q, q)
    return {k: np.einsum("bcij,bcd,bdij->ij", j[k], h, j[k]) for k in j}


def embedding(table: Any, index: Any) -> Any:
    """Return the squared norm of each example's gradient of an embedding."""
    g = mg.per_example_grad(lambda e, i: (np.tanh(e[i]).sum(axis=0) ** 2).sum(), in_axes=(None, 0))(table, index)
    return (g**2).sum(axis=(1, 2))


def positions(w: Any, x: Any) -> Any:
    """Return the squared norm of each example's gradient of weights that are shared over positions."""
    g = mg.per_example_grad(lambda w, x: np.tanh(x @ w).sum(), in_axes=(None, 0))(w, x)
    return (g**2).sum(axis=(1, 2))


def kernel(p: Any, x: Any) -> Any:
    """Return the tangent kernel of a network's first output, one gradient vector per example."""
    g = mg.per_example_grad(lambda p, x: logits(p, x)[0], in_axes=(None, 0))(p, x)
    rows = np.concatenate([v.reshape(x.shape[0], -1) for v in g.values()], axis=1)
    return rows @ rows.T


NETWORK = {"W": _normal(256, 128), "V": _normal(128, 10)}
FOUND: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "tangent kernel, 128 examples": (kernel, (NETWORK, _normal(128, 256))),
    "diagonal Gauss-Newton, 64 examples": (gauss_newton, (NETWORK, _normal(64, 256))),
    "gradient norms, shared over 8 positions": (positions, (_normal(256, 256), _normal(64, 8, 256))),
    "gradient norms, embedding of 5,000 words": (embedding, (_normal(5000, 64), rng.integers(0, 5000, (64, 16)))),
    "quadratic forms of outer products": (
        lambda s, z: mg.vmap(lambda z: np.sum(np.outer(z, z) * s))(z), (_normal(128, 128), _normal(500, 128))),
    "product with a low-rank matrix": (
        lambda u, v, y: (u @ v) @ y, (_normal(2000, 8), _normal(8, 2000), _normal(2000))),
    "Frobenius norm of a low-rank matrix": (lambda u, v: ((u @ v) ** 2).sum(), (_normal(2000, 8), _normal(8, 2000))),
}
NOTHING: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "value and gradient of the MLP": (
        mg.value_and_grad(mg.mean_loss(mlp.loss, in_axes=(None, 0, 0))), mlp.data(128)),
    "Mahalanobis distances": (
        lambda s, z: mg.vmap(lambda z: z @ np.linalg.solve(s, z))(z), (np.eye(32, dtype=np.float32), _normal(500, 32))),
    "pairwise distances (a difference, not multiplied out)": (
        lambda a: ((a[:, None] - a[None]) ** 2).sum(axis=-1), (_normal(200, 16),)),
}


def run(quick: bool) -> harness.Result:
    """Measure each program with and without the pass."""
    cases, targets, notes = [], [], {}
    for name, (f, args) in (FOUND | NOTHING).items():
        programs = {"with factorize": mg.compile(f), "without": mg.compile(f, without=("factorize", "split_sums"))}
        calls = {label: (lambda p=p, args=args: p(*args)) for label, p in programs.items()}
        for call in calls.values():
            call()
        case = harness.Case.of(name, "ms", "with factorize", harness.race(calls, 3 if quick else 15))
        cases.append(case)
        operations, bytes_ = [], []
        for label, without in (("with", ()), ("without", ("factorize", "split_sums"))):
            entry = programs["with factorize" if label == "with" else label].entries[0]
            shapes = [np.shape(x) for x in optree.tree_leaves(args)]
            graph = next(s.before for s in entry.stages if s.name == "fuse")
            operations.append(count_operations(graph, entry.sizes(shapes)))
            bytes_.append(peak(lambda f=f, w=without: mg.compile(f, without=w), args))
        notes[name] = (f"operations {operations[1]:,} became {operations[0]:,}; peak memory "
                       f"{bytes_[1] / 1e6:.2f} MB became {bytes_[0] / 1e6:.2f} MB")
        targets.append(harness.Target(f"{name}: time without it over time with it", case.ratio("without"),
                                      1 if name in FOUND else 0.9))
    return harness.Result(cases, targets, notes)


if __name__ == "__main__":
    harness.main("algebra", run)
