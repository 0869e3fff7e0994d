"""Simplification: constant folding, common subexpressions, and exact algebra.

Each rule keeps the value of every element, NaN and infinity included: ``x * 0 -> 0`` is not a rule. Two exceptions: the
sign of a zero may change under ``x + 0``, and ``x**3`` is two products, whose last bit may differ from `pow`'s.

The rules here follow from the declarations of primitives: their laws, their kind, and their axis rules. A rule for one
operation stands beside that operation (`Primitive.simplify`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from ..graph import ArrayType, Graph, Node, Params, constant_of
from ..ops.broadcast import expand
from ..ops.constants import full
from ..ops.reduce import reduced_once
from ..ops.subgraph import with_graphs
from ..primitive import Primitive, Rewriter, unbroadcast
from ..symbolic import Shape
from .keep_index_checks import keep_index_checks
from .rewrite import PassRule, Rewrite

Inputs = tuple[Node, ...]


def simplify(graph: Graph) -> Graph:
    """Return an equal graph with less work. Checkpointed bodies are inlined."""
    return Rewrite(rules_of, simplify, inline=True).graph(graph)


@functools.cache
def rules_of(prim: Primitive) -> tuple[PassRule, ...]:
    """Return the rules for nodes of a primitive, in the order in which they are tried."""
    laws = prim.laws
    rules: list[PassRule] = []
    if prim.kind == "elementwise":
        rules.append(partial(_fold, prim))
    if prim.axes is not None and prim.axes.still is not None:
        rules.append(partial(_unchanged, prim.axes.still))
    if laws.neutral:
        rules.append(partial(_neutral, tuple(laws.neutral.items())))
    if laws.idempotent and prim.kind == "elementwise":
        rules.append(_same)
    if laws.involution:
        rules.append(partial(_undo, prim))
    if laws.compose is not None:
        rules.append(partial(_compose, prim, laws.compose))
    if prim.kind == "view" and prim.axes is not None:
        rules.append(_of_constant)
    if prim.simplify is not None:
        rules.append(prim.simplify)
    if prim.kind == "reduce":
        rules.append(partial(_reduce, prim))
    return tuple(rules) if rules or prim.kind == "leaf" else (partial(_hold, prim),)


# -- laws ----------------------------------------------------------------------------------------------------


def _neutral(cases: Iterable[tuple[int, float]], s: Rewriter, t: ArrayType, xs: Inputs, p: Params) -> Node | None:
    """Remove a neutral operand: ``x + 0``, ``1 * x``."""
    for i, neutral in cases:
        x = xs[i]
        if x.prim is full and x.params["value"] == neutral:
            return xs[1 - i]
    return None


def _same(s: Rewriter, t: ArrayType, xs: Inputs, p: Params) -> Node | None:
    """Merge equal operands: ``m and m``, ``m or m``."""
    return xs[0] if xs[0] is xs[1] else None


def _undo(prim: Primitive, s: Rewriter, t: ArrayType, xs: Inputs, p: Params) -> Node | None:
    """Cancel an involution of itself: ``-(-x)``."""
    return xs[0].inputs[0] if xs[0].prim is prim else None


def _compose(prim: Primitive, compose: Callable[[Params, Params], Params], s: Rewriter, t: ArrayType, xs: Inputs,
             p: Params) -> Node | None:
    """Merge two operations in a row, such as two transposes."""
    (x,) = xs
    return s(prim.name, x.inputs[0], **compose(x.params, p)) if x.prim is prim else None


# -- constants, and values that repeat -----------------------------------------------------------------------


def _fold(prim: Primitive, s: Rewriter, t: ArrayType, xs: Inputs, p: Params) -> Node | None:
    """Fold constants, and compute repeated values once."""
    common: set[int] | None = None
    for x in xs:
        if x.prim is expand:
            common = set(x.params["axes"]) if common is None else common & set(x.params["axes"])
        elif x.prim is not full:
            return None
        if common is not None and not common:
            return None
    if t.dtype.kind in prim.raises:
        return None  # the program raises the error, unless it has no elements
    if common is not None:
        axes = tuple(sorted(common))
        return s("expand", s(prim.name, *(unbroadcast(x, axes, s) for x in xs), **p), shape=t.shape, axes=axes)
    with np.errstate(all="ignore"):
        known = prim.eval(np, *(np.asarray(x.params["value"], x.dtype) for x in xs), **p)
        return s.full(known[()], t.shape, t.dtype)


def _of_constant(s: Rewriter, t: ArrayType, xs: Inputs, p: Params) -> Node | None:
    """Fold a view of a constant."""
    value = constant_of(xs[0])
    return s.full(value, t.shape, t.dtype) if value is not None else None


# -- axes ------------------------------------------------------------------------------------------------------


def _unchanged(still: Callable[[Params, Shape, Shape], bool], s: Rewriter, t: ArrayType, xs: Inputs, p: Params
               ) -> Node | None:
    """Remove an operation that leaves every axis as it is, such as a sum over no axis."""
    x = xs[0]
    return x if still(p, x.shape, t.shape) and t == x.type else None


def _reduce(prim: Primitive, s: Rewriter, t: ArrayType, xs: Inputs, p: Params) -> Node | None:
    """Reduce values before they repeat.

    Of equal elements, one may suffice.
    """
    (x,), axes = xs, p["axes"]
    if x.prim is not expand:
        return None
    repeats = x.params["axes"]
    if prim.laws.idempotent and t.dtype == x.dtype:
        over = tuple(a for a in axes if a in repeats)
        if over and all(isinstance(x.shape[a], int) and x.shape[a] > 0 for a in over):
            return reduced_once(s, prim.name, x, over, axes)
    apart = tuple(a for a in repeats if a not in axes)
    if not apart:
        return None
    kept = [a for a in range(x.ndim) if a not in axes]
    lowered = tuple(a - sum(o < a for o in apart) for a in axes)
    reduced = s(prim.name, unbroadcast(x, apart, s), axes=lowered)
    return s("expand", reduced, shape=t.shape, axes=tuple(kept.index(a) for a in apart))


# -- held graphs ---------------------------------------------------------------------------------------------


def _hold(prim: Primitive, s: Rewrite, t: ArrayType, xs: Inputs, p: Params) -> Node | None:
    """Simplify the graphs that a node holds."""
    def simplified(graph: Graph) -> Graph:
        if graph not in s.held:
            s.held[graph] = new = keep_index_checks(s.inner, graph)
            s.held[new] = new
        return s.held[graph]

    params = with_graphs(p, simplified)
    return None if params == p else s(prim.name, *xs, **params)
