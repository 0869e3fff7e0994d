"""microbatch: the same value and gradient in passes, whatever the size of a pass; and what it refuses."""

import gc
import pickle
import tracemalloc

import numpy as np
import optree
import pytest

import minigrad as mg

from .common import close

rng = np.random.default_rng(0)
W = rng.normal(size=3)
X = rng.normal(size=(50, 3))
TIES = np.round(2 * np.concatenate([X[:20], X[::-1]]))
Y = rng.normal(size=50)
LABELS = rng.integers(0, 3, 50)
T = rng.normal(size=(50, 4, 3))
TABLE = rng.normal(size=(7, 3))
WORDS = rng.integers(0, 7, (50, 4))


def example_loss(w, x, y):
    return (np.tanh(x @ w) - y) ** 2 + 0.1 * np.sum(w ** 2)


L, EACH = (by(example_loss, (None, 0, 0)) for by in (mg.mean_loss, mg.vmap))
ROWS, OWN = (None, 0), (0, 0)
# name: (loss of a whole batch, arguments, in_axes)
LOSSES = {
    "mean_loss with a regulariser": (L, (W, X, Y), (None, 0, 0)),
    "mean": (lambda w, X: np.mean(np.tanh(X @ w) ** 2), (W, X), ROWS),
    "sum": (lambda w, X: np.sum(np.tanh(X @ w) ** 2), (W, X), ROWS),
    "sum over size": (lambda w, X: np.sum(np.tanh(X @ w)) / X.shape[0], (W, X), ROWS),
    "sum times 1 / size": (lambda w, X: np.sum(np.tanh(X @ w)) * (1 / X.shape[0]), (W, X), ROWS),
    "root mean square": (lambda w, X: np.sqrt(np.mean((X @ w) ** 2)), (W, X), ROWS),
    "log mean exp": (lambda w, X: np.log(np.mean(np.exp(X @ w))) + np.sum(w ** 2), (W, X), ROWS),
    "mean over examples and tokens": (lambda w, T: np.mean(np.tanh(T @ w)), (W, T), ROWS),
    "sum of tokens, mean of examples": (lambda w, T: np.tanh(T @ w).sum(1).mean(0), (W, T), ROWS),
    "batch on axis 1": (lambda w, T: np.mean(np.tanh(T @ w)), (W, T.swapaxes(0, 1).copy()), (None, 1)),
    "batch on axis -2": (lambda w, T: np.mean(np.tanh(T @ w)), (W, T.swapaxes(0, 1).copy()), (None, -2)),
    "transposed": (lambda w, X: np.mean(np.tanh(w @ X.T)), (W, X), ROWS),
    "regulariser": (lambda w, X: np.mean(np.tanh(X @ w)) + 0.1 * np.sum(w * w), (W, X), ROWS),
    "regulariser in the mean": (lambda w, X: np.mean(np.tanh(X @ w) + 0.1 * np.sum(w * w)), (W, X), ROWS),
    "regulariser in the sum": (lambda w, X: np.sum(np.tanh(X @ w) + 0.1 * np.sum(w * w)), (W, X), ROWS),
    "embedding": (lambda E, i: np.mean(np.tanh(E[i].sum(1)) @ W), (TABLE, WORDS), ROWS),
    "cross entropy by label": (lambda X,
                               y: np.mean(np.take_along_axis(np.log(np.exp(X) / np.exp(X).sum(1, keepdims=True)),
                                                                       y[:, None], 1)), (X, LABELS), OWN),
    "one-hot labels": (lambda X, y: np.mean((X * (y[:, None] == np.arange(3))).sum(1)), (X, LABELS), OWN),
    "weighted mean": (lambda w, X, y: np.sum(y ** 2 * (X @ w)) / np.sum(y ** 2), (W, X, Y), (None, 0, 0)),
    "second moments": (lambda w, X: w @ (X.T @ X) @ w / X.shape[0], (W, X), ROWS),
    "a solve after the sums": (lambda w, X: np.linalg.solve(X.T @ X, w).sum(), (W, X), ROWS),
    "einsum of three": (lambda w, X, y: np.einsum("bi,bj,b->ij", X, X, y).sum() * w.sum(), (W, X, Y), (None, 0, 0)),
    "several sums": (lambda w, X: np.mean(X @ w) ** 2 - np.sum(X @ w * 2), (W, X), ROWS),
    "inner product of the batch": (lambda w, X: (X @ w) @ (X @ w), (W, X), ROWS),
    "sums and what follows them": (lambda w, X: (X.mean(0)[:, None] * X.sum(0)).sum() + w.sum(), (W, X), ROWS),
    "where": (lambda w, X: np.mean(np.where(X @ w > 0, X @ w, 0.1 * (X @ w))), (W, X), ROWS),
    "statistics of a row": (lambda w, X: np.mean(X.std(1) * w[0] + (X * w).max(1)), (W, X), ROWS),
    "order in a row": (lambda w, X: np.mean(np.sort(X, 1) @ w + np.cumsum(X * w, 1)[:, 2]), (W, X), ROWS),
    "joined rows": (lambda w, X: np.mean(np.concatenate([X, X ** 2], 1)) + np.mean(np.stack([X @ w, X[:, 0]])), (W, X),
                    ROWS),
    "reshaped rows": (lambda w, T: np.mean(np.tanh(T.reshape(T.shape[0], -1).sum(1))) * w[0], (W, T), ROWS),
    "ones": (lambda w, X: np.mean(np.ones_like(X) * w), (W, X), ROWS),
    "no example at all": (lambda w, X: np.sum(w ** 2), (W, X), ROWS),
    "only their number": (lambda w, X: np.sum(w ** 2) * X.shape[0], (W, X), ROWS),
    "matrices in a row": (lambda w, T: np.mean(np.linalg.solve(T[:, :3] + 5 * np.eye(3), T[:, 1:] * w)), (W, T), ROWS),
    "vmap of grad inside": (lambda w, X: mg.vmap(lambda x: np.sum(mg.grad(lambda x: np.tanh(x @ w))(x) ** 2))(X).mean(),
                            (W, X), ROWS),
    "checkpoint of an example": (lambda w, X: mg.vmap(mg.checkpoint(lambda x: np.tanh(x @ w)))(X).mean(), (W, X), ROWS),
    "checkpoint of the batch": (lambda w, X: mg.checkpoint(lambda w, X: np.tanh(X @ (w * w)))(w, X).mean(), (W, X),
                                ROWS),
    "mean and largest loss": (lambda w, X, y: L(w, X, y) + 2 * np.max(EACH(w, X, y)) ** 2, (W, X, Y), (None, 0, 0)),
    "extremes with ties across parts": (lambda w, X: np.sum(np.max(X * w, 0) * np.min(np.tanh(X), 0)), (W, TIES), ROWS),
    "stop_gradient": (lambda w, X: np.mean(mg.stop_gradient(X @ w) * (X @ w)), (W, X), ROWS),
}
# Their gradient multiplies each example by a value of the whole batch, so only the gradient of microbatch exists.
OUTSIDE = {"root mean square", "log mean exp", "weighted mean", "several sums", "mean and largest loss",
           "extremes with ties across parts"}


@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_for_every_size(name):
    f, args, axes = LOSSES[name]
    want = mg.value_and_grad(f)(*args)
    close(want[0], np.float64(f(*args)))
    for size in (1, 5, 7, 50, 60):
        passes = mg.microbatch(f, size, axes)
        close(passes(*args), want[0])
        close(mg.value_and_grad(passes)(*args), want)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_maximum_shares_its_gradient_among_ties_of_all_parts(size):
    passes = mg.microbatch(lambda x: 3 * np.max(x), size)
    close(mg.value_and_grad(passes)(np.array([2.0, 7.0, 7.0, 1.0, 7.0])), (21.0, np.array([0, 1, 1, 0, 1.0])))


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_inside(name):
    f, args, axes = LOSSES[name]
    passes = mg.microbatch(mg.value_and_grad(f), 7, axes)
    if name in OUTSIDE:
        with pytest.raises(mg.BatchError, match=r"batch statistic.*Take the gradient outside, mg.grad\(mg.microbatch"):
            passes(*args)
    else:
        close(passes(*args), mg.value_and_grad(f)(*args))


@pytest.mark.parametrize("name", LOSSES)
def test_compiled_for_every_batch_size(name):
    f, args, axes = LOSSES[name]
    compiled = mg.compile(mg.value_and_grad(mg.microbatch(f, 7, axes)))
    for n in (50, 7, 1, 15):
        batch = [a if axis is None else np.take(a, np.arange(n), axis) for a, axis in zip(args, axes, strict=True)]
        if name == "a solve after the sums" and n < 3:
            continue  # one row has no invertible second moment
        close(compiled(*batch), mg.value_and_grad(f)(*batch))
    assert len(compiled.entries) == 1


@pytest.mark.parametrize("name",
                         ["mean_loss with a regulariser", "root mean square", "second moments", "order in a row",
                                  "checkpoint of an example", "vmap of grad inside"])
def test_microbatch_under_other_transforms(name):
    f, (w, *rest), axes = LOSSES[name]
    m = mg.microbatch(f, 7, axes)
    close(mg.hessian(m)(w, *rest), mg.hessian(f)(w, *rest), rtol=1e-8)
    close(mg.jvp(lambda w: m(w, *rest), (w,), (w + 1,)), mg.jvp(lambda w: f(w, *rest), (w,), (w + 1,)))
    ws = np.stack([w, w * 2])
    close(mg.vmap(m, (0, *[None] * len(rest)))(ws, *rest), np.stack([f(v, *rest) for v in ws]))
    close(mg.vmap(mg.grad(m), (0, *[None] * len(rest)))(ws, *rest), np.stack([mg.grad(f)(v, *rest) for v in ws]))
    close(mg.grad(m, 1)(w, *rest), mg.grad(f, 1)(w, *rest))


def test_every_size_of_pass_from_one_to_more_than_the_batch():
    want = mg.value_and_grad(L)(W, X[:12], Y[:12])
    for size in range(1, 14):
        close(mg.value_and_grad(mg.microbatch(L, size))(W, X[:12], Y[:12]), want)


def test_float32_to_round_off():
    args = [a.astype("f4") for a in (W, X, Y)]
    value, g = mg.value_and_grad(mg.microbatch(L, 7))(*args)
    assert value.dtype == g.dtype == np.float32
    close((value, g), mg.value_and_grad(L)(*args), rtol=1e-5, atol=1e-6)


def test_results_per_example_are_laid_end_to_end():
    f = mg.vmap(lambda x: {"a": x * 2, "b": (x.sum(), np.outer(x, x))}, out_axes={"a": 1, "b": 0})
    close(mg.microbatch(f, 7)(X), f(X))
    both = lambda w, X: (np.tanh(X @ w), np.mean(X @ w), w * 2)  # noqa: E731
    close(mg.microbatch(both, 7, ROWS)(W, X), both(W, X))
    close(mg.microbatch(mg.per_example_grad(example_loss, in_axes=(None, 0, 0)), 7)(W, X, Y),
          mg.per_example_grad(example_loss, in_axes=(None, 0, 0))(W, X, Y))


def test_microbatch_inherits_in_axes_of_wrapped_function():
    close(mg.microbatch(L, 7)(W, X, Y), mg.microbatch(L, 7, (None, 0, 0))(W, X, Y))
    f = mg.vmap(lambda p, x: p["a"] @ x, ({"a": None}, 1))
    close(mg.microbatch(f, 7)({"a": W}, X.T.copy()), X @ W)


def test_of_a_compiled_function_it_is_compiled():
    traced = []

    def f(w, X):
        traced.append(X.shape)
        return np.mean(np.tanh(X @ w))

    passes = mg.microbatch(mg.compile(f, backend="numpy"), 7, ROWS)
    close(passes(W, X), f(W, X))
    traced.clear()
    close(passes(2 * W, X[:20]), f(2 * W, X[:20]))
    assert traced == [(20, 3)]  # the call above
    close(mg.grad(passes)(W, X), mg.grad(f)(W, X))


def test_pytrees_and_aux():
    p = {"w": W, "b": [np.array(0.1)]}
    f = mg.mean_loss(lambda p, x: (np.tanh(x @ p["w"] + p["b"][0]), x[0]), (None, 0), has_aux=True)
    close(mg.value_and_grad(mg.microbatch(f, 7), has_aux=True)(p, X), mg.value_and_grad(f, has_aux=True)(p, X))


@pytest.mark.parametrize(("f", "match"), [
    (lambda w, X: np.mean((X - X.mean(0)) / X.std(0) @ w), "sub|expand.*batch statistic"),
    (lambda w, X: np.var(X @ w), "batch statistic"),
    (lambda w, X: np.sum(np.exp(X @ w) / np.exp(X @ w).sum()), "batch statistic"),
    (lambda w, X: np.mean(X @ X.T), r"einsum\(.*\) -> f64\[chunk, chunk\].*twice"),
    (lambda w, X: np.outer(X @ w, X @ w).mean(), "einsum.*twice"),
    (lambda w, X: np.mean(np.sort(X, 0) @ w), "argsort.*works along the batch axis"),
    (lambda w, X: np.mean(np.cumsum(X, 0) @ w), "cumsum.*works along the batch axis"),
    (lambda w, X: np.mean(np.flip(X, 0) * X), "flip.*works along the batch axis"),
    (lambda w, X: np.mean(np.roll(X, 1, 0) * X), "counts the examples"),
    (lambda w, X: np.mean(X[::-1] * X), "flip.*works along the batch axis"),
    (lambda w, X: np.mean(X @ w * mg.numpy.arange(X.shape[0])), "counts the examples"),
    (lambda w, X: mg.numpy.arange(X.shape[0]).sum() * w[0] + np.mean(X), "sum.*counts the examples"),
    (lambda w, X: mg.numpy.arange(X.shape[0]), "iota.*counts the examples"),
    (lambda w, X: np.mean(X[np.arange(50)[::-1]] @ w), "gather"),
    (lambda w, X: np.mean(X[np.argsort(X[:, 0])] @ w), "argsort"),
    (lambda w, X: np.sort(X.reshape(-1)).mean(), r"argsort\(.*along the batch axis"),
    (lambda w, X: np.concatenate([X @ w, w]).mean(), "concatenate.*merged"),
    (lambda w, X: np.tile(X @ w, 2).mean(), "reshape.*moves elements across"),
    (lambda w, X: np.max(X), r"max\(.*other than a sum or a mean, or a maximum or minimum along that axis alone"),
    (lambda w, X: np.min(X * w), r"min\(.*other than a sum or a mean, or a maximum or minimum along that axis alone"),
    (lambda w, X: np.max(X - np.max(X, 0), 1), r"expand\(.*batch statistic"),
    (lambda w, X: np.max(mg.numpy.arange(X.shape[0])), "counts the examples"),
    (lambda w, X: X[0] @ w, r"gather\(.*picks examples by an index"),
    (lambda w, X: X[np.argmax(X @ w)].sum(), r"argmax\(.*other than a sum"),
    (lambda w, X: mg.checkpoint(lambda X: (X - X.mean(0)) @ w)(X).mean(), "checkpoint.*batch statistic"),
    (lambda w, X: mg.checkpoint(lambda X: np.mean(X @ w))(X), "checkpoint"),
    (lambda w, X: mg.microbatch(lambda w, X: np.mean(X @ w), 3, ROWS)(w, X), "passes already. Call microbatch once"),
])
def test_mixing_examples_is_refused_by_name_and_line(f, match):
    with pytest.raises(mg.BatchError, match=match) as error:
        mg.microbatch(f, 7, ROWS)(W, X)
    line = f.__code__.co_firstlineno
    assert f"test_microbatch.py:{line}: microbatch(lambda_): " in str(error.value)
    assert "give the whole batch at once" in str(error.value)
    close(mg.microbatch(L, 7)(W, X, Y), L(W, X, Y))


@pytest.mark.parametrize("f", [
    lambda w, X: np.sum(X @ w) / len(X), lambda w, X: np.sum(X[1:] * X[:-1]),
    lambda w, X: np.prod(X @ w), lambda w, X: np.median(X @ w)])
def test_dependence_on_example_count_is_refused(f):
    with pytest.raises(mg.ShapeError, match=r"test_microbatch.py:\d+: .* needs the number behind .* chunk"):
        mg.microbatch(f, 7, ROWS)(W, X)


@pytest.mark.parametrize("size", [0, -1, 2.5, "5", None])
def test_a_pass_needs_a_size(size):
    with pytest.raises(mg.BatchError, match="size must be a positive int"):
        mg.microbatch(L, size)


# -- memory ------------------------------------------------------------------------------------------------


def peak(f, w, X):
    """Return the most memory that a call holds beside its arguments; a compiled program's workspace counts."""
    f(w, X[:30])  # traces, and makes a workspace for this size alone
    tracemalloc.start()
    try:
        f(w, X)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("wrap", [lambda f: f, mg.compile], ids=["walked", "compiled"])
def test_one_chunks_intermediates_at_a_time(wrap):
    W1, B = rng.normal(size=(20, 200)), rng.normal(size=(2000, 20))

    def f(w, x):
        return np.sum(np.tanh(np.tanh(x @ w) * 0.5) ** 2)

    whole = mg.mean_loss(f, (None, 0))
    full = peak(wrap(mg.value_and_grad(whole)), W1, B)
    few = peak(wrap(mg.value_and_grad(mg.microbatch(whole, 20))), W1, B)
    inside = peak(wrap(mg.microbatch(mg.value_and_grad(whole), 20, (None, 0))), W1, B)
    hidden = 8 * 2000 * 200  # one value of the hidden layer, of the whole batch
    assert full > hidden
    assert few < hidden / 3
    assert inside < hidden / 3


def test_graph_holds_one_body_for_any_number_of_passes():
    counts = [mg.trace(mg.value_and_grad(mg.microbatch(L, size)))(W, X, Y).count() for size in (1, 7, 50)]
    assert len(set(counts)) == 1
    graph = mg.trace(mg.microbatch(L, 7))(W, X, Y)
    (node,) = [n for n in graph.nodes if n.prim.name == "chunked"]
    assert node.params["size"] == 7
    assert optree.tree_leaves([n.prim.name for n in node.params["graph"].nodes]).count("tanh") == 1


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("compiled", [False, True])
def test_results_that_all_examples_share_wait_for_checks(size, compiled):
    """The gradient by the rows is zero in every row, beside an index that all examples share."""
    w, X = np.array([1.0, 2.0, 4.0]), np.random.default_rng(0).normal(size=(5, 2))

    def f(i, w, x):
        return mg.gather(w, i) * 2.0

    each = mg.microbatch(mg.per_example_grad(f, argnums=2, in_axes=(None, None, 0)), size, (None, None, 0))
    each = mg.compile(each) if compiled else each
    np.testing.assert_array_equal(each(1, w, X), np.zeros((5, 2)))
    with pytest.raises(IndexError, match="3"):
        each(3, w, X)


# -- memory as the budget ------------------------------------------------------------------------------------

BACKENDS = ["eager", "numpy", "native"]


def run_by(backend, f):
    """Return a function, on its own or compiled."""
    if backend == "eager":
        return f
    if backend == "native":
        pytest.importorskip("llvmlite")
    return mg.compile(f, backend=backend)


def peak_of_call(f, args, few):
    """Return the result of a call, and its peak of memory beside the arguments; `few` are arguments for a first call.

    A compiled function is compiled again after that, so that the peak includes its workspace.
    """
    f(*few)  # imports, and code that a process makes once
    if hasattr(f, "like"):
        f = f.like(f.__wrapped__)
        f.build(*args)
    gc.collect()
    tracemalloc.start()
    try:
        result = f(*args)
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def check_peak(peak, memory, backend):
    """Compare a peak with the memory given; node by node, operations may need less than they do for some values."""
    assert peak < 1.1 * memory
    assert peak > (0.6 if backend == "eager" else 0.9) * memory


def two_layers(w, x):
    return np.sum(np.tanh(np.tanh(x @ w["a"]) @ w["b"]) ** 2)


DENSE = {"a": rng.normal(size=(16, 64)) / 4, "b": rng.normal(size=(64, 32)) / 8}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("megabytes", [3, 10])
def test_measured_peak_of_dense_passes_is_the_memory_given(backend, megabytes):
    X = rng.normal(size=(20_000, 16))
    mean = mg.mean_loss(two_layers, (None, 0))
    f = run_by(backend, mg.value_and_grad(mg.microbatch(mean, memory=f"{megabytes} MB")))
    result, peak = peak_of_call(f, (DENSE, X), (DENSE, X[:5]))
    check_peak(peak, megabytes * 1e6, backend)
    close(result, mg.value_and_grad(mean)(DENSE, X))
    if backend != "eager":
        assert 0.95 * megabytes * 1e6 < f.memory(DENSE, X) <= megabytes * 1e6
        assert f.memory(20_000) == f.memory(DENSE, X)


@pytest.mark.parametrize("backend", BACKENDS)
def test_measured_peak_of_results_per_example_is_the_memory_given(backend):
    X = rng.normal(size=(4000, 16))
    each = mg.vmap(lambda w, x: np.tanh(np.tanh(x @ w["a"]) @ w["b"])[:8], (None, 0))
    f = run_by(backend, mg.microbatch(each, memory=10**6))
    result, peak = peak_of_call(f, (DENSE, X), (DENSE, X[:5]))
    check_peak(peak, 1e6, backend)
    close(result, each(DENSE, X))


word = mg.axis("word")


def pooled(w, x):
    h = np.tanh(x @ w["a"])
    a = np.exp(h @ w["b"][:, 0])
    return np.sum(np.sum(a[:, None] * h, axis=0) / np.sum(a)) ** 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_measured_peak_of_ragged_passes_is_the_memory_given(backend):
    lengths = np.random.default_rng(1).integers(1, 60, 3000)
    batch = mg.batch([rng.normal(size=(n, 16)) for n in lengths], mg.f64[word, 16])
    mean = mg.mean_loss(pooled, (None, 0))
    f = run_by(backend, mg.value_and_grad(mg.microbatch(mean, memory="12 MB")))
    result, peak = peak_of_call(f, (DENSE, batch), (DENSE, batch[:500]))
    check_peak(peak, 12e6, backend)
    close(result, mg.value_and_grad(mean)(DENSE, batch))


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_memory_that_the_whole_batch_does_not_reach_is_not_used(backend):
    X = rng.normal(size=(1000, 16))
    f = run_by(backend, mg.grad(mg.microbatch(mg.mean_loss(two_layers, (None, 0)), memory="1 GB")))
    _, peak = peak_of_call(f, (DENSE, X), (DENSE, X[:5]))
    assert f.memory(DENSE, X) == pytest.approx(peak, rel=0.1)
    assert peak < 4e6


@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_that_one_example_exceeds_is_an_error_with_both_numbers(backend):
    f = run_by(backend, mg.grad(mg.microbatch(mg.mean_loss(two_layers, (None, 0)), memory="9 KB")))
    few = r"memory is 9,000 bytes, and a pass over one example needs \d+,\d{3} bytes"
    with pytest.raises(mg.BatchError, match=few):
        f(DENSE, rng.normal(size=(1000, 16)))
    lengths = [3, 1, 5000, 2]
    batch = mg.batch([rng.normal(size=(n, 16)) for n in lengths], mg.f64[word, 16])
    f = run_by(backend, mg.grad(mg.microbatch(mg.mean_loss(pooled, (None, 0)), memory="500 KB")))
    long = r"memory is 500,000 bytes, and a pass over example 2 needs \d+,\d{3},\d{3} bytes"
    with pytest.raises(mg.BatchError, match=long):
        f(DENSE, batch)


@pytest.mark.parametrize("bad", ["5 apples", 0, -3, "0 MB", 2.5])
def test_bad_memory_is_refused_at_once(bad):
    with pytest.raises(mg.BatchError, match=r"microbatch\(example_loss\): memory must be a positive number of bytes"):
        mg.microbatch(L, memory=bad)


def test_size_and_memory_exclude_each_other():
    with pytest.raises(mg.BatchError, match="give size or memory, not both"):
        mg.microbatch(L, 5, memory="1 MB")


def test_a_budget_is_printed_and_survives_json_and_pickles():
    graph = mg.trace(mg.value_and_grad(mg.microbatch(L, memory="3 MB")))(W, X, Y)
    assert "size=3 MB" in str(graph)
    again = mg.Graph.from_json(graph.to_json())
    assert str(again) == str(graph)
    sizes = {n.params["size"] for n in again.nodes if n.prim.name == "chunked"}
    assert [b.nbytes for b in sizes] == [3_000_000]
    f = mg.compile(mg.value_and_grad(mg.microbatch(L, memory="3 MB")))
    want = f(W, X, Y)
    close(pickle.loads(pickle.dumps(f))(W, X, Y), want)


def test_budgets_under_other_transforms():
    few = mg.microbatch(L, memory="20 KB")
    close(*(mg.hvp(lambda w, f=f: f(w, X, Y), (W,), (W,)) for f in (few, L)))
    ws = np.stack([W, 2 * W, 3 * W])
    close(mg.vmap(lambda w: few(w, X, Y))(ws), np.stack([L(w, X, Y) for w in ws]))


def test_a_budget_needs_sizes_that_are_known_before_a_pass():
    batch = mg.batch([rng.normal(size=(n, 16)) for n in (3, 5)], mg.f64[word, 16])
    mean = mg.mean_loss(lambda w, x: np.sum(x[mg.select(x[:, 0] > w)]), (None, 0))
    close(mg.microbatch(mean, 1)(0.0, batch), mean(0.0, batch))
    with pytest.raises(mg.BatchError, match=r"test_microbatch\.py:\d+: microbatch.*the data determine a size"):
        mg.microbatch(mean, memory="1 MB")(0.0, batch)
