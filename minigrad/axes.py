"""Axis rules: the relation between the axes of an operation's operands and the axes of its result.

Every primitive declares its rule beside its type rule. The notation extends einsum's: an index (a *factor*) stands
for equal positions along the axes that it labels, and has one kind.

========= ========= ============================================================================================
kind      mark      meaning
========= ========= ============================================================================================
parallel  ``i``     position k of the result depends on position k of the operand, and on no other position
reduce    ``i:add`` the result combines all positions of the operand; the combiner follows the colon
ordered   ``i!``    a position of the result may depend on every position of the operand
permuted  ``i~``    positions of the result are positions of the operand (or constants), known before the run
indexed   ``i@1``   a position is chosen by the values of an operand (here the second one)
segmented ``i|1``   a position depends on its own segment alone; an operand (here the second one) names the segments
                    of a packed axis, by an id per position or by their lengths
========= ========= ============================================================================================

Parentheses merge factors into one axis, as `reshape` does. A parallel factor of the result alone is broadcast: the
result repeats along it. ``...`` in a declaration stands for any number of parallel axes.

Examples
--------
>>> import numpy as np
>>> from minigrad.axes import axis_rule
>>> from minigrad.graph import PRIMITIVES as P
>>> def show(x, **params):
...     return str(axis_rule(P[params.pop("name")](x, **params)))

A sum combines the positions of the axes that it removes:

>>> x = P["full"](value=0.0, shape=(2, 3), dtype=np.dtype("f8"))
>>> show(x, name="sum", axes=(1,))
'[i, j:add] -> [i]'

A flip moves positions, and each cumulative sum depends on the positions before it:

>>> show(x, name="flip", axes=(0,)), show(x, name="cumsum", axis=0)
('[i~, j] -> [i~, j]', '[i!, j] -> [i!, j]')

A reshape merges axes or splits them:

>>> show(x, name="reshape", shape=(6,))
'[i, j] -> [(i j)]'

A gather reads the rows that its index names:

>>> index = P["full"](value=0, shape=(4,), dtype=np.dtype("i8"))
>>> str(axis_rule(P["gather"](x, index)))
'[i@1, j], [k] -> [k, j]'

An expand broadcasts:

>>> show(x, name="expand", shape=(2, 5, 3), axes=(1,))
'[i, j] -> [i, k, j]'
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

from .graph import Node, Params
from .immutable import Record
from .symbolic import Dim, Shape


class Kind(Enum):
    """The relation of a factor's positions in the result to those in the operands."""

    PARALLEL = ""
    REDUCE = ":"
    ORDERED = "!"
    PERMUTED = "~"
    INDEXED = "@"
    SEGMENTED = "|"


PARALLEL, REDUCE, ORDERED, PERMUTED, INDEXED, SEGMENTED = Kind


class Factor:
    """One index of an axis rule.

    Attributes
    ----------
    kind : Kind
    by : str or int
        The combiner of a reduction, or the number of the operand that holds the index or names the segments.
    """

    __slots__ = ("by", "kind")

    def __init__(self, kind: Kind = PARALLEL, by: str | int = ""):
        self.kind, self.by = kind, by


LETTERS = "ijklmnopqrstuvwxyzabcdefghABCDEFGHIJKLMNOPQRSTUVWXYZ"
Axis = tuple[Factor, ...]  # several factors: merged axes
Axes = tuple[Axis, ...]
Order = Sequence["int | None"]
Placed = Callable[[Params, Order, "int | Dim"], Params]


class AxisRule(Record):
    """The axes of a node's operands and results, as factors."""

    operands: tuple[Axes, ...]
    results: tuple[Axes, ...]

    def __str__(self) -> str:
        names: dict[Factor, str] = {}

        def one(axis: Axis) -> str:
            marked = [names.setdefault(f, LETTERS[len(names)]) + f.kind.value + str(f.by) for f in axis]
            return marked[0] if len(marked) == 1 else f"({' '.join(marked)})"

        def side(values: Sequence[Axes]) -> str:
            return ", ".join(f"[{', '.join(map(one, axes))}]" for axes in values)

        return f"{side(self.operands)} -> {side(self.results)}".lstrip()


class Declared(Record):
    """The declaration of a primitive's axis rule.

    Attributes
    ----------
    rule : callable
        ``rule(node)`` returns the node's `AxisRule`, or None where it is unknown.
    placed : callable or None
        ``placed(params, order, size)`` returns the static parameters of the same operation on operands whose axis k is
        the former axis ``order[k]``; None in `order` stands for a new parallel axis, of `size`, in front. Axes that
        `order` leaves out are gone. None: no such parameters exist.
    still : callable or None
        ``still(params, before, after)`` returns whether every axis stays as it is, from an operand of shape `before`
        to a result of shape `after`. None: never.
    """

    rule: Callable[[Node], AxisRule | None]
    placed: Placed | None = None
    still: Callable[[Params, Shape, Shape], bool] | None = None


def axis_rule(node: Node) -> AxisRule | None:
    """Return the node's axis rule, or None where its primitive declares none."""
    return node.prim.axes.rule(node) if node.prim.axes is not None else None


def rearranges(rule: AxisRule) -> bool:
    """Return whether the operation only moves elements, without combining or repeating them."""
    before, after = ({f for values in side for axis in values for f in axis} for side in (rule.operands, rule.results))
    return all(f.kind is PERMUTED or (f.kind is PARALLEL and f in before and f in after) for f in before | after)


# -- declarations ----------------------------------------------------------------------------------------------


def subscripts(text: str) -> Declared:
    """Declare a rule as text, such as ``"... m! n! -> ... n! m!"``.

    Operands and results are separated by commas, factors by spaces, with the marks of the table above. Each mark
    other than parallel belongs to the factor, and is repeated wherever the factor stands.
    """
    left, right = ([term.split() for term in side.split(",")] for side in text.split("->"))
    leading = all(term[:1] == ["..."] for term in (*left, *right))

    def rule(node: Node) -> AxisRule:
        factors: dict[str, Factor] = {}
        trailing: list[Axis] = []  # of `...`, the last axis first

        def axes(term: list[str], ndim: int) -> Axes:
            out: list[Axis] = []
            for name in term:
                if name != "...":
                    out.append((factors.setdefault(name, _marked(name)),))
                    continue
                n = ndim - len(term) + 1
                trailing.extend(parallel(n - len(trailing)))
                out += trailing[:n][::-1]
            return tuple(out)

        terms = left * len(node.inputs) if len(left) == 1 else left
        return AxisRule(tuple(axes(term, i.ndim) for term, i in zip(terms, node.inputs, strict=True)),
                        tuple(axes(term, t.ndim) for term, t in zip(right, node.types, strict=True)))

    return Declared(rule, (lambda params, order, size: params) if leading else None)


def _marked(name: str) -> Factor:
    for mark in (REDUCE, ORDERED, PERMUTED, INDEXED, SEGMENTED):
        position = name.find(mark.value)
        if position > 0:
            by = name[position + 1:]
            return Factor(mark, int(by) if mark in (INDEXED, SEGMENTED) else by)
    return Factor()


POINTWISE = subscripts("... -> ...")  # of elementwise operations
LEADING = Declared(lambda node: None, lambda params, order, size: params)  # parallel in front, the others unknown


def parallel(n: int) -> list[Axis]:
    """Return `n` axes of a parallel factor each."""
    return [(Factor(),) for _ in range(n)]


def along(param: str, kind: Kind, by: str = "", kept: bool = True) -> Declared:
    """Declare an operation along the axes that a static parameter names (an int or a tuple of them).

    `kept`: whether the result has these axes, too.
    """
    def rule(node: Node) -> AxisRule:
        chosen = node.params[param]
        chosen = chosen if isinstance(chosen, tuple) else (chosen,)
        operands: list[Axes] = []
        special = {a: (Factor(kind, by),) for a in chosen}
        shared = parallel(node.inputs[0].ndim)
        operands = [tuple(special.get(a, f) for a, f in enumerate(shared))] * len(node.inputs)
        result = operands[0] if kept else tuple(f for a, f in enumerate(shared) if a not in special)
        return AxisRule(tuple(operands), (result,))

    def placed(params: Params, order: Order, size: int | Dim) -> Params:
        chosen = params[param]
        return {**params, param: tuple(order.index(a) for a in chosen if a in order) if isinstance(chosen, tuple) else
                order.index(chosen)}

    return Declared(rule, placed, lambda params, before, after: params[param] == ())
