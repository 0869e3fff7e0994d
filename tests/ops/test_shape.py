"""Layout with empty axes, and with symbolic sizes on the axes that an operation leaves alone."""

import array_api_strict
import numpy as np
import pytest

from minigrad import interpreters
from minigrad.errors import DtypeError, ShapeError
from minigrad.graph import PRIMITIVES as P
from minigrad.graph import Graph
from minigrad.symbolic import Dim
from minigrad.tracing import Guards, new_trace
from tests import checks


def every_check(graph, arrays):
    checks.check_types(graph, arrays)
    checks.check_gradient(graph, arrays)
    checks.check_duality(graph, arrays)
    checks.check_batch(graph, arrays, depth=2)
    checks.check_namespace(graph, arrays, array_api_strict)
    for derived, seeds in ((checks.reverse(graph), graph.outputs), (checks.push(graph), graph.inputs)):
        checks.check_batch(derived, [*arrays, *checks.random_like(seeds)])


@pytest.mark.parametrize("n", range(6))
def test_every_slice_of_a_short_axis_and_its_adjoint(n):
    x = np.arange(1.0, n + 1)
    for start in range(n + 1):
        for stop in range(start, n + 1):
            for step in (1, 2, 3):
                graph = checks.program(P["slice"], [x], {"start": (start,), "stop": (stop,), "step": (step,)})
                (out,) = interpreters.evaluate(graph, [x])
                np.testing.assert_array_equal(out, x[start:stop:step], strict=True)
                checks.check_types(graph, [x])
                (back,) = interpreters.evaluate(checks.reverse(graph), [x, np.ones(out.shape)])
                want = np.zeros(n)
                want[start:stop:step] = 1
                np.testing.assert_array_equal(back, want, strict=True)
                checks.check_duality(checks.reverse(graph), [x, out])


@pytest.mark.parametrize("n", range(4))
def test_every_small_pad_and_its_adjoint(n):
    x = np.arange(1.0, n + 1)
    for low in range(3):
        for high in range(3):
            for interior in range(3):
                graph = checks.program(P["pad"], [x], {"low": (low,), "high": (high,), "interior": (interior,)})
                (out,) = interpreters.evaluate(graph, [x])
                want = np.zeros(low + n + max(n - 1, 0) * interior + high)
                want[low:low + max(n - 1, 0) * (interior + 1) + (n > 0):interior + 1] = x
                np.testing.assert_array_equal(out, want, strict=True)
                (back,) = interpreters.evaluate(checks.reverse(graph), [x, np.arange(1.0, len(out) + 1)])
                np.testing.assert_array_equal(back, np.arange(1.0, len(out) + 1)[want > 0], strict=True)


@pytest.mark.parametrize(("name", "shapes", "params"), [
    ("slice", [(0, 3)], {"start": (0, 1), "stop": (0, 3), "step": (1, 2)}),
    ("pad", [(0, 3)], {"low": (0, 1), "high": (0, 0), "interior": (0, 2)}),
    ("pad", [(0, 3)], {"low": (2, 0), "high": (1, 0), "interior": (3, 0)}),
    ("pad", [()], {"low": (), "high": (), "interior": ()}),
    ("slice", [()], {"start": (), "stop": (), "step": ()}),
    ("reshape", [(0, 3)], {"shape": (3, 0, 2)}), ("reshape", [()], {"shape": (1, 1)}),
    ("transpose", [(0, 3)], {"perm": (1, 0)}), ("transpose", [()], {"perm": ()}),
    ("concatenate", [(0, 3), (2, 3), (0, 3)], {"axis": 0}), ("concatenate", [(2, 0), (2, 0)], {"axis": 1}),
    ("flip", [(0, 3)], {"axes": (0, 1)}), ("flip", [(2,)], {"axes": ()}),
    ("expand", [(0,)], {"shape": (2, 0), "axes": (0,)}), ("expand", [(2,)], {"shape": (0, 2), "axes": (0,)}),
    ("cumsum", [(0, 3)], {"axis": 0}), ("cumsum", [(0, 3)], {"axis": 1}),
    ("einsum", [(0, 3), (3, 2)], {"subscripts": "ij,jk->ik"}),
    ("einsum", [(2, 0), (0, 2)], {"subscripts": "ij,jk->ik"})])
def test_empty_axes(name, shapes, params):
    arrays = [np.arange(float(np.prod(s))).reshape(s) for s in shapes]
    every_check(checks.program(P[name], arrays, params), arrays)


@pytest.mark.parametrize(("name", "count", "params"), [
    ("slice", 1, lambda n: {"start": (0, 1), "stop": (n, 4), "step": (1, 2)}),
    ("pad", 1, lambda n: {"low": (0, 1), "high": (0, 2), "interior": (0, 1)}),
    ("transpose", 1, lambda n: {"perm": (1, 0)}), ("reshape", 1, lambda n: {"shape": (2, n, 2)}),
    ("reshape", 1, lambda n: {"shape": (n * 4,)}),
    ("flip", 1, lambda n: {"axes": (0,)}), ("concatenate", 2, lambda n: {"axis": 1}),
    ("sum", 1, lambda n: {"axes": (0,)}), ("mean", 1, lambda n: {"axes": (0, 1)}), ("max", 1, lambda n: {"axes": (0,)}),
    ("expand", 1, lambda n: {"shape": (n, n, 4), "axes": (0,)}), ("cumsum", 1, lambda n: {"axis": 0}),
    ("einsum", 2, lambda n: {"subscripts": "ij,ik->jk"}), ("einsum", 2, lambda n: {"subscripts": "ij,kj->ik"})])
def test_symbolic_axes(name, count, params):
    n = Dim.new("n")
    xs = [checks.placeholder((n, 4), "f8") for _ in range(count)]
    symbolic = Graph(tuple(xs), (P[name](*xs, **params(n)),)).check()
    arrays = [np.random.default_rng(i).normal(size=(3, 4)) for i in range(count)]
    fixed = checks.program(P[name], arrays, params(3))
    (out,) = interpreters.evaluate(fixed, arrays)
    for derive, seeds in ((lambda g: g, []), (checks.reverse, [np.cos(out)]), (checks.push, arrays)):
        want = interpreters.evaluate(derive(fixed), [*arrays, *seeds])
        have = interpreters.evaluate(derive(symbolic), [*arrays, *seeds], {n.symbol: 3})
        for h, w in zip(have, want, strict=True):
            np.testing.assert_array_equal(h, w, strict=True)
        size = Dim.new("B")
        stacked = [np.stack([a, a + 1]) for a in (*arrays, *seeds)]
        both = checks.batched(derive(symbolic), [True] * len(stacked), size)
        for h, w in zip(
            interpreters.evaluate(both, stacked, {n.symbol: 3, size.symbol: 2}),
            interpreters.evaluate(checks.batched(derive(fixed), [True] * len(stacked), 2), stacked),
            strict=True,
        ):
            np.testing.assert_array_equal(h, w, strict=True)


CUTS = [("slice", 1, {"start": (1, 0), "stop": (3, 4), "step": (1, 1)}),
        ("pad", 1, {"low": (1, 0), "high": (0, 0), "interior": (2, 0)})]


def test_concatenation_of_symbolic_sizes_and_its_adjoint():
    n, m = Dim.new("n"), Dim.new("m")
    x, y = checks.placeholder((2, n), "f8"), checks.placeholder((2, m), "f8")
    g = checks.placeholder((2, n + m), "f8")
    back = Graph((x, y, g), tuple(interpreters.backward([P["concatenate"](x, y, axis=1)], [g], [x, y]))).check()
    whole = np.arange(10.0).reshape(2, 5)
    have = interpreters.evaluate(back, [whole[:, :2], whole[:, 2:], whole], {n.symbol: 2, m.symbol: 3})
    np.testing.assert_array_equal(have[0], whole[:, :2])
    np.testing.assert_array_equal(have[1], whole[:, 2:])


@pytest.mark.parametrize(("name", "count", "params"), CUTS)
def test_slicing_a_symbolic_axis_guards_its_number(name, count, params):
    def derived(n):
        xs = [checks.placeholder((n, 4), "f8") for _ in range(count)]
        outs = [P[name](*xs, **params)]
        return interpreters.backward(outs, outs, xs), interpreters.forward(outs, {x: x for x in xs})

    with pytest.raises(ShapeError, match="number behind the symbolic size n"):
        derived(Dim.new("n"))
    n = Dim.new("n", 3)
    with new_trace(Guards(insisted={}, merged=[])) as trace:
        derived(n)
    assert list(trace.guards.insisted) == [n.symbol]


def test_concatenate_of_one_needs_no_number():
    x = checks.placeholder((Dim.new("n"), 4), "f8")
    checks.reverse(Graph((x,), (P["concatenate"](x, axis=0),)))


@pytest.mark.parametrize("dtypes", [("f4", "f8"), ("f8", "f4"), ("i4", "f4")])
def test_concatenated_arrays_have_one_dtype(dtypes):
    with pytest.raises(DtypeError, match=r"concatenate.*dtypes differ"):
        P["concatenate"](*(checks.placeholder((2,), d) for d in dtypes), axis=0)


@pytest.mark.parametrize(("name", "params"), [
    ("flip", {"axes": (2,)}), ("cumsum", {"axis": 2}), ("argsort", {"axis": -1}), ("concatenate", {"axis": 2}),
    ("transpose", {"perm": (0, 0)}), ("reshape", {"shape": (5,)}), ("sum", {"axes": (0, 0)}), ("argmax", {"axis": 2}),
    ("slice", {"start": (0, 0), "stop": (3, 3), "step": (1, 1)}), ("pad", {"low": (-1, 0), "high": (0, 0),
                                                                        "interior": (0, 0)})])
def test_axes_that_do_not_exist(name, params):
    with pytest.raises(ShapeError, match=name):
        P[name](checks.placeholder((2, 3), "f8"), **params)
