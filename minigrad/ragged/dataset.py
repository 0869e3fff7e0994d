"""Datasets that answer an array of indices with a batch: packed in memory, of equal shapes, or on disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import optree

from ..errors import BatchError, at_user_line


class Arrays:
    """A pytree of arrays as a dataset: axis 0 counts the examples."""

    def __init__(self, tree: Any):
        leaves, self._structure = optree.tree_flatten(tree)
        self._leaves = [np.asarray(x) for x in leaves]
        lengths = {x.shape[0] if x.ndim else None for x in self._leaves}
        if len(lengths) != 1 or None in lengths:
            shapes = ", ".join(str(x.shape) for x in self._leaves) or "there is no array"
            raise BatchError(at_user_line("a dataset of arrays: axis 0 counts the examples, so it is there in each and "
                                          f"of one length; the shapes are {shapes}"))
        self._length = lengths.pop()

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, indices: np.ndarray) -> Any:
        """Return those examples, in new arrays."""
        return optree.tree_unflatten(self._structure, [x.take(indices, axis=0) for x in self._leaves])


def as_dataset(data: Any) -> Any:
    """Return `data` with a length, and answering an array of indices with a batch."""
    if isinstance(data, (tuple, list, dict, np.ndarray)) or not hasattr(type(data), "__getitem__"):
        return Arrays(data)
    return data


def sizes_of(dataset: Any) -> Mapping[Any, np.ndarray]:
    """Return the number of rows of every example on each ragged axis."""
    return {axis: np.diff(offsets) for axis, offsets in getattr(dataset, "offsets", {}).items()}
