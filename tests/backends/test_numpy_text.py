"""Lines of NumPy for statements and views, run and compared with the evaluation of the node."""

import numpy as np
import pytest

from minigrad.backends import numpy_text as nt
from minigrad.ops.elementwise import tanh

from ..passes.programs import input_, node

X = input_(4, 6)
VALUE = np.arange(24.0).reshape(4, 6)
VIEWS = {
    "transpose": node("transpose", X, perm=(1, 0)), "flip": node("flip", X, axes=(1,)),
    "slice": node("slice", X, start=(1, 0), stop=(4, 6), step=(2, 3)),
    "expand": node("expand", X, shape=(4, 3, 6), axes=(1,)), "reshape": node("reshape", X, shape=(8, 3)),
}


@pytest.mark.parametrize("name", VIEWS)
def test_the_text_of_a_view_is_its_value(name):
    n = VIEWS[name]
    text = nt.view_text(n, "x", str(n.shape))
    np.testing.assert_array_equal(eval(text, {"np": np, "x": VALUE}), n.prim.eval(np, VALUE, **n.params))
    assert (str(n.shape) in text) == nt.contains_shape(n)


STATEMENTS = {
    "ufunc": node("add", X, X), "reduce": node("max", X, axes=(0, 1)), "position": node("argmax", X, axis=1),
    "running sum": node("cumsum", X, axis=0), "running maximum": node("cummax", X, axis=1),
    "cast": node("cast", X, dtype=np.dtype("i4")), "concatenate": node("concatenate", X, X, axis=1),
    "pad": node("pad", X, low=(1, 0), high=(0, 2), interior=(0, 1)), "sigmoid": node("expit", X),
    "where": node("where", node("lt", X, X), X, X), "matmul": node("einsum", X, X, subscripts="ik,jk->ij"),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_writes_its_value(name):
    n = STATEMENTS[name]
    operands = [VALUE if i is X else i.prim.eval(np, VALUE, VALUE) for i in n.inputs]
    if name == "matmul":  # in canonical form, as `lower_einsum` makes it
        n, operands = node("einsum", X, node("transpose", X, perm=(1, 0)), subscripts="ik,kj->ij"), [VALUE, VALUE.T]
    names = [f"x{k}" for k in range(len(operands))]
    out = np.full(n.shape, 77, n.dtype)
    env = {"np": np, "out": out, "evaluate": lambda *xs: n.prim.eval(np, *xs, **n.params),
           **dict(zip(names, operands, strict=True))}
    exec("\n".join(nt.statement(n, names, "out", lambda n: "evaluate")), env)
    np.testing.assert_array_equal(out, n.prim.eval(np, *operands, **n.params))


def test_texts_of_shapes_and_slices():
    assert [nt.tuple_text(parts) for parts in ([], ["a"], ["a", "b"])] == ["()", "(a,)", "(a, b)"]
    assert [nt.axes_text(axes) for axes in ((1,), (0, 2))] == ["1", "(0, 2)"]
    assert nt.broadcast_text("x", 3, (1,)) == "x[:, None, :]"
    assert nt.broadcast_text("x", 3, (0,)) == "x"
    assert nt.dtype_text(np.dtype(bool)) == "np.bool_"


def test_elementwise_statements_take_broadcast_operands():
    assert nt.broadcasts(node("tanh", X))
    assert tanh.kind == "elementwise"
    assert not nt.broadcasts(node("sum", X, axes=(0,)))
