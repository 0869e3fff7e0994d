"""Forms: values written as sums of products of their operands, evaluated by einsum and compared with NumPy."""

import numpy as np
import pytest

from minigrad import interpreters
from minigrad.graph import PRIMITIVES, Graph
from minigrad.passes.sum_of_products import Writer, form_rule

from .programs import input_, node

rng = np.random.default_rng(0)
X, Y, V = input_(3, 4), input_(3, 4), input_(4)
VALUES = {X: rng.normal(size=(3, 4)), Y: rng.normal(size=(3, 4)), V: rng.normal(size=4)}
ROWS = node("expand", V, shape=(3, 4), axes=(0,))

LINEAR = {
    "add": node("add", X, Y), "sub": node("sub", X, Y), "neg": node("neg", X),
    "mul": node("mul", X, Y), "mul of one value": node("mul", X, X), "square": node("square", X),
    "div by a constant": X / 4.0, "div by a repeated value": node("div", X, ROWS),
    "expand": ROWS, "transpose": node("transpose", X, perm=(1, 0)), "sum": node("sum", X, axes=(1,)),
    "reshape": node("reshape", X, shape=(12,)),
    "einsum": node("einsum", X, Y, subscripts="ij,kj->ik"),
}
DEEPER = {
    "square of a difference": node("square", node("sub", X, Y)),
    "sum of a product": node("sum", node("mul", node("sub", X, ROWS), Y), axes=(0,)),
    "transpose of a sum": node("transpose", node("add", X, node("neg", ROWS)), perm=(1, 0)),
    "contraction of sums": node("einsum", node("add", X, Y), node("sub", X, ROWS), subscripts="ij,kj->ik"),
    "product of expands": node("mul", node("expand", V, shape=(4, 4), axes=(0,)),
                               node("expand", V, shape=(4, 4), axes=(1,))),
}


def value_of(form, writer):
    """Evaluate a form term by term: each is one einsum over its letters."""
    total = 0.0
    letters = [c for axis in form.axes for c in axis]
    for term in form.terms:
        operands = [np.asarray(term.scale), []]
        have = {c for f in term.factors for c in f.letters}
        for f in term.factors:
            operands += [evaluated(f.node), list(f.letters)]
        for c in letters:
            if c not in have:
                operands += [np.ones(writer.sizes[c]), [c]]
        total = total + np.einsum(*operands, letters)
    return total


def evaluated(n):
    return interpreters.evaluate(Graph(tuple(VALUES), (n,)), list(VALUES.values()))[0]


def form_of(n, writer):
    if n in VALUES or (rule := form_rule(n)) is None:
        return writer.leaf(n)
    return writer.write(n, rule, {i: form_of(i, writer) for i in n.inputs})


@pytest.mark.parametrize("name", [*LINEAR, *DEEPER])
def test_a_form_has_the_value_of_its_node(name):
    n, writer = {**LINEAR, **DEEPER}[name], Writer()
    form = form_of(n, writer)
    assert n in form.opened
    np.testing.assert_allclose(value_of(form, writer).reshape(n.shape), evaluated(n), rtol=1e-12, atol=1e-12)


def test_operations_that_are_not_linear_have_no_rule():
    others = [node("exp", X), node("flip", X, axes=(0,)), node("cumsum", X, axis=0), node("max", X, axes=(0,)),
              node("mean", X, axes=(0,)), node("pad", X, low=(1, 0), high=(0, 0), interior=(0, 0)), X]
    assert [form_rule(n) for n in others] == [None] * len(others)


def test_terms_of_one_square_are_counted_once():
    """``(x - y)**2`` has three terms: x², -2xy and y²."""
    form = form_of(node("square", node("sub", X, Y)), Writer())
    assert sorted(t.scale for t in form.terms) == [-2.0, 1.0, 1.0]


def test_integers_have_no_form():
    i = input_(3, dtype="i8")
    assert form_rule(PRIMITIVES["add"](i, i)) is None
