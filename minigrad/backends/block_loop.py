"""Running a fused function block by block, so that what it touches stays in the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ROWS, WHOLE, SCRATCH, PARTS = "rows", "whole", "scratch", "parts"


@dataclass(frozen=True)
class Blocks:
    """The blocks of one call.

    Attributes
    ----------
    spans : sequence of (int, int)
        First row and end of each block.
    modes : sequence of str
        What each argument is: ``rows`` (each block takes its own), ``whole``, ``scratch`` (room for one block), or
        ``parts`` (the result of a reduction over all rows).
    parts : sequence of (numpy.ufunc, numpy.ndarray)
        For each argument of the last kind, what combines the blocks' results, and where they are kept until then.
    """

    spans: Sequence[tuple[int, int]]
    modes: Sequence[str]
    parts: Sequence[tuple[np.ufunc, np.ndarray]]

    def run(self, f: Callable[..., None], args: Sequence[Any]) -> None:
        for k, (lo, hi) in enumerate(self.spans):
            own = iter(self.parts)
            f(*[a[lo:hi] if mode == ROWS else a[:hi - lo] if mode == SCRATCH else a if mode == WHOLE
                else next(own)[1][k, ...] for a, mode in zip(args, self.modes, strict=True)])
        results = [a for a, mode in zip(args, self.modes, strict=True) if mode == PARTS]
        for out, (ufunc, parts) in zip(results, self.parts, strict=True):
            ufunc.reduce(parts, axis=0, out=out)


def in_blocks(blocks: Blocks | None, f: Callable[..., None], *args: Any) -> None:
    """Call ``f(*args)``, at once where `blocks` is None."""
    if blocks is None:
        f(*args)
    else:
        blocks.run(f, args)
