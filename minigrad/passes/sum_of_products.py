"""Sums of products: the value of a node with its additions and multiplications written out.

A `Form` of a node is a list of terms. A term is a number times factors: nodes with a letter per axis, summed over each
letter that is not on an axis of the form. This notation of einsum is closed under the operations that are linear in
their operands: products, sums, broadcasts, transposes, and merging and splitting of axes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..axes import PARALLEL, REDUCE, axis_rule
from ..combiners import ADD
from ..graph import PRIMITIVES, Node, constant_of, full
from ..ops.broadcast import expand
from ..ops.einsum import einsum, parse
from ..ops.elementwise import div, square
from ..ops.index import counts_along, scatter_add
from ..ops.shape import reshape
from ..primitive import Primitive
from ..symbolic import Dim, size_of

Letter = int
Axis = tuple[Letter, ...]  # the letters merged in one axis
MOST_TERMS = 64
MOST_FACTORS = 10


class Factor(NamedTuple):
    """A node and the letter of each of its axes."""

    node: Node
    letters: tuple[Letter, ...]


class Term(NamedTuple):
    """A number times factors."""

    scale: float
    factors: tuple[Factor, ...]


class Form(NamedTuple):
    """A sum of terms.

    Attributes
    ----------
    axes : tuple of Axis
        The letters of each axis of the value.
    terms : tuple of Term
    opened : frozenset of Node
        The nodes that the form writes out.
    """

    axes: tuple[Axis, ...]
    terms: tuple[Term, ...]
    opened: frozenset[Node] = frozenset()

    @property
    def leaves(self) -> set[Node]:
        return {f.node for t in self.terms for f in t.factors}

    @property
    def letters(self) -> list[Letter]:
        return [c for axis in self.axes for c in axis]


class Writer:
    """Writes nodes out as forms, with distinct letters.

    Attributes
    ----------
    sizes : dict of int to int or Dim
        The size of each letter.
    indicators : dict of Node to (Node, Node)
        The array ``[i[…] = v]`` -> the index as given, and counted from 0.
    """

    def __init__(self) -> None:
        self._next = itertools.count()
        self.sizes: dict[Letter, int | Dim] = {}
        self.indicators: dict[Node, tuple[Node, Node]] = {}
        self._indicator: dict[tuple[Node, int | Dim, np.dtype], Node] = {}

    def indicator(self, index: Node, n: int, dtype: np.dtype) -> Node:
        """Return the array that is 1 where ``index[…] = v`` and else 0."""
        if (known := self._indicator.get((index, n, dtype))) is not None:
            return known
        i = index
        if i.dtype.kind == "i":  # negative ones count from the end
            i = PRIMITIVES["where"](PRIMITIVES["lt"](i, full(0, i.shape, i.dtype)), i + n, i)
        shape = (*i.shape, n)
        v = PRIMITIVES["cast"](PRIMITIVES["iota"](size=n), dtype=i.dtype)
        v = PRIMITIVES["expand"](v, shape=shape, axes=tuple(range(i.ndim)))
        hit = PRIMITIVES["eq"](PRIMITIVES["expand"](i, shape=shape, axes=(i.ndim,)), v)
        result = self._indicator[index, n, dtype] = PRIMITIVES["cast"](hit, dtype=dtype)
        self.indicators[result] = index, i
        return result

    def resolved(self, term: Term, result: Sequence[Letter]) -> Term | None:
        """Return the term with its indicators contracted, or None.

        ``Σ_v [i = v] [j = v]`` is ``[i = j]``.
        """
        factors = list(term.factors)
        while (first := next((f for f in factors if f.node in self.indicators), None)) is not None:
            v = first.letters[-1]
            holders = [f for f in factors if v in f.letters]
            if v in result or len(holders) != 2 or any(f.node not in self.indicators for f in holders):
                return None
            a, b = holders
            letters = tuple(dict.fromkeys(a.letters[:-1] + b.letters[:-1]))
            i, j = (self.broadcast(self.indicators[f.node][1], f.letters[:-1], letters) for f in holders)
            equal = PRIMITIVES["cast"](PRIMITIVES["eq"](i, j), dtype=first.node.dtype)
            factors = [f for f in factors if f is not a and f is not b] + [Factor(equal, letters)]
        return Term(term.scale, tuple(factors))

    def broadcast(self, node: Node, own: Sequence[Letter], letters: Sequence[Letter]) -> Node:
        """Return a value with axes `own`, on the axes `letters`."""
        order = [c for c in letters if c in own]
        if order != list(own):
            node = PRIMITIVES["transpose"](node, perm=tuple(own.index(c) for c in order))
        new = tuple(i for i, c in enumerate(letters) if c not in own)
        return PRIMITIVES["expand"](node, shape=tuple(self.sizes[c] for c in letters), axes=new) if new else node

    def letter(self, size: int | Dim) -> Letter:
        """Return a new letter."""
        c = next(self._next)
        self.sizes[c] = size
        return c

    def leaf(self, node: Node) -> Form:
        """Return the form of a value that is not written out."""
        letters = tuple(self.letter(n) for n in node.shape)
        if (value := constant_of(node)) is not None:
            return Form(tuple((c,) for c in letters), (Term(value, ()),))
        return Form(tuple((c,) for c in letters), (Term(1.0, (Factor(node, letters),)),))

    def write(self, node: Node, rule: FormRule, forms: Mapping[Node, Form]) -> Form | None:
        """Return the node's form from the forms of its inputs, or None."""
        form = rule(self, node, [forms[i] for i in node.inputs])
        if form is None or len(form.terms) > MOST_TERMS or any(len(t.factors) > MOST_FACTORS for t in form.terms):
            return None
        return Form(form.axes, form.terms, frozenset({node}).union(*(forms[i].opened for i in node.inputs)))

    # -- letters -----------------------------------------------------------------------------------------

    def renamed(self, form: Form, names: Mapping[Letter, Letter]) -> tuple[Term, ...]:
        """Return the terms with renamed letters, and fresh ones for others."""
        terms = []
        for t in form.terms:
            new = dict(names)
            for f in t.factors:
                for c in f.letters:
                    if c not in new:
                        new[c] = self.letter(self.sizes[c])
            terms.append(Term(t.scale, tuple(Factor(f.node, tuple(new[c] for c in f.letters)) for f in t.factors)))
        return tuple(terms)

    def matched(self, form: Form, axes: Sequence[Axis]) -> tuple[Term, ...] | None:
        """Return the terms with the letters of `axes`, or None.

        The axes may be split differently.
        """
        names: dict[Letter, Letter] = {}
        for mine, theirs in zip(form.axes, axes, strict=True):
            if len(mine) == 1 and len(theirs) > 1:
                return self.matched(self._split(form, mine[0], theirs), axes)
            if [self.sizes[c] for c in mine] != [self.sizes[c] for c in theirs]:
                return None
            names.update(zip(mine, theirs, strict=True))
        return self.renamed(form, names)

    def _split(self, form: Form, letter: Letter, like: Axis) -> Form:
        """Return the form with one letter written as several, of the sizes of `like`."""
        new = tuple(self.letter(self.sizes[c]) for c in like)

        def split(f: Factor) -> Factor:
            if letter not in f.letters:
                return f
            axis = f.letters.index(letter)
            letters = (*f.letters[:axis], *new, *f.letters[axis + 1:])
            return Factor(reshape(f.node, shape=tuple(self.sizes[c] for c in letters)), letters)

        terms = tuple(Term(t.scale, tuple(map(split, t.factors))) for t in form.terms)
        return Form(tuple(new if a == (letter,) else a for a in form.axes), terms, form.opened)

    def aligned(self, forms: Sequence[Form]) -> tuple[tuple[Axis, ...], list[tuple[Term, ...]]] | None:
        """Return common axes of forms, and the terms of each on them, or None."""
        finest = max(forms, key=lambda f: sum(map(len, f.axes)))
        terms = [f.terms if f is finest else self.matched(f, finest.axes) for f in forms]
        present = [t for t in terms if t is not None]
        return (finest.axes, present) if len(present) == len(terms) else None


def _multiply(a: Iterable[Term], b: Iterable[Term]) -> tuple[Term, ...]:
    return tuple(Term(s.scale * t.scale, s.factors + t.factors) for s in a for t in b)


def _scaled(terms: Iterable[Term], by: float) -> tuple[Term, ...]:
    return tuple(Term(by * t.scale, t.factors) for t in terms)


def _product(w: Writer, node: Node, forms: list[Form]) -> Form | None:
    """Write ``x * y``, or ``f(1, 1) x y`` for other bilinear operations."""
    if node.inputs[0] is node.inputs[1]:
        form = _square(w, node, forms[:1])
    else:
        x, y = forms
        aligned = w.aligned(forms) if len(x.terms) * len(y.terms) <= MOST_TERMS else None
        form = None if aligned is None else Form(aligned[0], _multiply(*aligned[1]))
    unit = float(node.prim.eval(np, 1.0, 1.0, **node.params))
    return form if form is None or unit == 1 else Form(form.axes, _scaled(form.terms, unit))


def _square(w: Writer, node: Node, forms: list[Form]) -> Form | None:
    (x,) = forms
    if len(x.terms) * (len(x.terms) + 1) // 2 > MOST_TERMS:
        return None
    again = w.renamed(x, {c: c for c in x.letters})
    terms = []
    for i, s in enumerate(x.terms):  # a product of two different terms occurs twice
        terms += [Term(s.scale * t.scale * (1 if i == j else 2), s.factors + t.factors)
                  for j, t in enumerate(again) if j >= i]
    return Form(x.axes, tuple(terms))


def _combination(w: Writer, node: Node, forms: list[Form]) -> Form | None:
    """Write a linear combination, such as ``x - y``.

    The coefficients are the values at the unit vectors.
    """
    aligned = w.aligned(forms)
    if aligned is None:
        return None
    axes, terms = aligned
    coefficients = map(float, node.prim.eval(np, *np.eye(len(forms)), **node.params))
    return Form(axes, tuple(t for c, own in zip(coefficients, terms, strict=True) for t in _scaled(own, c)))


def _quotient(w: Writer, node: Node, forms: list[Form]) -> Form | None:
    """Write ``x / y`` as a product with the reciprocal.

    `y` is a constant, or repeats along an axis.
    """
    x, y = node.inputs
    if by := constant_of(y):
        return Form(forms[0].axes, tuple(Term(t.scale / by, t.factors) for t in forms[0].terms))
    if y.prim is not expand:
        return None
    inverse = PRIMITIVES["expand"](1.0 / y.inputs[0], **y.params)
    reciprocal = _by_axes(w, inverse, [w.leaf(inverse.inputs[0])])
    return reciprocal and _product(w, PRIMITIVES["mul"](x, inverse), [forms[0], reciprocal])


def _by_axes(w: Writer, node: Node, forms: list[Form]) -> Form | None:
    """Permute, repeat and sum axes, as the axis rule says."""
    (x,), rule = forms, axis_rule(node)
    assert rule is not None, node
    (before,), (after,) = rule.operands, rule.results
    letters = dict(zip(before, x.axes, strict=True))
    axes = tuple(letters[a] if a in letters else (w.letter(n),) for a, n in zip(after, node.shape, strict=True))
    return _summed(w, axes, x.terms, [c for a in before if a not in after for c in letters[a]])


def _reshape(w: Writer, node: Node, forms: list[Form]) -> Form | None:
    """Merge axes, split merged ones, and add or remove axes of size 1."""
    (x,) = forms
    letters = [c for axis in x.axes for c in axis if w.sizes[c] != 1]
    axes = []
    for n in node.shape:
        axis: list[Letter] = []
        while letters and n != 1 and size_of(w.sizes[c] for c in axis) != n:
            axis.append(letters.pop(0))
        if size_of(w.sizes[c] for c in axis) != n:
            return None
        axes.append(tuple(axis) if axis else (w.letter(1),))
    if letters:
        return None
    # A letter of size 1 that is on no axis is summed over, which changes nothing.
    return Form(tuple(axes), x.terms)


def _summed(w: Writer, axes: tuple[Axis, ...], terms: Iterable[Term], letters: Sequence[Letter]) -> Form | None:
    """Return the form summed over `letters`.

    A term without one of them is multiplied by its size.
    """
    out = []
    for t in terms:
        repeats = size_of(w.sizes[c] for c in set(letters).difference(*(f.letters for f in t.factors)))
        if isinstance(repeats, Dim):
            return None
        out.append(Term(t.scale * repeats, t.factors))
    return Form(axes, tuple(out))


def _einsum(w: Writer, node: Node, forms: list[Form]) -> Form | None:
    subscripts, result = parse(node.params["subscripts"])
    axis_of: dict[str, Axis] = {}
    for s, f in zip(subscripts, forms, strict=True):  # the finest split of each subscript
        for c, axis in zip(s, f.axes, strict=True):
            if c not in axis_of or len(axis) > len(axis_of[c]):
                axis_of[c] = axis
    axis_of = {c: tuple(w.letter(w.sizes[x]) for x in axis) for c, axis in axis_of.items()}
    terms: tuple[Term, ...] = (Term(1.0, ()),)
    for s, f in zip(subscripts, forms, strict=True):
        own = w.matched(f, [axis_of[c] for c in s])
        if own is None or len(terms) * len(own) > MOST_TERMS:
            return None
        terms = _multiply(terms, own)
    summed = [x for c, axis in axis_of.items() if c not in result for x in axis]
    return _summed(w, tuple(axis_of[c] for c in result), terms, summed)


def _scatter(w: Writer, node: Node, forms: list[Form]) -> Form | None:
    """Write added rows as ``Σ_t u[t, …] [index[t] = v]``.

    An index that counts is an axis of `u`.
    """
    u = forms[0]
    if any(len(axis) != 1 for axis in u.axes):
        return None
    letters = [axis[0] for axis in u.axes]
    lead = node.inputs[1].ndim
    axes: list[Axis] = []
    deltas: list[Factor] = []
    for index, n in zip(node.inputs[1:], node.params["shape"], strict=False):
        along = counts_along(n, index)
        if along is not None:
            axes.append((letters[along],))
            continue
        if isinstance(n, Dim):
            return None
        v = w.letter(n)
        axes.append((v,))
        deltas.append(Factor(w.indicator(index, n, node.dtype), (*letters[:lead], v)))
    axes += [(c,) for c in letters[lead:]]
    return Form(tuple(axes), tuple(Term(t.scale, (*t.factors, *deltas)) for t in u.terms))


FormRule = Callable[[Writer, Node, list[Form]], "Form | None"]
_OWN: dict[Primitive, FormRule] = {square: _square, div: _quotient, reshape: _reshape, einsum: _einsum,
                                   scatter_add: _scatter}


def form_rule(node: Node) -> FormRule | None:
    """Return the rule for the form of a linear node, or None."""
    prim = node.prim
    if not node.type.floating:
        return None
    if prim in _OWN:
        return _OWN[prim]
    if prim.kind == "elementwise":
        if prim.linear == "jointly":
            return _combination
        return _product if prim.linear == "separately" and len(node.inputs) == 2 else None
    return _by_axes if prim.linear == "first" and len(node.inputs) == 1 and _sums_axes(node) else None


def _sums_axes(node: Node) -> bool:
    """Return whether an operation permutes, repeats and sums axes alone."""
    rule = axis_rule(node)
    return rule is not None and all(
        len(axis) == 1 and (axis[0].kind is PARALLEL or (axis[0].kind is REDUCE and axis[0].by == ADD.name))
        for axis in (*rule.operands[0], *rule.results[0]))
