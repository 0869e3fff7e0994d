"""Carries of scans that are sums: each is summed over all steps after the loop.

A carry that each step only adds to, such as the gradient of a weight, is its start and the sum of the terms of all
steps. The sum of products is one contraction, and `factorize` can rewrite it. Operands of the terms are stacked, where
that is cheap: new stacks are at most `_MORE` times as large as all that the loop reads and stacks already. Sums in
another order are equal up to rounding; float16, in which a part of a sum may overflow, is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from .. import interpreters
from ..axes import REDUCE, axis_rule
from ..families import is_linear
from ..graph import PRIMITIVES, Graph, Node, TupleType, reachable
from ..ops.differences import is_difference, sign
from ..ops.einsum import LETTERS, einsum, parse
from ..ops.elementwise import add, sub
from .factorize import elements
from .scan_loop import Loop, PackedLoop, rewrite_scans

_MORE = 2.0  # the largest size of new stacks, relative to all that a loop reads and stacks already

Terms = list[tuple[int, Node]]  # the terms that a step adds to a carry, with their signs


def sum_after_scan(graph: Graph) -> Graph:
    """Return an equal graph that takes sums after scans, not inside."""
    return rewrite_scans(graph, "sum_after_scan", _summed_after)


def _summed_after(loop: Loop) -> list[Node] | None:
    if isinstance(loop, PackedLoop):
        return _packed_summed_after(loop)
    carries = list(loop.starts)
    users = loop.users()
    terms = {i: t for i, c in enumerate(carries) if (t := _terms(loop, users, i, c)) is not None}
    sums, new = _chosen(loop, terms)
    if not sums:
        return None
    loop.note(len(sums), "sum after it", "sums after it")
    starts = {i: loop.starts.pop(carries[i]) for i in sums}
    stacked = loop.stacked
    others = [i for i in range(len(carries)) if i not in sums]
    values = loop.rebuilt(others, [*stacked, *new])
    steps = dict(zip((*stacked, *new), values[len(others):], strict=True))
    total = _Total(loop, {n: v for n, v in steps.items() if n not in loop.slices})
    results = dict(zip(others, values, strict=False))
    for i, value in starts.items():
        for side, term in sums[i]:
            value = PRIMITIVES["add" if side > 0 else "sub"](value, total(term))
        results[i] = value
    return [*(results[i] for i in range(len(carries))), *(steps[n] for n in stacked)]


def _terms(loop: Loop, users: Mapping[Node, Sequence[Node]], i: int, c: Node) -> Terms | None:
    """Return the signed terms that a step adds to a carry, or None."""
    if c.dtype == np.float16:
        return None
    end, terms, own, n = loop.outputs[i], [], True, c
    while n is not end:
        readers = users.get(n, ())
        if len(readers) != 1 or n in loop.outputs or readers[0].prim not in (add, sub):
            return None
        (user,) = readers
        x, y = user.inputs
        if user.prim is sub and n is y:
            return None
        terms.append((1 if user.prim is add else -1, y if n is x else x))
        own = own and "vjp" not in user.rules
        n = user
    if own and len({s * sign(t) for s, t in terms}) > 1:
        return None  # two sums of large values would be subtracted, where each step subtracts small ones
    return terms if terms and not users[end] and loop.outputs.count(end) == 1 else None


def _chosen(loop: Loop, sums: dict[int, Terms]) -> tuple[dict[int, Terms], list[Node]]:
    """Return the sums to take after the loop, and the values to stack."""
    carries, stacked = list(loop.starts), dict.fromkeys(loop.stacked)
    room = _MORE * elements(*loop.slices, *stacked)
    chosen: set[int] = set()
    new: list[Node] = []
    for products in (True, False):  # sums without products: of stacks that are there, or smaller than the carry
        for i, terms in sums.items():
            if i in chosen:
                continue
            needs = _Needs(loop, {*stacked, *new})
            more = list(dict.fromkeys(n for _, t in terms for n in needs.of_sum(t)))
            pays = needs.products if products else elements(*more) < elements(carries[i])
            if pays and elements(*new, *more) <= room:
                chosen.add(i)
                new += more
    return {i: terms for i, terms in sums.items() if i in chosen}, new


# A sum over the steps passes through each node that is linear in one value that changes from step to step. `_linear`
# decides where: _Needs (the values to stack) and _Total (the sum itself) both follow it.

def _linear(loop: Loop, n: Node) -> bool:
    if n.prim.linear == "jointly":  # values that do not change are summed, too
        return not is_difference(n)
    return not isinstance(n.type, TupleType) and n.type.floating and is_linear(n, [loop.varies(i) for i in n.inputs])


class _Needs:
    """The values to stack for the sum of a value over the steps.

    Attributes
    ----------
    products : bool
        Whether the sum is a sum of products.
    """

    def __init__(self, loop: Loop, stacked: set[Node]):
        self.loop, self.stacked = loop, stacked
        self.products = False

    def of_sum(self, n: Node) -> list[Node]:
        loop = self.loop
        if not loop.varies(n):
            return []
        if n.prim is einsum and not _linear(loop, n):
            self.products = True
            return self._union(self.of_steps, n.inputs)
        if not _linear(loop, n) or n in self.stacked:
            return self.of_steps(n)
        before, self.products = self.products, False
        needs = self._union(self.of_sum, n.inputs)
        multiplies, self.products = self.products, before or self.products
        return needs if multiplies or elements(*needs) <= elements(n) else self.of_steps(n)

    def of_steps(self, n: Node) -> list[Node]:
        if self.loop.keeps_steps(n) or n in self.stacked:
            return []
        if n.prim.kind in ("elementwise", "view") and n not in self.loop.starts and not isinstance(
                n.inputs[0].type, TupleType):
            needs = self._union(self.of_steps, n.inputs)
            size, whole = elements(*needs), elements(n)
            if size < whole or (size == whole and n.prim.kind == "view"):
                return needs
        return [n]

    @staticmethod
    def _union(needs: Callable[[Node], list[Node]], nodes: Iterable[Node]) -> list[Node]:
        return list(dict.fromkeys(m for n in nodes for m in needs(n)))


class _Total:
    """Sums of values of the step over all steps, computed outside."""

    def __init__(self, loop: Loop, steps: dict[Node, Node]):
        self.loop, self.steps = loop, steps
        self.known: dict[Node, Node] = {}

    def __call__(self, n: Node) -> Node:
        if n not in self.known:
            self.known[n] = self._sum(n)
        return self.known[n]

    def _sum(self, n: Node) -> Node:
        loop = self.loop
        if not loop.varies(n):
            return PRIMITIVES["sum"](loop.repeated(n), axes=(0,))
        if n.prim is einsum and not _linear(loop, n):
            return self._product(n)
        if n in self.steps or not _linear(loop, n):
            return PRIMITIVES["sum"](self._steps(n), axes=(0,))
        jointly = n.prim.linear == "jointly"
        return n.prim(*(self(i) if jointly or loop.varies(i) else loop.outer(i) for i in n.inputs), **n.params)

    def _product(self, n: Node) -> Node:
        """Return the sum of products: one contraction, with the steps as one more axis."""
        terms, out = parse(n.params["subscripts"])
        t = next(c for c in LETTERS if c not in "".join(terms))
        changing = [self.loop.varies(i) for i in n.inputs]
        operands = [self._steps(i) if v else self.loop.outer(i) for i, v in zip(n.inputs, changing, strict=True)]
        terms = [t + s if v else s for s, v in zip(terms, changing, strict=True)]
        return n.prim(*operands, subscripts=",".join(terms) + "->" + out)

    def _steps(self, n: Node) -> Node:
        if n not in self.steps:
            (self.steps[n],) = self.loop.at_all_steps([n], self.steps)
        return self.steps[n]


# -- packed scans ------------------------------------------------------------------------------------------
#
# A result without rows is a sum over the steps already. It is the same sum over the rows of all steps, if these are
# added up by one contraction or reduction of each term.


def _packed_summed_after(loop: PackedLoop) -> list[Node] | None:
    carries, results = list(loop.starts), loop.stacked
    stacked = dict.fromkeys(n for n in results if loop.has_rows(n))
    room = _MORE * elements(*loop.slices, *stacked)
    chosen: list[Node] = []
    new: list[Node] = []
    for products in (True, False):
        for n in dict.fromkeys(results):
            if n in chosen or loop.has_rows(n) or n.dtype == np.float16 or not loop.varies(n):
                continue
            needs = _Needs(loop, {*stacked, *new})
            more = _of_packed_sum(loop, needs, n)
            if more is not None and (needs.products if products else not more) and elements(*new, *more) <= room:
                chosen.append(n)
                new += more
    if not chosen:
        return None
    loop.note(len(chosen), "sum after it", "sums after it")
    inside = [n for n in (*dict.fromkeys(results), *new) if n not in chosen]
    values = loop.rebuilt(range(len(carries)), inside)
    steps = dict(zip(inside, values[len(carries):], strict=True))
    sums = _packed_totals(loop, chosen, {n: v for n, v in steps.items() if loop.has_rows(n) and n not in loop.slices})
    return [*values[:len(carries)], *((steps | sums)[n] for n in results)]


def _of_packed_sum(loop: PackedLoop, needs: _Needs, n: Node) -> list[Node] | None:
    """Return the values to stack for the sum of a value without rows over the steps, or None if it is not a sum."""
    if isinstance(n.type, TupleType) or not n.inputs:
        return None
    if any(map(loop.has_rows, n.inputs)):
        if not _adds_rows(loop, n):
            return None
        needs.products = needs.products or n.prim is einsum
        return list(dict.fromkeys(m for i in n.inputs for m in needs.of_steps(i)))
    if n.prim.linear != "jointly" or is_difference(n) or not all(map(loop.varies, n.inputs)):
        return None
    terms = [_of_packed_sum(loop, needs, i) for i in n.inputs]
    return None if None in terms else list(dict.fromkeys(m for term in terms if term is not None for m in term))


def _adds_rows(loop: PackedLoop, n: Node) -> bool:
    """Return whether a value is the sum of one term for each row of its operands with rows; others stay."""
    rule = axis_rule(n)
    if rule is None or any(loop.varies(i) and not loop.has_rows(i) for i in n.inputs):
        return False
    rows = [axis for axes, i in zip(rule.operands, n.inputs, strict=True) if loop.has_rows(i)
            for axis, size in zip(axes, i.shape, strict=True) if loop.is_rows(size)]
    return (len(rows) == sum(map(loop.has_rows, n.inputs)) and len({*rows}) == 1
            and all(f.kind is REDUCE and f.by == "add" for f in rows[0]))


def _packed_totals(loop: PackedLoop, sums: Sequence[Node], steps: dict[Node, Node]) -> dict[Node, Node]:
    """Return sums over the steps: the same nodes with the rows of all steps."""
    rows = dict.fromkeys(i for n in reachable(sums) if not loop.has_rows(n) for i in n.inputs if loop.has_rows(i))
    inner = dict(zip(rows, loop.at_all_steps([*rows], steps), strict=True))
    return dict(zip(sums, interpreters.substitute(sums, loop.shared | inner), strict=True))
