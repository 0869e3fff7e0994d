"""Lowering of contractions to matrix products, or to products and sums.

Sums of float16 become sums of float32, rounded once (`ops.accumulators`).

A matrix product is an `einsum` with subscripts in canonical form, ``…ik,…kj->…ij`` (``i`` or ``j`` may be missing), on
views of the operands. Axes of one kind are merged: a batch axis of one operand alone becomes rows of one product. The
order of the operands is such that the result needs no transpose.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from ..combiners import ADD
from ..graph import ArrayType, Graph, Node, Params
from ..immutable import Record
from ..ops.accumulators import accumulator
from ..ops.einsum import LETTERS, contract, einsum, parse, split_subscripts
from ..primitive import Primitive
from ..symbolic import Dim, Shape, size_of
from .factorize import contraction_path, number
from .rewrite import PassRule, Rewrite
from .simplify import rules_of


def lower_einsum(graph: Graph) -> Graph:
    """Return an equal graph whose contractions are matrix products in canonical form."""
    return Rewrite(_rules_of, lower_einsum).graph(graph)


@functools.cache
def _rules_of(prim: Primitive) -> tuple[PassRule, ...]:
    if prim is einsum:
        return (_lower,)
    return (*((functools.partial(_widened, prim.name),) if prim.combiner is ADD else ()), *rules_of(prim))


def _widened(name: str, s: Rewrite, t: ArrayType, xs: tuple[Node, ...], p: Params) -> Node | None:
    """Accumulate in the dtype of `ops.accumulators`."""
    x, *indices = xs
    wide = accumulator(x.dtype)
    if wide == x.dtype:
        return None
    return s("cast", s(name, s("cast", x, dtype=wide), *indices, **p), dtype=x.dtype)


@functools.cache
def canonical(subscripts: str) -> bool:
    """Return whether `subscripts` are a matrix product without transposes."""
    terms, out = parse(subscripts)
    if len(terms) != 2:
        return False
    batch, left, right, inner = split_subscripts(*terms, out)
    return (len(inner) == 1 and len(left) <= 1 and len(right) <= 1 and (not batch or bool(left and right))
            and terms == [batch + left + inner, batch + inner + right] and out == batch + left + right)


def _lower(s: Rewrite, t: ArrayType, xs: tuple[Node, ...], p: dict[str, Any]) -> Node | None:
    if shorter := _without_single(s, xs, p["subscripts"]):
        return shorter
    if canonical(p["subscripts"]):
        return None
    for rule in rules_of(einsum):
        simpler = rule(s, t, xs, p)
        if simpler is not None:
            return simpler
    terms, out = parse(p["subscripts"])
    if len(xs) > 2:
        return _pairwise(s, list(xs), terms, out)
    batch, left, right, inner = split_subscripts(*terms, out)
    if not inner:
        return s("mul", *(_broadcast(s, x, term, out, t.shape) for x, term in zip(xs, terms, strict=True)))
    if not left and not right and (batch or any(x.prim.kind == "elementwise" for x in xs)):
        order = out + inner
        x, y = (_ordered(s, x, term, order) for x, term in zip(xs, terms, strict=True))
        axes, wide = tuple(range(len(out), len(order))), accumulator(t.dtype)
        if wide == t.dtype:
            return s("sum", s("mul", x, y), axes=axes)
        x, y = s("cast", x, dtype=wide), s("cast", y, dtype=wide)
        return s("cast", s("sum", s("mul", x, y), axes=axes), dtype=t.dtype)
    return _matmul(s, xs, terms, out)


def _without_single(s: Rewrite, xs: Sequence[Node], subscripts: str) -> Node | None:
    """Drop contracted axes of one element, or return None: without others, the contraction is a product of elements."""
    single = _single(subscripts, tuple([x.shape for x in xs]))
    if not single:
        return None
    terms, out = parse(subscripts)
    kept = [[(c, n) for c, n in zip(term, x.shape, strict=True) if c not in single]
            for term, x in zip(terms, xs, strict=True)]
    xs = [_reshaped(s, x, tuple([n for _, n in axes])) for x, axes in zip(xs, kept, strict=True)]
    return s("einsum", *xs, subscripts=",".join("".join(c for c, _ in axes) for axes in kept) + "->" + out)


@functools.lru_cache(maxsize=1024)  # equal layers have equal contractions
def _single(subscripts: str, shapes: tuple[Shape, ...]) -> frozenset[str]:
    """Return the contracted axes of one element."""
    terms, out = parse(subscripts)
    return frozenset([c for term, shape in zip(terms, shapes, strict=True) for c, n in zip(term, shape, strict=True)
                      if isinstance(n, int) and n == 1 and c not in out])


def _pairwise(s: Rewrite, xs: list[Node], terms: list[str], out: str) -> Node:
    shapes = [tuple(map(number, x.shape)) for x in xs]
    for positions in contraction_path(",".join(terms) + "->" + out, shapes, "auto"):
        pair = sorted(positions)
        operands = [(terms[i], xs[i]) for i in pair]
        for i in reversed(pair):
            del xs[i], terms[i]
        kept = set(out).union(*terms)
        result = "".join(dict.fromkeys(c for term, _ in operands for c in term if c in kept)) if xs else out
        xs.append(contract(operands, result, s))
        terms.append(result)
    return xs[0]


def _ordered(s: Rewrite, x: Node, term: str, order: str) -> Node:
    return _viewed(s, x, _ordering(term, order))


def _reshaped(s: Rewrite, x: Node, shape: Shape) -> Node:
    return x if shape == x.shape else s("reshape", x, shape=shape)


def _viewed(s: Rewrite, x: Node, views: Views) -> Node:
    for name, params in views:
        x = s(name, x, **params)
    return x


def _broadcast(s: Rewrite, x: Node, term: str, out: str, shape: Shape) -> Node:
    return s("expand", _ordered(s, x, term, out), shape=shape,
             axes=tuple(a for a, c in enumerate(out) if c not in term))


def _matmul(s: Rewrite, xs: Sequence[Node], terms: list[str], out: str) -> Node:
    shapes = tuple([x.shape for x in xs])
    plan = _plan(*terms, out, shapes, tuple([tuple(map(number, shape)) for shape in shapes]))
    x, y = xs[::-1] if plan.swaps else xs
    product = s("einsum", _viewed(s, x, plan.rows), _viewed(s, y, plan.columns), subscripts=plan.subscripts)
    return _viewed(s, product, plan.result)


Views: TypeAlias = "list[tuple[str, dict[str, Any]]]"  # names and parameters of views, one of the other


class _Plan(Record):
    """A contraction as a matrix product: whether the operands swap, the views of all three, and the subscripts."""

    swaps: bool
    rows: Views
    columns: Views
    subscripts: str
    result: Views


@functools.lru_cache(maxsize=1024)  # equal layers have equal contractions
def _plan(a: str, b: str, out: str, shapes: tuple[Shape, Shape], estimates: tuple[tuple[int, ...], ...]) -> _Plan:
    batch, left, right, inner = split_subscripts(a, b, out)
    swaps = out == batch + right + left and bool(left)
    if swaps:
        a, b, left, right, shapes, estimates = b, a, right, left, shapes[::-1], estimates[::-1]
    sizes: dict[str, int | Dim] = dict(zip(a + b, shapes[0] + shapes[1], strict=True))
    # The order of the contracted axes is free: take one that copies no operand, or the smaller one.
    orders = ["".join([c for c in term if c in inner]) for term in (a, b)]
    if orders[0] != orders[1]:
        elements = [math.prod(numbers) for numbers in estimates]
        inner = min(orders, key=lambda k: sum(n for n, v, g in zip(elements, (a, b), (left, right), strict=True)
                                              if v not in (batch + g + k, batch + k + g)))
    lead = LETTERS[-len(batch):] if batch else ""
    i, k, j = (letter if group or batch else "" for group, letter in ((left, "i"), (inner, "k"), (right, "j")))
    merged = tuple([size_of([sizes[c] for c in g]) for g in (left, right) if g or batch])
    final = batch + left + right
    return _Plan(swaps, _matrix(a, batch, left, inner, sizes), _matrix(b, batch, inner, right, sizes),
                 f"{lead}{i}{k},{lead}{k}{j}->{lead}{i}{j}",
                 _reshaping((*[sizes[c] for c in batch], *merged), tuple([sizes[c] for c in final]))
                 + _ordering(final, out))


def _ordering(term: str, order: str) -> Views:
    """Return the view whose axes are in another order."""
    perm = tuple([term.index(c) for c in order if c in term])
    return [] if perm == (*range(len(term)),) else [("transpose", {"perm": perm})]


def _reshaping(old: Shape, shape: Shape) -> Views:
    return [] if shape == old else [("reshape", {"shape": shape})]


def _matrix(term: str, batch: str, first: str, second: str, sizes: Mapping[str, int | Dim]) -> Views:
    """Return an operand as ``batch × first × second``, as a view if possible."""
    def merged(*groups: str) -> Views:
        order = "".join([batch, *groups])
        shape = (*[sizes[c] for c in batch], *[size_of([sizes[c] for c in g]) for g in groups if g or batch])
        return _ordering(term, order) + _reshaping(tuple([sizes[c] for c in order]), shape)

    # A copy keeps its last axis last.
    swapped = term != batch + first + second and term[-1:] in first
    if not swapped or not first or not second:
        return merged(first, second)
    n = len(batch)
    return [*merged(second, first), ("transpose", {"perm": (*range(n), n + 1, n)})]
