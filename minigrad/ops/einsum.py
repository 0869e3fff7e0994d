"""`einsum`, the primitive of all contractions, whose derivative is itself.

Within an operand, subscripts are different, and each occurs in another operand or in the result; the functions of
`minigrad.numpy` take diagonals and sums before. Under `vmap` the batch is one more subscript.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from ..axes import REDUCE, AxisRule, Declared, Factor
from ..errors import DtypeError, at_user_line
from ..graph import ArrayType, Node, Params
from ..primitive import ArrayNamespace, Primitive, Rewriter, Sample, broadcast_axes, fail, unbroadcast
from ..symbolic import Dim
from ..tracing import guard_equal
from .broadcast import make
from .reduce import by_count
from .shape import transpose

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def parse(subscripts: str) -> tuple[list[str], str]:
    """Return the operands' subscripts and the result's."""
    left, out = subscripts.split("->")
    return left.split(","), out


def _einsum_type(*types: ArrayType, subscripts: str) -> ArrayType:
    ndims, equal, result = _axes(subscripts)
    if ndims != [len(t.shape) for t in types]:
        raise fail(f"einsum[{subscripts}]", "the subscripts do not fit the operands", *types)
    dtype = types[0].dtype
    for t in types:
        if t.dtype != dtype:
            raise DtypeError(at_user_line(f"einsum({', '.join(map(str, types))}): dtypes differ"))
    for letter, (i, a), (j, b) in equal:
        n, m = types[i].shape[a], types[j].shape[b]
        if n is not m and not guard_equal(n, m):
            raise fail(f"einsum[{subscripts}]", f"axis {letter!r} is {n} and {m}", *types)
    if fault := _fault(subscripts):
        raise fail(f"einsum[{subscripts}]", fault, *types)
    return ArrayType(tuple([types[i].shape[a] for i, a in result]), dtype)


_Axis: TypeAlias = tuple[int, int]  # an operand, and one of its axes


@functools.cache
def _axes(subscripts: str) -> tuple[list[int], list[tuple[str, _Axis, _Axis]], list[_Axis]]:
    """Return the axes of each operand, those of one letter that must be equal, and the ones that the result has."""
    terms, out = parse(subscripts)
    first: dict[str, _Axis] = {}
    equal = [(letter, first[letter], (i, a)) for i, s in enumerate(terms) for a, letter in enumerate(s)
             if first.setdefault(letter, (i, a)) != (i, a)]
    return [*map(len, terms)], equal, [first[letter] for letter in out if letter in first]


@functools.cache
def _fault(subscripts: str) -> str:
    """Return why subscripts are refused for all operands; empty if they are not."""
    terms, out = parse(subscripts)
    for i, s in enumerate(terms):
        others = set(out).union(*(t for j, t in enumerate(terms) if j != i))
        if len(set(s)) != len(s) or not set(s) <= others:
            return "an operand has a diagonal or an axis of its own to sum"
    if len(set(out)) != len(out) or not set(out) <= set().union(*terms):
        return "the result has an axis twice, or one that no operand has"
    return ""


def _einsum_eval(xp: ArrayNamespace, *xs: np.ndarray, subscripts: str) -> np.ndarray:
    terms, out = parse(subscripts)
    if len(xs) == 1:
        return xp.permute_dims(xs[0], tuple(terms[0].index(c) for c in out))
    x, term = xs[0], terms[0]
    for k, (y, other) in enumerate(zip(xs[1:-1], terms[1:-1], strict=True), 2):
        # Left to right: each product keeps the subscripts of the result and of later operands.
        kept = "".join(dict.fromkeys(c for c in term + other if any(c in t for t in (*terms[k:], out))))
        x, term = contract_two(xp, x, y, term, other, kept), kept
    return contract_two(xp, x, xs[-1], term, terms[-1], out)


@functools.cache
def split_subscripts(a: str, b: str, out: str) -> tuple[str, str, str, str]:
    """Return the subscripts of a binary contraction by role: batch, left, right, contracted."""
    both = set(a) & set(b)
    return ("".join(c for c in out if c in both), "".join(c for c in out if c in a and c not in both),
            "".join(c for c in out if c in b and c not in both), "".join(c for c in a if c in both and c not in out))


def contract_two(xp: ArrayNamespace, x: np.ndarray, y: np.ndarray, a: str, b: str, out: str) -> np.ndarray:
    """Contract two arrays of subscripts `a` and `b` to `out`: one matrix product."""
    batch, left, right, inner = split_subscripts(a, b, out)
    size = {**dict(zip(a, x.shape, strict=True)), **dict(zip(b, y.shape, strict=True))}

    def arrange(v: np.ndarray, have: str, *groups: str) -> np.ndarray:
        v = xp.permute_dims(v, tuple(have.index(c) for c in "".join(groups)))
        return xp.reshape(v, tuple(size[c] for c in groups[0]) + tuple(
            math.prod(size[c] for c in g) for g in groups[1:]))

    xm, ym = arrange(x, a, batch, left, inner), arrange(y, b, batch, inner, right)
    full = xp.matmul(xm, ym)
    full = xp.reshape(full, tuple(size[c] for c in batch + left + right))
    return xp.permute_dims(full, tuple((batch + left + right).index(c) for c in out))


def _einsum_vjp(g: Node, out: Node, *xs: Node, subscripts: str) -> list[Node]:
    terms, result = parse(subscripts)
    grads = []
    for i, term in enumerate(terms):
        others = [(t, x) for j, (t, x) in enumerate(zip(terms, xs, strict=True)) if j != i]
        grads.append(contract([(result, g), *others], term))
    return grads


def _einsum_jvp(ts: Sequence[Node | None], out: Node, *xs: Node, subscripts: str) -> Node:
    return functools.reduce(operator.add, (einsum(*xs[:i], t, *xs[i + 1:], subscripts=subscripts)
                                           for i, t in enumerate(ts) if t is not None))


def _einsum_batch(size: int | Dim, mapped: Sequence[bool], *xs: Node, subscripts: str) -> Node:
    terms, out = parse(subscripts)
    b = next(c for c in LETTERS if c not in subscripts)
    return einsum(*xs, subscripts=",".join(b * m + t for m, t in zip(mapped, terms, strict=True)) + f"->{b}{out}")


def _einsum_axes(node: Node) -> AxisRule:
    terms, out = parse(node.params["subscripts"])
    factors = {c: (Factor() if c in out else Factor(REDUCE, "add"),) for term in terms for c in term}
    return AxisRule(tuple(tuple(factors[c] for c in term) for term in terms), (tuple(factors[c] for c in out),))


def _simpler_einsum(s: Rewriter, t: ArrayType, xs: tuple[Node, ...], p: Params) -> Node | None:
    """Contract the operands of expands and transposes in place of these."""
    if len(xs) > 1 and not any(x.prim is transpose or not x.ndim or broadcast_axes(x) for x in xs):
        return None
    terms, out = parse(p["subscripts"])
    if len(xs) == 1:
        return s("transpose", xs[0], perm=tuple(terms[0].index(c) for c in out))
    if t.dtype.kind == "b":
        return None
    for i, x in enumerate(xs):
        if x.prim is transpose:
            term = ["" for _ in terms[i]]
            for letter, a in zip(terms[i], x.params["perm"], strict=True):
                term[a] = letter
            terms[i] = "".join(term)
            return _contraction(s, [*xs[:i], x.inputs[0], *xs[i + 1:]], terms, out)
        if axes := broadcast_axes(x):
            return _without_repeats(s, t, list(xs), list(terms), out, i, axes)
        if not x.ndim and len(xs) == 2:
            other = 1 - i
            matrix = s("transpose", xs[other], perm=tuple(terms[other].index(c) for c in out))
            factor = s("expand", x, shape=t.shape, axes=tuple(range(t.ndim)))
            return s("mul", matrix, factor)
    return None


def _without_repeats(s: Rewriter, t: ArrayType, xs: list[Node], terms: list[str], out: str, i: int,
                     axes: tuple[int, ...]) -> Node:
    x, term = xs[i], terms[i]
    letters = [term[a] for a in axes]
    xs[i], terms[i] = unbroadcast(x, axes, s), "".join(c for c in term if c not in letters)
    scale: int | Dim = 1
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
    return result if scale == 1 else by_count(s, "mul", result, scale)


def _contraction(s: Rewriter, xs: list[Node], terms: list[str], out: str) -> Node:
    return s("einsum", *xs, subscripts=",".join(terms) + "->" + out)


def _einsum_flops(node: Node, value: Callable[..., int], count: Callable[..., float]) -> float:
    """Count pair by pair, from left to right, as the evaluation contracts."""
    terms, out = parse(node.params["subscripts"])
    length = {c: value(n) for term, x in zip(terms, node.inputs, strict=True)
              for c, n in zip(term, x.shape, strict=True)}
    total, have = 0, set(terms[0])
    for k, term in enumerate(terms[1:], 2):
        together = have | set(term)
        have = {c for c in together if c in out or any(c in t for t in terms[k:])}
        total += math.prod(length[c] for c in together) * (1 if have == together else 2)
    return total


einsum = Primitive(
    "einsum", _einsum_type, _einsum_eval, _einsum_vjp, _einsum_jvp, _einsum_batch, axes=Declared(_einsum_axes),
    linear="separately", flops=_einsum_flops, simplify=_simpler_einsum,
    printed=lambda node, operands, value: f"einsum[{node.params['subscripts']}]({', '.join(operands)})",
    drawn=lambda node, value: "einsum " + node.params["subscripts"].replace("->", "→"),
    samples=lambda: [Sample(tuple(np.random.default_rng(i).normal(size=s) for i, s in enumerate(shapes)),
                            {"subscripts": subscripts})
                     for subscripts, *shapes in (
                         ("ij,jk->ik", (2, 3), (3, 4)), ("i,i->", (3,), (3,)), ("i,j->ij", (2,), (3,)),
                         ("bij,bjk->bik", (2, 2, 3), (2, 3, 2)), ("ij,ij->i", (2, 3), (2, 3)),
                         ("ij->ji", (2, 3)), ("ij,jk,kl->il", (2, 3), (3, 2), (2, 2)), ("ij,j->ji", (2, 3), (3,)))])


def contract(operands: Sequence[tuple[str, Node]], out: str, make: Callable[..., Node] = make) -> Node:
    """Return the contraction of ``(subscripts, node)`` operands to the subscripts `out`.

    A subscript that one operand alone has is summed first, as the primitive asks. A pass hands over its rewriter.
    """
    sums, subscripts = _sums_first(tuple([term for term, _ in operands]), out)
    xs = [make("sum", x, axes=axes) if axes else x for (_, x), axes in zip(operands, sums, strict=True)]
    return make("einsum", *xs, subscripts=subscripts) if subscripts else xs[0]


@functools.lru_cache(maxsize=1024)  # equal layers have equal contractions
def _sums_first(terms: tuple[str, ...], out: str) -> tuple[list[tuple[int, ...]], str]:
    """Return the axes of each operand that are summed first, and the subscripts of the rest, if it is a contraction."""
    others = [set(out).union(*terms[:i], *terms[i + 1:]) for i in range(len(terms))]
    sums = [tuple([k for k, c in enumerate(s) if c not in kept]) for s, kept in zip(terms, others, strict=True)]
    left = ["".join([c for c in s if c in kept]) for s, kept in zip(terms, others, strict=True)]
    return sums, "" if left == [out] else ",".join(left) + "->" + out
