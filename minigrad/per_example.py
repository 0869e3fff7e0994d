"""What people ask of per-example gradients, each written as its definition.

These are functions of arrays like any other: nothing here knows a layer or a hook. Compiled, they cost about
what one mean gradient does, because the pass `factorize` sees that the gradients are only squared, scaled and
added up, and never forms them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optree

from .transforms.grad import Argnums
from .transforms.pickling import picklable
from .transforms.vmap import per_example_grad

__all__ = ["clipped_mean", "gram", "noise_scale", "norms", "squared_norms"]


@picklable
def squared_norms(f: Callable[..., Any], argnums: Argnums = 0, in_axes: Any = 0) -> Callable[..., Any]:
    """Return the function that computes ``‖∇f_b‖²`` for every example b: shape (B,)."""
    gradients = per_example_grad(f, argnums, in_axes)

    def compute(*args: Any) -> Any:
        return sum((g**2).sum(axis=tuple(range(1, g.ndim))) for g in optree.tree_leaves(gradients(*args)))

    return compute


@picklable
def norms(f: Callable[..., Any], argnums: Argnums = 0, in_axes: Any = 0) -> Callable[..., Any]:
    """Return the function that computes ``‖∇f_b‖`` for every example b: shape (B,)."""
    squares = squared_norms(f, argnums, in_axes)
    return lambda *args: np.sqrt(squares(*args))


@picklable
def clipped_mean(f: Callable[..., Any], bound: Any, argnums: Argnums = 0, in_axes: Any = 0) -> Callable[..., Any]:
    """Return the function that averages the gradients, each scaled down to norm `bound` where it is longer.

    That is the sum of DP-SGD (Abadi et al., 2016), divided by the number of examples; the result has the pytree
    of argument `argnums`.
    """
    gradients, squares = per_example_grad(f, argnums, in_axes), squared_norms(f, argnums, in_axes)

    def compute(*args: Any) -> Any:
        factor = np.minimum(1.0, bound / np.sqrt(squares(*args)))
        return optree.tree_map(
            lambda g: (g * factor.reshape(-1, *(1,) * (g.ndim - 1))).mean(axis=0), gradients(*args))

    return compute


@picklable
def gram(f: Callable[..., Any], argnums: Argnums = 0, in_axes: Any = 0) -> Callable[..., Any]:
    """Return the function that computes ``⟨∇f_b, ∇f_c⟩`` for all pairs of examples: shape (B, B).

    For a scalar model f that is its empirical neural tangent kernel (Jacot et al., 2018).
    """
    gradients = per_example_grad(f, argnums, in_axes)

    def compute(*args: Any) -> Any:
        rows = [g.reshape(g.shape[0], -1) for g in optree.tree_leaves(gradients(*args))]
        return sum(r @ r.T for r in rows)

    return compute


@picklable
def noise_scale(f: Callable[..., Any], argnums: Argnums = 0, in_axes: Any = 0) -> Callable[..., Any]:
    """Return the function that estimates the simple noise scale ``tr Σ / ‖G‖²`` of McCandlish et al. (2018).

    Σ is the covariance of the per-example gradients and G their expectation; both are estimated from the
    batch without bias. A batch of about this many examples is where a larger one begins to pay less.
    """
    gradients, squares = per_example_grad(f, argnums, in_axes), squared_norms(f, argnums, in_axes)

    def compute(*args: Any) -> Any:
        each = squares(*args)
        n = each.size
        of_mean = sum((g.mean(axis=0) ** 2).sum() for g in optree.tree_leaves(gradients(*args)))
        trace = (each.mean() - of_mean) * (n / (n - 1.0))
        return trace / (of_mean - trace / n)

    return compute


def __dir__() -> list[str]:
    return __all__
