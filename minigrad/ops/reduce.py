"""Reductions: sums, extremes and their positions, truth of all or any elements."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from ..axes import REDUCE, along
from ..combiners import ADD, ALL, ANY, ARGMAX, ARGMIN, MAX, MIN
from ..errors import DtypeError, at_user_line
from ..families import discrete, linear
from ..graph import PRIMITIVES, ArrayType, Node, Params, constant_of, note_read
from ..primitive import ArrayNamespace, Combiner, Laws, Primitive, Rewriter, Sample, broadcast_axes, fail, unbroadcast
from ..symbolic import Dim, differs, size_of
from .accumulators import accumulator, numpy_dtype, summed
from .broadcast import Axes, broadcast_along, without
from .elementwise import mul, neg, power_of_two
from .extremes import extreme_rules


def reduce_type(name: str, result: Callable[[np.dtype], np.dtype] = lambda d: d, empty: bool = True,
                check: Callable[[str, ArrayType], object] = lambda name, t: None) -> Callable[..., ArrayType]:
    """Return the type rule of a reduction; `empty` allows empty axes, and `check` raises errors of dtypes."""
    def type_rule(t: ArrayType, *, axes: Axes) -> ArrayType:
        check(name, t)
        if not all(0 <= a < t.ndim for a in axes) or len(set(axes)) != len(axes):
            raise fail(name, f"no axes {axes}", t)
        if not empty and any(t.shape[a] == 0 for a in axes):
            raise fail(name, "nothing to reduce: the axis is empty", t)
        if not empty and any(differs(t.shape[a]) for a in axes):
            note_read()
        return ArrayType(without(t.shape, axes), result(t.dtype))

    return type_rule


def _reduces(by: Combiner, param: str = "axes") -> Params:
    return {"axes": along(param, REDUCE, by.name, kept=False), "combiner": by}


def reduction_samples(order: int = 2, bools: bool = False) -> list[Sample]:
    """Return samples with one, two and all axes reduced."""
    x = np.random.default_rng(3).uniform(-2, 2, (3, 4, 2))
    return [Sample((x > 0 if bools else x,), {"axes": a}, order=order) for a in ((1,), (0, 2), (0, 1, 2))]


def require_number(name: str, t: ArrayType) -> ArrayType:
    """Return `t`, or raise `DtypeError` for bools: their sum would be ``any``."""
    if t.dtype.kind == "b":
        raise DtypeError(at_user_line(f"{name}({t}): bools are not added. Cast them to int64 to count them."))
    return t


def reduced_once(s: Rewriter, name: str, x: Node, over: Axes, axes: Axes) -> Node:
    """Reduce `x` over `axes`, those of `over` excepted, along which it repeats."""
    left = tuple(a - sum(o < a for o in over) for a in axes if a not in over)
    x = unbroadcast(x, over, s)
    return s(name, x, axes=left) if left else x


def by_count(s: Callable[..., Node], name: str, x: Node, n: int | Dim) -> Node:
    """Return `x` times (divided by) a count, in the accumulator's dtype."""
    wide, dtype = accumulator(x.dtype), x.dtype
    x = x if wide == dtype else s("cast", x, dtype=wide)
    if isinstance(n, Dim):
        count = s("size", size=n, dtype=wide)
        count = s("expand", count, shape=x.shape, axes=tuple(range(x.ndim))) if x.ndim else count
    else:
        count = s("full", value=wide.type(n).item(), shape=x.shape, dtype=wide)
    x = s(name, x, count)
    return x if wide == dtype else s("cast", x, dtype=dtype)


def _simpler_sum(s: Rewriter, t: ArrayType, xs: tuple[Node, ...], p: Params) -> Node | None:
    """Multiply for repeated terms, take signs and exact factors out, and merge two sums."""
    (x,), axes = xs, p["axes"]
    if x.prim is neg and t.dtype.kind == "f":
        return s("neg", s("sum", x.inputs[0], axes=axes))
    over = tuple(a for a in sorted(axes) if a in broadcast_axes(x))
    if over:
        return by_count(s, "mul", reduced_once(s, "sum", x, over, axes), size_of(x.shape[a] for a in over))
    if x.prim is mul and t.dtype.kind == "f" and power_of_two(c := constant_of(x.inputs[1])):
        return s("mul", s("sum", x.inputs[0], axes=axes), s.full(c, t.shape, t.dtype))
    if x.prim is sum_ and s.like.prim in (sum_, PRIMITIVES["mean"]) and s.feeds_one(0):
        kept = [a for a in range(x.inputs[0].ndim) if a not in x.params["axes"]]
        return s("sum", x.inputs[0], axes=tuple(sorted((*x.params["axes"], *(kept[a] for a in axes)))))
    return None


sum_ = linear(
    "sum", reduce_type("sum", check=require_number),
    lambda xp, x, *, axes: summed(xp, x, axes),
    lambda g, x, *, axes: broadcast_along(g, x.shape, axes), **_reduces(ADD), kind="reduce", simplify=_simpler_sum,
    samples=reduction_samples)


def _extreme(name: str, by: Combiner, of_nothing: bool = False) -> Primitive:
    """Declare max or min; `of_nothing` allows empty axes, with the identity as result."""

    def evaluate(xp: ArrayNamespace, x: np.ndarray, *, axes: Axes) -> np.ndarray:
        if of_nothing and 0 in (x.shape[a] for a in axes):
            return xp.full(without(x.shape, axes), by.identity(numpy_dtype(x)), dtype=x.dtype)
        reduction: Callable[..., np.ndarray] = getattr(xp, by.name)
        return reduction(x, axis=axes)

    vjp, jvp = extreme_rules(sum_, lambda y, x, *, axes: broadcast_along(y, x.shape, axes))
    return Primitive(
        name, reduce_type(name, empty=of_nothing), evaluate, vjp, jvp, **_reduces(by),
        kind="other" if of_nothing else "reduce", laws=Laws(idempotent=True), samples=reduction_samples)


max_ = _extreme("max", MAX)
min_ = _extreme("min", MIN)
max_or_least = _extreme("max_or_least", MAX, of_nothing=True)
min_or_largest = _extreme("min_or_largest", MIN, of_nothing=True)


def greatest(x: Node, axes: Axes) -> Node:
    """Return the maximum over axes; the least number of the dtype over axes that have no elements."""
    sizes = [x.shape[a] for a in axes]
    empty = any(s.rows for n in sizes if isinstance(n, Dim) for s in n.symbols) or 0 in sizes
    return (max_or_least if empty else max_)(x, axes=axes)


def _truth(name: str, by: Combiner) -> Primitive:
    return discrete(
        name, reduce_type(name, lambda d: np.dtype(bool)), lambda xp, x, *, axes: getattr(xp, name)(x, axis=axes),
        **_reduces(by), kind="reduce", laws=Laws(idempotent=True), samples=partial(reduction_samples, 0, bools=True))


any_ = _truth("any", ANY)
all_ = _truth("all", ALL)


def _arg(name: str, by: Combiner) -> Primitive:
    """Declare argmax or argmin along one axis: the first of equals, as in NumPy."""

    def type_rule(t: ArrayType, *, axis: int) -> ArrayType:
        return reduce_type(name, lambda d: np.dtype(np.int64), empty=False)(t, axes=(axis,))

    return discrete(name, type_rule, lambda xp, x, *, axis: getattr(xp, name)(x, axis=axis), **_reduces(by, "axis"),
                    samples=lambda: [Sample((np.random.default_rng(5).normal(size=(3, 4)),), {"axis": a}, order=0)
                                     for a in (0, 1)])


argmax = _arg("argmax", ARGMAX)
argmin = _arg("argmin", ARGMIN)
