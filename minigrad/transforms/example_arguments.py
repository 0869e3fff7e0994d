"""Arguments of a function over several examples: parts of them, and one example alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import optree

from ..graph import InAxes, PyTree
from .graph_forms import prefix


class ExampleArguments:
    """Arguments for several examples, along axes of arrays.

    Attributes
    ----------
    args : tuple of pytrees
    in_axes : int, None, or a pytree of them
        As in `vmap`.
    parts : list
        The batches and arrays, in order.
    axes : list of int or None
        The axis of the examples in each of them.
    size : int
        The number of examples.
    """

    def __init__(self, args: tuple[PyTree, ...], in_axes: InAxes,
                 is_batch: Callable[[object], bool] = lambda x: False):
        """Take arguments apart; `is_batch` holds of the leaves whose brackets take examples."""
        self.args, self.in_axes, self._is_batch = args, in_axes, is_batch
        tree: PyTree = args
        self.parts: list[PyTree]
        self.parts, self._tree = optree.tree_flatten(tree, is_leaf=is_batch)
        declared = prefix(tuple(in_axes) if isinstance(in_axes, list) else in_axes, self._tree, "in_axes")
        self.axes = [a if a is None or is_batch(p) else range(np.ndim(p))[a]
                      for p, a in zip(self.parts, declared, strict=True)]
        self.size = next(len(p) if is_batch(p) else np.shape(p)[a] for p, a in zip(self.parts, self.axes, strict=True)
                         if a is not None)

    def _with(self, parts: Sequence[PyTree]) -> tuple[PyTree, ...]:
        args: tuple[PyTree, ...] = optree.tree_unflatten(self._tree, parts)  # type: ignore[assignment]  # as flattened
        return args

    def take(self, rows: slice | Sequence[int] | int) -> tuple[PyTree, ...]:
        """Return the arguments for some of the examples, or for one alone."""
        return self._with([p if a is None else p[rows] if self._is_batch(p) else p[(slice(None),) * a + (rows,)]
                           for p, a in zip(self.parts, self.axes, strict=True)])
