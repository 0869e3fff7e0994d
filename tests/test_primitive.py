"""A structural operation from outside the package: one declaration, and all of minigrad works with it.

The declaration says the type of the result, the value, the derivatives (and that it is linear) and the axis rule. No
other place names the operation.
"""

import numpy as np
import pytest

import minigrad as mg
from minigrad.axes import PERMUTED, along, axis_rule
from minigrad.backends.native.runtime import jit
from minigrad.families import linear
from minigrad.graph import PRIMITIVES, ArrayType, Graph, constant_of, full
from minigrad.numpy import Array
from minigrad.ops.shape import require_axes
from minigrad.primitive import Sample, broadcast_axes, placeholder, unbroadcast
from minigrad.report.flops import count_operations
from minigrad.traced_array import as_array
from minigrad.transforms import custom
from tests.test_axes import test_axis_rule_bounds_element_dependencies as axis_rule_bounds_element_dependencies
from tests.test_axes import test_front_adds_one_parallel_axis as adds_one_parallel_axis
from tests.transforms.common import close, slope

BACKENDS = ("numpy", "native") if jit.available() is None else ("numpy",)
rng = np.random.default_rng(0)
W, X = rng.normal(size=3), rng.normal(size=(5, 4, 3))


def samples():
    return [Sample((rng.normal(size=(3, 4)),), {"shift": 1, "axis": a}) for a in (0, 1)]


def type_of(t: ArrayType, *, shift: int, axis: int) -> ArrayType:
    return require_axes("test_roll", t, axis)


def public():
    """Declare the operation with rules on arrays."""
    return mg.primitive(
        "test_roll", lambda xp, x, *, shift, axis: xp.roll(x, shift, axis=axis), type_of,
        vjp=lambda g, out, x, *, shift, axis: [roll(g, -shift, axis)],
        jvp=lambda ts, out, x, *, shift, axis: roll(ts[0], shift, axis), axes=along("axis", PERMUTED), linear="first",
        samples=samples)


def core():
    """Declare the operation with rules on nodes, as `minigrad.ops` does: the transpose is both derivatives."""
    prim = linear(
        "test_roll", type_of, lambda xp, x, *, shift, axis: xp.roll(x, shift, axis=axis),
        lambda g, x, *, shift, axis: prim(g, shift=-shift, axis=axis), axes=along("axis", PERMUTED), samples=samples,
        params=None)

    def apply(x, **params):
        return Array(prim(as_array(x)._node, **params)) if isinstance(x, Array) else np.roll(x, *params.values())

    return apply


@pytest.fixture(params=[public, core], autouse=True)
def declared(request):
    global apply
    apply = request.param()
    yield PRIMITIVES["test_roll"]
    del PRIMITIVES["test_roll"]
    custom._APPLIED.pop("test_roll", None)


def roll(x, shift, axis):
    return apply(x, shift=shift, axis=axis % x.ndim)


def loss(w, x):
    h = np.tanh(roll(x * w, 1, 1))
    return np.sum(roll(h, 2, 0) * x) + np.sum(np.sin(x * roll(w, 1, 0))) + np.sum(roll(w, 1, 0) ** 3)


def reference(w, x):
    h = np.tanh(np.roll(x * w, 1, 1))
    return np.sum(np.roll(h, 2, 0) * x) + np.sum(np.sin(x * np.roll(w, 1, 0))) + np.sum(np.roll(w, 1, 0) ** 3)


AXES = (None, 0)
mean = mg.mean_loss(loss, AXES)
mean_of_reference = mg.mean_loss(reference, AXES)


def test_declaration_passes_the_checks_of_primitives(declared):
    for axis in (0, 1):
        assert mg.check_primitive(lambda x, axis=axis: roll(x, 1, axis), X[0])
    for sample in declared.samples():
        axis_rule_bounds_element_dependencies((declared, sample))
        adds_one_parallel_axis((declared, sample))


def test_prints_and_goes_through_json(declared):
    graph = mg.trace(mg.vmap(lambda x: roll(x, 1, 0)))(X)
    assert "test_roll(X, shift=1, axis=1)".replace("X", "x") in str(graph)
    assert str(axis_rule(graph.outputs[0])) == "[i, j~, k] -> [i, j~, k]"
    again = Graph.from_json(graph.to_json())
    assert str(again) == str(graph)
    close(again(X), np.roll(X, 1, 1))
    assert "test_roll" in graph.to_svg()
    assert count_operations(graph, dict.fromkeys(graph.symbols, 5)) == 0


def test_batch_is_a_loop():
    close(mg.vmap(lambda x: roll(x, 1, -1))(X), np.roll(X, 1, 2))
    close(mg.vmap(lambda x: roll(x, 1, 0), 1, 1)(X), np.stack([np.roll(x, 1, 0) for x in np.moveaxis(X, 1, 0)], 1))
    close(mg.vmap(mg.vmap(lambda x: roll(x, 1, 0)))(X), np.roll(X, 1, 2))
    close(mg.vmap(loss, AXES)(W, X), np.array([reference(W, x) for x in X]))
    assert mg.check_batching(loss, (W, X), AXES)


def test_derivatives_of_both_orders():
    assert mg.check_grads(loss, (W, X[0]), argnums=(0, 1))
    gradient = mg.grad(loss)(W, X[0])
    close(gradient, mg.grad(reference)(W, X[0]))
    v = rng.normal(size=3)
    numeric = slope(lambda w: reference(w, X[0]), W, v)
    np.testing.assert_allclose(gradient @ v, numeric, rtol=1e-6)
    second = [slope(lambda w, k=k: mg.grad(loss)(w, X[0])[k], W, v) for k in range(3)]
    np.testing.assert_allclose(mg.hessian(loss)(W, X[0]) @ v, second, rtol=1e-6)
    close(mg.hessian(loss)(W, X[0]), mg.hessian(reference)(W, X[0]))


def test_mask_goes_back_through_it():
    """The branch not taken has an infinite slope; the mask must pass the operation to keep it out."""
    x = np.array([0.0, 1.0, 4.0, 0.0])

    def masked(x):
        y = roll(np.sqrt(x), 1, 0)
        return np.sum(np.where(np.array([False, False, True, True]), y, 0))

    np.testing.assert_array_equal(mg.grad(masked)(x), [0, 0.5, 0.25, 0])
    np.testing.assert_array_equal(mg.vmap(mg.grad(masked))(np.stack([x, x])), [[0, 0.5, 0.25, 0]] * 2)


def test_microbatches_are_the_whole_batch():
    want = mg.value_and_grad(mean_of_reference)(W, X)
    close(mg.value_and_grad(mg.microbatch(mean, 2))(W, X), want)
    close(mg.microbatch(mg.value_and_grad(mean), 3, AXES)(W, X), want)
    with pytest.raises(mg.BatchError, match=r"test_roll.*works along the batch axis"):
        mg.microbatch(lambda x: roll(x, 1, 0), 2)(X)


@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled_for_every_batch_size(backend):
    step = mg.compile(mg.value_and_grad(mean), backend=backend)
    rows = mg.compile(mg.vmap(lambda w, x: np.exp(roll(np.sin(x) * w, 1, 1)) + x, AXES), backend=backend)
    for n in (5, 1, 3):
        close(step(W, X[:n]), mg.value_and_grad(mean_of_reference)(W, X[:n]))
        close(rows(W, X[:n]), np.exp(np.roll(np.sin(X[:n]) * W, 1, 2)) + X[:n])
    assert len(step.entries) == len(rows.entries) == 1
    many = rng.normal(size=(4000, 4, 3))  # more rows than a block has
    close(rows(W, many), np.exp(np.roll(np.sin(many) * W, 1, 2)) + many)


@pytest.mark.parametrize("backend", [None, *BACKENDS])
def test_in_loops_branches_and_checkpoints(backend):
    def using(function):
        def f(w, x):
            h, ys = mg.scan(lambda h, v: (np.tanh(function(h, 1, 0) + v), function(h, 2, 0)), w, x)
            return mg.checkpoint(lambda h: np.sum(function(h, 1, 0) * w))(h) + np.sum(mg.cond(
                h[0] > 0, lambda y: function(y, 1, 1), lambda y: y * 2, ys) * x)

        return mg.value_and_grad(mg.mean_loss(f, AXES))

    ours, plain = using(roll), using(np.roll)
    close((ours if backend is None else mg.compile(ours, backend=backend))(W, X), plain(W, X))


node = mg.axis("node")


@mg.example
class Cloud:
    x: mg.f64[node, 3]
    near: mg.index(node)[node, 2]
    maybe: mg.index(node, null=-1)[node, 2]


CLOUDS = [Cloud(rng.normal(size=(n, 3)), rng.integers(0, n, (n, 2)), rng.integers(-1, n, (n, 2)))
          for n in (4, 1, 3, 2)]


def of_rows(w, cloud):
    return np.sum(np.tanh(roll(cloud.x * w, 1, 1)) * cloud.x)


def test_ragged_rows_keep_apart():
    batch = mg.batch(CLOUDS)
    want = [np.sum(np.tanh(np.roll(c.x * W, 1, 1)) * c.x) for c in CLOUDS]
    close(mg.vmap(of_rows, AXES)(W, batch), np.array(want))
    ragged = mg.value_and_grad(mg.mean_loss(of_rows, AXES))
    value, gradient = ragged(W, batch)
    np.testing.assert_allclose(value, np.mean(want))
    close(gradient, np.mean([mg.grad(of_rows)(W, c) for c in CLOUDS], axis=0))
    for backend in BACKENDS:
        close(mg.compile(ragged, backend=backend)(W, batch), (value, gradient))
    assert mg.check_batching(of_rows, (W, batch), AXES)


def test_ragged_microbatches_are_the_whole_batch():
    batch = mg.batch(CLOUDS)
    mean = mg.mean_loss(of_rows, AXES)
    want = mg.value_and_grad(mean)(W, batch)
    close(mg.microbatch(mg.value_and_grad(mean), 2, AXES)(W, batch), want)
    close(mg.value_and_grad(mg.microbatch(mean, 3, AXES))(W, batch), want)


def test_index_stays_an_index():
    def edges(c):
        return np.sum(c.x[roll(c.near, 1, 1)[:, 0]] * c.x)

    batch = mg.batch(CLOUDS)
    close(mg.vmap(edges)(batch), np.array([np.sum(c.x[c.near[:, 1]] * c.x) for c in CLOUDS]))
    with pytest.raises(mg.BatchError, match=r"this index into node is declared with null=-1"):
        mg.vmap(lambda c: np.sum(c.x[roll(c.maybe, 1, 1)]))(batch)
    found = mg.vmap(lambda c: np.sum(mg.gather(c.x, roll(c.maybe, 1, 1))[:, 0] * c.x))(batch)
    close(found, np.array([np.sum(np.where(c.maybe[:, 1:] < 0, 0, c.x[c.maybe[:, 1]]) * c.x) for c in CLOUDS]))


def test_ragged_axis_is_refused_with_the_reason():
    with pytest.raises(mg.Unsupported, match=r"test_roll\(f64\[node, 3\]\): it moves elements along a ragged axis"):
        mg.vmap(lambda c: np.sum(roll(c.x, 1, 0)))(mg.batch(CLOUDS))


def test_axis_rule_as_text():
    last = mg.primitive("test_turn", lambda xp, x: xp.flip(x, axis=-1), lambda t: t,
                        vjp=lambda g, out, x: [last(g)], axes="... i~ -> ... i~", linear="first")
    try:
        assert str(axis_rule(mg.trace(last)(X).outputs[0])) == "[i, j, k~] -> [i, j, k~]"
        close(mg.vmap(last)(X), X[..., ::-1])
        close(mg.vmap(lambda c: last(c.x))(mg.batch(CLOUDS)).values, np.concatenate([c.x for c in CLOUDS])[:, ::-1])
    finally:
        del PRIMITIVES["test_turn"], custom._APPLIED["test_turn"]


def test_operation_needs_an_axis_rule_or_a_batch_rule():
    bare = mg.primitive("test_bare", lambda xp, x: x, lambda t: t)
    try:
        with pytest.raises(mg.Unsupported, match="declared without batch=, and without axes= that imply it"):
            mg.vmap(bare)(X)
    finally:
        del PRIMITIVES["test_bare"], custom._APPLIED["test_bare"]


def test_unbroadcast_drops_some_axes_of_an_expand():
    x = placeholder(ArrayType((3,), np.dtype("f8")))
    repeated = PRIMITIVES["expand"](x, shape=(2, 3, 4, 5), axes=(0, 2, 3))
    assert broadcast_axes(repeated) == (0, 2, 3)
    assert broadcast_axes(x) == ()
    assert unbroadcast(repeated, (0, 2, 3)) is x
    assert unbroadcast(repeated, ()) is repeated
    rest = unbroadcast(repeated, (0, 3))
    assert rest.shape == (3, 4)
    assert rest.inputs == (x,)
    assert broadcast_axes(rest) == (1,)


def test_unbroadcast_of_a_constant_is_a_constant():
    two = full(2.0, (3, 4), np.dtype("f4"))
    assert broadcast_axes(two) == (0, 1)
    rest = unbroadcast(two, (0,))
    assert constant_of(rest) == 2.0
    assert rest.type == ArrayType((4,), np.dtype("f4"))
