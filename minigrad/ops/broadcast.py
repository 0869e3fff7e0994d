"""`expand`, the operation that adds axes: its adjoint is `sum`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from ..axes import AxisRule, Declared, Order, parallel
from ..families import linear
from ..graph import PRIMITIVES, ArrayType, Node, Params, constant_of, full
from ..primitive import ArrayNamespace, Laws, Sample, fail
from ..symbolic import Dim, Shape
from ..tracing import guard_equal_shapes
from ..views import BY_AXES

Axes = tuple[int, ...]
T = TypeVar("T")


def without(entries: Sequence[T], axes: Axes) -> tuple[T, ...]:
    """Return the entries of the other axes."""
    return tuple(n for i, n in enumerate(entries) if i not in axes)


def _expand_type(t: ArrayType, *, shape: Shape, axes: Axes) -> ArrayType:
    if len(shape) != t.ndim + len(axes) or not guard_equal_shapes(without(shape, axes), t.shape):
        raise fail("expand", f"does not fit {shape} without its axes {axes}", t)
    return ArrayType(tuple(shape), t.dtype)


def _expand_eval(xp: ArrayNamespace, x: np.ndarray, *, shape: Shape, axes: Axes) -> np.ndarray:
    x = xp.reshape(x, tuple(1 if i in axes else n for i, n in enumerate(shape)))
    return xp.broadcast_to(x, shape)


def _expand_axes(node: Node) -> AxisRule:
    result = tuple(parallel(node.ndim))
    return AxisRule((without(result, node.params["axes"]),), (result,))


def _expand_placed(params: Params, order: Order, size: int | Dim) -> Params:
    shape, axes = params["shape"], params["axes"]
    kept = [a for a in range(len(shape)) if a not in axes]
    left = [a for a in range(len(shape)) if a in axes or kept.index(a) in order]
    return {"shape": (size, *(shape[a] for a in left)), "axes": tuple(left.index(a) + 1 for a in axes)}


def _expand_twice(inner: Params, outer: Params) -> Params:
    kept = [a for a in range(len(outer["shape"])) if a not in outer["axes"]]
    axes = (*outer["axes"], *(kept[a] for a in inner["axes"]))
    return {"shape": outer["shape"], "axes": tuple(sorted(axes))}


expand = linear(
    "expand", _expand_type, _expand_eval, lambda g, x, *, shape, axes: PRIMITIVES["sum"](g, axes=axes),
    axes=Declared(_expand_axes, _expand_placed, lambda p, before, after: not p["axes"]), view=BY_AXES,
    laws=Laws(compose=_expand_twice), hidden_params=frozenset({"shape"}),
    samples=lambda: [Sample((np.array([1.0, 2.0]),), {"shape": (3, 2, 4), "axes": (0, 2)}),
                     Sample((np.array(1.5),), {"shape": (2,), "axes": (0,)})])


def make(name: str, *inputs: Node, **params: object) -> Node:
    """Return a node of the primitive called `name`, as the rewriter of a pass does."""
    return PRIMITIVES[name](*inputs, **params)


def broadcast_along(x: Node, shape: Shape, axes: Axes) -> Node:
    """Return `x` with `axes` of `shape` added; nothing at all where there are none."""
    if not axes:
        return x
    if (value := constant_of(x)) is not None:
        return full(value, shape, x.dtype)
    return expand(x, shape=tuple(shape), axes=tuple(axes))
