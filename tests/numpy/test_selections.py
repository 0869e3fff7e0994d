"""`select`: rows whose number the data determine, against the loop over examples, in eager mode and compiled."""

import numpy as np
import pytest

import minigrad as mg
import minigrad.numpy as mnp
from minigrad.errors import DtypeError, ShapeError

node, edge = mg.axis("node"), mg.axis("edge")
SIZES = [(0, 3, 1, 4, 0), (1, 2, 5), (4, 0), (1,), (0, 0)]


@mg.example
class Graph:
    x: mg.f64[node, 2]
    src: mg.index(node)[edge]
    dst: mg.index(node)[edge]
    v: mg.f64[node, 2]


def graphs(sizes, seed=0):
    rng = np.random.default_rng(seed)
    edges = [2 * n if n else 0 for n in sizes]
    return [Graph(rng.normal(size=(n, 2)), *(rng.integers(0, max(n, 1), m) for _ in range(2)), rng.normal(size=(n, 2)))
            for n, m in zip(sizes, edges, strict=True)]


def close_pairs(w, g):
    """Return an energy of the pairs within a distance: an axis of pairs out of a block."""
    i, j = mg.select(np.sum((g.x[:, None] - g.x[None]) ** 2, axis=-1) < 1.5)
    return np.sum(np.exp(-w * np.sum((g.x[i] - g.x[j]) ** 2, axis=-1)))


def part_of_graph(w, g):
    """Return a message sum over the edges between the nodes that are kept."""
    keep = g.x[:, 0] > -0.3
    nodes, new = mg.select(keep), mg.renumber(keep)
    edges = mg.select(keep[g.src] & keep[g.dst])
    src, dst = (new[mnp.take(end, edges)] for end in (g.src, g.dst))
    x = g.x[nodes] * w
    messages = mg.segment_sum(np.tanh(x[src]), dst, x.shape[0])
    return np.sum(messages * x) + x.shape[0] * w


def rows_kept(w, g):
    kept = mg.select(np.sum(g.x, axis=1) > 0)
    return np.sum(w * g.x[kept] ** 3) / (1 + kept.shape[0])


LOSSES = [close_pairs, part_of_graph, rows_kept]


def cases():
    return [pytest.param(f, sizes, id=f"{f.__name__}-{sizes}") for f in LOSSES for sizes in SIZES]


def compiled(f):
    return [f, mg.compile(f, backend="numpy"), mg.compile(f, backend="native")]


@pytest.mark.parametrize(("f", "sizes"), cases())
def test_selections_equal_the_loop_over_examples(f, sizes):
    examples = graphs(sizes)
    batch = mg.batch(examples)
    losses = [f(0.7, g) for g in examples]
    slopes = [mg.grad(f)(0.7, g) for g in examples]
    for run in compiled(mg.vmap(f, in_axes=(None, 0))):
        np.testing.assert_allclose(run(0.7, batch), losses, atol=1e-12)
    for run in compiled(mg.vmap(mg.grad(f), in_axes=(None, 0))):
        np.testing.assert_allclose(run(0.7, batch), slopes, atol=1e-12)
    for run in compiled(mg.value_and_grad(mg.mean_loss(f, in_axes=(None, 0)))):
        np.testing.assert_allclose(run(0.7, batch), (np.mean(losses), np.mean(slopes)), atol=1e-12)


@pytest.mark.parametrize(("f", "sizes"), cases())
def test_derivatives_of_rows_equal_the_loop_over_examples(f, sizes):
    examples = graphs(sizes, seed=1)
    batch = mg.batch(examples)

    def moved(x, g):
        return f(0.7, Graph(x, g.src, g.dst, g.v))

    each = [mg.grad(moved)(g.x, g) for g in examples]
    products = [mg.hvp(lambda x, g=g: moved(x, g), (g.x,), (g.v,)) for g in examples]
    for run in compiled(mg.vmap(lambda g: mg.grad(moved)(g.x, g))):
        np.testing.assert_allclose(run(batch).values, np.concatenate(each), atol=1e-12)
    for run in compiled(mg.vmap(lambda g: mg.hvp(lambda x: moved(x, g), (g.x,), (g.v,)))):
        np.testing.assert_allclose(run(batch).values, np.concatenate(products), atol=1e-12)


def test_gradients_equal_finite_differences():
    g = graphs((4,), seed=2)[0]
    for f in LOSSES:
        mg.check_grads(lambda x, f=f: f(0.7, Graph(x, g.src, g.dst, g.v)), (g.x,))


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_one_program_serves_all_numbers_of_rows(backend):
    run = mg.compile(mg.mean_loss(part_of_graph, in_axes=(None, 0)), backend=backend)
    for seed, sizes in enumerate(SIZES):
        examples = graphs(sizes, seed)
        np.testing.assert_allclose(run(1.3, mg.batch(examples)), np.mean([part_of_graph(1.3, g) for g in examples]))
    assert len(run.entries) == 1
    assert run.workspace_bytes(1.3, mg.batch(graphs((3,)))) >= 0
    assert "part 2: the results" in run.source


def test_results_with_rows_are_batches():
    x = np.array([[1.0, -1.0, 2.0], [-1.0, -2.0, -4.0], [3.0, -1.0, -1.0]])
    for run in compiled(mg.vmap(lambda row: row[mg.select(row > 0)] ** 2)):
        out = run(x)
        assert [part.tolist() for part in out] == [[1, 4], [], [9]]
    positions = mg.vmap(lambda row: mg.select(row > 0))(x)
    assert [part.tolist() for part in positions] == [[0, 2], [], [0]]


def test_selections_of_selections():
    def f(x):
        first = x[mg.select(x > 0)]
        return np.sum(first[mg.select(first < 2)])

    x = [np.array([0.5, -1.0, 3.0, 1.0]), np.zeros(0), np.array([-1.0]), np.array([1.5])]
    for run in compiled(mg.vmap(f)):
        np.testing.assert_allclose(run(mg.batch(x, mg.f64[node])), [1.5, 0, 0, 1.5])
    for run in compiled(mg.vmap(mg.grad(f))):
        assert [g.tolist() for g in run(mg.batch(x, mg.f64[node]))] == [[1, 0, 0, 1], [], [0], [1]]


def test_sizes_alone_need_no_row():
    def f(w, x):
        kept = mg.select(x > 0)
        return w * kept.shape[0] * kept.shape[0] + np.sum(np.ones_like(kept) * w)

    x = np.array([[1.0, -1.0, 2.0], [-1.0, -2.0, -4.0], [3.0, -1.0, -1.0]])
    for run in compiled(mg.value_and_grad(mg.mean_loss(f, in_axes=(None, 0)))):
        np.testing.assert_allclose(run(2.0, x), (2 * (6 + 0 + 2) / 3, (6 + 0 + 2) / 3))
    for run in compiled(mg.grad(f)):
        np.testing.assert_allclose(run(2.0, x[0]), 6)


def test_blocks_of_kept_rows():
    def f(x):
        kept = x[mg.select(x > 0)]
        return np.sum(np.exp(-(kept[:, None] - kept[None]) ** 2))

    x = [np.array([0.5, -1.0, 3.0, 1.0]), np.zeros(0), np.array([-1.0]), np.array([1.5])]
    losses, slopes = [f(v) for v in x], [mg.grad(f)(v) for v in x]
    for run in compiled(mg.vmap(mg.value_and_grad(f))):
        values, gradients = run(mg.batch(x, mg.f64[node]))
        np.testing.assert_allclose(values, losses)
        np.testing.assert_allclose(gradients.values, np.concatenate(slopes), atol=1e-12)


def test_means_of_no_row_are_those_of_empty_examples():
    def f(x):
        return np.mean(x[mg.select(x > 0)])

    x = mg.batch([np.array([1.0, 3.0]), np.array([-1.0])], mg.f64[node])
    for run in compiled(mg.vmap(f)):
        np.testing.assert_allclose(run(x), [2, np.nan])
    with pytest.raises(ValueError, match="max of nothing: example 1 has no rows"):
        mg.vmap(lambda x: np.max(x[mg.select(x > 0)]))(x)


def test_graphs_with_selections_are_called_twice():
    graph = mg.trace(lambda x: np.sum(x[mg.select(x > 0)]))(mg.f64[3])

    def f(x, y):
        return graph(x) * graph(y)

    x, y = np.array([1.0, -1.0, 2.0]), np.array([4.0, -1.0, -2.0])
    for run in compiled(f):
        np.testing.assert_allclose(run(x, y), 12)
    assert [g.tolist() for g in mg.grad(lambda p: f(*p))((x, y))] == [[4, 0, 4], [3, 0, 0]]
    again = mg.Graph.from_json(graph.to_json())
    assert again(x) == 3


def test_masks_that_are_not_bools_are_refused():
    with pytest.raises(DtypeError, match=r"test_selections.py:\d+: select\(float64\[2\]\): a mask is of bools"):
        mg.select(np.array([1.0, 0.0]))
    with pytest.raises(DtypeError, match=r"test_selections.py:\d+: select\(f64\[node\]\): a mask is of bools"):
        mg.vmap(lambda x: np.sum(x[mg.select(x)]))(mg.batch([np.ones(2)], mg.f64[node]))
    with pytest.raises(ShapeError, match="has no axis"):
        mg.grad(lambda x: x * mg.select(x > 0))(1.0)


def test_masks_of_another_axis_are_refused():
    def f(g):
        return np.sum(g.x[mg.select(g.src >= 0)])

    with pytest.raises(ShapeError, match=r"test_selections.py:\d+: gather: an index into edge"):
        mg.vmap(f)(mg.batch(graphs((2, 3))))


def test_selections_in_loops_over_a_batch_are_refused():
    def f(x):
        return mg.fori_loop(0, 3, lambda i, c: c + np.sum(x[mg.select(x > c)]), 0.0)

    with pytest.raises(mg.Unsupported, match="Select the rows before it"):
        mg.vmap(f)(np.ones((2, 3)))


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize(("f", "sizes"), [c for c in cases() if c.values[1] in SIZES[:2]])
def test_passes_of_few_examples_equal_the_whole_batch(f, sizes, size):
    batch = mg.batch(graphs(sizes, seed=3))
    whole = mg.mean_loss(f, in_axes=(None, 0))
    want = mg.value_and_grad(whole)(0.7, batch)
    for run in compiled(mg.value_and_grad(mg.microbatch(whole, size))):
        np.testing.assert_allclose(run(0.7, batch), want, atol=1e-12)
    for run in compiled(mg.microbatch(mg.value_and_grad(whole), size, in_axes=(None, 0))):
        np.testing.assert_allclose(run(0.7, batch), want, atol=1e-12)
    each = mg.microbatch(mg.vmap(mg.grad(f), in_axes=(None, 0)), size)
    np.testing.assert_allclose(each(0.7, batch), mg.vmap(mg.grad(f), in_axes=(None, 0))(0.7, batch), atol=1e-12)


def test_passes_over_arrays_select_within_the_example():
    def f(w, x):
        kept = mg.select(x > 0)
        return w * kept.shape[0] + np.sum(np.ones_like(kept) * w) + np.sum(x[kept] ** 2 * w)

    x = np.random.default_rng(0).normal(size=(5, 3))
    whole = mg.mean_loss(f, in_axes=(None, 0))
    want = mg.value_and_grad(whole)(0.7, x)
    for size in (1, 2, 5):
        for run in compiled(mg.value_and_grad(mg.microbatch(whole, size))):
            np.testing.assert_allclose(run(0.7, x), want)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_passes_keep_the_checks_of_unused_selections(size):
    def of_table(table):
        def f(w, x):
            x[x > 0]
            mnp.take(table, np.nonzero(x > 0)[0])
            return w * np.sum(x**2)

        return mg.microbatch(mg.mean_loss(f, in_axes=(None, 0)), size)

    x = np.array([[-1.0, 2.0, -1.0], [1.0, -3.0, 1.0], [-1.0, -1.0, -1.0]])
    for run in compiled(mg.value_and_grad(of_table(np.zeros(3)))):
        np.testing.assert_allclose(run(2.0, x), (40 / 3, 20 / 3))
    for run in compiled(mg.value_and_grad(of_table(np.zeros(2)))):
        with pytest.raises(IndexError, match="index 2"):
            run(2.0, x)
        np.testing.assert_allclose(run(2.0, x[::2]), (9, 4.5))


def test_passes_with_kept_rows_as_results_are_refused():
    def f(x):
        return x[mg.select(x > 0)]

    with pytest.raises(mg.BatchError, match="known only after the last chunk"):
        mg.microbatch(mg.vmap(f), 1)(mg.batch([np.ones(2), -np.ones(3)], mg.f64[node]))


def test_masks_index_arrays():
    x = np.array([[1.0, -2.0, 3.0], [-1.0, 2.0, -3.0], [-1.0, -1.0, -1.0]])
    loss = mg.vmap(lambda v: np.sum(v[v > 0] * np.log(v[v > 0])))
    want = [np.sum(v[v > 0] * np.log(v[v > 0])) for v in x]
    for run in compiled(loss):
        np.testing.assert_allclose(run(x), want)

    def block(m):
        return np.sum(m[m > 0] ** 2) + np.sum(m[m[:, 0] > 0]) + np.sum(m[:, m[0] > 0])

    m = np.random.default_rng(0).normal(size=(4, 3, 3))
    for run in compiled(mg.vmap(block)):
        np.testing.assert_allclose(run(m), [block(v) for v in m])


def test_compress_and_extract_take_traced_conditions():
    x = np.random.default_rng(0).normal(size=(4, 3))
    for run in compiled(mg.vmap(lambda v: np.sum(np.compress(v > 0, v) ** 2) + np.sum(np.extract(v < 0, v)))):
        np.testing.assert_allclose(run(x), [np.sum(v[v > 0] ** 2) + np.sum(v[v < 0]) for v in x])
    np.testing.assert_allclose(mg.grad(lambda m: np.sum(np.compress(m[0] > 0, m, axis=1)))(x), (x[:1] > 0) + 0 * x)
    with pytest.raises(ShapeError, match=r"the condition bool\[3\] does not fit axis 0 of f64\[4, 3\]"):
        mg.grad(lambda m: np.sum(np.compress(m[0] > 0, m, axis=0)))(x)


@pytest.mark.parametrize("positions", [
    lambda m: np.nonzero(m > 0), lambda m: np.where(m > 0), lambda m: np.nonzero(np.round(m)), np.argwhere,
    lambda m: np.flatnonzero(m > 0), lambda m: np.tril_indices_from(m, 1), lambda m: np.triu_indices_from(m)])
def test_positions_are_those_of_numpy(positions):
    rng = np.random.default_rng(0)
    squares = [rng.normal(size=(n, n)) * (rng.random((n, n)) < 0.7) for n in (0, 3, 1, 5, 0)]
    batch = mg.batch(squares, mg.f64[node, node])

    def f(m):
        found = positions(m)
        return np.stack(found, axis=1) if isinstance(found, tuple) else found

    for run in compiled(mg.vmap(f)):
        for have, m in zip(run(batch), squares, strict=True):
            np.testing.assert_array_equal(have, f(m))
    for run in compiled(mg.vmap(lambda m: np.sum(f(m)))):
        np.testing.assert_array_equal(run(np.stack([squares[1], squares[1].T])), [
            np.sum(f(m)) for m in (squares[1], squares[1].T)])


def test_gradients_flow_through_the_elements_at_positions():
    x = np.random.default_rng(0).normal(size=(4, 3))
    for run in compiled(mg.vmap(mg.grad(lambda v: np.sum(v[np.flatnonzero(v > 0)] ** 3)))):
        np.testing.assert_allclose(run(x), np.where(x > 0, 3 * x**2, 0.0))
    n, m = mnp.tril_indices, [np.arange(float(k * k)).reshape(k, k) for k in (2, 0, 3)]
    run = mg.compile(mg.vmap(mg.grad(lambda m: np.sum(m[n(m.shape[0], -1)] ** 2))))
    for have, want in zip(run(mg.batch(m, mg.f64[node, node])), m, strict=True):
        np.testing.assert_allclose(have, 2 * np.tril(want, -1))


def test_a_number_has_no_positions():
    with pytest.raises(ShapeError, match=r"test_selections.py:\d+: np.nonzero of f64\[\]: a number has no positions"):
        mg.vmap(lambda x: np.nonzero(x)[0])(np.ones(3))
    with pytest.raises(mg.TraceError, match="give both branches, or none"):
        mg.vmap(lambda x: np.where(x > 0, x))(np.ones(3))


def test_axes_of_different_masks_do_not_meet():
    refusal = r"test_selections.py:\d+: np.multiply: f64\[kept_row\] and f64\[kept_row2\] .*one selection"
    with pytest.raises(ShapeError, match=refusal):
        mg.grad(lambda x: np.sum(x[x > 0] * x[x < 0]))(np.ones(3))


def test_batches_of_batches_and_copies():
    x = np.random.default_rng(0).normal(size=(2, 4, 3))
    ragged = [mg.batch([row[:n] for row, n in zip(m, (3, 0, 1, 2), strict=True)], mg.f64[node]) for m in x]

    def f(w, row):
        kept = row[row > 0]
        return np.sum((w * kept) ** 2) / (1 + kept.shape[0])

    each = np.array([[f(1.3, row) for row in m] for m in x])
    slopes = np.array([[mg.grad(f)(1.3, row) for row in m] for m in x])
    for run in compiled(mg.vmap(mg.vmap(mg.value_and_grad(f), in_axes=(None, 0)), in_axes=(None, 0))):
        have = run(1.3, x)
        np.testing.assert_allclose(have, (each, slopes))
    inner = mg.vmap(lambda b: mg.mean_loss(f, in_axes=(None, 0))(1.3, b))
    for run in compiled(inner):
        np.testing.assert_allclose(run(mg.batch(ragged)), [np.mean([f(1.3, row) for row in b]) for b in ragged])
    for run in compiled(mg.unroll(f, 4, in_axes=(None, 0))):
        np.testing.assert_allclose(run(1.3, x[0]), np.mean(each[0]))
    for run in compiled(mg.grad(mg.mean_loss(mg.checkpoint(f), in_axes=(None, 0)))):
        np.testing.assert_allclose(run(1.3, x[0]), np.mean(slopes[0]))


def test_pages_and_drawings_show_sizes_that_data_define():
    loss = mg.mean_loss(lambda w, row: np.sum(w * row[row > 0]), in_axes=(None, 0))
    x = np.array([[1.0, -1.0], [2.0, 3.0]])
    graph = mg.trace(loss)(1.0, x)
    assert "kept_rows" in str(graph)
    assert "kept_rows" in graph.with_values(1.0, x).to_svg()
    assert graph.explore(1.0, x) is not None


# -- beside PyTorch Geometric --------------------------------------------------------------------------------------


def top_k(w, g):
    """Return half of the nodes, those of the largest score, and the edges between them."""
    score = np.tanh(g.x @ w / np.sqrt(np.sum(w * w)))
    keep = np.argsort(np.argsort(-score)) < np.ceil(0.5 * g.x.shape[0])
    nodes, new = mg.select(keep), mg.renumber(keep)
    edges = mg.select(keep[g.src] & keep[g.dst])
    return g.x[nodes] * score[nodes][:, None], new[g.src[edges]], new[g.dst[edges]]


def readout(w, g):
    x, src, dst = top_k(w, g)
    return np.sum((mg.segment_sum(x[src], dst, x.shape[0]) + x) ** 2)


def test_pooling_equals_that_of_pyg():
    torch = pytest.importorskip("torch")
    pooling = pytest.importorskip("torch_geometric.nn.pool", exc_type=ImportError)
    from torch_geometric.utils import subgraph

    w = np.array([0.7, -1.1])
    examples = graphs((5, 1, 8, 3), seed=4)
    batch = mg.batch(examples)
    layer = pooling.TopKPooling(2, ratio=0.5).double()
    layer.select.weight.data[:] = torch.as_tensor(w)
    x = torch.as_tensor(batch.x)
    ends = torch.as_tensor(np.stack([batch.src, batch.dst]))
    rows, (src, dst), _, _, perm, _ = layer(x, ends, batch=torch.as_tensor(batch.segment_ids[node]))
    received = torch.zeros_like(rows).index_add(0, dst, rows[src])
    total = ((received + rows) ** 2).sum()
    total.backward()
    pooled = mg.vmap(lambda g: top_k(w, g)[0])
    order = torch.argsort(perm)  # theirs are in the order of the scores
    for run in compiled(pooled):
        np.testing.assert_allclose(run(batch).values, rows.detach()[order].numpy(), atol=1e-12)
    losses = mg.value_and_grad(lambda w, b: np.sum(mg.vmap(readout, in_axes=(None, 0))(w, b)))
    for run in compiled(losses):
        value, slope = run(w, batch)
        np.testing.assert_allclose(value, total.item())
        np.testing.assert_allclose(slope, layer.select.weight.grad.numpy()[0])
    g = examples[2]
    kept = mg.select(g.x[:, 0] > -0.3)
    both, _ = subgraph(torch.as_tensor(kept), torch.as_tensor(np.stack([g.src, g.dst])), relabel_nodes=True,
                       num_nodes=8)
    new, keep = mg.renumber(g.x[:, 0] > -0.3), g.x[:, 0] > -0.3
    edges = mg.select(keep[g.src] & keep[g.dst])
    np.testing.assert_array_equal(both.numpy(), [new[g.src[edges]], new[g.dst[edges]]])
