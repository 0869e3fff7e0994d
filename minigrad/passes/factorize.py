"""Sums over large products are computed from what the products are made of.

The batch axis is one more index of products and sums. A program that writes per-example gradients down, to
square and add them up say, need not form them: ``Σ_ai (g_ba x_bi)² = (Σ_a g_ba²) (Σ_i x_bi²)``. So each sum
whose operand is made of smaller values is written out as a sum of products (`forms`), each product is
contracted in the best order that `opt_einsum` finds, and where that is clearly cheaper, in arithmetic and in
memory traffic, it takes the place of what was there.

What is not done: a difference that the program itself takes is not taken apart, neither squared nor summed (the
square of a small difference would become a difference of large squares), and float16 is left alone, since a
product of sums may overflow where a sum of products does not. Sums of gradient contributions (a weight used twice) are
multiplied out: the result is exact to round-off relative to the sum of the terms' absolute values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from ..graph import PRIMITIVES, Graph, Node, TupleType, full, moment, reachable
from ..interpreters import rebuilt, rewrite
from ..locks import importing
from ..ops.broadcast import expand
from ..ops.differences import is_difference
from ..ops.einsum import LETTERS, einsum, parse
from ..ops.elementwise import add, mul, sub
from ..ops.index import scatter_add
from ..ops.reduce import sum_
from ..symbolic import Dim, size_of
from ..tracing import made_by
from .sum_of_products import Factor, Form, Letter, Term, Writer, form_rule

_TYPICAL = 128  # what a symbolic size without a hint counts as
_CLEARLY = 2.0  # how many times cheaper the new form must be
_FLOPS, _BYTES = 50e9, 8e9  # per second, of one core; only their ratio matters
_DEEPEST = 60  # how far a form looks back
_ROOTS = (sum_, einsum)
_LARGER = (mul, einsum, scatter_add, add, sub)  # their results may have more elements than the values they are made of

Plan = tuple[float, Sequence[tuple[int, ...]]]  # the cost of a contraction, and the positions of each step's operands


def factorize(graph: Graph) -> Graph:
    """Return an equal graph in which large products that are summed are not formed, where that is cheaper.

    A product that something else needs as well is formed anyway, so its cost must not count as saved. Which ones
    these are shows when the sums are rewritten; then the pass starts anew without them. Each time there are fewer
    nodes to look into or fewer sums to rewrite, which ends, and what is left costs less than what it replaces.
    """
    if not any(map(_is_large, graph.nodes)):
        return graph
    search = _Search(graph)
    while not search.settled():
        pass
    return search.result()


def number(n: int | Dim) -> int:
    """Return what a size counts as in a cost."""
    if isinstance(n, Dim):
        return n.hint if n.hint is not None else n.value(dict.fromkeys(n.symbols, _TYPICAL))
    return n


def _elements(node: Node) -> int:
    return number(size_of(node.shape))


def _is_large(node: Node) -> bool:
    """Tell whether a value is a product (or an index's spreading) with more elements than all it is made of."""
    if node.prim not in _LARGER or not node.type.floating:
        return False
    size = _elements(node)
    for i in node.inputs:
        size -= _elements(i.inputs[0] if i.prim is expand else i)
        if size <= 0:
            return False
    return True


@dataclass(frozen=True)
class _Rewritten:
    """A sum that was rewritten: what was written out for it, and the nodes made in its place."""

    root: Node
    opened: frozenset[Node]
    made: tuple[Node, ...]


class _Search:
    """The search for the sums of one graph that are worth rewriting.

    Attributes
    ----------
    closed : set of Node
        Nodes of the graph that are used as they are: no sum looks into them.
    literal : set of Node
        Sums of the graph that stay as they are.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.closed: set[Node] = set()
        self.literal: set[Node] = set()
        self._plans: dict[Any, Plan] = {}

    def settled(self) -> bool:
        """Rewrite what may be rewritten; close what turns out to be needed, and return whether nothing did."""
        self._walk()
        self._alive = set(reachable(self._outputs))
        closed = {self._origin[n] for r in self._rewritten for n in r.opened if n in self._alive and _is_large(n)}
        literal = set() if closed - self.closed else self._unpaid()
        settled = closed <= self.closed and literal <= self.literal
        self.closed |= closed
        self.literal |= literal
        return settled

    def result(self) -> Graph:
        """Return the rewritten graph."""
        if not self._rewritten:
            return self.graph
        notes = tuple(map(_note, self._avoided()))
        return self.graph.replace(outputs=tuple(self._outputs), notes=self.graph.notes + notes)

    def _walk(self) -> None:
        """Walk the graph once and rewrite each sum that is cheaper so, looking into all but the closed nodes."""
        forms = _Forms()
        within: set[Node] = set()  # large products, and what is linear in one: only there is something to find
        self._rewritten: list[_Rewritten] = []
        self._origin: dict[Node, Node] = {}
        with made_by("factorize") as working_on:

            def rule(node: Node, inputs: tuple[Node, ...]) -> Node:
                new = rebuilt(node, inputs)
                self._origin[new] = node
                found = any(i in within for i in inputs) and form_rule(new) is not None
                if found and node.prim in _ROOTS and node not in self.literal:
                    working_on(new)
                    form, since = forms.written(new), moment()
                    better = _cheaper(forms.writer, self._plans, new, form) if form is not None else None
                    if better is not None:
                        nodes = tuple(reachable([better], since))
                        self._origin |= dict.fromkeys(nodes, node)
                        self._rewritten.append(_Rewritten(new, form.opened, nodes))
                        new, found = better, False
                if node in self.closed:
                    forms.closed.add(new)
                if found or _is_large(new):
                    within.add(new)
                return new

            self._outputs = rewrite(self.graph, rule).outputs

    def _unpaid(self) -> set[Node]:
        """Return the sums whose new forms cost as much as all that they leave out, sums that share it together."""
        groups: list[tuple[set[Node], list[_Rewritten]]] = []
        for r in self._rewritten:
            opened, members = set(r.opened), [r]
            for group in [g for g in groups if not g[0].isdisjoint(opened)]:
                groups.remove(group)
                opened |= group[0]
                members += group[1]
            groups.append((opened, members))
        return {self._origin[r.root] for opened, members in groups
                if sum(_cost(n) for r in members for n in r.made if n in self._alive)
                >= sum(_cost(n) for n in opened if n not in self._alive) for r in members}

    def _avoided(self) -> list[Node]:
        """Return the large values that are formed no more, each product once and not what is made of it."""
        gone = {n for r in self._rewritten for n in r.opened if n not in self._alive and _is_large(n)}
        return sorted(gone, key=lambda n: n.serial)


class _Forms:
    """The forms of the values of one graph, each written when it is asked for."""

    def __init__(self) -> None:
        self.writer = Writer()
        self.closed: set[Node] = set()
        self._known: dict[Node, Form] = {}

    def written(self, node: Node, depth: int = 0) -> Form | None:
        """Return the form of a node in terms of its inputs', or None where it has none."""
        rule = form_rule(node)
        if rule is None or node.dtype == np.float16 or depth > _DEEPEST or is_difference(node) or any(
                isinstance(i.type, TupleType) for i in node.inputs):
            return None
        return self.writer.write(node, rule, {i: self.of(i, depth + 1) for i in node.inputs})

    def of(self, node: Node, depth: int) -> Form:
        """Return the form that whoever uses the node looks at: written out, or the node as it is."""
        form = self._known.get(node)
        if form is None:
            form = self.written(node, depth) if node.type.floating and node not in self.closed else None
            if form is None or not _stays_open(self.writer, node, form):
                form = self.writer.leaf(node)
            self._known[node] = form
        return form


def _stays_open(writer: Writer, node: Node, form: Form) -> bool:
    """Tell whether a value is larger than what it is made of, so that whoever uses it should look inside."""
    if len(form.terms) == 1 and len(form.terms[0].factors) <= 1:
        return True  # the same value, spread, scaled or laid out differently
    leaves = (writer.indicators[leaf][0] if leaf in writer.indicators else leaf for leaf in form.leaves)
    return _elements(node) > sum(map(_elements, leaves))


# -- costs ---------------------------------------------------------------------------------------------


def _seconds(flops: float, elements: float, itemsize: int) -> float:
    return flops / _FLOPS + elements * itemsize / _BYTES


def _cost(node: Node) -> float:
    """Return what it costs to form a node from its inputs."""
    if node.prim.kind in ("view", "leaf") and not (node.prim.view and node.prim.view.in_order):  # may be a copy
        return 0.0
    if node.prim is einsum:
        sizes = dict(zip("".join(_terms(node)), [s for i in node.inputs for s in i.shape], strict=True))
        flops = 2.0
        for s in sizes.values():
            flops *= number(s)
    else:
        flops = float(max(_elements(node), *(_elements(i) for i in node.inputs)))
    return _seconds(flops, _elements(node) + sum(_elements(i) for i in node.inputs if i.prim is not expand),
                    node.dtype.itemsize)


def _terms(node: Node) -> list[str]:
    return node.params["subscripts"].split("->")[0].split(",")


def _cheaper(writer: Writer, known: dict[Any, Plan], root: Node, form: Form) -> Node | None:
    """Return the sum computed from what it is made of, or None where that is not clearly cheaper."""
    result = [c for axis in form.axes for c in axis]
    terms = [writer.resolved(t, result) for t in form.terms]
    if None in terms:
        return None
    form = replace(form, terms=tuple(terms))
    plans = [_plan(writer, known, t, form) for t in form.terms]
    cost = sum(c for c, _ in plans) + sum(_seconds(0, 2 * _elements(root), root.dtype.itemsize) for _ in plans[1:])
    if cost * _CLEARLY > sum(map(_cost, form.opened)):
        return None
    return _emit(writer, root, form, [path for _, path in plans])


def _plan(writer: Writer, known: dict[Any, Plan], term: Term, form: Form) -> Plan:
    """Return the cost of a term and the order in which its factors are contracted."""
    result = [c for axis in form.axes for c in axis]
    factors = list(_paired(term.factors))
    if len(factors) <= 1:
        flops = sum(_count(writer, f.letters) for f in factors)
        return _seconds(flops, flops, factors[0].node.dtype.itemsize if factors else 4), []
    names = {c: LETTERS[i] for i, c in enumerate(dict.fromkeys(c for f in factors for c in f.letters))}
    text = ",".join("".join(names[c] for c in f.letters) for f in factors)
    text += "->" + "".join(names[c] for c in result if c in names)
    key = text, tuple(number(writer.sizes[c]) for c in names), factors[0].node.dtype.itemsize
    if key not in known:
        known[key] = _path(*key)
    return known[key]


def _path(subscripts: str, sizes: Sequence[int], itemsize: int) -> Plan:
    """Return the best order of a contraction, whose letters have their sizes in order of appearance, and its cost."""
    with importing:
        import opt_einsum  # takes long, and few programs need it

    terms, result = parse(subscripts)
    size = dict(zip(dict.fromkeys("".join(terms)), map(float, sizes), strict=True))
    path, _ = opt_einsum.contract_path(subscripts, *(tuple(int(size[c]) for c in t) for t in terms), shapes=True,
                                       optimize="optimal" if len(terms) <= 6 else "greedy")
    total = 0.0
    for step in path:
        used = [terms.pop(i) for i in sorted(step, reverse=True)]
        keep = set(result).union(*terms)
        every = "".join(dict.fromkeys("".join(used)))
        out = "".join(c for c in every if c in keep)
        total += _seconds(2 * prod(size[c] for c in every), sum(prod(size[c] for c in t) for t in (*used, out)),
                          itemsize)
        terms.append(out)
    return total, path


def _count(writer: Writer, letters: Iterable[Letter]) -> float:
    total = 1.0
    for c in letters:
        total *= number(writer.sizes[c])
    return total


def _paired(factors: Sequence[Factor]) -> Iterable[Factor]:
    """Yield the factors, equal pairs as squares."""
    seen: dict[tuple[Node, tuple[Letter, ...]], int] = {}
    for f in factors:
        seen[f.node, f.letters] = seen.get((f.node, f.letters), 0) + 1
    for (node, letters), times in seen.items():
        for _ in range(times // 2):
            yield Factor(PRIMITIVES["square"](node), letters)
        if times % 2:
            yield Factor(node, letters)


# -- making it -----------------------------------------------------------------------------------------


def _emit(writer: Writer, root: Node, form: Form, paths: Sequence[Sequence[tuple[int, ...]]]) -> Node:
    result = [c for axis in form.axes for c in axis]
    shape = tuple(writer.sizes[c] for c in result)
    total: Node | None = None
    for term, path in zip(form.terms, paths, strict=True):
        value = _product(writer, term, path, result)
        if value is None:
            value = full(term.scale, shape, root.dtype)
        elif term.scale != 1:
            value = value * term.scale
        total = value if total is None else total + value
    return total if total.shape == root.shape else PRIMITIVES["reshape"](total, shape=root.shape)


def _product(writer: Writer, term: Term, path: Sequence[tuple[int, ...]], result: Sequence[Letter]) -> Node | None:
    """Return the factors' product, summed to the letters of `result` and spread over those that it lacks."""
    left = [(f.letters, f.node) for f in _paired(term.factors)]
    if not left:
        return None
    for step in path:
        used = [left.pop(i) for i in sorted(step, reverse=True)]
        keep = set(result).union(*(s for s, _ in left))
        left.append(_pair(used, keep))
    ((letters, node),) = left
    node = _summed(node, letters, set(result))
    letters = tuple(c for c in letters if c in result)
    order = [c for c in result if c in letters]
    if tuple(order) != letters:
        node = PRIMITIVES["transpose"](node, perm=tuple(letters.index(c) for c in order))
    if len(order) < len(result):
        node = PRIMITIVES["expand"](node, shape=tuple(writer.sizes[c] for c in result),
                                    axes=tuple(i for i, c in enumerate(result) if c not in order))
    return node


def _summed(node: Node, letters: Sequence[Letter], keep: set[Letter]) -> Node:
    axes = tuple(i for i, c in enumerate(letters) if c not in keep)
    return PRIMITIVES["sum"](node, axes=axes) if axes else node


def _pair(used: Sequence[tuple[tuple[Letter, ...], Node]], keep: set[Letter]) -> tuple[tuple[Letter, ...], Node]:
    """Contract two operands (or sum one) to the letters that something still needs."""
    operands = []
    for i, (letters, node) in enumerate(used):
        wanted = keep.union(*(s for j, (s, _) in enumerate(used) if j != i))
        operands.append((tuple(c for c in letters if c in wanted), _summed(node, letters, wanted)))
    out = tuple(dict.fromkeys(c for s, _ in operands for c in s if c in keep))
    if len(operands) == 1:
        return operands[0]
    names = {c: LETTERS[i] for i, c in enumerate(dict.fromkeys(c for s, _ in operands for c in s))}
    subscripts = ",".join("".join(names[c] for c in s) for s, _ in operands) + "->" + "".join(names[c] for c in out)
    return out, PRIMITIVES["einsum"](*(n for _, n in operands), subscripts=subscripts)


# -- words ---------------------------------------------------------------------------------------------


def _note(node: Node) -> str:
    size = _elements(node) * node.dtype.itemsize
    unit, per = next((u, n) for u, n in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if size >= n or u == "kB")
    amount = f"{size / per:.3g} {unit}"
    what = "per-example gradient" if "vjp" in node.rules and "vmap" in node.rules else "product"
    return f"{what} {node.type} of {node.where} never formed: {amount} avoided"
