"""Factorization of sums over large products: the sum is computed from the operands of the products.

The batch axis is one more index of products and sums. The squared norms of per-example gradients, for example, do not
need the gradients: ``Σ_ai (g_ba x_bi)² = (Σ_a g_ba²) (Σ_i x_bi²)``. The pass writes each sum over large products as a
sum of products (`sum_of_products`), and contracts each of these in the best order that `opt_einsum` finds. The result
replaces the sum where it costs clearly less, in arithmetic and in memory traffic.

A difference in the program stays a difference, squared or summed: the square of a small difference would become a
difference of large squares. float16 is left alone, since a product of sums may overflow where a sum of products does
not. Sums of gradient contributions (a weight used twice) are multiplied out: the result is exact up to rounding,
relative to the sum of the terms' absolute values.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Iterable, Sequence
from math import prod

import numpy as np

from ..graph import PRIMITIVES, Graph, Node, TupleType, full, moment, reachable
from ..immutable import Record
from ..interpreters import rebuilt, rewrite
from ..locks import importing
from ..ops.broadcast import expand
from ..ops.differences import is_difference
from ..ops.einsum import LETTERS, contract, einsum, parse
from ..ops.elementwise import add, mul, sub
from ..ops.index import scatter_add
from ..ops.reduce import sum_
from ..symbolic import Dim
from ..tracing import made_by
from .sum_of_products import Factor, Form, Letter, Term, Writer, form_rule

_UNHINTED = 128  # the value of a symbolic size without a hint, in costs
_CLEARLY = 2.0  # the least ratio of the old cost to the new one
_FLOPS, _BYTES = 50e9, 8e9  # per second, of one core; only their ratio matters
_DEEPEST = 60  # the depth of the operands that a form writes out
_ROOTS = (sum_, einsum)
_LARGER = (mul, einsum, scatter_add, add, sub)  # the result may have more elements than the operands together

Path = Sequence[tuple[int, ...]]  # the order of a contraction: the positions of the operands of each step
Plan = tuple[float, Path]  # the cost of a contraction, and its order
PlanKey = tuple[str, tuple[int, ...], int]  # the subscripts, the sizes of their letters, and the bytes of an element


def factorize(graph: Graph) -> Graph:
    """Return an equal graph that forms no large product only to sum it.

    A product with another reader is formed anyway, so that its cost is not saved. The rewritten sums show which
    products these are; the pass then starts again without them. Each round has fewer nodes to write out or fewer sums
    to rewrite, so the search ends, and the result costs less than the sums that it replaces.
    """
    if not any(map(_is_large, graph.nodes)):
        return graph
    search = _Search(graph)
    while not search.settled():
        pass
    return search.result()


def number(n: int | Dim) -> int:
    """Return the number that stands for a size in a cost."""
    if isinstance(n, Dim):
        return n.hint if n.hint is not None else n.value(dict.fromkeys(n.symbols, _UNHINTED))
    return n


def elements(*nodes: Node) -> int:
    """Return the number of elements of arrays in a cost."""
    return sum(prod(map(number, n.shape)) for n in nodes)


def _is_large(node: Node) -> bool:
    """Return whether a product has more elements than its operands together."""
    if node.prim not in _LARGER or not node.type.floating:
        return False
    if any(i.prim is not expand and i.shape == node.shape for i in node.inputs):
        return False
    size = elements(node)
    for i in node.inputs:
        size -= elements(i.inputs[0] if i.prim is expand else i)
        if size <= 0:
            return False
    return True


class _Rewritten(Record):
    """A rewritten sum, the nodes that its form opens, and the new nodes."""

    root: Node
    opened: frozenset[Node]
    new: tuple[Node, ...]


class _Search:
    """The search for the sums of one graph that are worth rewriting.

    Attributes
    ----------
    closed : set of Node
        Nodes of the graph that no form writes out.
    literal : set of Node
        Sums of the graph that stay as they are.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.closed: set[Node] = set()
        self.literal: set[Node] = set()
        self._plans: dict[PlanKey, Plan] = {}

    def settled(self) -> bool:
        """Rewrite the sums, and return whether the choice of sums is final.

        Nodes with other readers are closed for the next round.
        """
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
        """Rewrite each sum that is cheaper in another form."""
        forms = _Forms()
        within: set[Node] = set()  # large products and values linear in one: only their sums can become cheaper
        self._rewritten: list[_Rewritten] = []
        self._origin: dict[Node, Node] = {}
        with made_by("factorize") as working_on:

            def rule(node: Node, inputs: tuple[Node, ...]) -> Node:
                new = rebuilt(node, inputs)
                self._origin[new] = node
                linear = any(i in within for i in inputs) and form_rule(new) is not None
                if linear and node.prim in _ROOTS and node not in self.literal:
                    working_on(new)
                    form, since = forms.written(new), moment()
                    if form is not None and (cheaper := _cheaper(forms.writer, self._plans, new, form)) is not None:
                        nodes = tuple(reachable([cheaper], since))
                        self._origin |= dict.fromkeys(nodes, node)
                        self._rewritten.append(_Rewritten(new, form.opened, nodes))
                        new, linear = cheaper, False
                if node in self.closed:
                    forms.closed.add(new)
                if linear or _is_large(new):
                    within.add(new)
                return new

            self._outputs = rewrite(self.graph, rule).outputs

    def _unpaid(self) -> set[Node]:
        """Return the rewritten sums that are not cheaper.

        Sums whose forms open common nodes count together.
        """
        groups: list[tuple[set[Node], list[_Rewritten]]] = []
        for r in self._rewritten:
            opened, members = set(r.opened), [r]
            for group in [g for g in groups if not g[0].isdisjoint(opened)]:
                groups.remove(group)
                opened |= group[0]
                members += group[1]
            groups.append((opened, members))
        return {self._origin[r.root] for opened, members in groups
                if sum(_cost(n) for r in members for n in r.new if n in self._alive)
                >= sum(_cost(n) for n in opened if n not in self._alive) for r in members}

    def _avoided(self) -> list[Node]:
        """Return the large products that the new graph does not form."""
        gone = {n for r in self._rewritten for n in r.opened if n not in self._alive and _is_large(n)}
        return sorted(gone, key=lambda n: n.serial)


class _Forms:
    """The forms of the values of one graph, written on demand."""

    def __init__(self) -> None:
        self.writer = Writer()
        self.closed: set[Node] = set()
        self._known: dict[Node, Form] = {}

    def written(self, node: Node, depth: int = 0) -> Form | None:
        """Return the form of a node from its inputs' forms, or None."""
        rule = form_rule(node)
        if rule is None or node.dtype == np.float16 or depth > _DEEPEST or is_difference(node) or any(
                isinstance(i.type, TupleType) for i in node.inputs):
            return None
        return self.writer.write(node, rule, {i: self.form_of(i, depth + 1) for i in node.inputs})

    def form_of(self, node: Node, depth: int) -> Form:
        """Return the form of a node for its readers: written out, or the node itself."""
        form = self._known.get(node)
        if form is None:
            form = self.written(node, depth) if node.type.floating and node not in self.closed else None
            if form is None or not _stays_open(self.writer, node, form):
                form = self.writer.leaf(node)
            self._known[node] = form
        return form


def _stays_open(writer: Writer, node: Node, form: Form) -> bool:
    """Return whether a value is larger than its factors together.

    Readers then use its form.
    """
    if len(form.terms) == 1 and len(form.terms[0].factors) <= 1:
        return True  # one value, broadcast, scaled or transposed
    leaves = (writer.indicators[leaf][0] if leaf in writer.indicators else leaf for leaf in form.leaves)
    return elements(node) > elements(*leaves)


# -- costs ---------------------------------------------------------------------------------------------


def _seconds(flops: float, elements: float, itemsize: int) -> float:
    return flops / _FLOPS + elements * itemsize / _BYTES


def _cost(node: Node) -> float:
    """Return the cost of computing a node from its inputs."""
    if node.prim.kind in ("view", "leaf") and not (node.prim.view and node.prim.view.in_order):  # may be a copy
        return 0.0
    if node.prim is einsum:
        terms, _ = parse(node.params["subscripts"])
        sizes = dict(zip("".join(terms), [s for i in node.inputs for s in i.shape], strict=True))
        flops = 2.0 * prod(map(number, sizes.values()))
    else:
        flops = float(max(elements(node), *(elements(i) for i in node.inputs)))
    return _seconds(flops, elements(node) + sum(elements(i) for i in node.inputs if i.prim is not expand),
                    node.dtype.itemsize)


def _cheaper(writer: Writer, known: dict[PlanKey, Plan], root: Node, form: Form) -> Node | None:
    """Return the sum of a form, or None where it is not clearly cheaper."""
    terms = tuple(r for t in form.terms if (r := writer.resolved(t, form.letters)) is not None)
    if len(terms) < len(form.terms):
        return None
    form = form._replace(terms=terms)
    plans = [_plan(writer, known, t, form) for t in form.terms]
    cost = sum(c for c, _ in plans) + sum(_seconds(0, 2 * elements(root), root.dtype.itemsize) for _ in plans[1:])
    if cost * _CLEARLY > sum(map(_cost, form.opened)):
        return None
    return _emit(writer, root, form, [path for _, path in plans])


def _plan(writer: Writer, known: dict[PlanKey, Plan], term: Term, form: Form) -> Plan:
    """Return the cost of a term and the order in which its factors are contracted."""
    factors = list(_paired(term.factors))
    if len(factors) <= 1:
        flops = float(sum(prod(number(writer.sizes[c]) for c in f.letters) for f in factors))
        return _seconds(flops, flops, factors[0].node.dtype.itemsize if factors else 4), []
    operands = [f.letters for f in factors]
    sizes = tuple(number(writer.sizes[c]) for c in dict.fromkeys(itertools.chain(*operands)))
    key = _subscripts(operands, form.letters), sizes, factors[0].node.dtype.itemsize
    if key not in known:
        known[key] = _path(*key)
    return known[key]


def _subscripts(operands: Sequence[Sequence[Letter]], result: Sequence[Letter]) -> str:
    """Return the subscripts of a contraction to letters of `result`."""
    names = dict(zip(dict.fromkeys(itertools.chain(*operands)), LETTERS, strict=False))
    terms = ("".join(names[c] for c in letters) for letters in operands)
    return ",".join(terms) + "->" + "".join(names[c] for c in result if c in names)


def _path(subscripts: str, sizes: Sequence[int], itemsize: int) -> Plan:
    """Return the cost of a contraction and its best order.

    `sizes` has the letters in order of appearance.
    """
    terms, result = parse(subscripts)
    size = dict(zip(dict.fromkeys("".join(terms)), map(float, sizes), strict=True))
    path = contraction_path(subscripts, [tuple(int(size[c]) for c in t) for t in terms],
                            "optimal" if len(terms) <= 6 else "greedy")
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


def contraction_path(subscripts: str, shapes: Sequence[tuple[int, ...]], optimize: str) -> Path:
    """Return the best order of a contraction."""
    if len(shapes) <= 2:  # two operands have one order
        return [tuple(range(len(shapes)))]
    with importing:
        import opt_einsum  # takes as long to import as the rest of minigrad

    path: Path = opt_einsum.contract_path(subscripts, *shapes, shapes=True, optimize=optimize)[0]
    return path


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


# -- nodes ---------------------------------------------------------------------------------------------


def _emit(writer: Writer, root: Node, form: Form, paths: Sequence[Path]) -> Node:
    """Return the value of a form, in the shape of `root`."""
    shape = tuple(writer.sizes[c] for c in form.letters)
    values = []
    for term, path in zip(form.terms, paths, strict=True):
        if term.factors:
            product = _product(writer, term, path, form.letters)
            values.append(product if term.scale == 1 else product * term.scale)
        else:
            values.append(full(term.scale, shape, root.dtype))
    total = functools.reduce(operator.add, values)
    return total if total.shape == root.shape else PRIMITIVES["reshape"](total, shape=root.shape)


def _product(writer: Writer, term: Term, path: Path, result: Sequence[Letter]) -> Node:
    """Return the product of the factors, on the letters of `result`."""
    factors = list(_paired(term.factors))
    for step in path:
        used = [factors.pop(i) for i in sorted(step, reverse=True)]
        factors.append(_contracted(used, set(result).union(*(f.letters for f in factors))))
    factor = _contracted(factors, set(result))
    return writer.broadcast(factor.node, factor.letters, result)


def _contracted(used: Sequence[Factor], keep: set[Letter]) -> Factor:
    """Contract two factors, or sum one, to the letters in `keep`."""
    letters = tuple(dict.fromkeys(c for f in used for c in f.letters if c in keep))
    terms, out = parse(_subscripts([f.letters for f in used], letters))
    return Factor(contract(list(zip(terms, (f.node for f in used), strict=True)), out), letters)


# -- notes ---------------------------------------------------------------------------------------------


def _note(node: Node) -> str:
    size = elements(node) * node.dtype.itemsize
    unit, per = next((u, n) for u, n in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if size >= n or u == "kB")
    amount = f"{size / per:.3g} {unit}"
    name = "per-example gradient" if "vjp" in node.rules and "vmap" in node.rules else "product"
    return f"{name} {node.type} of {node.where} never formed: {amount} avoided"
