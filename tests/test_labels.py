"""Labels and scopes: names that the author gives, through every transform and pass."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import labels, passes

W, X = np.array([0.5, -1.0]), np.arange(6.0).reshape(3, 2)


def loss(w, x):
    score = mg.label(x @ w, "score")
    with mg.scope("head"):
        h = mg.label(np.tanh(score), "h")
        with mg.scope("square"):
            return h**2


def named(graph):
    """Return the names on a page that are not numbers, arguments or literals."""
    return [line.split(":")[0].strip() for line in str(graph).splitlines()
            if " = " in line and not line.strip().startswith("%")]


def test_labels_name_values_through_transforms():
    one = mg.trace(loss)(W, X[0])
    batch = one.vmap(in_axes=(None, 0))
    for graph in (one, batch, batch.mean(), batch.mean().grad("w"), mg.Graph.from_json(batch.to_json())):
        assert named(graph) == ["score", "h"], graph
    assert named(one.unroll(2, in_axes=(None, 0))) == ["score", "h", "score_2", "h_2"]
    assert ">score<" in batch.to_svg()


def test_equal_labels_on_one_line_name_both_values():
    def both(w, x):
        return np.sum(mg.label(np.tanh(w * x), "a") + mg.label(np.sin(w * x), "a"))

    one = mg.trace(both)(W, X[0])
    for graph in (one, one.vmap(in_axes=(None, 0)), one.vmap(in_axes=(None, 0)).vmap(in_axes=(0, None))):
        assert named(graph) == ["a", "a_2"], graph
    assert named(one.unroll(2, in_axes=(None, 0))) == ["a", "a_2", "a_3", "a_4"]


def test_labels_and_scopes_survive_passes():
    graph = passes.optimize(mg.trace(mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0))))(W, X))
    assert {"score", "h"} <= set(named(graph))
    assert any("(head/square)" in n.where for n in graph.nodes)


def test_names_change_no_value():
    def plain(w, x):
        return np.tanh(x @ w) ** 2

    for transform in (lambda f: f, mg.grad, lambda f: mg.mean_loss(f, in_axes=(None, 0))):
        x = X if transform not in (mg.grad,) and transform(loss) is not loss else X[0]
        np.testing.assert_array_equal(transform(loss)(W, x), transform(plain)(W, x))
    assert mg.compile(mg.mean_loss(loss, in_axes=(None, 0)))(W, X) == mg.mean_loss(plain, in_axes=(None, 0))(W, X)
    counts = [len(passes.optimize(mg.trace(mg.mean_loss(f, in_axes=(None, 0)))(W, X)).nodes) for f in (loss, plain)]
    assert counts[0] == counts[1]  # the program has no step more


def test_plain_arrays_and_arguments_come_back_as_they_are():
    assert mg.label(X, "x") is X
    assert mg.label(2.0, "x") == 2.0
    graph = mg.trace(lambda x: mg.label(x, "renamed") * 2)(1.0)
    assert graph.names == ("x",)


def test_scopes_nest_and_decorate():
    @mg.scope("f")
    def f(x):
        with mg.scope("inner"):
            return np.exp(x)

    (node,) = mg.trace(f)(1.0).outputs
    assert node.loc[2:] == ("f/inner", "")
    assert node.where.endswith("(f/inner)")
    (after,) = mg.trace(np.exp)(1.0).outputs
    assert len(after.loc) == 2


def test_scopes_end_with_an_error():
    with pytest.raises(ZeroDivisionError), mg.scope("a"):
        raise ZeroDivisionError
    assert mg.trace(np.exp)(1.0).outputs[0].where.count("(") == 0


def test_errors_name_the_scope():
    @mg.scope("decoder")
    def f(x, i):
        return x[i]

    with pytest.raises(IndexError, match=r"\(decoder\)"):
        mg.compile(f)(np.ones(3), 7)


@pytest.mark.parametrize("make", [lambda n: mg.label(1.0, n), lambda n: labels.scope(n).__enter__()])
@pytest.mark.parametrize("name", ["", None, 3])
def test_bad_names(make, name):
    with pytest.raises(mg.MinigradError, match="must be a string"):
        make(name)
