"""Means along axes, and the division of a mean into terms that vary along them and terms that do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..axes import REDUCE, along
from ..families import linear
from ..graph import ArrayType, Node
from ..primitive import Primitive, Rewriter, broadcast_axes, require_float, unbroadcast
from ..symbolic import Dim, size_of
from ..tracing import made_by
from .accumulators import accumulator
from .broadcast import Axes, broadcast_along
from .constants import size_scalar
from .differences import is_difference
from .elementwise import cast_to
from .reduce import by_count, reduce_type, reduction_samples


def per_count(x: Node, n: int | Dim | Node) -> Node:
    """Return `x` divided by a count, in the accumulator's dtype: a narrow one may not hold the count."""
    wide = accumulator(x.dtype)
    n = (cast_to(n, wide) if isinstance(n, Node)
         else broadcast_along(size_scalar(n, wide), x.shape, tuple(range(x.ndim))))
    return cast_to(cast_to(x, wide) / n, x.dtype)


def _mean_type(t: ArrayType, *, axes: Axes) -> ArrayType:
    require_float("mean", t)
    return reduce_type("mean")(t, axes=axes)


def _mean_transpose(g: Node, x: Node, *, axes: Axes) -> Node:
    return broadcast_along(per_count(g, size_of(x.shape[a] for a in axes)), x.shape, axes)


def _simpler_mean(s: Rewriter, t: ArrayType, xs: tuple[Node, ...], p: dict[str, Any]) -> Node:
    """Take what does not vary out of the mean; the rest is a sum, divided by the count."""
    with made_by("simplify") as working_on:
        working_on(s.like)
        node = mean(xs[0], axes=p["axes"])
        split = split_mean(node)
        if split is not None:
            return s.absorb(split, node.serial)
    x, wide = xs[0], accumulator(t.dtype)
    x = x if wide == t.dtype else s("cast", x, dtype=wide)
    out = by_count(s, "div", s("sum", x, axes=p["axes"]), size_of(x.shape[a] for a in p["axes"]))
    return out if wide == t.dtype else s("cast", out, dtype=t.dtype)


mean = linear(
    "mean", _mean_type, lambda xp, x, *, axes: xp.mean(x, axis=axes), _mean_transpose,
    axes=along("axes", REDUCE, "mean", kept=False), simplify=_simpler_mean, samples=reduction_samples())


def split_mean(node: Node) -> Node | None:
    """Rewrite a mean of terms of which some do not vary along its axes; None where there is none.

    ``mean(expand(J)) → J`` and ``mean(x + expand(J)) → mean(x) + J``, also behind a factor or a divisor that
    does not vary: a term that is the same for every example is neither counted nor computed once per example.
    A difference stays: ``mean(x - expand(J))`` keeps the digits that ``mean(x) - J`` loses. So does a mean of nothing,
    which is NaN.
    """
    (x,), axes = node.inputs, node.params["axes"]
    if any(x.shape[a] == 0 for a in axes):
        return None
    parts: dict[Node, tuple[Node | None, Node | None]] = {}  # node -> what varies of it, what does not
    for n in _affine_region(x):
        constant = unbroadcast(n, axes) if {*axes} <= {*broadcast_axes(n)} else None
        parts[n] = _split(n, parts) if constant is None else (None, constant)
    varying, constant = parts[x]
    if constant is None:
        return None
    return constant if varying is None else mean(varying, axes=axes) + constant


def _affine_region(x: Node) -> list[Node]:
    """Return, in order, the nodes that `x` is made of by sums, products and quotients."""
    region, stack = {x}, [x]
    while stack:
        n = stack.pop()
        for i in n.inputs if n.prim.name in ("add", "sub", "neg", "mul", "div") else ():
            if i not in region:
                region.add(i)
                stack.append(i)
    return sorted(region, key=lambda n: n.serial)


def _split(n: Node, parts: dict[Node, tuple[Node | None, Node | None]]) -> tuple[Node | None, Node | None]:
    """Return what varies of `n` and what does not, given that of its inputs."""
    name = n.prim.name
    if is_difference(n) and any(parts[i][0] is not None for i in n.inputs):
        return n, None
    if name in ("add", "sub", "neg") and any(parts[i][1] is not None for i in n.inputs):
        return tuple(_combine(n.prim, [parts[i][side] for i in n.inputs]) for side in (0, 1))
    if name in ("mul", "div"):
        for x, factor in (n.inputs, n.inputs[::-1]) if name == "mul" else (n.inputs,):
            varying, constant = parts[x]
            if constant is not None and parts[factor][0] is None:
                return None if varying is None else n.prim(varying, factor), n.prim(constant, parts[factor][1])
    return n, None


def _combine(prim: Primitive, sides: Sequence[Node | None]) -> Node | None:
    if all(s is not None for s in sides):
        return prim(*sides)
    if prim.name == "sub" and sides[0] is None and sides[1] is not None:
        return -sides[1]
    return next((s for s in sides if s is not None), None)
