"""Every primitive, on each of its samples, against everything that must hold of it.

A new primitive is tested by declaring it: nothing here names one, save those that have no samples.
"""

import array_api_strict
import numpy as np
import pytest

from minigrad.errors import GraphError
from minigrad.families import is_linear
from minigrad.graph import PRIMITIVES, Graph, TupleType, held_graphs
from minigrad.parameters import check_params
from minigrad.passes.simplify import simplify
from minigrad.primitive import Laws
from tests import checks

WITHOUT_SAMPLES = {
    "input": "is the argument itself: nothing computes it",
    "callback": "calls a Python function, which has no JSON: tests/transforms/test_custom.py",
    "effect": "calls a Python function, which has no JSON: tests/transforms/test_printing.py",
    "defined_size": "gives a number to the sizes of other nodes: tests/ops/test_selection.py",
    "tree_heights": "takes parents, and other integers have cycles: tests/ops/test_tree_scan.py",
    "proj": "takes a tuple: it is tested with each primitive of several results",
}
NOT_THE_SLOPE = {"tanh_slope": "its first operand is tanh of the second: tests/ops/test_derivatives.py",
                 "sinc_slope": "its second operand is sinc of the first: tests/ops/test_derivatives.py",
                 "log_ndtr_slope": "its second operand is log_ndtr of the first: tests/ops/test_derivatives.py",
                 "arctan2_slope": "its third operand is the sum of the others' squares: tests/ops/test_derivatives.py",
                 "stop_gradient": "its derivative is zero by its meaning, not by its values"}

CASES = {f"{name}-{i}": (prim, sample) for name, prim in sorted(PRIMITIVES.items())
         for i, sample in enumerate(prim.samples())}
PLAIN = {k: v for k, v in CASES.items() if not any(
    isinstance(p, Graph) or (isinstance(p, tuple) and any(isinstance(q, Graph) for q in p))
    for p in v[1].params.values())}
SMOOTH = {k: v for k, v in CASES.items() if v[1].order >= 1}
TWICE = {k: v for k, v in CASES.items() if v[1].order >= 2}


def over(cases):
    return pytest.mark.parametrize("case", list(cases.values()), ids=list(cases))


def graph_of(case):
    prim, sample = case
    arrays = [np.asarray(a) for a in sample.arrays]
    return checks.program(prim, arrays, sample.params), arrays


def graph_in_float32(case):
    prim, sample = case
    arrays = [a.astype(np.float32) if a.dtype.kind == "f" else a for a in map(np.asarray, sample.arrays)]
    return checks.program(prim, arrays, sample.params), arrays


def test_every_primitive_has_samples():
    # Other tests declare primitives of their own, called after themselves.
    without = {name for name, prim in PRIMITIVES.items() if not prim.samples() and not name.startswith("test_")}
    assert without == set(WITHOUT_SAMPLES)


def test_every_derivative_that_exists_is_tested():
    # A primitive from floats to floats whose samples are all of order 0 would go untested.
    for name, prim in PRIMITIVES.items():
        if name in NOT_THE_SLOPE:
            continue
        samples = prim.samples()
        graphs = [checks.program(prim, [np.asarray(a) for a in s.arrays], s.params) for s in samples]
        smooth = [g for g in graphs if checks.floating(g.inputs) and checks.floating(g.outputs)]
        assert not smooth or max(s.order for s in samples) >= 2, name


@over(CASES)
def test_type(case):
    checks.check_types(*graph_of(case))


@over(CASES)
def test_nodes_that_hold_graphs_have_tuples_of_results(case):
    for node in graph_of(case)[0].nodes:
        assert not held_graphs(node) or isinstance(node.type, TupleType)


@over(CASES)
def test_parameters_are_declared(case):
    prim, sample = case
    assert prim.params is not None
    check_params(prim, sample.params)
    with pytest.raises(GraphError, match="no parameter 'other'"):
        check_params(prim, sample.params | {"other": 1})
    for name in sample.params:
        with pytest.raises(GraphError, match="lacks its parameter"):
            check_params(prim, {k: v for k, v in sample.params.items() if k != name})
        if prim.name != "full":  # any number: that it is one of the dtype is checked with the node
            for wrong in ("f()\n", -1j, {}, (0, "f()\n"), (0.5, -1)):
                with pytest.raises(GraphError, match=f"{prim.name}: {name}="):
                    check_params(prim, sample.params | {name: wrong})


@over(PLAIN)
def test_type_in_float32(case):
    graph, arrays = graph_in_float32(case)
    checks.check_types(graph, arrays)
    if case[1].order:
        for derived, seeds in derivatives(graph):
            checks.check_types(derived, [*arrays, *seeds])


@over({k: v for k, v in PLAIN.items() if any(np.asarray(a).dtype.kind == "i" for a in v[1].arrays)})
@pytest.mark.parametrize("dtype", ["int32", "int16", "uint8", "uint64"])
def test_type_of_other_integers(case, dtype):
    prim, sample = case
    arrays = [np.asarray(a) for a in sample.arrays]
    if np.dtype(dtype).kind == "u":
        arrays = [np.abs(a) if a.dtype.kind == "i" else a for a in arrays]
    arrays = [a.astype(dtype) if a.dtype.kind == "i" else a for a in arrays]
    graph = checks.program(prim, arrays, sample.params)
    checks.check_types(graph, arrays)
    checks.check_namespace(graph, arrays, array_api_strict)


@over(SMOOTH)
def test_gradient(case):
    checks.check_gradient(*graph_of(case))


@over({k: v for k, v in SMOOTH.items() if v[0].linear})
def test_linear(case):
    prim, sample = case
    rng = np.random.default_rng(7)
    marked = [[True] * len(sample.arrays)] if prim.linear == "jointly" else [
        [i == k for i in range(len(sample.arrays))]
        for k in range(len(sample.arrays) if prim.linear == "separately" else 1)]
    for varying in marked:
        assert is_linear(graph_of(case)[0].outputs[0], varying)
        pairs = [[rng.normal(size=np.shape(a)) if v else np.asarray(a)
                  for v, a in zip(varying, sample.arrays, strict=True)] for _ in range(2)]
        both = [2 * x - y if v else x for v, x, y in zip(varying, *pairs, strict=True)]
        one, other, have = (prim.eval(np, *xs, **sample.params) for xs in (*pairs, both))
        np.testing.assert_allclose(have, 2 * one - other, rtol=1e-9, atol=1e-9)


@over({k: v for k, v in PLAIN.items() if v[0].laws != Laws()})
def test_laws(case):
    prim, sample = case
    arrays, laws = [np.asarray(a) for a in sample.arrays], prim.laws

    def f(*xs, **params):
        return prim.eval(np, *xs, **(params or sample.params))

    if laws.commutative:
        np.testing.assert_array_equal(f(*arrays), f(*arrays[::-1]))
    if laws.idempotent and prim.kind == "elementwise":
        np.testing.assert_array_equal(f(arrays[0], arrays[0]), arrays[0])
    elif laws.idempotent:  # each element, repeated along the axes
        x, axes = arrays[0], sample.params["axes"]
        first = x[tuple(slice(1) if a in axes else slice(None) for a in range(x.ndim))]
        np.testing.assert_array_equal(f(np.broadcast_to(first, x.shape)), np.squeeze(first, axes))
    if laws.involution:
        np.testing.assert_array_equal(f(f(*arrays)), arrays[0])
    for i, neutral in laws.neutral.items():
        operands = [np.full_like(x, neutral) if k == i else x for k, x in enumerate(arrays)]
        np.testing.assert_array_equal(f(*operands), arrays[1 - i])
    if laws.compose:  # a second operation of the same axes, in the shape that the first one leaves
        (x,), inner, once = arrays, sample.params, f(*arrays)
        outer = {**inner, "shape": once.shape[::-1]} if "shape" in inner else inner
        if prim.name == "expand":
            outer = {"shape": (*once.shape, 2), "axes": (once.ndim,)}
        np.testing.assert_array_equal(f(once, **outer), f(x, **laws.compose(inner, outer)))


@over({k: v for k, v in PLAIN.items() if v[0].ufunc})
def test_ufunc(case):
    prim, sample = case
    arrays = [np.asarray(a) for a in sample.arrays]
    if prim.kind == "elementwise":
        want = prim.ufunc(*arrays)
    elif prim.kind == "reduce":
        want = prim.ufunc.reduce(*arrays, axis=sample.params["axes"])
    else:
        want = prim.ufunc.accumulate(*arrays, axis=sample.params["axis"])
    np.testing.assert_allclose(prim.eval(np, *arrays, **sample.params), want, rtol=1e-15)


@over({k: v for k, v in PLAIN.items() if v[0].view is not None and v[0].view.in_order})
def test_elements_in_order(case):
    prim, sample = case
    np.testing.assert_array_equal(np.ravel(prim.eval(np, *sample.arrays, **sample.params)), np.ravel(sample.arrays[0]))


@over({k: v for k, v in PLAIN.items() if "axes" in v[1].params})
def test_an_operation_along_no_axis_is_its_operand(case):
    prim, sample = case
    x = np.asarray(sample.arrays[0])
    params = {**sample.params, "axes": ()} | ({"shape": x.shape} if "shape" in sample.params else {})
    graph = checks.program(prim, [x], params)
    np.testing.assert_array_equal(prim.eval(np, x, **params), x)
    if graph.outputs[0].type == graph.inputs[0].type:
        assert simplify(graph).outputs == graph.inputs


@over(SMOOTH)
def test_forward_is_reverse(case):
    checks.check_duality(*graph_of(case))


@over(TWICE)
def test_second_order(case):
    graph, arrays = graph_of(case)
    for derived, seeds in derivatives(graph):
        checks.check_gradient(derived, [*arrays, *seeds], 1e-5)
        checks.check_duality(derived, [*arrays, *seeds])


@over({k: v for k, v in CASES.items() if v[1].arrays})
def test_batch(case):
    graph, arrays = graph_of(case)
    checks.check_batch(graph, arrays, depth=2)


@over(SMOOTH)
def test_batch_of_derivatives(case):
    graph, arrays = graph_of(case)
    for derived, seeds in derivatives(graph):
        checks.check_batch(derived, [*arrays, *seeds])


@over(CASES)
def test_array_api(case):
    graph, arrays = graph_of(case)
    checks.check_namespace(graph, arrays, array_api_strict)
    if case[1].order:
        for derived, seeds in derivatives(graph):
            checks.check_namespace(derived, [*arrays, *seeds], array_api_strict, 1e-10)


@over(CASES)
def test_json(case):
    graph, arrays = graph_of(case)
    checks.check_json(graph, arrays)


def derivatives(graph):
    """Return the graphs of both derivatives, each with the cotangents or tangents to run it on."""
    if not (checks.floating(graph.inputs) and checks.floating(graph.outputs)):
        return []
    return [(checks.reverse(graph), checks.random_like(checks.floating(graph.outputs), 3)),
            (checks.push(graph), checks.random_like(checks.floating(graph.inputs), 4))]
