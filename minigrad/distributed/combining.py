"""The results of a batch from those of its sections: sums added up in their order, rows end to end."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from types import EllipsisType

import numpy as np

from ..graph import Node
from ..ops.accumulators import Chains, accumulator
from ..ops.control import section_of
from ..ops.cuts import Span
from ..symbolic import Dim

Index = tuple[slice | EllipsisType, ...]


def along(axis: int, section: slice) -> Index:
    """Return the index of a section along an axis."""
    return (*(slice(None),) * axis, section, ...)


class Combining:
    """The results of consecutive sections, which are taken one after the other and then no longer needed.

    Parameters
    ----------
    outputs : sequence of Node
        The results of a section.
    axes : sequence of (int or None)
        The axis of each with rows; None for sums.
    spans : sequence of Span
        The sections, from the first row to the last.
    """

    def __init__(self, outputs: Sequence[Node], axes: Sequence[int | None], spans: Sequence[Span]):
        self._outputs, self._axes = outputs, axes
        self._whole, self._alone = (spans[0][0], spans[-1][1]), len(spans) == 1
        self._sums: list[Chains[np.ndarray]] = [Chains(operator.add) for _ in axes]
        self._rows: list[np.ndarray] = []

    def take(self, values: Sequence[np.ndarray], span: Span) -> None:
        """Add the results of the next section."""
        if not self._rows:
            self._rows = [self._room(k, axis, v) for k, (v, axis) in enumerate(zip(values, self._axes, strict=True))]
        for k, (v, axis, o) in enumerate(zip(values, self._axes, self._outputs, strict=True)):
            if axis is None:
                self._sums[k].take(np.asarray(v, accumulator(o.dtype)))
            else:
                self._rows[k][self._place(k, axis, span)] = v

    def results(self) -> list[np.ndarray]:
        """Return the results of all sections, in memory of their own."""
        return [np.array(s.total(), o.dtype, copy=self._alone or None) if axis is None else rows
                for s, rows, axis, o in zip(self._sums, self._rows, self._axes, self._outputs, strict=True)]

    def _room(self, k: int, axis: int | None, value: np.ndarray) -> np.ndarray:
        """Return an array for the rows of all sections."""
        if axis is None:
            return np.empty(0)
        n = self._outputs[k].shape[axis]
        rows = section_of(self._whole, n).stop if isinstance(n, Dim) else n
        return np.empty((*value.shape[:axis], rows, *value.shape[axis + 1:]), value.dtype)

    def _place(self, k: int, axis: int, span: Span) -> Index:
        """Return where the rows of a section lie in result `k`."""
        n = self._outputs[k].shape[axis]
        return along(axis, section_of(span, n) if isinstance(n, Dim) else slice(None))
