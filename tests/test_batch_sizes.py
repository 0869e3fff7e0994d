"""The sizes of a call from numbers of examples and rows, and the memory that follows, beside tracemalloc's peak."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import minigrad as mg

rng = np.random.default_rng(0)
WORD, NODE, EDGE = mg.axis("word"), mg.axis("node"), mg.axis("edge")
W = rng.normal(size=(16, 64)) / 4
LENGTHS = np.array([0, 1, *rng.integers(1, 40, 700), 0, 1, *rng.integers(1, 40, 700), 1, 0])  # empty, and one row
WORDS = mg.batch([rng.normal(size=(n, 16)) for n in LENGTHS], mg.f64[WORD, 16])
X = rng.normal(size=(20_000, 16))


@mg.example
class Graph:
    x: mg.f64[NODE, 16]
    src: mg.index(NODE)[EDGE]


def graph_of(nodes, edges):
    return Graph(rng.normal(size=(nodes, 16)), rng.integers(0, nodes, edges if nodes else 0))


GRAPHS = mg.batch([graph_of(*sizes) for sizes in [(0, 0), (1, 1), *rng.integers(1, 30, (500, 2)), (1, 0)]])


def pooled(w, x):
    return np.sum(np.sum(np.tanh(x @ w), axis=0) ** 2)


def layer(w, x):
    return np.sum(np.tanh(np.tanh(x @ w) @ w.T) ** 2)


def along_edges(w, g):
    return np.sum(np.tanh(g.x[g.src] @ w))


def pairwise(w, x):
    h = np.tanh(x @ w)
    return np.sum(np.tanh(h @ h.T))


FUNCTIONS = {
    "value and gradient": lambda loss, size: mg.value_and_grad(mg.mean_loss(loss, (None, 0))),
    "gradient per example": lambda loss, size: mg.vmap(mg.grad(loss), (None, 0)),
    "passes": lambda loss, size: mg.value_and_grad(mg.microbatch(mg.mean_loss(loss, (None, 0)), size)),
    "gradient per example in passes": lambda loss, size: mg.microbatch(mg.vmap(mg.grad(loss), (None, 0)), size)}
BATCHES = {"dense": (layer, X), "words": (pooled, WORDS), "graphs": (along_edges, GRAPHS), "pairs": (pairwise, WORDS)}


def memory_and_peak(g, backend, batch):
    """Return the memory that a compiled function announces for a batch, and the measured peak of a call."""
    mg.compile(g, backend)(W, batch[:20])  # imports and loads code
    f = mg.compile(g, backend)
    f.build(W, batch)
    tracemalloc.start()
    f(W, batch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return f.memory(W, batch), peak


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("kind", BATCHES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_memory_of_a_batch_is_the_measured_peak(backend, kind, function):
    loss, batch = BATCHES[kind]
    batch = batch[:2000] if "per example" in function and kind == "dense" else batch
    g = FUNCTIONS[function](loss, len(batch) // 4)
    memory, peak = memory_and_peak(g, backend, batch)
    passes = "passes" in function and kind != "dense"  # whose programs keep an eighth more
    assert peak == pytest.approx(memory, rel=0.2 if passes else 0.1)


def recurrent(w, x):
    """Run a cell of 64 numbers along the words."""
    return np.sum(mg.scan(lambda h, v: (np.tanh(h + v @ w), None), np.zeros(64), x)[0] ** 2)


def solved(w, x):
    """Solve a system of a row and a column for each word."""
    h = np.tanh(x @ w)
    return np.sum(np.linalg.solve(h @ h.T + mg.numpy.eye(x.shape[0]), h) ** 2)


@pytest.mark.parametrize("function", ["value and gradient", "passes"])
@pytest.mark.parametrize(("loss", "backend"), [(recurrent, "numpy"), (recurrent, "native"), (solved, "numpy")])
def test_memory_of_loops_is_the_measured_peak(loss, backend, function):
    g = FUNCTIONS[function](loss, len(WORDS) // 4)
    memory, peak = memory_and_peak(g, backend, WORDS)
    assert memory == pytest.approx(peak, rel=0.25)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_memory_of_numbers_of_rows_is_that_of_the_batch(function):
    for loss, batch in ((pooled, WORDS), (along_edges, GRAPHS), (pairwise, WORDS)):
        f = mg.compile(FUNCTIONS[function](loss, 100), "numpy")
        f.build(W, batch)
        each = dict(batch.lengths)
        assert f.memory(len(batch), rows=each) == f.memory(W, batch)
        assert f.memory(len(batch), rows={a.name: n.tolist() for a, n in each.items()}) == f.memory(W, batch)


def test_sums_over_the_examples_suffice_without_pairs_of_rows():
    for loss, batch in ((pooled, WORDS), (along_edges, GRAPHS)):
        f = mg.compile(mg.vmap(mg.grad(loss), (None, 0)))
        f.build(W, batch)
        sums = {a: int(n.sum()) for a, n in batch.lengths.items()}
        assert f.memory(len(batch), rows=sums) == f.memory(W, batch)
        assert f.memory(len(batch), rows=dict.fromkeys(sums, 10**6)) > 8 * 64 * 10**6
        assert f.memory(len(batch), rows=dict.fromkeys(sums, 0)) < f.memory(W, batch)


def test_pairs_of_rows_need_the_rows_of_each_example():
    f = mg.compile(mg.mean_loss(pairwise, (None, 0)))
    f.build(W, WORDS)
    needs = (r"test_batch_sizes.py:\d+: memory\(20, rows=...\): pairwise has an element per pair of rows of an example "
             r"\(word x word\).*rows of each example")
    with pytest.raises(mg.MinigradError, match=needs):
        f.memory(20, rows={WORD: 300})
    assert f.memory(1, rows={WORD: 300}) == f.memory(1, rows={WORD: [300]}) > 8 * 300**2
    assert f.memory(2, rows={WORD: [300, 0]}) > f.memory(2, rows={WORD: [150, 150]})


def test_passes_without_the_rows_of_each_example_may_have_all_rows():
    f = mg.compile(mg.value_and_grad(mg.microbatch(mg.mean_loss(pooled, (None, 0)), 10)))
    f.build(W, WORDS)
    known, number = f.memory(W, WORDS), len(WORDS)
    assert f.memory(number, rows={WORD: int(LENGTHS.sum())}) > 20 * known
    last = np.zeros(number, int)
    last[-1] = LENGTHS.sum()  # the worst case comes true
    assert f.memory(number, rows={WORD: last}) == pytest.approx(f.memory(number, rows={WORD: int(last[-1])}), rel=0.01)


@pytest.mark.parametrize(("number", "rows", "message"), [
    (20, {}, r"memory\(20\): pooled depends on the sizes B, words, .*Give the rows of word too, as in "
             "rows={'word': 3000}, or its arguments, or their types"),
    (20, {"node": 3}, r"memory\(20, rows=...\): pooled has no ragged axis node; it has word"),
    (20, {"word": -1}, r"memory\(20, rows=...\): rows of word must be the rows of all examples, an int, or of each, "
                       "20 ints, got -1"),
    (20, {"word": [1, 2]}, r"rows of word must be .* 20 ints, got \[1, 2\]"),
    (20, {"word": 2.5}, r"rows of word must be .*, got 2.5"),
    (20, 300, r"rows must map ragged axes to numbers of rows, as in {'word': 3000}, got 300"),
    (0, {"word": 3}, "the number of examples must be positive, got 0")])
def test_numbers_that_are_no_sizes_of_a_batch_are_refused(number, rows, message):
    f = mg.compile(mg.mean_loss(pooled, (None, 0)), "numpy")
    f.build(W, WORDS)
    with pytest.raises(mg.MinigradError, match=rf"test_batch_sizes.py:\d+: .*{message}"):
        f.memory(number, rows=rows)


def test_dense_programs_have_no_ragged_axis():
    f = mg.compile(mg.mean_loss(layer, (None, 0)), "numpy")
    f.build(W, X)
    with pytest.raises(mg.BatchError, match="layer has no ragged axis word; it has none"):
        f.memory(20, rows={WORD: 3})


def test_rows_may_be_an_argument_of_the_function():
    f = mg.compile(lambda n, rows: mg.vmap(lambda x: n * np.sum(x))(rows), "numpy")
    f.build(2, rows=X)
    assert f.memory(2, rows=X) == f.memory(len(X))


def test_two_ragged_batches():
    f = mg.compile(mg.mean_loss(lambda w, x, g: pooled(w, x) * along_edges(w, g), (None, 0, 0)), "numpy")
    words = WORDS[:len(GRAPHS)]
    f.build(W, words, GRAPHS)
    rows = {a: int(n.sum()) for b in (words, GRAPHS) for a, n in b.lengths.items()}
    assert f.memory(len(words), rows=rows) == f.memory(W, words, GRAPHS)
    with pytest.raises(mg.MinigradError, match="Give the rows of edge too"):
        f.memory(len(words), rows={a: n for a, n in rows.items() if a != EDGE})


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("f", [lambda mean: mean, mg.value_and_grad], ids=["value", "value and gradient"])
def test_memory_says_that_one_example_exceeds_a_budget(backend, f):
    g = mg.compile(f(mg.microbatch(mg.mean_loss(layer, (None, 0)), memory=500)), backend)
    g.build(W, X)
    message = r"memory is 500 bytes, and a pass over one example needs [\d,]+ bytes"
    with pytest.raises(mg.BatchError, match=message) as of_memory:
        g.memory(W, X)
    with pytest.raises(mg.BatchError, match=message) as of_number:
        g.memory(len(X))
    with pytest.raises(mg.BatchError, match=message) as of_call:
        g(W, X)
    numbers = {str(e.value).split("memory is")[1] for e in (of_memory, of_number, of_call)}
    assert len(numbers) == 1


def test_ways_into_a_budget_that_one_example_exceeds():
    mean, each = mg.mean_loss(pooled, (None, 0)), mg.vmap(mg.grad(pooled), (None, 0))
    for batch in (X[:100], WORDS[1:20]):
        for f in (mean, mg.value_and_grad(mean), each):
            with pytest.raises(mg.BatchError, match=r"memory is 600 bytes, and a pass over (one )?example ?\d* needs "
                                                    r"[\d,]+ bytes"):
                mg.microbatch(f, memory=600)(W, batch)
            with ThreadPoolExecutor(1) as pool, pytest.raises(
                    mg.BatchError, match=r"memory is 600 bytes, and a part of (one )?example ?\d* needs [\d,]+ bytes"):
                mg.distribute(f, pool, memory_per_worker=600)(W, batch)
        for how in ({}, {"shard": (0, 2)}, {"prefetch": 1}, {"shuffle": True, "seed": 0}):
            with pytest.raises(mg.BatchError, match=r"example \d+ alone .* needs [\d,]+ bytes, and 100 are allowed"):
                list(mg.DataLoader(batch, memory=100, **how))
