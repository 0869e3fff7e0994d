"""Running a program on one chunk of the examples after the other: what `microbatch` becomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..dims import Symbol, value
from ..graph import Node


class Chunks:
    """The evaluation of one `chunked` node for one set of sizes: only one chunk's temporaries exist at a time."""

    def __init__(self, program: Any, node: Node, sizes: Mapping[Symbol, int]):
        p = node.params
        self._program, self._in_axes, self._out_axes = program, p["in_axes"], p["out_axes"]
        total, size = value(p["total"], sizes), value(p["size"], sizes)
        self._spans = [(lo, min(lo + size, total)) for lo in range(0, total, size)]
        self._sizes = [{**sizes, p["dim"].symbol: hi - lo} for lo, hi in self._spans]
        self._types = [(tuple(value(n, sizes) for n in t.shape), t.dtype) for t in node.type.parts]

    def __call__(self, *xs: np.ndarray) -> tuple[np.ndarray, ...]:
        results: list[Any] = [None if axis is None else np.empty(*t)
                              for t, axis in zip(self._types, self._out_axes, strict=True)]
        for (lo, hi), sizes in zip(self._spans, self._sizes, strict=True):
            cut = slice(lo, hi)
            own = [x if axis is None else x[(slice(None),) * axis + (cut,)]
                   for x, axis in zip(xs, self._in_axes, strict=True)]
            for i, (made, axis) in enumerate(zip(self._program(own, sizes), self._out_axes, strict=True)):
                if axis is not None:
                    results[i][(slice(None),) * axis + (cut,)] = made
                elif results[i] is None:
                    results[i] = made
                else:
                    np.add(results[i], made, out=results[i])
        return tuple(np.zeros(*t) if r is None else r for t, r in zip(self._types, results, strict=True))
