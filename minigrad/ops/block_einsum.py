"""`block_einsum`: a contraction within each example of a packed batch.

An operand is *packed*: its first axis runs over the rows of all examples, which are those of its ragged subscripts;
*stacked*: its first axis counts the examples; or *shared*. So the scores of attention, ``id,jd->ij`` with ragged ``i``
and ``j``, are one product per sequence, and nothing is padded.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..axes import REDUCE, SEGMENTED, Axes, AxisRule, Declared, Factor
from ..graph import ArrayType, Node
from ..primitive import ArrayNamespace, Primitive, Sample, broadcast_leading, fail, move_axis, on_host
from ..symbolic import Dim, size_of
from ..tracing import guard_equal
from .broadcast import broadcast_along
from .einsum import LETTERS, contract, contract_two, parse, split_subscripts
from .reduce import sum_
from .shape import reshape

KINDS = ("packed", "stacked", "shared")


def _split(term: str, ragged: str) -> tuple[str, str]:
    """Return the ragged subscripts of a term, and the others."""
    return "".join(c for c in term if c in ragged), "".join(c for c in term if c not in ragged)


def _type(x: ArrayType, y: ArrayType, *lengths: ArrayType, subscripts: str, ragged: str, kinds: tuple[str, str],
          size: int | Dim) -> ArrayType:
    terms, out = parse(subscripts)
    sizes: dict[str, int | Dim] = {}
    if x.dtype != y.dtype or len(lengths) != len(ragged):
        raise fail(f"block_einsum[{subscripts}]", "dtypes differ, or lengths are missing", x, y, *lengths)
    for t, term, kind in zip((x, y), terms, kinds, strict=True):
        own, dense = _split(term, ragged)
        shape = t.shape[1:] if kind != "shared" else t.shape
        if kind not in KINDS or bool(own) != (kind == "packed") or len(shape) != len(dense):
            raise fail(f"block_einsum[{subscripts}]", f"the subscripts do not fit {kind} operands", x, y)
        for c, n in zip(dense, shape, strict=True):
            if not guard_equal(sizes.setdefault(c, n), n):
                raise fail(f"block_einsum[{subscripts}]", f"axis {c!r} is {sizes[c]} and {n}", x, y)
    return ArrayType((size, *(sizes[c] for c in _split(out, ragged)[1])), x.dtype)


def _axes(node: Node) -> AxisRule:
    p = node.params
    terms, out = parse(p["subscripts"])
    factors = {c: (Factor() if c in out else Factor(REDUCE, "add"),) for term in terms for c in term}
    rows = (Factor(SEGMENTED, 2),)

    def axes(term: str, kind: str) -> Axes:
        return (rows,) * (kind != "shared") + tuple(factors[c] for c in _split(term, p["ragged"])[1])

    lengths = ((rows,),) * len(p["ragged"])
    return AxisRule((*map(axes, terms, p["kinds"]), *lengths), (axes(out, "packed"),))


def _eval(xp: ArrayNamespace, x: np.ndarray, y: np.ndarray, *lengths: np.ndarray, subscripts: str, ragged: str,
          kinds: tuple[str, str], size: int) -> np.ndarray:
    terms, out = parse(subscripts)
    rows = {c: on_host(n).tolist() for c, n in zip(ragged, lengths, strict=True)}
    orders = ["".join(_split(t, ragged)) for t in (*terms, out)]
    own, dense = _split(out, ragged)
    sizes = {c: n for v, term, kind in zip((x, y), terms, kinds, strict=True)
             for c, n in zip(_split(term, ragged)[1], v.shape[kind != "shared":], strict=True)}
    result = xp.empty((size, *(sizes[c] for c in dense)), dtype=x.dtype)
    product = _product(xp, orders)
    operands = [_blocks(xp, v, kind, [rows[c] for c in _split(term, ragged)[0]], lengths[0].shape[0])
                for v, term, kind in zip((x, y), terms, kinds, strict=True)]
    end = 0
    for b, pair in enumerate(zip(*operands, strict=True)):
        block = product(*pair)
        begin, end = end, end + math.prod(rows[c][b] for c in own)
        result[begin:end, ...] = block if len(own) == 1 else xp.reshape(block, (end - begin, *block.shape[len(own):]))
    return result


def _blocks(xp: ArrayNamespace, v: np.ndarray, kind: str, rows: Sequence[Sequence[int]], size: int
            ) -> Iterator[np.ndarray]:
    """Return each example's block of an operand."""
    begin = 0
    for b in range(size):
        if kind == "packed":
            shape = tuple(n[b] for n in rows)
            end = begin + math.prod(shape)
            block = v[begin:end, ...]
            yield block if len(shape) == 1 else xp.reshape(block, (*shape, *v.shape[1:]))
            begin = end
        else:
            yield v[b, ...] if kind == "stacked" else v


def _product(xp: ArrayNamespace, orders: Sequence[str]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return the function that contracts two blocks, for matrices a plain product."""
    batch, left, right, inner = split_subscripts(*orders)
    if batch or any(len(s) != 1 for s in (left, right, inner)):
        return lambda x, y: contract_two(xp, x, y, *orders)
    expected = (left + inner, inner + right, left + right)
    flips = [order != canonical for order, canonical in zip(orders, expected, strict=True)]

    def product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        z = xp.matmul(x.T if flips[0] else x, y.T if flips[1] else y)
        return z.T if flips[2] else z

    return product


def _vjp(g: Node, out: Node, x: Node, y: Node, *lengths: Node, subscripts: str, ragged: str, kinds: tuple[str, str],
         size: int | Dim) -> list[Node | None]:
    terms, result = parse(subscripts)
    g_kind = "packed" if _split(result, ragged)[0] else "stacked"
    back: list[Node | None] = []
    for i, (v, kind) in enumerate(zip((x, y), kinds, strict=True)):
        j = 1 - i
        each = v.shape[0] if kind != "shared" else lengths[0].shape[0]
        d = block_einsum(g, (x, y)[j], *lengths, subscripts=f"{result},{terms[j]}->{terms[i]}", ragged=ragged,
                         kinds=(g_kind, kinds[j]), size=each)
        back.append(sum_(d, axes=(0,)) if kind == "shared" else d)
    return [*back, *[None] * len(lengths)]


def _jvp(ts: Sequence[Node | None], out: Node, x: Node, y: Node, *lengths: Node, **params: object) -> Node:
    pairs = [pair for pair in ((ts[0], y), (x, ts[1])) if None not in pair]
    return functools.reduce(operator.add, [block_einsum(*pair, *lengths, **params) for pair in pairs])


def _batch(n: int | Dim, mapped: Sequence[bool], x: Node, y: Node, *lengths: Node, subscripts: str, ragged: str,
           kinds: tuple[str, str], size: int | Dim) -> Node:
    if any(mapped[2:]):
        return _end_to_end(n, mapped, (x, y), lengths, subscripts, ragged, kinds, size)
    terms, out = parse(subscripts)
    new = next(c for c in LETTERS if c not in subscripts)
    moved = [move_axis(v, 0, v.ndim - 1) if m else v for v, m in zip((x, y), mapped, strict=False)]
    terms = [t + new * m for t, m in zip(terms, mapped, strict=False)]
    batched = block_einsum(*moved, *lengths, subscripts=",".join(terms) + f"->{out}{new}", ragged=ragged, kinds=kinds,
                           size=size)
    return move_axis(batched, batched.ndim - 1, 0)


def _end_to_end(n: int | Dim, mapped: Sequence[bool], xs: Sequence[Node], lengths: Sequence[Node], subscripts: str,
                ragged: str, kinds: tuple[str, str], size: int | Dim) -> Node:
    """Batch where the blocks differ too: the examples of all batches are those of one."""
    each = lengths[0].shape[mapped[2]]

    def flat(v: Node, is_mapped: bool) -> Node:
        v = v if is_mapped else broadcast_leading(v, n)
        return reshape(v, shape=(v.shape[0] * v.shape[1], *v.shape[2:]))

    operands = []
    for v, m, kind in zip(xs, mapped, kinds, strict=False):
        if kind == "shared" and m:  # by the examples of one batch only
            v = broadcast_along(v, (n, each, *v.shape[1:]), (1,))
            operands.append(reshape(v, shape=(n * each, *v.shape[2:])))
        else:
            operands.append(v if kind == "shared" else flat(v, m))
    flat_kinds = tuple("stacked" if kind == "shared" and m else kind for kind, m in zip(kinds, mapped, strict=False))
    rows = block_einsum(*operands, *(flat(v, m) for v, m in zip(lengths, mapped[2:], strict=True)),
                        subscripts=subscripts, ragged=ragged, kinds=flat_kinds, size=n * size)
    return reshape(rows, shape=(n, size, *rows.shape[1:]))


def _samples() -> list[Sample]:
    rng = np.random.default_rng(3)
    n, m = np.array([2, 0, 1]), np.array([2, 2, 2])
    x, y, s, w = (rng.normal(size=shape) for shape in ((3, 2), (6, 2), (6,), (2, 4)))
    return [Sample((x, y, n, m), {"subscripts": "id,jd->ij", "ragged": "ij", "kinds": ("packed", "packed"), "size": 6}),
            Sample((s, y, n, m), {"subscripts": "ij,jd->id", "ragged": "ij", "kinds": ("packed", "packed"), "size": 3}),
            Sample((x, x, n), {"subscripts": "ia,ib->ab", "ragged": "i", "kinds": ("packed", "packed"), "size": 3}),
            Sample((x, w, n), {"subscripts": "ia,ab->ib", "ragged": "i", "kinds": ("packed", "shared"), "size": 3}),
            Sample((x, rng.normal(size=(3, 2, 4)), n), {"subscripts": "ia,ab->ib", "ragged": "i",
                                                        "kinds": ("packed", "stacked"), "size": 3})]


block_einsum = Primitive("block_einsum", _type, _eval, _vjp, _jvp, _batch, axes=Declared(_axes), samples=_samples,
                         flops=lambda node, value, count: value(size_of(node.shape)),
                         hidden_params=frozenset({"size"}))


def summed(node: Node) -> Node | None:
    """Return the sum of a stacked `block_einsum` over its examples as one contraction.

    A sum of per-example products ``X^T X`` is one product of the packed X. None where one contraction is not enough.
    """
    p = node.params
    terms, out = parse(p["subscripts"])
    owns = {_split(t, p["ragged"])[0] for t, kind in zip(terms, p["kinds"], strict=True) if kind == "packed"}
    if _split(out, p["ragged"])[0] or "stacked" in p["kinds"] or owns != {p["ragged"]}:
        return None
    row = next(c for c in LETTERS if c not in p["subscripts"])
    new = [row * (kind == "packed") + _split(t, p["ragged"])[1] for t, kind in zip(terms, p["kinds"], strict=True)]
    return contract(list(zip(new, node.inputs, strict=False)), out)
