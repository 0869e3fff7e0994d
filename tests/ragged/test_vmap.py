"""What `vmap` takes and refuses where batches of examples of different size are among its arguments."""

import numpy as np
import pytest

import minigrad as mg

from .cases import SIZES, Molecule, close, molecules

node, edge, word = map(mg.axis, ("node", "edge", "word"))
W = np.random.default_rng(2).normal(size=(4, 3))


def loss(w, g):
    h = np.tanh(g.x @ w)
    m = mg.segment_sum(h[g.src] * g.w[:, None], g.dst, g.x.shape[0])
    return np.sum((np.sum(m, axis=0) - g.y) ** 2)


def test_dense_and_ragged_together():
    examples = molecules(SIZES["empty middle"])
    batch, scale = mg.batch(examples), np.arange(4.0)

    def scaled(w, g, s):
        return s * loss(w, g)

    have = mg.vmap(scaled, in_axes=(None, 0, 0))(W, batch, scale)
    close(have, [scaled(W, g, s) for g, s in zip(examples, scale, strict=True)])
    with pytest.raises(mg.BatchError, match="batch sizes differ"):
        mg.vmap(scaled, in_axes=(None, 0, 0))(W, batch, np.ones(3))


def test_a_list_of_examples_is_no_batch():
    examples = molecules(SIZES["empty middle"])
    for f in (mg.vmap(loss, in_axes=(None, 0)), mg.grad(mg.mean_loss(loss, in_axes=(None, 0))),
              mg.compile(mg.vmap(loss, in_axes={"g": 0}))):
        with pytest.raises(mg.BatchError, match=r"test_vmap\.py:\d+: .*a list of \d+ Molecule .*mg\.batch"):
            f(W, examples)
    shared = mg.vmap(lambda graphs, s: s * sum(loss(W, g) for g in graphs), in_axes=(None, 0))
    close(shared(examples, np.arange(2.0)), [0.0, sum(loss(W, g) for g in examples)])


def test_dense_arguments_behind_a_batch():
    examples = molecules(SIZES["empty middle"])
    batch, columns = mg.batch(examples), np.arange(12.0).reshape(3, 4)
    have = mg.vmap(lambda g, w: loss(w, g), in_axes=(0, None))(batch, W)
    close(have, [loss(W, g) for g in examples])
    have = mg.vmap(lambda g, s: np.sum(g.y * s), in_axes=(0, 1))(batch, columns)
    close(have, [np.sum(g.y * s) for g, s in zip(examples, columns.T, strict=True)])


def test_results_have_the_axes_of_their_arguments():
    batch = mg.batch(molecules(SIZES["mixed"]))
    assert mg.vmap(lambda g: g.x[:, 0])(batch).schema.fields["value"].shape == (node,)
    assert mg.vmap(lambda g: g.w[:, None] * g.y)(batch).schema.fields["value"].shape == (edge, 3)
    assert mg.vmap(lambda g: g.x[1:, 0])(batch).schema.fields["value"].shape[0].name == "node - 1"


def test_a_shared_batch_is_one_value():
    examples = molecules(SIZES["mixed"])
    batch = mg.batch(examples)
    many = np.stack([W, 2 * W, -W])
    mean = mg.mean_loss(loss, in_axes=(None, 0))
    have = mg.vmap(lambda w, b: mean(w, b), in_axes=(0, None))(many, batch)
    close(have, [np.mean([loss(w, g) for g in examples]) for w in many])
    grads = mg.compile(mg.vmap(mg.grad(mean), in_axes=(0, None)))(many, batch)
    close(grads, [np.mean([mg.grad(loss)(w, g) for g in examples], axis=0) for w in many])


def test_second_order():
    examples = molecules(SIZES["empty last"])
    batch = mg.batch(examples)
    v = np.cos(W)
    have = mg.hvp(lambda w: mg.mean_loss(loss, in_axes=(None, 0))(w, batch), (W,), (v,))
    want = np.mean([mg.hvp(lambda w, g=g: loss(w, g), (W,), (v,)) for g in examples], axis=0)
    close(have, want)


def test_a_gradient_within_the_example():
    def energy(x, g):
        d = x[g.src] - x[g.dst]
        return np.sum(g.w * np.sum(d * d, axis=1))

    def force_matching(w, g):
        return np.sum((mg.grad(energy)(g.x @ w, g) - 1.0) ** 2)

    examples = molecules(SIZES["empty middle"])
    batch = mg.batch(examples)
    have = mg.compile(mg.value_and_grad(mg.mean_loss(force_matching, in_axes=(None, 0))))(W, batch)
    close(have[0], np.mean([force_matching(W, g) for g in examples]))
    close(have[1], np.mean([mg.grad(force_matching)(W, g) for g in examples], axis=0))


def test_ragged_results_are_batches():
    examples = molecules(SIZES["empty first"])
    out = mg.vmap(lambda g: {"h": g.x @ W, "sum": g.y.sum(), "pairs": g.x @ g.x.T})(mg.batch(examples))
    assert isinstance(out["h"], mg.Batch)
    assert len(out["h"]) == len(examples)
    for k, g in enumerate(examples):
        close(out["h"][k], g.x @ W)
        close(out["pairs"][k], g.x @ g.x.T)
        close(out["sum"][k], g.y.sum())
    assert out["pairs"].values.shape == (sum(len(g.x) ** 2 for g in examples),)


def test_a_result_of_vmap_is_an_argument_of_vmap():
    examples = molecules(SIZES["mixed"])
    batch = mg.batch(examples)

    def both(b):
        hidden = mg.vmap(lambda g: g.x @ W)(b)
        return mg.vmap(lambda h: np.max(h, axis=0))(hidden)

    want = [np.max(g.x @ W, axis=0) for g in examples]
    close(both(batch), want)
    close(mg.compile(both)(batch), want)


def test_one_program_for_every_batch():
    step = mg.compile(mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0))))
    for sizes in SIZES.values():
        examples = molecules(sizes)
        value, gradient = step(W, mg.batch(examples))
        close(value, np.mean([loss(W, g) for g in examples]))
        close(gradient, np.mean([mg.grad(loss)(W, g) for g in examples], axis=0))
    assert len(step.entries) == 1
    assert not step.graph.notes


def test_shared_weights_are_one_product():
    graph = mg.trace(mg.vmap(lambda w, g: g.x @ w, in_axes=(None, 0)))(W, mg.batch(molecules([(2, 1), (3, 1)])))
    assert graph.count("einsum") == 1
    assert graph.count("gather", "scatter_add") == 0


def test_sums_do_not_depend_on_the_run():
    batch = mg.batch(molecules([(200, 900)] * 8))
    step = mg.compile(mg.grad(mg.mean_loss(loss, in_axes=(None, 0))))
    first = step(W, batch)
    for _ in range(3):
        np.testing.assert_array_equal(step(W, batch), first)


@pytest.mark.parametrize(("f", "words"), [
    (lambda g: g.x[g.first], "an index into edge .* indexes an axis of size node"),
    (lambda g: mg.segment_sum(g.x[g.src], g.src, g.w.shape[0]), "an index into node .* adds up along an axis of size "
                                                                "edge"),
    (lambda g: g.x[:, 0] + g.w, "sizes differ"),
    (lambda g: np.concatenate([g.x[:, :1], g.w[:, None]], axis=1), "shapes differ"),
    (lambda g: g.x @ g.w, "inner sizes differ"),
    (lambda g: np.linalg.qr(g.x, mode="complete"), "only the reduced form is differentiable"),
    (lambda g: g.x[2], "index 2 is out of range for an example with 2 rows"),
    (lambda g: g.x[::2] + g.x[1::2], "sizes differ"),
    (lambda g: list(g.x), "needs the number behind the symbolic size node"),
    (lambda g: np.linalg.svd(g.x), "say full_matrices=False"),
])
def test_operations_without_meaning_are_refused(f, words):
    @mg.example
    class Line:
        x: mg.f64[node, 4]
        src: mg.index(node)[edge]
        w: mg.f64[edge]
        first: mg.index(edge)[word]

    # Every axis has the same length: that is no reason to mix them up.
    examples = [Line(np.ones((2, 4)), [0, 1], np.ones(2), [1, 0])] * 2
    with pytest.raises((mg.MinigradError, IndexError), match=words) as caught:
        mg.vmap(f)(mg.batch(examples))
    assert "test_vmap.py" in str(caught.value) or "test_vmap.py" in "".join(getattr(caught.value, "__notes__", []))


def test_extremes_of_no_rows_raise_when_the_program_runs():
    batch = mg.batch(molecules(SIZES["empty middle"]))
    for run in (mg.vmap(lambda g: np.max(g.x)), mg.compile(mg.vmap(lambda g: np.max(g.x)))):
        with pytest.raises(ValueError, match=r"example 1 has no rows\. Give it initial="):
            run(batch)


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin"])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(0, 0), (0, 2), (2, 0)])
def test_extremes_of_empty_blocks_are_refused_as_numpy_refuses_them(name, shape, axis):
    def f(x):
        return getattr(np, name)(x, axis=axis)

    blocks = [np.ones((2, 3)), np.zeros(shape)]
    batch = mg.batch(blocks, mg.f64[mg.axis("row"), mg.axis("column")])
    try:
        want = f(blocks[1])
    except ValueError:
        with pytest.raises(ValueError, match=r"example 1 has no rows\. Give it initial="):
            mg.vmap(f)(batch)
    else:
        np.testing.assert_array_equal(mg.vmap(f)(batch)[1], want)


def test_mean_of_no_rows_is_nan():
    with pytest.warns(RuntimeWarning):
        want = [np.mean(g.x) for g in molecules(SIZES["empty middle"])]
    np.testing.assert_allclose(mg.vmap(lambda g: np.mean(g.x))(mg.batch(molecules(SIZES["empty middle"]))), want)


def test_a_computed_index_stays_in_its_example():
    batch = mg.batch(molecules([(2, 0), (3, 0)]))
    with pytest.raises(IndexError, match="index 2 is out of range for an example with 2 rows"):
        mg.vmap(lambda g: g.x[np.array([2])])(batch)


def test_two_batches_with_an_axis_of_the_same_name():
    examples = molecules(SIZES["mixed"])
    batch = mg.batch(examples)
    have = mg.vmap(lambda a, b: np.sum(a.x) * np.max(b.x))(batch, batch[::-1])
    close(have, [np.sum(a.x) * np.max(b.x) for a, b in zip(examples, examples[::-1], strict=True)])
    with pytest.raises(ValueError, match="example 0: its lengths of node differ between two batches"):
        mg.vmap(lambda a, b: a.x + b.x)(batch, batch[::-1])


def test_in_axes_of_a_batch():
    batch = mg.batch(molecules(SIZES["mixed"]))
    with pytest.raises(mg.BatchError, match="a batch is mapped over its examples: its entry in in_axes is 0, not 1"):
        mg.vmap(loss, in_axes=(None, 1))(W, batch)
    with pytest.raises(mg.BatchError, match="in_axes has 1 entry"):
        mg.vmap(loss, in_axes=(0,))(W, batch)
    with pytest.raises(mg.BatchError, match="out_axes 1 for a result of type"):
        mg.vmap(lambda g: g.x, out_axes=1)(batch)
    for f in (mg.vmap(lambda g: g.x), mg.vmap(lambda g: g[0].y)):
        with pytest.raises(mg.BatchError, match="Pack examples such as a Molecule first"):
            f(batch.unbatch())
    with pytest.raises(mg.BatchError, match="copies of one graph are for examples of equal size"):
        mg.unroll(loss, 4, (None, 0))(W, batch)
    with pytest.raises(mg.BatchError, match="nothing is mapped"):
        mg.vmap(loss, in_axes=(None, None))(W, batch)


def test_an_example_made_within_the_program():
    def noisy(w, g):
        return loss(w, Molecule(g.x * 2, g.src, g.dst, g.w, g.y))

    examples = molecules(SIZES["mixed"])
    close(mg.vmap(noisy, in_axes=(None, 0))(W, mg.batch(examples)), [noisy(W, g) for g in examples])


def test_mean_loss_over_an_axis():
    def per_node(w, g):
        return np.sum(np.tanh(g.x @ w), axis=1)

    examples = molecules(SIZES["empty middle"])
    batch = mg.batch(examples)
    step = mg.compile(mg.value_and_grad(mg.mean_loss(per_node, in_axes=(None, 0), over=node)))
    value, gradient = step(W, batch)
    close(value, np.mean(np.concatenate([per_node(W, g) for g in examples])))
    rows = sum(len(g.x) for g in examples)
    close(gradient, sum(mg.grad(lambda w, g=g: np.sum(per_node(w, g)))(W) for g in examples) / rows)
    with pytest.raises(mg.BatchError, match=r"is f64\[node\], and not one number.*over=axis"):
        mg.mean_loss(per_node, in_axes=(None, 0))(W, batch)
    with pytest.raises(mg.BatchError, match=r"one number per row of edge; it is f64\[node\]"):
        mg.mean_loss(per_node, in_axes=(None, 0), over=edge)(W, batch)
    with pytest.raises(mg.BatchError, match="it is one number for each example"):
        mg.mean_loss(loss, in_axes=(None, 0), over=node)(W, batch)


def test_ragged_sizes_with_symbolic_factors():
    batch, x = mg.batch(molecules(SIZES["mixed"])), np.arange(6.0).reshape(3, 2)

    def f(x, b):
        total = mg.vmap(np.sum)(x)  # so that x has any number of rows
        return mg.vmap(lambda g: np.sum(np.sin(np.reshape(g.x[:, :1] * x[:, 0], -1))))(b) * total[0]

    want = [np.sum(np.sin(np.outer(g.x[:, 0], x[:, 0]))) * np.sum(x[0]) for g in molecules(SIZES["mixed"])]
    np.testing.assert_allclose(mg.compile(f)(x, batch), want)


def test_slices_with_a_step_of_two_batches_have_a_way_out():
    rows = [mg.batch([k * np.arange(1.0 + n) for n in (4, 2)], mg.f64[mg.axis("row")]) for k in (1, 2)]
    with pytest.raises(mg.ShapeError, match=r"test_vmap.py:\d+: np.multiply: .*as in \(x \* y\)\[::2\]"):
        mg.vmap(lambda x, y: x[::2] * y[::3], in_axes=(0, 0))(*rows)
    for have, n in zip(mg.vmap(lambda x, y: (x * y)[::2], in_axes=(0, 0))(*rows), (4, 2), strict=True):
        np.testing.assert_array_equal(have, 2 * np.arange(0, 1.0 + n, 2) ** 2)


@pytest.mark.parametrize("f", [
    lambda x, y: x[::2] * y[::2], lambda x, y: x[1::2] * y[1::2], lambda x, y: x[::-2] - y[::2],
    lambda x, y: x[: x.shape[0] // 2] * y[: y.shape[0] // 2], lambda x, y: x[1:][::3] * x[1::3] + y[1::3],
    lambda x, y: np.stack([x[::2], y[::2]]).T, lambda x, y: x[::2] * (x[::2] @ y[::2])])
def test_slices_of_two_batches_have_equal_lengths_where_the_batches_have(f):
    lengths = (4, 1, 7, 2)
    rows = [mg.batch([np.cos(k * np.arange(1.0 + n)) for n in lengths], mg.f64[mg.axis("row")]) for k in (1, 2)]
    want = [f(x, y) for x, y in zip(rows[0].unbatch(), rows[1].unbatch(), strict=True)]
    for vmapped in (mg.vmap(f), mg.compile(mg.vmap(f))):
        for have, w in zip(vmapped(*rows), want, strict=True):
            np.testing.assert_allclose(have, w)

    def loss(p, x, y):
        return np.sum(f(p * x, y) ** 2)

    slope = sum(mg.grad(loss)(2.0, x, y) for x, y in zip(rows[0].unbatch(), rows[1].unbatch(), strict=True))
    for step in (mg.mean_loss(loss, in_axes=(None, 0, 0)), mg.microbatch(mg.mean_loss(loss, in_axes=(None, 0, 0)), 2)):
        np.testing.assert_allclose(mg.compile(mg.grad(step))(2.0, *rows), slope / len(lengths))
    other = mg.batch([np.ones(n) for n in (4, 1, 7, 3)], mg.f64[mg.axis("row")])
    with pytest.raises(mg.MinigradError, match="lengths"):
        mg.vmap(f)(rows[0], other)


def test_axes_named_like_slices_are_no_slices():
    rows = [mg.batch([np.ones(2), np.ones(n)], mg.f64[mg.axis(name)]) for name, n in (("particle", 3), ("partner", 4))]
    with pytest.raises(mg.ShapeError, match=r"sizes differ \(particle, partner\) at axis -1\.$"):
        mg.vmap(np.multiply, in_axes=(0, 0))(*rows)
