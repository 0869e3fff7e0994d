"""Independent loops over the same chunks become one."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import interpreters
from minigrad.graph import PRIMITIVES as P
from minigrad.graph import ArrayType, Graph
from minigrad.ops.control import parts, placeholder
from minigrad.passes.fuse_chunk_loops import fuse_chunk_loops
from minigrad.symbolic import Dim

F8 = np.dtype(float)
S = np.array([0.3, 0.4])
X = np.arange(1.0, 6.0)


def loops(graph):
    return [n for n in graph.nodes if n.prim.name == "chunked"]


@pytest.mark.parametrize("size", [1, 2, 5, 7])
@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_losses_that_read_a_value_twice(backend, size):
    loss = mg.microbatch(mg.mean_loss(lambda s, x: np.sin(x * s[0]) + np.cos(x * s[0]), (None, 0)), size)
    step = mg.compile(mg.value_and_grad(loss), backend)
    value, slope = step(S, X)
    np.testing.assert_allclose(value, np.mean(np.sin(X * 0.3) + np.cos(X * 0.3)), rtol=1e-13)
    np.testing.assert_allclose(slope, [np.mean(X * (np.cos(X * 0.3) - np.sin(X * 0.3))), 0], rtol=1e-13)


@pytest.mark.parametrize("size", [1, 3, 7, 9])
def test_losses_with_differences(size):
    w, rows = np.array([1.0, 2.0, 3.0, 4.0]), np.random.default_rng(0).normal(size=(7, 4))
    loss = mg.microbatch(mg.mean_loss(lambda w, x: (np.gradient(w * x) ** 2).sum(), (None, 0)), size)
    matrix = np.array([np.gradient(e) for e in np.eye(4)]).T
    want = sum(np.outer(x, x) * 2 * (matrix.T @ matrix) for x in rows) / 7
    value, slope = mg.compile(mg.value_and_grad(loss))(w, rows)
    np.testing.assert_allclose(value, w @ want @ w / 2, rtol=1e-12)
    np.testing.assert_allclose(slope, want @ w, rtol=1e-12)
    np.testing.assert_allclose(mg.compile(mg.hessian(loss))(w, rows), want, rtol=1e-12)


@pytest.mark.parametrize("operands", ["xxxx", "xyyx", "xyxy", "xxyy", "yxxx"])
def test_copies_of_a_loop_on_other_operands_are_fused(operands):
    dim = Dim.new("chunk")
    u, v = (placeholder(ArrayType((dim,), F8)) for _ in range(2))
    body = Graph((u, v), (u - v * v, P["sum"](u * u * v, axes=(0,))))
    x, y = (placeholder(ArrayType((5,), F8)) for _ in range(2))
    of = {"x": x, "y": y}
    outputs = []
    for pair in (operands[:2], operands[2:]):
        outputs += parts(P["chunked"](*(of[c] for c in pair), graph=body, dim=dim, size=2, total=5, in_axes=(0, 0),
                                      out_axes=(0, None), packed=()))
    graph = Graph((x, y), tuple(outputs)).check()
    after = fuse_chunk_loops(graph).check()
    assert len(loops(after)) == 1
    arrays = [X, np.cos(X)]
    for have, want in zip(interpreters.evaluate(after, arrays), interpreters.evaluate(graph, arrays), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-14)
    np.testing.assert_allclose(interpreters.evaluate(after, arrays)[2], arrays["xy".index(operands[2])]
                               - arrays["xy".index(operands[3])] ** 2, rtol=1e-14)
