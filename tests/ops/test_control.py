"""Primitives that hold a graph, against the graph written out."""

import itertools

import numpy as np
import pytest

from minigrad import interpreters
from minigrad.errors import ShapeError
from minigrad.graph import PRIMITIVES as P
from minigrad.graph import ArrayType, Graph, TupleType, full
from minigrad.ops.control import parts, placeholder
from minigrad.symbolic import Dim
from tests import checks

F8 = np.dtype("f8")
RNG = np.random.default_rng(0)
W, X = RNG.normal(size=3), RNG.normal(size=(5, 3))


def body(rows):
    """Return sum over rows of a loss, and a result per row: of shared `w` and of `x` with `rows` rows."""
    w, x = placeholder(ArrayType((3,), F8)), placeholder(ArrayType((rows, 3), F8))
    h = P["tanh"](P["einsum"](x, w, subscripts="bi,i->b"))
    return Graph((w, x), (P["sum"](h * h, axes=(0,)), P["einsum"](h, w, subscripts="b,i->bi")))


def chunked(size, total=5):
    dim = Dim.new("chunk")
    w, x = placeholder(ArrayType((3,), F8)), placeholder(ArrayType((total, 3), F8))
    node = P["chunked"](w, x, graph=body(dim), dim=dim, size=size, total=total, in_axes=(None, 0),
                        out_axes=(None, 0), packed=())
    return Graph((w, x), tuple(parts(node))).check()


def derivatives(graph):
    """Return the graph, both first derivatives, and both derivatives of the reverse one."""
    back = checks.reverse(graph)
    return [graph, back, checks.push(graph), checks.reverse(back), checks.push(back)]


def agree(wanted, given, arrays, sizes=None, tolerance=1e-12):
    """Raise unless two graphs, and their derivatives, compute the same."""
    for want, have in zip(derivatives(wanted), derivatives(given), strict=True):
        values = [*arrays, *checks.random_like(want.inputs[len(arrays):])]
        for w, h in zip(interpreters.evaluate(want, values), interpreters.evaluate(have, values, sizes), strict=True):
            checks.close(h, w, want.name, tolerance)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_chunks_of_any_size_are_the_whole(size):
    agree(body(5), chunked(size), [W, X])
    assert all(g.count("chunked") for g in derivatives(chunked(size)))


@pytest.mark.parametrize("mapped", [c for c in itertools.product((True, False), repeat=2) if any(c)])
def test_chunks_of_a_batch(mapped):
    whole, pieces = (checks.batched(g, mapped, 4) for g in (body(5), chunked(2)))
    arrays = [checks.examples(a, 4) if m else a for a, m in zip((W, X), mapped, strict=True)]
    agree(whole, pieces, arrays)


def test_chunks_of_a_symbolic_total():
    n = Dim.new("n")
    agree(body(5), chunked(2, n), [W, X], {n.symbol: 5})


@pytest.mark.parametrize(("outer", "inner"), [(3, 2), (2, 3), (5, 1)])
def test_chunks_of_chunks(outer, inner):
    dim = Dim.new("outer")
    w, x = placeholder(ArrayType((3,), F8)), placeholder(ArrayType((5, 3), F8))
    node = P["chunked"](w, x, graph=chunked(inner, dim), dim=dim, size=outer, total=5, in_axes=(None, 0),
                        out_axes=(None, 0), packed=())
    nested = Graph((w, x), tuple(parts(node))).check()
    agree(body(5), nested, [W, X])
    checks.check_batch(nested, [W, X])
    checks.check_json(nested, [W, X])


def test_sums_over_no_chunks_are_zero():
    agree(body(0), chunked(2, 0), [W, np.zeros((0, 3))])


def test_chunks_hold_one_chunk_at_a_time(monkeypatch):
    seen = []
    real = interpreters.evaluate

    def spy(graph, arrays, sizes=None, xp=np):
        seen.append([np.shape(a) for a in arrays])
        return real(graph, arrays, sizes, xp)

    graph = chunked(2)
    monkeypatch.setattr(interpreters, "evaluate", spy)
    real(graph, [W, X])
    assert seen == [[(3,), (2, 3)], [(3,), (2, 3)], [(3,), (1, 3)]]


def test_chunks_of_integers_carry_no_tangent():
    dim = Dim.new("chunk")
    i = placeholder(ArrayType((dim,), np.dtype("i8")))
    x = placeholder(ArrayType((dim,), F8))
    inside = Graph((x, i), (i, P["cast"](i, dtype=F8)))
    a, b = placeholder(ArrayType((4,), F8)), placeholder(ArrayType((4,), np.dtype("i8")))
    node = P["chunked"](a, b, graph=inside, dim=dim, size=3, total=4, in_axes=(0, 0), out_axes=(0, 0), packed=())
    outs = parts(node)
    index, number = interpreters.forward(outs, {a: a})
    assert index is None
    assert number.params["value"] == 0
    graph = Graph((a, b), tuple(outs)).check()
    g = interpreters.evaluate(checks.reverse(graph), [np.ones(4), np.arange(4), np.ones(4)])
    np.testing.assert_array_equal(g, np.zeros((1, 4)))


def checkpointed(graph):
    inputs = [placeholder(i.type) for i in graph.inputs]
    return Graph(tuple(inputs), tuple(parts(P["checkpoint"](*inputs, graph=graph)))).check()


def test_checkpoint_is_its_body():
    plain = body(5)
    agree(plain, checkpointed(plain), [W, X])
    agree(plain, checkpointed(checkpointed(plain)), [W, X])
    agree(plain, checkpointed(chunked(2)), [W, X])
    for g in derivatives(checkpointed(plain)):
        checks.check_batch(g, [W, X, *checks.random_like(g.inputs[2:])])


def test_checkpoint_computes_its_body_again_in_reverse_mode():
    # What the reverse pass reads of the body is computed again, behind the barrier.
    back = checks.reverse(checkpointed(body(5)))
    assert back.count("barrier") == 2
    tanh = [n for n in back.nodes if n.prim.name == "tanh"]
    assert len(tanh) == 1
    assert "barrier" in {n.prim.name for n in interpreters.reachable(tanh)}


def test_checkpoint_of_one_node_twice():
    inside = Graph(*(lambda a, b: ((a, b), (P["mul"](a, P["sin"](b)), b)))(
        placeholder(ArrayType((2,), F8)), placeholder(ArrayType((2,), F8))))
    x = placeholder(ArrayType((2,), F8))
    graph = Graph((x,), tuple(parts(P["checkpoint"](x, x, graph=inside))))
    checks.check_gradient(graph, [np.array([0.3, -1.0])])
    checks.check_duality(graph, [np.array([0.3, -1.0])])
    checks.check_batch(graph, [np.array([0.3, -1.0])], depth=2)


def test_checkpoint_of_a_value_and_its_operand():
    # x and sin(x) both go in: the tangent of x must not be pushed through sin a second time.
    inside = Graph(*(lambda a, b: ((a, b), (P["mul"](a, b),)))(
        placeholder(ArrayType((2,), F8)), placeholder(ArrayType((2,), F8))))
    x = placeholder(ArrayType((2,), F8))
    graph = Graph((x,), tuple(parts(P["checkpoint"](x, P["sin"](x), graph=inside))))
    checks.check_gradient(graph, [np.array([0.3, -1.0])])
    checks.check_duality(graph, [np.array([0.3, -1.0])])


def test_types_are_checked():
    graph = body(5)
    with pytest.raises(ShapeError, match="checkpoint"):
        P["checkpoint"](placeholder(ArrayType((4,), F8)), placeholder(ArrayType((5, 3), F8)), graph=graph)
    dim = Dim.new("chunk")
    with pytest.raises(ShapeError, match="chunked"):
        P["chunked"](placeholder(ArrayType((3,), F8)), placeholder(ArrayType((6, 3), F8)), graph=body(dim), dim=dim,
                     size=2, total=5, in_axes=(None, 0), out_axes=(None, 0), packed=())
    assert isinstance(P["checkpoint"](*map(placeholder, (ArrayType((3,), F8), ArrayType((5, 3), F8))),
                                      graph=graph).type, TupleType)


def test_barrier_passes_values_and_derivatives_through():
    x, after = placeholder(ArrayType((2,), F8)), full(0.0, (), F8)
    graph = Graph((x,), (P["barrier"](P["sin"](x), after),))
    checks.check_gradient(graph, [np.array([0.3, -1.0])])
