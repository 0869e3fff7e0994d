"""simplify: dead and repeated work goes, constants fold, and algebra that is exact is applied.

Each rule keeps the value of every element, NaN and infinity included: there is no ``x * 0 -> 0``. Two
liberties are taken: the sign of a zero may change under ``x + 0``, and ``x**3`` is two products, whose
last bit may differ from `pow`'s.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dims import Dim
from ..graph import PRIMITIVES, Graph, Node
from ..ops import places
from ..ops.accumulators import accumulator
from ..ops.contract import parse
from ..ops.spread import mean as mean_prim
from ..ops.spread import split_mean
from ..tracing import made_by
from . import guard
from .rewrite import Rewrite

Params = dict[str, Any]
Inputs = tuple[Node, ...]


def simplify(graph: Graph) -> Graph:
    """Return an equal graph with less work in it. Checkpointed bodies are inlined."""
    return Rewrite(RULES, simplify, inline=True).graph(graph)


def value_of(node: Node) -> Any:
    """Return the one value of a constant array; None for every other node."""
    return node.params["value"] if node.prim.name == "full" else None


def without(shape: Any, axes: Any) -> tuple:
    """Return `shape` without `axes`."""
    return tuple(n for i, n in enumerate(shape) if i not in axes)


# -- elementwise: constants and spread values --------------------------------------------------------


def _fold(name: str):
    """``f(constants)`` is a constant; ``f`` of values that repeat along common axes repeats along them."""
    return lambda s, t, xs, p: _folded(s, name, t, xs, p)


def _folded(s: Rewrite, name: str, t: Any, xs: Inputs, p: Params) -> Node | None:
    common: set[int] | None = None
    for x in xs:
        kind = x.prim.name
        if kind == "expand":
            common = set(x.params["axes"]) if common is None else common & set(x.params["axes"])
        elif kind != "full":
            return None
        if common is not None and not common:
            return None
    if common is None:
        prim = PRIMITIVES[name]
        if t.dtype.kind in "iu" and name in ("pow", "floor_divide", "mod"):
            return None  # these may raise, which is the program's to do
        if name in places.NAMES:
            return None  # so may these
        with np.errstate(all="ignore"):
            known = prim.eval(np, *(np.asarray(x.params["value"], x.dtype) for x in xs), **p)
            return s.full(known[()], t.shape, t.dtype)
    axes = tuple(sorted(common))
    return s("expand", s(name, *(_drop(s, x, axes) for x in xs), **p), shape=t.shape, axes=axes)


def _drop(s: Rewrite, x: Node, axes: tuple[int, ...]) -> Node:
    """Return a spread value without some of the axes that it repeats along."""
    shape = without(x.shape, axes)
    if x.prim.name == "full":
        return s.full(x.params["value"], shape, x.dtype)
    kept = [a for a in range(x.ndim) if a not in axes]
    left = tuple(i for i, a in enumerate(kept) if a in x.params["axes"])
    return s("expand", x.inputs[0], shape=shape, axes=left) if left else x.inputs[0]


def _is(x: Node, value: float) -> bool:
    return x.prim.name == "full" and x.params["value"] == value


def _lift_const(s: Rewrite, value: Any, like: Node) -> Node:
    return s.full(value, like.shape, like.dtype)


def _power_of_two(c: float) -> bool:
    return c != 0 and math.isfinite(c) and abs(math.frexp(c)[0]) == 0.5 and abs(math.frexp(c)[1]) <= 24


def _add(s: Rewrite, t: Any, xs: Inputs, p: Params) -> Node | None:
    x, y = xs
    if _is(y, 0):
        return x
    if _is(x, 0):
        return y
    if x is y:
        return s("mul", x, _lift_const(s, 2, x))
    if y.prim.name == "neg":
        return s("sub", x, y.inputs[0])
    if x.prim.name == "neg":
        return s("sub", y, x.inputs[0])
    return None


def _sub(s: Rewrite, t: Any, xs: Inputs, p: Params) -> Node | None:
    x, y = xs
    if _is(y, 0):
        return x
    return s("add", x, y.inputs[0]) if y.prim.name == "neg" else None


def _mul(s: Rewrite, t: Any, xs: Inputs, p: Params) -> Node | None:
    x, y = xs
    if x is y:
        return s("square", x)
    if x.prim.name == "full":
        x, y = y, x
    c = value_of(y)
    if c is not None:
        if c == 1:
            return x
        if c == -1 and t.dtype.kind in "if":
            return s("neg", x)
        if x.prim.name == "neg":
            return s("mul", x.inputs[0], _lift_const(s, -c, y)) if t.dtype.kind == "f" else None
        if x.prim.name == "mul" and t.dtype.kind == "f":
            inner = value_of(x.inputs[1])
            if inner is not None and (_power_of_two(c) or _power_of_two(inner)):
                return s("mul", x.inputs[0], _lift_const(s, c * inner, y))
        return s("mul", x, y) if (x, y) != xs else None
    for row, z in (xs, xs[::-1]) if t.dtype.kind == "f" else ():
        if row.prim.name == "expand" and z.prim.name == "mul":
            # A factor for each row takes the constant one: there are fewer rows than elements.
            c = value_of(z.inputs[1])
            if c is not None and _power_of_two(c):
                factor = s("mul", row.inputs[0], _lift_const(s, c, row.inputs[0]))
                return s("mul", z.inputs[0], s("expand", factor, **row.params))
    if x.prim.name == "neg":
        return s("mul", x.inputs[0], y.inputs[0]) if y.prim.name == "neg" else s("neg", s("mul", x.inputs[0], y))
    return s("neg", s("mul", x, y.inputs[0])) if y.prim.name == "neg" else None


def _div(s: Rewrite, t: Any, xs: Inputs, p: Params) -> Node | None:
    x, y = xs
    c = value_of(y)
    if c is not None and _power_of_two(c):
        return s("mul", x, _lift_const(s, 1 / c, y))
    if x.prim.name == "neg" and t.dtype.kind == "f":
        return s("neg", s("div", x.inputs[0], y))
    return None


def _neg(s: Rewrite, t: Any, xs: Inputs, p: Params) -> Node | None:
    (x,) = xs
    if x.prim.name == "neg":
        return x.inputs[0]
    if x.prim.name == "mul" and t.dtype.kind == "f" and (c := value_of(x.inputs[1])) is not None:
        return s("mul", x.inputs[0], _lift_const(s, -c, x))
    return None


def _pow(s: Rewrite, t: Any, xs: Inputs, p: Params) -> Node | None:
    x, y = xs
    c = value_of(y)
    if c == 1:
        return x
    if c == 2:
        return s("square", x)
    if c == 0:
        return s.full(1, t.shape, t.dtype)
    if t.dtype.kind != "f":
        return None
    if c == 3:
        return s("mul", x, s("square", x))
    if c == 4:
        return s("square", s("square", x))
    return s("div", s.full(1, t.shape, t.dtype), x) if c == -1 else None


def _same(s: Rewrite, t: Any, xs: Inputs, p: Params) -> Node | None:
    """``m and m``, ``m or m``."""
    return xs[0] if xs[0] is xs[1] else None


def _not(s: Rewrite, t: Any, xs: Inputs, p: Params) -> Node | None:
    """The opposite of equal is different, NaN included; that of less is not greater or equal, because of NaN."""
    (x,) = xs
    if x.prim.name == "logical_not":
        return x.inputs[0]
    opposite = {"eq": "ne", "ne": "eq"}.get(x.prim.name)
    return s(opposite, *x.inputs) if opposite else None


def _where(s: Rewrite, t: Any, xs: Inputs, p: Params) -> Node | None:
    c, x, y = xs
    known = value_of(c)
    if known is not None:
        return x if known else y
    if x is y:
        return x
    # The partial of maximum is 1, 1/2 (a tie) or 0: half the sum of two comparisons, in one byte each.
    top, strict = value_of(x), {"gt": "ge", "lt": "le"}.get(c.prim.name)
    if top and strict and t.dtype.kind == "f" and y.prim.name == "where":
        tie, half, bottom = y.inputs
        if (tie.prim.name == "eq" and tie.inputs in (c.inputs, c.inputs[::-1]) and value_of(half) == top / 2
                and value_of(bottom) == 0):
            ones = (s("cast", b, dtype=np.dtype(np.int8)) for b in (c, s(strict, *c.inputs)))
            return s("mul", s("cast", s("add", *ones), dtype=t.dtype), half)
    return None


def _cast(s: Rewrite, t: Any, xs: Inputs, p: Params) -> Node | None:
    (x,), to = xs, p["dtype"]
    if x.dtype == to:
        return x
    if x.prim.name == "cast":
        first = x.inputs[0]
        long = first.dtype.itemsize == 8 and first.dtype.kind in "iu"  # not exact as a float64, whatever NumPy says
        exact = np.can_cast(first.dtype, x.dtype, "safe") and not long
        return s("cast", first, dtype=to) if exact else None
    if x.prim.name == "where" and all(_chosen_constant(i) for i in x.inputs[1:]):
        return s("where", x.inputs[0], *(s("cast", i, dtype=to) for i in x.inputs[1:]))
    if x.prim.name == "mul" and x.inputs[0].prim.name == "cast" and x.dtype.kind == to.kind == "f":
        # A factor times a small count: exact in either precision where the factor is a power of two.
        count, c = x.inputs[0].inputs[0], value_of(x.inputs[1])
        if c is not None and _power_of_two(c) and count.dtype.itemsize == 1:
            return s("mul", s("cast", count, dtype=to), s.full(c, t.shape, to))
    return None


def _chosen_constant(x: Node) -> bool:
    return x.prim.name == "full" or (x.prim.name == "where" and all(i.prim.name == "full" for i in x.inputs[1:]))


# -- spread and reductions -----------------------------------------------------------------------------


def _expand(s: Rewrite, t: Any, xs: Inputs, p: Params) -> Node | None:
    (x,), axes = xs, p["axes"]
    if not axes:
        return x
    if x.prim.name == "full":
        return s.full(x.params["value"], t.shape, t.dtype)
    if x.prim.name == "expand":
        kept = [a for a in range(t.ndim) if a not in axes]
        inner = tuple(kept[a] for a in x.params["axes"])
        return s("expand", x.inputs[0], shape=t.shape, axes=tuple(sorted((*axes, *inner))))
    return None


def _sum(s: Rewrite, t: Any, xs: Inputs, p: Params) -> Node | None:
    (x,), axes = xs, p["axes"]
    if not axes:
        return x
    if x.prim.name == "neg" and t.dtype.kind == "f":
        return s("neg", s("sum", x.inputs[0], axes=axes))
    if t.dtype.kind == "b":
        return None
    over = set(axes) if x.prim.name == "full" else set(axes) & set(x.params["axes"]) if x.prim.name == "expand" else ()
    if over:
        rest = _reduced_spread(s, "sum", x, tuple(sorted(over)), axes)
        return _by_count(s, "mul", rest, x.shape, over)
    if (x.prim.name == "mul" and t.dtype.kind == "f" and (c := value_of(x.inputs[1])) is not None
            and _power_of_two(c)):
        return s("mul", s("sum", x.inputs[0], axes=axes), s.full(c, t.shape, t.dtype))
    if x.prim.name == "sum" and s.like.prim.name in ("sum", "mean") and s.feeds_one(0):
        kept = [a for a in range(x.inputs[0].ndim) if a not in x.params["axes"]]
        return s("sum", x.inputs[0], axes=tuple(sorted((*x.params["axes"], *(kept[a] for a in axes)))))
    return _reduce(s, t, xs, p, "sum")


def _count(s: Rewrite, shape: Any, axes: Any, t: Any) -> Node:
    n: Any = 1
    for a in axes:
        n = n * shape[a]
    if not isinstance(n, Dim):
        return s.full(n, t.shape, t.dtype)
    count = s("size", size=n, dtype=t.dtype)
    return s("expand", count, shape=t.shape, axes=tuple(range(t.ndim))) if t.ndim else count


def _by_count(s: Rewrite, name: str, x: Node, shape: Any, axes: Any) -> Node:
    """Return `x` times (divided by) the number of elements along `axes`, in the accumulator's dtype."""
    wide = accumulator(x.dtype)
    if wide == x.dtype:
        return s(name, x, _count(s, shape, axes, x))
    x, dtype = s("cast", x, dtype=wide), x.dtype
    return s("cast", s(name, x, _count(s, shape, axes, x)), dtype=dtype)


def _reduced_spread(s: Rewrite, name: str, x: Node, over: tuple[int, ...], axes: tuple[int, ...]) -> Node:
    """Reduce `x`, which repeats along `over`, over the rest of `axes`."""
    left = tuple(a - sum(o < a for o in over) for a in axes if a not in over)
    x = _drop(s, x, over)
    return s(name, x, axes=left) if left else x


def _reduce(s: Rewrite, t: Any, xs: Inputs, p: Params, name: str) -> Node | None:
    """A reduction of a value that repeats along other axes repeats along them."""
    (x,), axes = xs, p["axes"]
    if x.prim.name != "expand":
        return None
    apart = tuple(a for a in x.params["axes"] if a not in axes)
    if not apart:
        return None
    kept = [a for a in range(x.ndim) if a not in axes]
    inner = _drop(s, x, apart)
    lowered = tuple(a - sum(o < a for o in apart) for a in axes)
    return s("expand", s(name, inner, axes=lowered), shape=t.shape, axes=tuple(kept.index(a) for a in apart))


def _idempotent(name: str):
    def rule(s: Rewrite, t: Any, xs: Inputs, p: Params) -> Node | None:
        (x,), axes = xs, p["axes"]
        if not axes:
            return x if name in ("max", "min") or x.dtype.kind == "b" else None
        if x.prim.name == "expand" and t.dtype == x.dtype:
            over = tuple(a for a in axes if a in x.params["axes"])
            if over and all(isinstance(x.shape[a], int) and x.shape[a] > 0 for a in over):
                return _reduced_spread(s, name, x, over, axes)
        return _reduce(s, t, xs, p, name)

    return rule


def _mean(s: Rewrite, t: Any, xs: Inputs, p: Params) -> Node | None:
    with made_by("simplify") as working_on:
        working_on(s.like)
        node = mean_prim(xs[0], axes=p["axes"])
        split = split_mean(node)
        if split is not None:
            return s.absorb(split, node.serial)
    x, wide = xs[0], accumulator(t.dtype)
    x = x if wide == t.dtype else s("cast", x, dtype=wide)
    mean = _by_count(s, "div", s("sum", x, axes=p["axes"]), x.shape, p["axes"])
    return mean if wide == t.dtype else s("cast", mean, dtype=t.dtype)


# -- layout ----------------------------------------------------------------------------------------------


def _of_full(s: Rewrite, t: Any, xs: Inputs, p: Params) -> Node | None:
    return s.full(xs[0].params["value"], t.shape, t.dtype) if xs[0].prim.name == "full" else None


def _transpose(s: Rewrite, t: Any, xs: Inputs, p: Params) -> Node | None:
    (x,), perm = xs, p["perm"]
    if perm == tuple(range(len(perm))):
        return x
    if x.prim.name == "transpose":
        return s("transpose", x.inputs[0], perm=tuple(x.params["perm"][a] for a in perm))
    if x.prim.name == "expand":
        axes = x.params["axes"]
        kept = [a for a in range(x.ndim) if a not in axes]
        order = tuple(kept.index(a) for a in perm if a not in axes)
        moved = tuple(i for i, a in enumerate(perm) if a in axes)
        return s("expand", s("transpose", x.inputs[0], perm=order), shape=t.shape, axes=moved)
    if x.prim.name == "reshape" and _moves_only_ones(x.shape, perm):
        return s("reshape", x.inputs[0], shape=t.shape)
    return _of_full(s, t, xs, p)


def _moves_only_ones(shape: Any, perm: Any) -> bool:
    big = [a for a in perm if shape[a] != 1]
    return big == sorted(big)


def _reshape(s: Rewrite, t: Any, xs: Inputs, p: Params) -> Node | None:
    (x,) = xs
    if x.shape == t.shape:
        return x
    if x.prim.name == "reshape":
        return s("reshape", x.inputs[0], shape=t.shape)
    if x.prim.name == "expand" and not x.inputs[0].ndim:
        return s("expand", x.inputs[0], shape=t.shape, axes=tuple(range(t.ndim)))
    if x.prim.name == "expand" and all(x.shape[a] == 1 for a in x.params["axes"]):
        return s("reshape", x.inputs[0], shape=t.shape)
    return _of_full(s, t, xs, p)


def _slice(s: Rewrite, t: Any, xs: Inputs, p: Params) -> Node | None:
    return xs[0] if t.shape == xs[0].shape else _of_full(s, t, xs, p)


def _pad(s: Rewrite, t: Any, xs: Inputs, p: Params) -> Node | None:
    if t.shape == xs[0].shape:
        return xs[0]
    return s.full(0, t.shape, t.dtype) if value_of(xs[0]) == 0 else None


def _flip(s: Rewrite, t: Any, xs: Inputs, p: Params) -> Node | None:
    (x,), axes = xs, p["axes"]
    if not axes:
        return x
    if x.prim.name == "flip":
        both = set(x.params["axes"]) ^ set(axes)
        return s("flip", x.inputs[0], axes=tuple(sorted(both)))
    return _of_full(s, t, xs, p)


# -- contractions ------------------------------------------------------------------------------------------


def _einsum(s: Rewrite, t: Any, xs: Inputs, p: Params) -> Node | None:
    """Operands that repeat along an axis, or are transposed, are taken as what they are."""
    terms, out = parse(p["subscripts"])
    if len(xs) == 1:
        return s("transpose", xs[0], perm=tuple(terms[0].index(c) for c in out))
    if t.dtype.kind == "b":
        return None
    for i, x in enumerate(xs):
        if x.prim.name == "transpose":
            term = ["" for _ in terms[i]]
            for letter, a in zip(terms[i], x.params["perm"], strict=True):
                term[a] = letter
            terms[i] = "".join(term)
            return _contraction(s, [*xs[:i], x.inputs[0], *xs[i + 1:]], terms, out)
        if x.prim.name in ("expand", "full") and x.ndim:
            axes = x.params["axes"] if x.prim.name == "expand" else tuple(range(x.ndim))
            return _without_repeats(s, t, list(xs), list(terms), out, i, axes)
        if not x.ndim and len(xs) == 2:
            other = 1 - i
            rest = s("transpose", xs[other], perm=tuple(terms[other].index(c) for c in out))
            factor = s("expand", x, shape=t.shape, axes=tuple(range(t.ndim)))
            return s("mul", rest, factor)
    return None


def _without_repeats(s: Rewrite, t: Any, xs: list[Node], terms: list[str], out: str, i: int, axes: Any) -> Node:
    x, term = xs[i], terms[i]
    letters = [term[a] for a in axes]
    xs[i], terms[i] = _drop(s, x, tuple(axes)), "".join(c for c in term if c not in letters)
    scale: Any = 1
    added = []
    for c in letters:
        n = x.shape[term.index(c)]
        holders = [j for j, u in enumerate(terms) if c in u]
        if c in out:
            if not holders:
                added.append(c)
        elif not holders:
            scale = scale * n
        elif len(holders) == 1:
            (j,) = holders
            a = terms[j].index(c)
            xs[j] = s("sum", xs[j], axes=(a,))
            terms[j] = terms[j].replace(c, "")
    result = _contraction(s, xs, terms, "".join(c for c in out if c not in added))
    if added:
        result = s("expand", result, shape=t.shape, axes=tuple(out.index(c) for c in added))
    return result if scale == 1 else _by_count(s, "mul", result, (scale,), (0,))


def _contraction(s: Rewrite, xs: list[Node], terms: list[str], out: str) -> Node:
    return s("einsum", *xs, subscripts=",".join(terms) + "->" + out)


# -- the table ------------------------------------------------------------------------------------------------


def _held(name: str):
    """Simplify the graphs that a node holds."""

    def rule(s: Rewrite, t: Any, xs: Inputs, p: Params) -> Node | None:
        fresh = [g for v in p.values() for g in (v if isinstance(v, tuple) else (v,))
                 if isinstance(g, Graph) and s.held.get(g) is not g]
        if not fresh:
            return None
        for g in fresh:
            if g not in s.held:
                s.held[g] = guard.guarded(s.inner, g)
                s.held[s.held[g]] = s.held[g]

        def now(v: Any) -> Any:
            return tuple(map(now, v)) if isinstance(v, tuple) else s.held[v] if isinstance(v, Graph) else v

        return s(name, *xs, **{k: now(v) for k, v in p.items()})

    return rule


_SPECIAL = {
    "add": _add, "sub": _sub, "mul": _mul, "div": _div, "neg": _neg, "pow": _pow, "where": _where,
    "logical_and": _same, "logical_or": _same, "logical_not": _not, "cast": _cast,
    "stop_gradient": lambda s, t, xs, p: xs[0], "expand": _expand, "sum": _sum, "mean": _mean,
    "max": _idempotent("max"), "min": _idempotent("min"), "any": _idempotent("any"), "all": _idempotent("all"),
    "transpose": _transpose, "reshape": _reshape, "slice": _slice, "pad": _pad, "flip": _flip,
    "concatenate": lambda s, t, xs, p: xs[0] if len(xs) == 1 else None, "einsum": _einsum}


class _Rules(dict):
    """The rules of each primitive, found when it is first met."""

    def __missing__(self, name: str) -> tuple:
        special = (_SPECIAL[name],) if name in _SPECIAL else ()
        if PRIMITIVES[name].kind == "elementwise" and name != "stop_gradient":
            special = (_fold(name), *special)
        elif not special and name not in ("input", "full", "const"):
            special = (_held(name),)
        self[name] = special
        return special


RULES = _Rules()
