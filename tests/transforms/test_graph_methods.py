"""Transforms of graphs as methods: each a graph that runs, prints, draws and goes through JSON, as the functions do."""

import re

import numpy as np
import pytest
from hypothesis import given, settings

import minigrad as mg
from minigrad.graph import FORMS, TEXTS, ArrayType, Graph
from minigrad.ops.control import placeholder
from tests.test_random_programs import batch_of, loop, programs
from tests.transforms.common import close, slope

rng = np.random.default_rng(0)
P = {"layers": [rng.normal(size=(2, 3)), rng.normal(size=(2, 2))], "b": rng.normal(size=2)}
X, Y = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))


def loss(params, x, y):
    h = np.tanh(params["layers"][0] @ x + params["b"])
    return np.sum((params["layers"][1] @ h - y) ** 2) + 0.1 * np.sum(params["b"] ** 2)


def with_aux(params, x, y):
    return loss(params, x, y), {"norm": np.sum(x ** 2)}


def pair(w, x):
    return w * x, np.sum(x)


AXES = (None, 0, 0)
ONE = mg.trace(loss)(P, X[0], Y[0])
AUX = mg.trace(with_aux)(P, X[0], Y[0])
PAIR = mg.trace(pair)(X[0], X[1])
MEAN = ONE.vmap(AXES).mean()
mean_loss = mg.mean_loss(loss, AXES)

# graph, its arguments, what the function transform computes on them
FORMED = {
    "itself": (ONE, (P, X[0], Y[0]), loss),
    "vmap": (ONE.vmap(AXES), (P, X, Y), mg.vmap(loss, AXES)),
    "vmap by name": (ONE.vmap({"x": 0, "y": -1}), (P, X, Y.T), mg.vmap(loss, (None, 0, 1))),
    "vmap of a part": (ONE.vmap({"params.layers.0": 0, "params['b']": 1}),
                       ({"layers": [np.stack([P["layers"][0]] * 2), P["layers"][1]], "b": np.ones((2, 2))}, X[0], Y[0]),
                       mg.vmap(loss, ({"layers": [0, None], "b": 1}, None, None))),
    "vmap of a size": (ONE.vmap(AXES, size=5), (P, X, Y), mg.vmap(loss, AXES)),
    "vmap to the last axis": (PAIR.vmap((None, 0), (-1, 0)), (X[0], X), mg.vmap(pair, (None, 0), (-1, 0))),
    "vmap of vmap": (ONE.vmap((0, None, None)).vmap(AXES),
                     ({"layers": [np.stack([a, 2 * a]) for a in P["layers"]], "b": np.ones((2, 2))}, X, Y),
                     mg.vmap(mg.vmap(loss, (0, None, None)), AXES)),
    "mean": (MEAN, (P, X, Y), mean_loss),
    "mean of aux": (AUX.vmap(AXES).mean(has_aux=True), (P, X, Y), mg.mean_loss(with_aux, AXES, has_aux=True)),
    "sum": (ONE.vmap(AXES).sum(), (P, X, Y), lambda *a: np.sum(mg.vmap(loss, AXES)(*a))),
    "unroll": (ONE.unroll(5, AXES), (P, X, Y), mg.unroll(loss, 5, AXES)),
    "grad": (MEAN.grad("params"), (P, X, Y), mg.grad(mean_loss)),
    "grad of a position": (MEAN.grad(-1), (P, X, Y), mg.grad(mean_loss, 2)),
    "grad of a part": (MEAN.grad("params.layers"), (P, X, Y), lambda *a: mg.grad(mean_loss)(*a)["layers"]),
    "grad of a leaf": (MEAN.grad("params['layers'][1]"), (P, X, Y), lambda *a: mg.grad(mean_loss)(*a)["layers"][1]),
    "grad of several": (MEAN.grad(["x", 0, "params.b"]), (P, X, Y),
                        lambda *a: (*mg.grad(mean_loss, (1, 0))(*a), mg.grad(mean_loss)(*a)["b"])),
    "grad with aux": (AUX.grad(has_aux=True), (P, X[0], Y[0]), mg.grad(with_aux, has_aux=True)),
    "value and grad": (MEAN.value_and_grad(("params", "y")), (P, X, Y), mg.value_and_grad(mean_loss, (0, 2))),
    "value and grad with aux": (AUX.value_and_grad("x", has_aux=True), (P, X[0], Y[0]),
                                mg.value_and_grad(with_aux, 1, has_aux=True)),
    "per-example grad": (ONE.grad("params").vmap(AXES), (P, X, Y), mg.per_example_grad(loss, in_axes=AXES)),
    "jvp": (ONE.jvp(), (P, X[0], Y[0], P, X[1], Y[1]),
            lambda *a: mg.jvp(loss, a[:3], a[3:])),
    "jvp of one": (ONE.jvp("x"), (P, X[0], Y[0], X[1]),
                   lambda p, x, y, dx: mg.jvp(lambda x: loss(p, x, y), (x,), (dx,))),
    "vjp": (ONE.vjp(), (P, X[0], Y[0], 2.0), lambda p, x, y, g: mg.vjp(loss, p, x, y)[1](g)),
    "vjp of one": (PAIR.vjp("w"), (X[0], X[1], (X[2], 3.0)), lambda w, x, g: mg.vjp(pair, w, x)[1](g)[0]),
    "second derivative": (MEAN.grad("params.b").sum().grad("params.b"), (P, X, Y),
                          lambda p, x, y: mg.grad(lambda b: np.sum(mg.grad(mean_loss)({**p, "b": b}, x, y)["b"]))(
                              p["b"])),
    "optimize": (MEAN.grad("params").optimize(), (P, X, Y), mg.grad(mean_loss)),
    "optimize less": (MEAN.grad("params").optimize(without=["factorize", "lower_einsum"]), (P, X, Y),
                      mg.grad(mean_loss)),
}


@pytest.mark.parametrize("name", FORMED)
def test_form_is_the_function_transform(name):
    graph, args, function = FORMED[name]
    close(graph.check()(*args), function(*args))


@pytest.mark.parametrize("name", FORMED)
def test_form_prints_draws_and_goes_through_json(name):
    graph, args, _ = FORMED[name]
    again = Graph.from_json(graph.to_json())
    assert str(again) == str(graph)
    assert again.to_svg().startswith("<svg")
    assert (again.in_tree, again.out_tree, again.names, again.out_names) == (
        graph.in_tree, graph.out_tree, graph.names, graph.out_names)
    close(again(*args), graph(*args), rtol=0, atol=0)


def test_chain_is_the_loop_and_finite_differences():
    graph = MEAN.value_and_grad("params.b")
    value, gradient = graph(P, X, Y)
    each = [loss(P, x, y) for x, y in zip(X, Y, strict=True)]
    np.testing.assert_allclose(value, np.mean(each), rtol=1e-12)
    for k, direction in enumerate(np.eye(2)):
        numeric = slope(lambda b: np.mean([loss({**P, "b": b}, x, y) for x, y in zip(X, Y, strict=True)]), P["b"],
                        direction)
        np.testing.assert_allclose(gradient[k], numeric, rtol=1e-6)


@settings(max_examples=25)
@given(programs())
def test_every_step_of_a_chain_is_the_function_and_its_json(drawn):
    program, w, x = drawn
    batch = batch_of(x, 3)
    mean = mg.mean_loss(program, (None, 0))
    graph = mg.trace(program)(w, x)
    steps = [(lambda g: g.vmap((None, 0)), loop(program, w, batch, axes=(None, 0))),
             (lambda g: g.mean(), mean(w, batch)),
             (lambda g: g.value_and_grad(["w", "x"]), mg.value_and_grad(mean, (0, 1))(w, batch)),
             (lambda g: g.optimize(), mg.value_and_grad(mean, (0, 1))(w, batch))]
    for step, want in steps:
        graph = Graph.from_json(step(graph).to_json())
        close(graph(w, batch), want, rtol=1e-7, atol=1e-8)
    close(mg.trace(program)(w, x).unroll(3, (None, 0))(w, batch), mean(w, batch), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_batch_has_any_number_of_examples(n):
    close(MEAN(P, X[:n], Y[:n]), mean_loss(P, X[:n], Y[:n]))


def test_each_batch_size_has_a_name_of_its_own():
    assert [s.name for s in PAIR.vmap((0, None)).vmap((None, 0)).symbols] == ["B", "B2"]
    size = mg.dim("examples")
    assert PAIR.vmap((0, None), size=size).inputs[0].shape == (size, 3)


def test_function_and_form_have_the_same_nodes():
    function, form = mg.trace(mg.value_and_grad(mean_loss))(P, X, Y), MEAN.value_and_grad()
    assert sorted(n.prim.name for n in form.nodes) == sorted(n.prim.name for n in function.nodes)
    assert (form.names, form.out_names) == (function.names, function.out_names)


def test_graph_is_traced_where_it_is_called():
    compiled = mg.compile(lambda p, x, y: MEAN.grad("params")(p, 2 * x, y))
    for n in (5, 3):
        close(compiled(P, X[:n], Y[:n]), mg.grad(mean_loss)(P, 2 * X[:n], Y[:n]))
    assert len(compiled.entries) == 1
    close(mg.vmap(ONE, AXES)(P, X, Y), mg.vmap(loss, AXES)(P, X, Y))
    close(mg.grad(MEAN)(P, X, Y), mg.grad(mean_loss)(P, X, Y))
    close(mg.hvp(MEAN, (P, X, Y), (P, X, Y)), mg.hvp(mean_loss, (P, X, Y), (P, X, Y)))


def test_keyword_arguments_are_mapped_and_called_by_keyword():
    graph = mg.trace(lambda w, *, x: np.sum(w * x))(X[0], x=X[1])
    close(graph.vmap(None)(X[0], x=X), X @ X[0])
    close(graph.grad("x")(X[0], x=X[1]), X[0])
    close(graph.jvp("x")(X[0], X[2], x=X[1]), (np.dot(X[0], X[1]), np.dot(X[0], X[2])))


def test_python_numbers_take_the_dtype_of_the_input():
    graph = mg.trace(lambda x, n: (x, n))(mg.f32[()], mg.i8[()])
    for x, n in (graph(2, 3), mg.compile(lambda: graph(2, 3))()):
        assert (x, n, x.dtype, n.dtype) == (2, 3, np.float32, np.int8)


def test_graph_without_pytrees_has_an_argument_for_each_input():
    x, y = (placeholder(ArrayType((3,), np.dtype("f8"))) for _ in range(2))
    graph = Graph((x, y), (x * y,), ("x", "y"))
    close(graph(X[0], X[1]), X[0] * X[1])
    close(graph.vmap((None, 0))(X[0], X), X[0] * X)
    close(graph.vmap({"y": 0}).mean()(X[0], X), X[0] * X.mean(0))
    close(graph.vjp("y")(X[0], X[1], X[2]), X[0] * X[2])
    two = Graph((x, y), (x * y, x + y))
    close(two(X[0], X[1]), (X[0] * X[1], X[0] + X[1]))


def test_new_argument_has_a_name_of_its_own():
    assert mg.trace(lambda x, dx: x * dx)(1.0, 2.0).jvp("x").names == ("x", "dx", "ddx")


F = mg.trace(lambda w, n: np.sum(w) * n)(X[0], 2)

ERRORS = {
    "unknown name": (lambda: MEAN.grad("weights"), mg.GradError,
                     "grad of loss: no argument is called 'weights'; there are "
                     + re.escape("params['b'], params['layers'][0], params['layers'][1], x, y")),
    "unknown part": (lambda: MEAN.grad("params.c"), mg.GradError, "no argument is called 'params.c'"),
    "start of a name": (lambda: MEAN.grad("par"), mg.GradError, "no argument is called 'par'"),
    "position": (lambda: MEAN.grad(3), mg.GradError, "wrt 3, but there are 3 positional arguments"),
    "neither": (lambda: MEAN.grad(1.5), mg.GradError, r"names and positions \(ints\), got 1.5"),
    "vector": (lambda: ONE.vmap(AXES).grad("params"), mg.GradError, r"grad of loss: it returns f64\[B\]"),
    "several names": (lambda: PAIR.grad("w", "x"), mg.GradError,
                      r"has_aux is True or False, got 'x'.*grad\(\['w', 'x'\]\)"),
    "pair": (lambda: PAIR.grad("w"), mg.GradError, r"it returns 2 values.*has_aux=True"),
    "integers": (lambda: F.grad("n"), mg.GradError, r"argument n is i64\[\].*leave it out of wrt"),
    "no aux": (lambda: ONE.grad(has_aux=True), mg.GradError, r"must return \(loss, aux\)"),
    "twice": (lambda: ONE.jvp(["x", "x"]), mg.GradError, "names an input twice"),
    "in_axes": (lambda: ONE.vmap((None, 0)), mg.BatchError, "in_axes has 2 entries, but there are 3 positional"),
    "in_axes by name": (lambda: ONE.vmap({"z": 0}), mg.BatchError, r"vmap\(loss\): no argument is called 'z'"),
    "in_axes of a tree": (lambda: ONE.vmap(({"b": 0}, 0, 0)), mg.BatchError, "does not fit the structure"),
    "in_axes out of range": (lambda: ONE.vmap((None, 2, None)), mg.BatchError,
                             r"in_axes 2 for x: f64\[3\], which has 2 axes with that of the batch"),
    "in_axes no int": (lambda: ONE.vmap((None, 0.5, None)), mg.BatchError, "an axis must be an int or None, got 0.5"),
    "nothing mapped": (lambda: ONE.vmap(None), mg.BatchError, "nothing is mapped"),
    "out_axes": (lambda: ONE.vmap(AXES, 1), mg.BatchError, r"out_axes 1, but the result has 1 axes"),
    "out_axes None": (lambda: ONE.vmap(AXES, None), mg.BatchError, "differs from example to example"),
    "no examples": (lambda: ONE.vmap(AXES, size=0), mg.BatchError, "size must be a positive int, got 0"),
    "no copies": (lambda: ONE.unroll(0, AXES), mg.BatchError, "n must be a positive int, got 0"),
    "mean of a number": (lambda: ONE.mean(), mg.BatchError, r"its result is f64\[\], which has no axis of examples"),
    "mean of integers": (lambda: mg.trace(lambda i: i + 1)(3).vmap().mean(), mg.BatchError,
                         r"i64\[B\], and only floating"),
    "no pass": (lambda: ONE.optimize(without=["none"]), mg.MinigradError, "no pass none; there are dead_code"),
    "sizes": (lambda: MEAN(P, X, Y[:4]), mg.ShapeError, "loss: size B is 5 in x and 4 in y"),
    "shape": (lambda: ONE(P, X[0, :2], Y[0]), mg.ShapeError, r"loss: argument x: expected f64\[3\], got f64\[2\]"),
    "axes": (lambda: MEAN(P, X[0], Y), mg.ShapeError, r"loss: argument x: expected shape \[B, 3\], got \[3\]"),
    "dtype": (lambda: ONE(P, X[0].astype("f4"), Y[0]), mg.DtypeError, r"argument x: expected f64\[3\], got f32\[3\]"),
    "number": (lambda: F(X[0], 2.5), mg.DtypeError, r"argument n: expected i64\[\], got f64\[\]"),
    "structure": (lambda: ONE(P, X[0]), mg.TraceError, "loss: expected arguments of structure"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error_names_the_graph_the_argument_and_the_line(name):
    call, kind, message = ERRORS[name]
    with pytest.raises(kind, match=message) as raised:
        call()
    assert __file__.rsplit("/", 1)[-1] in str(raised.value)


def test_every_form_is_a_method():
    assert FORMS.keys() | TEXTS.keys() < set(dir(Graph))


def test_a_gradient_refuses_the_indices_that_its_function_refuses():
    graph = mg.trace(lambda w, t, i: np.sum(w) + t[i])(mg.f64[3], mg.f64[4], mg.i64[()]).grad("w")
    np.testing.assert_array_equal(graph(np.ones(3), np.ones(4), 2), np.ones(3))
    with pytest.raises(IndexError, match="index 7 is out of range for an axis of size 4"):
        graph(np.ones(3), np.ones(4), 7)


def test_a_trace_refuses_the_indices_that_the_graphs_it_calls_refuse():
    row = mg.trace(lambda t, i: t[i])(mg.f64[4], mg.i64[()])

    def drops(w, t, i):
        row(t, i)
        return np.sum(w)

    compiled = mg.compile(drops, backend="numpy")
    assert compiled(np.ones(3), np.ones(4), 2) == 3.0
    with pytest.raises(IndexError, match="index 7 is out of range for an axis of size 4"):
        compiled(np.ones(3), np.ones(4), 7)


def test_a_forward_derivative_by_no_argument():
    graph = mg.trace(lambda x: np.sin(x))(np.ones(3))
    assert graph.jvp([]).names == graph.names
