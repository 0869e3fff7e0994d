"""Operations that move elements: reshape, transpose, ``slice ⇄ pad``, concatenate, flip."""

from __future__ import annotations

import operator
from collections.abc import Callable

import numpy as np

from ..axes import PARALLEL, PERMUTED, AxisRule, Declared, Factor, Order, along, parallel
from ..errors import DtypeError, at_user_line
from ..families import linear
from ..graph import PRIMITIVES, ArrayType, Node, Params, constant_of
from ..primitive import IN_ORDER, ArrayNamespace, Laws, Primitive, Rewriter, Sample, fail, move_axis
from ..symbolic import Dim, Shape, format_shape, size_of
from ..tracing import guard_equal, number
from ..views import BY_AXES, along_each
from .broadcast import expand
from .common_factors import factorised
from .constants import size_scalar
from .strict_index import checked, place

Axes = tuple[int, ...]


def require_axes(name: str, t: ArrayType, *axes: int) -> ArrayType:
    """Return `t`, or raise `ShapeError` unless `axes` are different axes of it."""
    if not all(0 <= a < t.ndim for a in axes) or len(set(axes)) != len(axes):
        raise fail(name, f"no axes {axes}", t)
    return t


def _x(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape)


# -- reshape -------------------------------------------------------------------------------------------


def _reshape_type(t: ArrayType, *, shape: Shape) -> ArrayType:
    if not guard_equal(size_of(shape), t.size):
        raise fail("reshape", f"{t.size} elements do not fit {format_shape(shape)}", t)
    return ArrayType(tuple(shape), t.dtype)


def _reshape_axes(node: Node) -> AxisRule:
    before, after = factorised(node.inputs[0].shape, node.shape)
    return AxisRule((before,), (after,))


def _simpler_reshape(s: Rewriter, t: ArrayType, xs: tuple[Node, ...], p: Params) -> Node | None:
    """Expand a scalar to the new shape; reshape in place of adding axes of one element."""
    (x,) = xs
    if x.prim is not expand:
        return None
    if not x.inputs[0].ndim:
        return s("expand", x.inputs[0], shape=t.shape, axes=tuple(range(t.ndim)))
    return s("reshape", x.inputs[0], shape=t.shape) if all(x.shape[a] == 1 for a in x.params["axes"]) else None


reshape: Primitive = linear(
    "reshape", _reshape_type, lambda xp, x, *, shape: xp.reshape(x, shape),
    lambda g, x, *, shape: reshape(g, shape=x.shape),
    axes=Declared(_reshape_axes, lambda p, order, size: {"shape": (size, *p["shape"])},
                  lambda p, before, after: before == after), view=IN_ORDER,
    laws=Laws(compose=lambda inner, outer: outer), simplify=_simpler_reshape,
    hidden_params=frozenset({"shape"}), samples=lambda: [Sample((_x(2, 3),), {"shape": (3, 2)})])

# -- transpose -----------------------------------------------------------------------------------------


def _transpose_type(t: ArrayType, *, perm: Axes) -> ArrayType:
    if sorted(perm) != list(range(t.ndim)):
        raise fail("transpose", f"{perm} is not an order of its axes", t)
    return ArrayType(tuple(t.shape[a] for a in perm), t.dtype)


def _transpose_axes(node: Node) -> AxisRule:
    axes = parallel(node.ndim)
    return AxisRule((tuple(axes),), (tuple(axes[a] for a in node.params["perm"]),))


def _simpler_transpose(s: Rewriter, t: ArrayType, xs: tuple[Node, ...], p: Params) -> Node | None:
    """Transpose before expanding; moving axes of one element is a reshape."""
    (x,), perm = xs, p["perm"]
    if x.prim is expand:
        axes = x.params["axes"]
        kept = [a for a in range(x.ndim) if a not in axes]
        order = tuple(kept.index(a) for a in perm if a not in axes)
        moved = tuple(i for i, a in enumerate(perm) if a in axes)
        return s("expand", s("transpose", x.inputs[0], perm=order), shape=t.shape, axes=moved)
    long = [a for a in perm if x.shape[a] != 1]
    if x.prim is reshape and long == sorted(long):
        return s("reshape", x.inputs[0], shape=t.shape)
    return None


transpose: Primitive = linear(
    "transpose", _transpose_type, lambda xp, x, *, perm: xp.permute_dims(x, perm),
    lambda g, x, *, perm: transpose(g, perm=tuple(int(a) for a in np.argsort(perm))),
    axes=Declared(_transpose_axes, lambda p, order, size: {
        "perm": (0, *(order.index(a) for a in p["perm"] if a in order))},
        lambda p, before, after: p["perm"] == tuple(range(len(before)))), view=BY_AXES,
    laws=Laws(compose=lambda inner, outer: {"perm": tuple(inner["perm"][a] for a in outer["perm"])}),
    simplify=_simpler_transpose,
    samples=lambda: [Sample((_x(2, 3, 4),), {"perm": (2, 0, 1)})])


# -- slice ⇄ pad ---------------------------------------------------------------------------------------


def _per_axis(**neutral: object) -> Declared:
    """Declare an operation whose parameters have one entry per axis: `neutral` ones leave the axis as it is.

    A neutral entry of None is the size of the operand's axis.
    """
    def rule(node: Node) -> AxisRule:
        (x,) = node.inputs
        still = [all(node.params[p][a] == (n if entry is None else entry) for p, entry in neutral.items())
                 for a, n in enumerate(x.shape)]
        axes = tuple((Factor(PARALLEL if s else PERMUTED),) for s in still)
        return AxisRule((axes,), (axes,))

    def placed(params: Params, order: Order, size: int | Dim) -> Params:
        return {p: tuple(entries[a] if a is not None else size if neutral[p] is None else neutral[p] for a in order)
                for p, entries in params.items()}

    return Declared(rule, placed, lambda params, before, after: before == after)


def _extent(n: int, gap: int) -> int:
    """Return the length of `n` elements with `gap` places between neighbours."""
    return n + max(n - 1, 0) * gap


def _slice_type(t: ArrayType, *, start: Axes, stop: Shape, step: Axes) -> ArrayType:
    shape = []
    for n, a, b, s in zip(t.shape, start, stop, step, strict=True):
        if (a, s) == (0, 1) and b == n:
            shape.append(n)
        elif isinstance(b, Dim) or not (0 <= a <= b <= number(n) and s >= 1):
            raise fail("slice", f"[{a}:{b}:{s}] does not fit an axis of {n}", t)
        else:
            shape.append(-((a - b) // s))
    return ArrayType(tuple(shape), t.dtype)


def _slice_transpose(g: Node, x: Node, *, start: Axes, stop: Axes, step: Axes) -> Node:
    high = tuple(0 if n == m else number(n) - a - _extent(number(m), s - 1)
                 for n, m, a, s in zip(x.shape, g.shape, start, step, strict=True))
    return pad(g, low=start, high=high, interior=tuple(s - 1 for s in step))


def _brackets(node: Node, value: Callable[[object], str]) -> str:
    """Return the parameters of a slice as NumPy spells them: ``[:, 1:5:2]``."""
    p = node.params
    words = []
    for n, a, b, s in zip(node.inputs[0].shape, p["start"], p["stop"], p["step"], strict=True):
        stop = "" if b == n else value(b)
        words.append((value(a) if a else "") + ":" + stop + (f":{s}" if s != 1 else ""))
    return f"[{', '.join(words)}]"


slice_ = linear(
    "slice", _slice_type,
    lambda xp, x, *, start, stop, step: x[tuple(map(slice, start, stop, step))] if start else x,
    _slice_transpose, axes=_per_axis(start=0, stop=None, step=1),
    view=along_each(lambda shape, *, start, stop, step: (start, step)),
    printed=lambda node, operands, value: operands[0] + _brackets(node, value), drawn=_brackets,
    samples=lambda: [Sample((_x(5, 4),), {"start": (1, 0), "stop": (5, 4), "step": (2, 1)}),
                     Sample((_x(5),), {"start": (2,), "stop": (2,), "step": (1,)})])


def _pad_type(t: ArrayType, *, low: Axes, high: Axes, interior: Axes) -> ArrayType:
    shape = []
    for n, a, b, i in zip(t.shape, low, high, interior, strict=True):
        if min(a, b, i) < 0:
            raise fail("pad", f"({a}, {b}, {i}) does not fit an axis of {n}", t)
        shape.append(n if (a, b, i) == (0, 0, 0) else a + _extent(number(n), i) + b)
    return ArrayType(tuple(shape), t.dtype)


def _pad_eval(xp: ArrayNamespace, x: np.ndarray, *, low: Axes, high: Axes, interior: Axes) -> np.ndarray:
    ends = [a + _extent(n, i) for n, a, i in zip(x.shape, low, interior, strict=True)]
    out = xp.zeros(tuple(map(operator.add, ends, high)), dtype=x.dtype)
    out[tuple(slice(a, end, i + 1) for a, end, i in zip(low, ends, interior, strict=True))] = x
    return out


def _pad_transpose(g: Node, x: Node, *, low: Axes, high: Axes, interior: Axes) -> Node:
    stop = tuple(n if (a, b, i) == (0, 0, 0) else a + _extent(number(m), i)
                 for n, m, a, b, i in zip(g.shape, x.shape, low, high, interior, strict=True))
    return slice_(g, start=low, stop=stop, step=tuple(i + 1 for i in interior))


pad = linear(
    "pad", _pad_type, _pad_eval, _pad_transpose, axes=_per_axis(low=0, high=0, interior=0),
    simplify=lambda s, t, xs, p: s.full(0, t.shape, t.dtype) if constant_of(xs[0]) == 0 else None,
    samples=lambda: [Sample((_x(3, 2),), {"low": (1, 0), "high": (2, 0), "interior": (1, 0)}),
                     Sample((_x(0),), {"low": (1,), "high": (2,), "interior": (1,)})])

# -- concatenate, flip ---------------------------------------------------------------------------------


def _concatenate_type(*types: ArrayType, axis: int) -> ArrayType:
    first = require_axes("concatenate", types[0], axis)
    total: int | Dim = 0
    for t in types:
        if t.dtype != first.dtype:
            raise DtypeError(at_user_line(f"concatenate({', '.join(map(str, types))}): dtypes differ"))
        if t.ndim != first.ndim or not all(
                guard_equal(n, m) for i, (n, m) in enumerate(zip(t.shape, first.shape, strict=True)) if i != axis):
            raise fail("concatenate", f"shapes differ beside axis {axis}", *types)
        total = total + t.shape[axis]
    return ArrayType((*first.shape[:axis], total, *first.shape[axis + 1:]), first.dtype)


def _concatenate_transpose(g: Node, *xs: Node, axis: int) -> list[Node]:
    if len(xs) == 1:
        return [g]
    back: list[Node] = []
    begin: int | Dim = 0
    for x in xs:
        back.append(section(g, axis, begin, x.shape[axis]))
        begin = begin + x.shape[axis]
    return back


def section(x: Node, axis: int, begin: int | Dim, n: int | Dim) -> Node:
    """Return `n` elements along an axis from `begin` on; if its size is symbolic, a gather."""
    if isinstance(x.shape[axis], int) and not isinstance(begin, Dim) and not isinstance(n, Dim):
        start = tuple(begin if i == axis else 0 for i in range(x.ndim))
        stop = tuple(begin + n if i == axis else m for i, m in enumerate(x.shape))
        return slice_(x, start=start, stop=stop, step=(1,) * x.ndim)
    index = PRIMITIVES["iota"](size=n)
    index = index + expand(size_scalar(begin, index.dtype), shape=(n,), axes=(0,))
    if isinstance(begin, Dim):  # it may be negative, which would count from the end
        index = checked(place, index, x.shape[axis])
    return move_axis(PRIMITIVES["gather"](move_axis(x, axis, 0), index), 0, axis)


concatenate = linear(
    "concatenate", _concatenate_type, lambda xp, *xs, axis: xp.concat(xs, axis=axis),
    _concatenate_transpose, axes=along("axis", PERMUTED), operands=None, picks=slice(None),
    simplify=lambda s, t, xs, p: xs[0] if len(xs) == 1 else None,
    samples=lambda: [Sample((_x(2, 3), _x(1, 3)), {"axis": 0}), Sample((_x(2, 1), _x(2, 2), _x(2, 3)), {"axis": 1})])

flip: Primitive = linear(
    "flip", lambda t, *, axes: require_axes("flip", t, *axes), lambda xp, x, *, axes: xp.flip(x, axis=axes),
    lambda g, x, *, axes: flip(g, axes=axes),
    axes=along("axes", PERMUTED), view=along_each(lambda shape, *, axes: (
        [n - 1 if a in axes else 0 for a, n in enumerate(shape)], [-1 if a in axes else 1 for a in range(len(shape))])),
    params={"axes": Axes},
    laws=Laws(compose=lambda inner, outer: {"axes": tuple(sorted({*inner["axes"]} ^ {*outer["axes"]}))}),
    samples=lambda: [Sample((_x(3, 2),), {"axes": (0,)}), Sample((_x(3, 2),), {"axes": (0, 1)})])
