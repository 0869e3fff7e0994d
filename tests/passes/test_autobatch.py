"""Automatic batching: the literal graph's values and derivatives, the size of `vmap`'s graph, trees, bad arguments."""

import sys

import numpy as np
import optree
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import interpreters
from minigrad.graph import PRIMITIVES, Graph
from minigrad.primitive import Sample, placeholder
from tests.test_random_programs import batch_of, close, programs

f64 = mg.f64


def neuron(w, x):
    return np.sum(np.tanh(x @ w) ** 2)


def layers(params, x):
    for w, b in params:
        x = np.tanh(x @ w + b)
    return np.sum(x * x)


def recurrent(params, x):
    h = np.zeros(3)
    for t in range(4):
        h = np.tanh(h @ params[0] + x[t] @ params[1] + params[2])
    return h @ h


PROGRAMS = {
    "neuron": (neuron, f64[3, 2], f64[3]),
    "layers": (layers, [(f64[3, 3], f64[3])] * 3, f64[3]),
    "recurrent": (recurrent, (f64[3, 3], f64[2, 3], f64[3]), f64[4, 2]),
    "regularised": (lambda w, x: neuron(w, x) + 0.1 * np.sum(w * w), f64[3, 2], f64[3]),
    "matrix": (lambda w, x: np.sum(np.exp(-(x @ w) @ (x @ w).T)), f64[3, 2], f64[4, 3]),
    "sorted": (lambda w, x: np.sort(x * w)[1] + np.max(x), f64[3], f64[3]),
    "scan": (lambda w, x: mg.scan(lambda h, v: (np.tanh(h * w + v), None), np.zeros(3), x)[0].sum(), f64[3], f64[5, 3]),
    "cond": (lambda w, x: mg.cond(x[0] > 0, lambda v: np.sum(v * w), lambda v: np.sum(v - w), x), f64[3], f64[3]),
    "solve": (lambda w, x: np.sum(np.linalg.solve(w @ w.T + np.eye(3), x) ** 2), f64[3, 3], f64[3]),
    "eigenvalues": (lambda w, x: np.linalg.eigvalsh(w * np.outer(x, x))[0], f64[3, 3], f64[3]),
}


def arrays_of(graph: Graph, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=n.shape) for n in graph.inputs]


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_copies_become_the_graph_of_an_axis(name):
    f, params, x = PROGRAMS[name]
    one = mg.trace(f)(params, x)
    copies = one.unroll(6, in_axes=(None, 0))
    found = mg.autobatch(copies).check()
    batch = one.vmap(in_axes=(None, 0)).mean()
    slices = found.count("slice", "reshape") - batch.count("slice", "reshape")
    # A sum, a constant and a division are `mean`; `vmap` moves the term of `regularised` out of it.
    assert found.count() - max(slices, 0) <= batch.count() + 2 + (name == "regularised")
    arrays = arrays_of(copies)
    want = interpreters.evaluate(copies, arrays)
    np.testing.assert_allclose(interpreters.evaluate(found, arrays), want, rtol=1e-13)
    np.testing.assert_allclose(interpreters.evaluate(mg.Graph.from_json(found.to_json()), arrays), want, rtol=1e-13)
    np.testing.assert_allclose(mg.compile(found)(*optree.tree_unflatten(copies.in_tree, arrays)[0]), want[0],
                               rtol=1e-12)


@pytest.mark.parametrize("wrt", [0, 1])
@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_gradients_of_copies(name, wrt):
    f, params, x = PROGRAMS[name]
    copies = mg.trace(f)(params, x).unroll(5, in_axes=(None, 0))
    arrays = arrays_of(copies)
    want = interpreters.evaluate(copies.grad(wrt), arrays)
    for gradient in (mg.autobatch(copies.grad(wrt)), mg.autobatch(copies).grad(wrt)):
        for have, expected in zip(interpreters.evaluate(gradient.check(), arrays), want, strict=True):
            np.testing.assert_allclose(have, expected, rtol=1e-11, atol=1e-13)
    batch = mg.trace(f)(params, x).vmap(in_axes=(None, 0)).mean()
    assert mg.autobatch(copies.grad(wrt)).count() <= 1.3 * batch.grad(wrt).count() + 3


@given(programs(), st.sampled_from([2, 3]))
def test_random_programs(drawn, n):
    program, w, x = drawn
    copies = mg.trace(program)(w, x).unroll(n, in_axes=(None, 0))
    gradients = copies.value_and_grad((0, 1))
    arrays = [w, batch_of(x, n)]
    want = interpreters.evaluate(gradients, arrays)
    close(interpreters.evaluate(mg.autobatch(copies), arrays), want[:1])
    close(interpreters.evaluate(mg.autobatch(gradients), arrays), want)


SAMPLES = [(name, k) for name, prim in sorted(PRIMITIVES.items()) if prim.kind != "leaf"
           for k, _ in enumerate(prim.samples())]
JOINING = ("slice", "reshape", "concatenate")  # operations that join operands, too


@pytest.mark.parametrize(("name", "k"), SAMPLES)
def test_every_primitive(name, k):
    """Copies on operands of their own, one after the other, and with all operands but the first shared."""
    prim = PRIMITIVES[name]
    sample: Sample = prim.samples()[k]
    for own in (range(len(sample.arrays)), range(1)):
        inputs, arrays, outputs = [], [], []
        shared = [placeholder(mg.ArrayType(a.shape, a.dtype)) for a in sample.arrays]
        for _ in range(3):
            operands = list(shared)
            for i in own:
                operands[i] = placeholder(shared[i].type)
                inputs.append(operands[i])
                arrays.append(sample.arrays[i])
            node = prim(*operands, **sample.params)
            outputs += [node] if isinstance(node.type, mg.ArrayType) else [
                PRIMITIVES["proj"](node, index=i) for i in range(len(node.types))]
        inputs += shared
        arrays += sample.arrays
        literal = Graph(tuple(inputs), tuple(outputs))
        found = mg.autobatch(literal).check()
        assert prim.distinct or name in JOINING or found.count(name) <= max(1, literal.count(name) // 3)
        pairs = zip(interpreters.evaluate(found, arrays), interpreters.evaluate(literal, arrays), strict=True)
        for have, want in pairs:
            np.testing.assert_allclose(have, want, rtol=1e-12, atol=1e-12)


def test_the_seed():
    """S = g(f(x, w), f(x, w), x): two literal copies of f are one batch, or one node where their operands are equal."""
    def f(x, w):
        return np.tanh(x @ w)

    def s(x, y, w):
        return np.sum(f(x, w) * f(y, w)) + np.sum(x)

    found = mg.autobatch(mg.trace(s)(f64[3], f64[3], f64[3, 2]))
    assert found.count("einsum") == found.count("tanh") == 1
    assert mg.autobatch(mg.trace(lambda x, w: s(x, x, w))(f64[3], f64[3, 2])).count("concatenate") == 0


def test_operations_that_depend_on_each_other_stay_apart():
    def power(w, x):
        for _ in range(5):
            x = np.tanh(x @ w)
        return x

    graph = mg.trace(power)(f64[3, 3], f64[3])
    found = mg.autobatch(graph)
    assert found.count() == graph.count()
    assert str(found).splitlines()[2:] == str(graph).splitlines()[1:]


def test_weights_are_not_copied():
    """Four weights of one shape: one product per weight on the rows of all examples, no stack of weights."""
    def gates(ws, x):
        return sum(np.sum(np.tanh(x @ w)) for w in ws)

    found = mg.autobatch(mg.trace(gates)([f64[8, 8]] * 4, f64[8]).unroll(10, in_axes=(None, 0)))
    assert sorted(n.shape for n in found.nodes if n.prim.name == "einsum") == [(10, 8)] * 4


def test_embeddings_become_one_gather():
    """The embedding that occurs twice is computed once, and added twice."""
    table = mg.trace(lambda e, w: sum(np.sum(np.tanh(e[k] @ w)) for k in (4, 0, 2, 4, 7)))(f64[9, 3], f64[3, 3])
    found = mg.autobatch(table)
    assert [n.shape for n in found.nodes if n.prim.name in ("gather", "einsum")] == [(4, 1, 3), (4, 3), (5,)]
    arrays = arrays_of(table)
    np.testing.assert_allclose(interpreters.evaluate(found, arrays), interpreters.evaluate(table, arrays), rtol=1e-14)
    for have, want in zip(interpreters.evaluate(mg.autobatch(table.grad((0, 1))), arrays),
                          interpreters.evaluate(table.grad((0, 1)), arrays), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-13)


def test_scans_of_equal_bodies_are_one_scan():
    def loss(w, x):
        return mg.scan(lambda h, v: (np.tanh(h * w + v), None), np.zeros(()), x)[0]

    def all_(w, xs):
        return sum(loss(w, x) for x in xs)

    graph = mg.trace(all_)(f64[()], [f64[7]] * 4)
    found = mg.autobatch(graph)
    assert (graph.count("scan"), found.count("scan")) == (4, 1)
    arrays = arrays_of(graph)
    np.testing.assert_allclose(interpreters.evaluate(found, arrays), interpreters.evaluate(graph, arrays), rtol=1e-14)


def test_constants_are_stacked_before_the_program_runs():
    found = mg.autobatch(mg.trace(lambda w: sum(np.sin(w * c) for c in (0.5, 1.5, -2.0, 0.0)))(f64[()]))
    assert found.count("const") == found.count("mul") == found.count("sin") == found.count("sum") == 1
    assert found.count("concatenate", "reshape") == 0
    np.testing.assert_allclose(found(1.0), np.sin([0.5, 1.5, -2.0, 0.0]).sum())


def test_zeros_of_both_signs_are_different_constants():
    found = mg.autobatch(mg.trace(lambda w: [w / c for c in (0.0, -0.0, 0.0)])(f64[()]))
    np.testing.assert_array_equal(found(1.0), [np.inf, -np.inf, np.inf])


def test_symbolic_sizes_within_an_example():
    n = mg.dim("n")
    graph = mg.trace(lambda w, xs: sum(np.sum(np.tanh(x * w)) for x in xs))(f64[()], [f64[n]] * 3)
    found = mg.autobatch(graph)
    assert found.count("tanh") == 1
    xs = [np.arange(5.0), np.ones(5), np.zeros(5)]
    np.testing.assert_allclose(found(0.5, xs), graph(0.5, xs))


# -- trees -----------------------------------------------------------------------------------------------


def value(w, tree):
    if isinstance(tree, tuple):
        return np.tanh(w[0] * value(w, tree[0]) + w[1] * value(w, tree[1]))
    return tree


TREES = [((1.0, 2.0), 3.0), (1.0, (2.0, (3.0, 4.0))), 0.5, ((1.0, 0.2), (0.3, 0.4)), ((((1.0, 2.0), 0.1), 0.2), 1.0)]


def test_trees_become_one_program_by_height():
    w = np.array([0.3, -0.7])
    graphs = [mg.trace(value)(w, tree) for tree in TREES]
    found = mg.autobatch(graphs, in_axes=(None, 0)).check()
    assert found.count("tanh") == 4  # the height of the highest tree
    want = np.array([value(w, t) for t in TREES])
    np.testing.assert_allclose(found(w, tuple(TREES)), want, rtol=1e-14)
    gradient = np.mean([g.grad(0)(w, t) for g, t in zip(graphs, TREES, strict=True)], axis=0)
    np.testing.assert_allclose(mg.compile(found.mean().grad(0))(w, tuple(TREES)), gradient, rtol=1e-13)
    assert found.names[:3] == ("w", "tree[0][0][0]", "tree[0][0][1]")
    assert "tree[2]" in found.names


def test_one_trace_of_all_trees_is_the_same():
    w = np.array([0.3, -0.7])
    literal = mg.trace(lambda w: [value(w, t) for t in TREES])(w)
    found = mg.autobatch(literal)
    assert found.count("tanh") == 4
    np.testing.assert_allclose(found(w), [value(w, t) for t in TREES], rtol=1e-14)


def test_nodes_with_any_number_of_children():
    """Child sums of 3 to 6 terms in one group become one segment sum."""
    def total(w, tree):
        return np.tanh(w * sum(total(w, t) for t in tree)) if isinstance(tree, list) else tree

    trees = [[0.1, 0.2, [0.3, 0.4, 0.5]], [[0.1] * 4, [0.2, 0.3, 0.4], 0.3], [[0.7, 0.1, 0.2], 1.0, [0.1] * 6, 0.2]]
    graphs = [mg.trace(total)(0.5, t) for t in trees]
    found = mg.autobatch(graphs, in_axes=(None, 0))
    np.testing.assert_allclose(found(0.5, tuple(trees)), [total(0.5, t) for t in trees], rtol=1e-14)
    want = np.sum([g.grad(0)(0.5, t) for g, t in zip(graphs, trees, strict=True)])
    np.testing.assert_allclose(found.sum().grad(0)(0.5, tuple(trees)), want, rtol=1e-13)


def test_results_of_several_graphs_are_stacked():
    graphs = [mg.trace(lambda w, x: {"a": w * x, "b": np.sum(x)})(f64[2], f64[2]) for _ in range(3)]
    found = mg.autobatch(graphs, in_axes=(None, 0))
    w, xs = np.array([1.0, 2.0]), tuple(np.arange(6.0).reshape(3, 2))
    result = found(w, xs)
    np.testing.assert_array_equal(result["a"], w * np.array(xs))
    np.testing.assert_array_equal(result["b"], np.sum(xs, axis=1))


# -- bad arguments ---------------------------------------------------------------------------------------


def test_errors_name_the_graph_and_the_types():
    one = mg.trace(lambda w, x: np.sum(w * x))(f64[2], f64[2])
    with pytest.raises(mg.BatchError, match="one graph per example"):
        mg.autobatch([])
    with pytest.raises(mg.BatchError, match=r"mg\.trace\(f\)"):
        mg.autobatch(lambda w, x: w * x)
    with pytest.raises(mg.BatchError, match=r"argument 0 is shared, and .* graph 1: f64\[2\] and f64\[3\]"):
        mg.autobatch([one, mg.trace(lambda w, x: np.sum(w * x))(f64[3], f64[3])], in_axes=(None, 0))
    with pytest.raises(mg.BatchError, match=r"graph 1 have different types: f64\[\] and f64\[2\]"):
        mg.autobatch([one, mg.trace(lambda w, x: w * x)(f64[2], f64[2])], in_axes=(None, 0))
    with pytest.raises(mg.BatchError, match="3 entries, but graph 0, lambda_, has 2 positional arguments"):
        mg.autobatch([one], in_axes=(None, 0, 0))
    with pytest.raises(mg.BatchError, match=r"None \(shared\) or 0 .*got \(None, 1\)"):
        mg.autobatch([one], in_axes=(None, 1))
    with pytest.raises(mg.BatchError, match="1 by keyword"):
        mg.autobatch([mg.trace(lambda w, *, x: w * x)(f64[2], x=f64[2])], in_axes=(None,))


# -- lists of graphs that share nodes, and costs ------------------------------------------------------------------


def test_one_graph_stands_for_several_examples():
    g = mg.trace(lambda w, x: np.tanh(w * x))(f64[2], f64[2])
    other = mg.trace(lambda w, x: np.sin(w + x))(f64[2], f64[2])
    found = mg.autobatch([g, g, other, g], in_axes=(None, 0)).check()
    w, xs = np.array([0.5, 2.0]), tuple(np.arange(8.0).reshape(4, 2))
    want = [np.tanh(w * xs[0]), np.tanh(w * xs[1]), np.sin(w + xs[2]), np.tanh(w * xs[3])]
    np.testing.assert_allclose(found(w, xs), want, rtol=1e-15)
    np.testing.assert_allclose(mg.autobatch([g, g.replace(outputs=g.outputs)])((w, w), xs[:2]), want[:2], rtol=1e-15)
    same = mg.autobatch([g, g], in_axes=None).check()
    np.testing.assert_allclose(same(w, xs[1]), [want[1]] * 2, rtol=1e-15)


def test_sums_of_several_kinds_become_sums_by_kind():
    functions = [np.sin, np.cos, np.tanh, np.exp]
    graph = mg.trace(lambda xs: sum(functions[k % 4](x) for k, x in enumerate(xs)))([f64[3]] * 200)
    found = mg.autobatch(graph)
    assert (found.count("add"), found.count("sum")) == (3, 4)
    arrays = arrays_of(graph)
    np.testing.assert_allclose(interpreters.evaluate(found, arrays), interpreters.evaluate(graph, arrays), rtol=1e-12)


@pytest.mark.parametrize("f", [
    lambda xs: sum(xs), lambda xs: sum([np.sin, np.cos][k % 2](x) for k, x in enumerate(xs))])
def test_lines_run_grow_with_the_length_of_a_chain(f):
    """Twice as many terms take about twice as many lines of Python, not four times."""
    def lines(n):
        graph, count = mg.trace(f)([f64[2]] * n), 0

        def trace(frame, event, arg):
            nonlocal count
            count += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            mg.autobatch(graph)
        finally:
            sys.settrace(before)
        return count

    assert lines(400) < 2.5 * lines(200)


def test_computed_weights_are_not_stacked_into_large_arrays():
    def loss(ws, xs):
        computed = [np.tanh(w) for w in ws]
        return sum(np.sum(computed[k % 30] @ x) for k, x in enumerate(xs))

    found = mg.autobatch(mg.trace(loss)([f64[128, 128]] * 30, [f64[128]] * 120))
    assert max(n.type.size for n in found.nodes if isinstance(n.type, mg.ArrayType)) <= 30 * 128 * 128


def test_operations_without_operands():
    """A loop reduced to the checks of its indices, and a callback."""
    def f(x):
        mg.fori_loop(0, 3, lambda k, c: mg.numpy.at(c)[...].multiply(c), 1.0)
        return x + mg.callback(lambda: np.float64(2), mg.f64[()])

    graph = mg.trace(lambda xs: [f(x) for x in xs])([f64[()]] * 2)
    assert graph.count("scan") == 2
    found = mg.autobatch(graph).check()
    assert found.count("scan") == 1
    assert found([1.0, 2.0]) == [3.0, 4.0]


def test_more_errors():
    g = mg.trace(lambda x: {"a": x})(f64[2])
    with pytest.raises(mg.BatchError, match=r"different structures: \{'a': \*\} and \{'b': \*\}"):
        mg.autobatch([g, mg.trace(lambda x: {"b": x})(f64[2])])
    with pytest.raises(mg.BatchError, match="one graph has no in_axes"):
        mg.autobatch(g, in_axes=(None, 0))
    for axes in (np.array([0, 0]), 0.0, (0.0,), True):
        with pytest.raises(mg.BatchError, match=r"None \(shared\) or 0"):
            mg.autobatch([g], in_axes=axes)
