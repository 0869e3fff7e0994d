"""Arguments of a function over several examples, with batches among them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import optree

from ..graph import InAxes, PyTree
from .batch import Batch, is_batch


class PackedArguments:
    """Arguments for several examples of different size.

    Attributes
    ----------
    args : tuple of pytrees
    in_axes : int, None, or a pytree of them
        As in `vmap`.
    size : int
        The number of examples.
    """

    def __init__(self, args: tuple[PyTree, ...], in_axes: InAxes):
        self.args, self.in_axes = args, in_axes
        tree: PyTree = args
        self._parts: list[PyTree]  # the batches and arrays
        self._parts, self._tree = optree.tree_flatten(tree, is_leaf=is_batch)
        axes: PyTree = tuple(in_axes) if isinstance(in_axes, list) else in_axes
        whole: PyTree = optree.tree_unflatten(self._tree, [0] * len(self._parts))
        self._axes: list[int | None] = optree.broadcast_prefix(axes, whole, none_is_leaf=True)
        self.size = next(len(p) if is_batch(p) else np.shape(p)[a] for p, a in zip(self._parts, self._axes, strict=True)
                         if a is not None)

    def _with(self, parts: Sequence[PyTree]) -> tuple[PyTree, ...]:
        args: tuple[PyTree, ...] = optree.tree_unflatten(self._tree, parts)  # type: ignore[assignment]  # as flattened
        return args

    def take(self, rows: slice | Sequence[int] | int) -> tuple[PyTree, ...]:
        """Return the arguments for some of the examples, or for one alone."""
        return self._with([p if a is None else p[rows] if is_batch(p) else np.asarray(p)[(slice(None),) * a + (rows,)]
                           for p, a in zip(self._parts, self._axes, strict=True)])

    def batches(self) -> list[Batch]:
        """Return the mapped batches."""
        return [p for p, a in zip(self._parts, self._axes, strict=True) if is_batch(p) and a is not None]
