"""``expand ⇄ sum``, the one pair that adds and removes axes, and the reductions beside them.

NumPy's broadcasting is an `expand` node, and undoing it in reverse mode is the `sum` that `expand`
has as its adjoint: no other rule knows of broadcasting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..axes import REDUCE, AxisRule, Declared, Order, along, parallel
from ..combiners import ADD, ALL, ANY, ARGMAX, ARGMIN, MAX, MIN, Combiner
from ..errors import DtypeError, at_user_line
from ..families import discrete, linear
from ..graph import ArrayType, Node, constant_of, full
from ..primitive import Laws, Primitive, Rewriter, Sample, broadcast_axes, fail, require_float, unbroadcast
from ..symbolic import Dim, Shape, size_of
from ..tracing import guard_equal_shapes, made_by
from ..views import BY_AXES
from .accumulators import accumulator, summed
from .constants import size_scalar
from .differences import is_difference
from .elementwise import cast_to, eq, mul, neg, power_of_two

Axes = tuple[int, ...]


def _without(shape: Shape, axes: Axes) -> Shape:
    return tuple(n for i, n in enumerate(shape) if i not in axes)


# -- expand ------------------------------------------------------------------------------------------


def _expand_type(t: ArrayType, *, shape: Shape, axes: Axes) -> ArrayType:
    if len(shape) != t.ndim + len(axes) or not guard_equal_shapes(_without(shape, axes), t.shape):
        raise fail("expand", f"does not fit {shape} without its axes {axes}", t)
    return ArrayType(tuple(shape), t.dtype)


def _expand_eval(xp: Any, x: Any, *, shape: Shape, axes: Axes) -> Any:
    x = xp.reshape(x, tuple(1 if i in axes else n for i, n in enumerate(shape)))
    return xp.broadcast_to(x, shape)


def _expand_axes(node: Node) -> AxisRule:
    result = tuple(parallel(node.ndim))
    return AxisRule((_without(result, node.params["axes"]),), (result,))


def _expand_placed(params: Mapping[str, Any], order: Order, size: Any) -> dict[str, Any]:
    shape, axes = params["shape"], params["axes"]
    kept = [a for a in range(len(shape)) if a not in axes]
    left = [a for a in range(len(shape)) if a in axes or kept.index(a) in order]
    return {"shape": (size, *(shape[a] for a in left)), "axes": tuple(left.index(a) + 1 for a in axes)}


def _expand_twice(inner: Mapping[str, Any], outer: Mapping[str, Any]) -> dict[str, Any]:
    kept = [a for a in range(len(outer["shape"])) if a not in outer["axes"]]
    axes = (*outer["axes"], *(kept[a] for a in inner["axes"]))
    return {"shape": outer["shape"], "axes": tuple(sorted(axes))}


expand = linear(
    "expand", _expand_type, _expand_eval, lambda g, x, *, shape, axes: sum_(g, axes=axes),
    axes=Declared(_expand_axes, _expand_placed, lambda p, before, after: not p["axes"]), view=BY_AXES,
    laws=Laws(compose=_expand_twice), hidden_params=frozenset({"shape"}),
    samples=lambda: [Sample((np.array([1.0, 2.0]),), {"shape": (3, 2, 4), "axes": (0, 2)}),
                     Sample((np.array(1.5),), {"shape": (2,), "axes": (0,)})])


def broadcast_along(x: Node, shape: Shape, axes: Axes) -> Node:
    """Return `x` with `axes` of `shape` added; nothing at all where there are none."""
    if not axes:
        return x
    if (value := constant_of(x)) is not None:
        return full(value, shape, x.dtype)
    return expand(x, shape=tuple(shape), axes=tuple(axes))


# -- reductions --------------------------------------------------------------------------------------


def _reduce_type(name: str, result: Callable[[np.dtype], np.dtype] = lambda d: d, empty: bool = True):
    def type_rule(t: ArrayType, *, axes: Axes) -> ArrayType:
        if not all(0 <= a < t.ndim for a in axes) or len(set(axes)) != len(axes):
            raise fail(name, f"no axes {axes}", t)
        if not empty and any(t.shape[a] == 0 for a in axes):
            raise fail(name, "nothing to reduce: the axis is empty", t)
        return ArrayType(_without(t.shape, axes), result(t.dtype))

    return type_rule


def _reduces(by: Combiner, param: str = "axes") -> dict[str, Any]:
    return {"axes": along(param, REDUCE, by.name, kept=False), "combiner": by}


def _reduction_samples(order: int = 2, bools: bool = False):
    def samples() -> list[Sample]:
        x = np.random.default_rng(3).uniform(-2, 2, (3, 4, 2))
        if bools:
            x = x > 0
        return [Sample((x,), {"axes": a}, order=order) for a in ((1,), (0, 2), (0, 1, 2))]

    return samples


def require_number(name: str, t: ArrayType) -> ArrayType:
    """Return `t`, or raise `DtypeError` where it is bool: added as bools, they would make an ``any``."""
    if t.dtype.kind == "b":
        raise DtypeError(at_user_line(f"{name}({t}): bools are not added. Cast them to int64 to count them."))
    return t


def _sum_type(t: ArrayType, *, axes: Axes) -> ArrayType:
    return _reduce_type("sum")(require_number("sum", t), axes=axes)


def reduced_once(s: Rewriter, name: str, x: Node, over: Axes, axes: Axes) -> Node:
    """Reduce `x` over `axes`, those of `over` excepted, along which it repeats."""
    left = tuple(a - sum(o < a for o in over) for a in axes if a not in over)
    x = unbroadcast(x, over, s)
    return s(name, x, axes=left) if left else x


def by_count(s: Rewriter, name: str, x: Node, n: int | Dim) -> Node:
    """Return `x` times (divided by) a count, in the accumulator's dtype."""
    wide, dtype = accumulator(x.dtype), x.dtype
    x = x if wide == dtype else s("cast", x, dtype=wide)
    if isinstance(n, Dim):
        count = s("size", size=n, dtype=wide)
        count = s("expand", count, shape=x.shape, axes=tuple(range(x.ndim))) if x.ndim else count
    else:
        count = s.full(n, x.shape, wide)
    x = s(name, x, count)
    return x if wide == dtype else s("cast", x, dtype=dtype)


def _simpler_sum(s: Rewriter, t: ArrayType, xs: tuple[Node, ...], p: dict[str, Any]) -> Node | None:
    """Count what repeats, take signs and exact factors out, and sum over the axes of two sums at once."""
    (x,), axes = xs, p["axes"]
    if x.prim is neg and t.dtype.kind == "f":
        return s("neg", s("sum", x.inputs[0], axes=axes))
    over = tuple(a for a in sorted(axes) if a in broadcast_axes(x))
    if over:
        return by_count(s, "mul", reduced_once(s, "sum", x, over, axes), size_of(x.shape[a] for a in over))
    if x.prim is mul and t.dtype.kind == "f" and power_of_two(c := constant_of(x.inputs[1])):
        return s("mul", s("sum", x.inputs[0], axes=axes), s.full(c, t.shape, t.dtype))
    if x.prim is sum_ and s.like.prim in (sum_, mean) and s.feeds_one(0):
        kept = [a for a in range(x.inputs[0].ndim) if a not in x.params["axes"]]
        return s("sum", x.inputs[0], axes=tuple(sorted((*x.params["axes"], *(kept[a] for a in axes)))))
    return None


sum_ = linear(
    "sum", _sum_type,
    lambda xp, x, *, axes: summed(xp, x, axes),
    lambda g, x, *, axes: broadcast_along(g, x.shape, axes), **_reduces(ADD), kind="reduce", simplify=_simpler_sum,
    samples=_reduction_samples())


def per_count(x: Node, n: int | Dim | Node) -> Node:
    """Return `x` divided by a count, in the accumulator's dtype: a narrow one may not hold the count."""
    wide = accumulator(x.dtype)
    n = (cast_to(n, wide) if isinstance(n, Node)
         else broadcast_along(size_scalar(n, wide), x.shape, tuple(range(x.ndim))))
    return cast_to(cast_to(x, wide) / n, x.dtype)


def _mean_type(t: ArrayType, *, axes: Axes) -> ArrayType:
    require_float("mean", t)
    return _reduce_type("mean")(t, axes=axes)


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
    axes=along("axes", REDUCE, "mean", kept=False), simplify=_simpler_mean, samples=_reduction_samples())


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


def _extreme(name: str, by: Combiner, of_nothing: bool = False) -> Primitive:
    """Declare max or min: the cotangent is shared equally between the elements that attain it.

    Where that may be of nothing, it is then -inf (inf), or the least (largest) integer.
    """

    def shares(out: Node, x: Node, axes: Axes) -> Node:
        hit = cast_to(eq(x, broadcast_along(out, x.shape, axes)), x.dtype)
        return hit / broadcast_along(sum_(hit, axes=axes), x.shape, axes)

    def evaluate(xp: Any, x: Any, *, axes: Axes) -> Any:
        if of_nothing and 0 in (x.shape[a] for a in axes):
            dtype = np.dtype(str(x.dtype).rsplit(".", 1)[-1])
            return xp.full(_without(x.shape, axes), by.identity(dtype), dtype=x.dtype)
        return getattr(xp, by.name)(x, axis=axes)

    return Primitive(
        name, _reduce_type(name, empty=of_nothing), evaluate,
        vjp=lambda g, out, x, *, axes: [broadcast_along(g, x.shape, axes) * shares(out, x, axes)],
        jvp=lambda ts, out, x, *, axes: sum_(ts[0] * shares(out, x, axes), axes=axes),
        **_reduces(by), kind="other" if of_nothing else "reduce", laws=Laws(idempotent=True),
        samples=_reduction_samples())


max_ = _extreme("max", MAX)
min_ = _extreme("min", MIN)
max_or_least = _extreme("max_or_least", MAX, of_nothing=True)
min_or_largest = _extreme("min_or_largest", MIN, of_nothing=True)


def _truth(name: str, by: Combiner) -> Primitive:
    return discrete(
        name, _reduce_type(name, lambda d: np.dtype(bool)), lambda xp, x, *, axes: getattr(xp, name)(x, axis=axes),
        **_reduces(by), kind="reduce", laws=Laws(idempotent=True), samples=_reduction_samples(0, bools=True))


any_ = _truth("any", ANY)
all_ = _truth("all", ALL)


def _arg(name: str, by: Combiner) -> Primitive:
    """Declare argmax or argmin along one axis: the first of equals, as in NumPy."""

    def type_rule(t: ArrayType, *, axis: int) -> ArrayType:
        return _reduce_type(name, lambda d: np.dtype(np.int64), empty=False)(t, axes=(axis,))

    return discrete(name, type_rule, lambda xp, x, *, axis: getattr(xp, name)(x, axis=axis), **_reduces(by, "axis"),
                    samples=lambda: [Sample((np.random.default_rng(5).normal(size=(3, 4)),), {"axis": a}, order=0)
                                     for a in (0, 1)])


argmax = _arg("argmax", ARGMAX)
argmin = _arg("argmin", ARGMIN)
