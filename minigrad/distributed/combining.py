"""The results of a batch from those of its sections: sums added up in their order, rows end to end."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from types import EllipsisType

import numpy as np

from ..backends import Ready
from ..graph import Node
from ..ops.accumulators import Chains, accumulator
from ..ops.control import section_of
from ..ops.cuts import Span, along
from ..symbolic import Dim


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
        for k, v in enumerate(values):
            self._add(k, v, span)

    def take_last(self, run: Callable[[Ready], Sequence[np.ndarray]], span: Span, ready: Ready) -> None:
        """Add the results of the last section of several; ``ready(k, total)`` is called for those that `run` announces.

        ``run(announce)`` returns the results, and calls ``announce(k, result)`` when one is written.
        """
        announced: set[int] = set()

        def announce(k: int, value: np.ndarray) -> None:
            self._add(k, value, span)
            announced.add(k)
            ready(k, self._result(k))

        for k, v in enumerate(run(announce)):
            if k not in announced:
                self._add(k, v, span)

    def results(self) -> list[np.ndarray]:
        """Return the results of all sections, in memory of their own."""
        return [self._result(k) for k in range(len(self._axes))]

    def _add(self, k: int, value: np.ndarray, span: Span) -> None:
        """Add one result of a section."""
        if (axis := self._axes[k]) is None:
            self._sums[k].take(np.asarray(value, accumulator(self._outputs[k].dtype)))
        else:
            self._rows[k][self._place(k, axis, span)] = value

    def _result(self, k: int) -> np.ndarray:
        if self._axes[k] is not None:
            return self._rows[k]
        return np.array(self._sums[k].total(), self._outputs[k].dtype, copy=self._alone or None)

    def _room(self, k: int, axis: int | None, value: np.ndarray) -> np.ndarray:
        """Return an array for the rows of all sections."""
        if axis is None:
            return np.empty(0)
        n = self._outputs[k].shape[axis]
        rows = section_of(self._whole, n).stop if isinstance(n, Dim) else n
        return np.empty((*value.shape[:axis], rows, *value.shape[axis + 1:]), value.dtype)

    def _place(self, k: int, axis: int, span: Span) -> tuple[slice | EllipsisType, ...]:
        """Return where the rows of a section lie in result `k`."""
        n = self._outputs[k].shape[axis]
        return along(axis, section_of(span, n) if isinstance(n, Dim) else slice(None))
