"""Calls of a fused function block by block, so that the memory of each block stays in the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

ROWS, WHOLE, SCRATCH, PARTS = "rows", "whole", "scratch", "parts"


class Blocks(NamedTuple):
    """The blocks of one call.

    Attributes
    ----------
    spans : sequence of (int, int)
        First row and end of each block.
    modes : sequence of str
        The kind of each argument: ``rows`` (each block takes its own), ``whole``, ``scratch`` (memory for one block),
        or ``parts`` (the result of a reduction over all rows).
    parts : sequence of (numpy.ufunc, numpy.ndarray)
        For each argument of the last kind, the combiner and the memory of the blocks' results.
    """

    spans: Sequence[tuple[int, int]]
    modes: Sequence[str]
    parts: Sequence[tuple[np.ufunc, np.ndarray]]

    def run(self, f: Callable[..., None], args: Sequence[np.ndarray]) -> None:
        """Call `f` for each block, and combine the parts."""
        for k, (lo, hi) in enumerate(self.spans):
            own = iter(self.parts)
            f(*[a[lo:hi] if mode == ROWS else a[:hi - lo] if mode == SCRATCH else a if mode == WHOLE
                else next(own)[1][k, ...] for a, mode in zip(args, self.modes, strict=True)])
        results = [a for a, mode in zip(args, self.modes, strict=True) if mode == PARTS]
        for out, (ufunc, parts) in zip(results, self.parts, strict=True):
            ufunc.reduce(parts, axis=0, out=out)


def in_blocks(blocks: Blocks | None, f: Callable[..., None], *args: np.ndarray) -> None:
    """Call ``f(*args)`` block by block, or at once where `blocks` is None."""
    if blocks is None:
        f(*args)
    else:
        blocks.run(f, args)
