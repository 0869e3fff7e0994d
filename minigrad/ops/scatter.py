"""Scatters of maxima and minima. A place without an update holds the identity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from ..combiners import MAX, MIN
from ..graph import ArrayType
from ..primitive import ArrayNamespace, Combiner, Primitive, Sample
from ..symbolic import Shape
from .accumulators import numpy_dtype
from .extremes import extreme_rules
from .index import INDEXED_AXES, _scatter_type, gather, scatter_add, scatter_batch
from .reduce import require_number
from .strict_index import Reading
from .sum_rows import as_read, flat_index


def _extreme(name: str, by: Combiner) -> Primitive:
    def type_rule(u: ArrayType, *indices: ArrayType, shape: Shape) -> ArrayType:
        return _scatter_type(require_number(name, u), *indices, shape=shape)

    def evaluate(xp: ArrayNamespace, u: np.ndarray, *indices: np.ndarray, shape: tuple[int, ...],
                 read: Sequence[Reading] = ()) -> np.ndarray:
        start = by.identity(numpy_dtype(u))
        if xp is np:
            out = np.full(shape, start, u.dtype)
            by.ufunc.at(out, as_read(indices, shape, read), u)
            return out
        # The standard has no scatter: every place compares every update.
        k = len(indices)
        flat = xp.reshape(flat_index(xp, indices, shape), (1, -1, 1))
        places = xp.reshape(xp.arange(math.prod(shape[:k]), dtype=xp.int64), (-1, 1, 1))
        rows = xp.reshape(u, (1, flat.shape[1], math.prod(shape[k:])))
        none = xp.full((1, 1, 1), start, dtype=u.dtype)
        return xp.reshape(getattr(xp, by.name)(xp.where(flat == places, rows, none), axis=1), shape)

    vjp, jvp = extreme_rules(scatter_add, lambda y, u, *indices, shape: gather(y, *indices))
    return Primitive(name, type_rule, evaluate, vjp, jvp, partial(scatter_batch, name), axes=INDEXED_AXES, combiner=by,
                     hidden_params=frozenset({"shape"}), samples=_samples)


def _samples() -> list[Sample]:
    rng = np.random.default_rng(8)
    i, j = np.array([[0, 2], [1, -1]]), np.array([[1, 1], [0, 0]])
    return [Sample((rng.normal(size=(2, 2, 4)), i), {"shape": (3, 4)}),
            Sample((rng.normal(size=5), np.array([0, 1, 1, 0, 2]), np.array([0, 0, 0, 0, 0])), {"shape": (3, 1)}),
            Sample((rng.normal(size=(2, 2)), i, j), {"shape": (3, 4)}, order=0),
            Sample((np.array([5, 3, 8]), np.array([1, 1, 3])), {"shape": (4,)}, order=0)]


scatter_max = _extreme("scatter_max", MAX)
scatter_min = _extreme("scatter_min", MIN)
