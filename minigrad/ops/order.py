"""Operations that depend on order along an axis: cumulative sums, sorting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import Unsupported
from ..graph import ArrayType, Node
from ..primitive import Primitive, Sample, linear
from .accumulators import running
from .index import take_along_axis
from .layout import flip, require_axes
from .spread import require_number


def _samples(order: int = 2):
    def samples() -> list[Sample]:
        x = np.random.default_rng(4).permutation(12.0 * np.arange(1, 13)).reshape(3, 4) / 40
        return [Sample((x,), {"axis": a}, order=order) for a in (0, 1)]

    return samples


def _reverse_cumsum(g: Node, axis: int) -> Node:
    return flip(cumsum(flip(g, axes=(axis,)), axis=axis), axes=(axis,))


cumsum = linear(
    "cumsum", lambda t, *, axis: require_axes("cumsum", require_number("cumsum", t), axis),
    lambda xp, x, *, axis: running(xp, x, axis),
    lambda g, x, *, axis: _reverse_cumsum(g, axis),
    lambda size, mapped, x, *, axis: cumsum(x, axis=axis + 1), params={"axis": int}, samples=_samples())


def _argsort_type(t: ArrayType, *, axis: int) -> ArrayType:
    return ArrayType(require_axes("argsort", t, axis).shape, np.dtype(np.int64))


def _argsort_batch(size: Any, mapped: Sequence[bool], x: Node, *, axis: int) -> Node:
    return argsort(x, axis=axis + 1)


argsort = Primitive(
    "argsort", _argsort_type,
    lambda xp, x, *, axis: np.argsort(x, axis=axis, kind="stable") if xp is np else xp.argsort(x, axis=axis),
    vjp=lambda g, out, x, *, axis: [None], jvp=Unsupported("its values are integers"), batch=_argsort_batch,
    samples=_samples(0))


def sort(x: Node, axis: int) -> Node:
    """Return `x` sorted along an axis: ties keep their order, and gradients follow the elements."""
    return take_along_axis(x, argsort(x, axis=axis), axis)
