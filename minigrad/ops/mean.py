"""Means along axes, and their split into varying and unvarying terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..axes import REDUCE, along
from ..families import linear, require_float
from ..graph import ArrayType, Node, Params
from ..primitive import Primitive, Rewriter, broadcast_axes, unbroadcast
from ..symbolic import Dim, size_of
from ..tracing import made_by
from .accumulators import accumulator
from .broadcast import Axes, broadcast_along, make
from .differences import is_difference
from .reduce import by_count, reduce_type, reduction_samples

Terms = tuple[Node | None, Node | None]  # a term that varies along the axes of a mean, and one that does not


def per_count(x: Node, n: int | Dim) -> Node:
    """Divide `x` by a count in the accumulator's dtype, which holds the count."""
    return by_count(make, "div", x, n)


def _mean_transpose(g: Node, x: Node, *, axes: Axes) -> Node:
    return broadcast_along(per_count(g, size_of(x.shape[a] for a in axes)), x.shape, axes)


def _simpler_mean(s: Rewriter, t: ArrayType, xs: tuple[Node, ...], p: Params) -> Node:
    """Take unvarying terms out of the mean, and replace it by a sum divided by the count."""
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
    "mean", reduce_type("mean", check=require_float), lambda xp, x, *, axes: xp.mean(x, axis=axes), _mean_transpose,
    axes=along("axes", REDUCE, "mean", kept=False), simplify=_simpler_mean, samples=reduction_samples)


def split_mean(node: Node) -> Node | None:
    """Take unvarying terms out of a mean; return None if there are none.

    ``mean(expand(J)) → J`` and ``mean(x + expand(J)) → mean(x) + J``, also behind a factor or a divisor that
    does not vary: a term that is the same for every example is neither counted nor computed once per example.
    A difference stays: ``mean(x - expand(J))`` keeps the digits that ``mean(x) - J`` loses. A mean over an empty axis
    stays, too: it is NaN.
    """
    (x,), axes = node.inputs, node.params["axes"]
    if any(x.shape[a] == 0 for a in axes):
        return None
    terms: dict[Node, Terms] = {}
    for n in _affine_region(x):
        constant = unbroadcast(n, axes) if {*axes} <= {*broadcast_axes(n)} else None
        terms[n] = _split(n, terms) if constant is None else (None, constant)
    varying, constant = terms[x]
    if constant is None:
        return None
    return constant if varying is None else mean(varying, axes=axes) + constant


_AFFINE = ("add", "sub", "neg", "mul", "div")


def _affine_region(x: Node) -> list[Node]:
    """Return the nodes that `x` depends on through sums, products and quotients alone."""
    region, stack = {x}, [x]
    while stack:
        n = stack.pop()
        for i in n.inputs if n.prim.name in _AFFINE else ():
            if i not in region:
                region.add(i)
                stack.append(i)
    return sorted(region, key=lambda n: n.serial)


def _split(n: Node, terms: Mapping[Node, Terms]) -> Terms:
    """Return the varying and the unvarying term of `n`, from those of its inputs."""
    name = n.prim.name
    if name not in _AFFINE:
        return n, None
    varying, unvarying = [terms[i][0] for i in n.inputs], [terms[i][1] for i in n.inputs]
    if is_difference(n) and any(v is not None for v in varying):
        return n, None
    if name in ("add", "sub", "neg") and any(u is not None for u in unvarying):
        return _combine(n.prim, varying), _combine(n.prim, unvarying)
    if name in ("mul", "div"):
        for k, other in ((0, 1), (1, 0)) if name == "mul" else ((0, 1),):
            constant, v, factor = unvarying[k], varying[k], unvarying[other]
            if constant is not None and factor is not None and varying[other] is None:
                return None if v is None else n.prim(v, n.inputs[other]), n.prim(constant, factor)
    return n, None


def _combine(prim: Primitive, operands: Sequence[Node | None]) -> Node | None:
    """Apply an addition, subtraction or negation to terms, where None stands for zero."""
    present = [x for x in operands if x is not None]
    if len(present) == len(operands):
        return prim(*present)
    if prim.name == "sub" and operands[0] is None and present:
        return -present[0]
    return present[0] if present else None
