"""Collections of Dask against the whole batch in memory: values, laziness, order of sums, refusals."""

import os
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import optree
import pytest

import minigrad as mg
from minigrad.errors import BatchError, MinigradError

from ..clusters import cluster
from ..losses import AXES, SENTENCES, V, W, X, Y, loss, of_sentence, rows, word

dask = pytest.importorskip("dask", reason="needs the extra dask")
da = pytest.importorskip("dask.array")
db = pytest.importorskip("dask.bag")

GRADIENT = mg.value_and_grad(mg.mean_loss(loss, in_axes=AXES))
NORMS = mg.per_example.norms(loss, in_axes=AXES)
WHOLE = GRADIENT(W, X, Y)
EXAMPLES = SENTENCES.unbatch()


@pytest.fixture(scope="module")
def client():
    with cluster(default=False) as client:
        yield client


def arrays(x=10, y=10):
    return da.from_array(X, chunks=x), da.from_array(Y, chunks=y)


def same(found, want):
    for a, b in zip(optree.tree_leaves(found), optree.tree_leaves(want), strict=True):
        assert type(a) is type(b)
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def bits(tree):
    return [np.asarray(x).tobytes() for x in optree.tree_leaves(tree)]


# -- arrays ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [
    (10, 10), (53, 53), (((1, 50, 2), 7), 7), ((10, 7), 25), (((20, 0, 33), 20), (20, 33))])
def test_chunks_of_any_size_are_the_whole_batch(chunks):
    same(mg.distribute(GRADIENT)(W, *arrays(*chunks)), WHOLE)


def test_sums_have_the_bits_of_parts(client):
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(2, get_context("spawn")) as processes:
        want = bits(mg.distribute(GRADIENT, threads, 4)(W, X, Y))
        edges = [53 * k // 4 for k in range(5)]
        x, y = arrays((tuple(np.diff(edges)), 20), (tuple(np.diff(edges)),))
        for executor in (None, threads, processes, client):
            assert bits(mg.distribute(GRADIENT, executor)(W, x, y)) == want


def test_results_per_example_are_lazy(client):
    ran = []

    def noting(block):
        ran.append(len(block))
        return block

    x, y = arrays()
    x = x.map_blocks(noting, dtype=x.dtype, meta=np.empty((0, 0)))
    for executor in (None, client):
        norms = mg.distribute(NORMS, executor)(W, x, y)
        assert isinstance(norms, da.Array)
        assert not ran
        assert (norms.chunks, norms.dtype) == (y.chunks, np.float64)
    np.testing.assert_allclose((norms + 1).max().compute(scheduler="synchronous"), NORMS(W, X, Y).max() + 1)
    assert sorted(ran) == [3, 3, *[10] * 10]  # each block of rows and columns once
    np.testing.assert_allclose(client.compute(mg.distribute(NORMS, client)(W, *arrays())).result(), NORMS(W, X, Y))


def test_results_with_more_axes():
    f = mg.vmap(lambda w, x: {"outer": np.outer(x, w[:2]), "row": x * w}, in_axes=(None, 0))
    want, found = f(W, X), mg.distribute(f)(W, arrays()[0])
    assert {k: v.shape for k, v in found.items()} == {"outer": (53, 20, 2), "row": (53, 20)}
    for k, v in found.items():
        np.testing.assert_allclose(v.compute(), want[k])


@pytest.mark.parametrize("local", [True, False])
def test_means_beside_results_per_example(client, local):
    def both(w, x, y):
        losses = mg.vmap(loss, in_axes=AXES)(w, x, y)
        return np.mean(losses), losses, 7

    mean, losses, seven = mg.distribute(both, None if local else client, in_axes=AXES)(W, *arrays())
    want = both(W, X, Y)
    assert mean == pytest.approx(want[0])
    assert seven == 7
    assert type(seven) is int
    assert isinstance(losses, da.Array)
    np.testing.assert_allclose(losses.compute() if local else client.compute(losses).result(), want[1])


def test_values_of_the_batch_after_its_rows():
    f = mg.vmap(loss, in_axes=AXES)
    same(mg.distribute(lambda w, x, y: np.max(f(w, x, y)), in_axes=AXES)(W, *arrays()), np.max(f(W, X, Y)))


def test_arrays_of_numpy_and_files_beside_those_of_dask(tmp_path):
    np.save(tmp_path / "y.npy", Y)
    x, _ = arrays()
    step = mg.distribute(GRADIENT)
    same(step(W, x, Y), WHOLE)
    same(step(W, x, np.load(tmp_path / "y.npy", mmap_mode="r")), WHOLE)
    f = mg.mean_loss(lambda s, y: np.sum(s.x) * y, in_axes=0)
    y = np.arange(23.0)
    same(mg.distribute(f)(SENTENCES, da.from_array(y, chunks=5)), f(SENTENCES, y))


def test_parameters_of_dask():
    w = da.from_array(W, chunks=7)
    same(mg.distribute(GRADIENT)(w, *arrays()), WHOLE)
    with ThreadPoolExecutor(2) as threads:
        same(mg.distribute(GRADIENT, threads, 3)(w, X, Y), WHOLE)
    with pytest.raises(BatchError, match="nothing is mapped"), ThreadPoolExecutor(2) as threads:
        mg.distribute(GRADIENT, threads, in_axes=None)(w, *arrays())


def test_an_axis_that_is_not_the_first():
    f = mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 1, 0)))
    same(mg.distribute(f)(W, da.from_array(X.T, chunks=(7, 10)), arrays()[1]), f(W, X.T, Y))
    g = mg.vmap(lambda w, x: x * w, in_axes=(None, 1), out_axes=1)
    found = mg.distribute(g, in_axes=(None, 1))(W, da.from_array(X.T, chunks=(7, 10)))
    np.testing.assert_allclose(found.compute(), g(W, X.T))


def test_chunks_of_unknown_size():
    x, y = arrays()
    keep = y > 0
    value = mg.distribute(GRADIENT)(W, x[keep], y[keep])
    same(value, GRADIENT(W, X[Y > 0], Y[Y > 0]))
    norms = mg.distribute(NORMS)(W, x[keep], y[keep])
    assert np.isnan(norms.shape[0])
    np.testing.assert_allclose(norms.compute(), NORMS(W, X[Y > 0], Y[Y > 0]))


def test_keyword_arguments():
    f = mg.mean_loss(lambda x, y: np.sum(x) * y)
    x, y = arrays()
    same(mg.distribute(f)(x, y=y), f(X, y=Y))


def test_optimizer_states_and_custom_rules():
    @mg.custom_vjp(lambda g, out, x: (np.clip(g, -0.1, 0.1),))
    def clipped(x):
        return np.tanh(x)

    f = mg.mean_loss(lambda w, x, y: (np.sum(clipped(x * w)) - y) ** 2, in_axes=AXES)
    init, update = mg.optim.adam(0.1)
    state = init(W)

    def step(w, state, x, y):
        return update(mg.grad(f)(w, x, y), state, w)

    axes = (None, None, 0, 0)
    want = step(W, state, X, Y)
    same(mg.distribute(step, in_axes=axes)(W, state, *arrays()), want)
    with ThreadPoolExecutor(2) as threads:
        same(mg.distribute(step, threads, 3, in_axes=axes)(W, state, X, Y), want)


# -- frames and bags -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def frame():
    pd, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    columns = {f"c{k}": X[:, k] for k in range(20)}
    return dd.from_pandas(pd.DataFrame({**columns, "y": Y}), npartitions=4)


def columns(frame):
    return frame[[f"c{k}" for k in range(20)]], frame["y"]


def test_frames_are_arrays_of_their_columns(frame, client):
    for executor in (None, client):
        same(mg.distribute(GRADIENT, executor)(W, *columns(frame)), WHOLE)
    row = mg.mean_loss(lambda w, r: loss(w, r[:-1], r[-1]), in_axes=(None, 0))
    same(mg.distribute(row)(W, frame), row(W, np.column_stack([X, Y])))


def test_frames_as_trees_of_columns(frame):
    f = mg.mean_loss(lambda r: (r["c0"] - r["y"]) ** 2, in_axes=0)
    same(mg.distribute(f)({"c0": frame["c0"], "y": frame["y"]}), f({"c0": X[:, 0], "y": Y}))


def test_frames_with_empty_partitions(frame):
    some = frame.map_partitions(lambda part: part[part.index > 30])
    assert 0 in some.map_partitions(len).compute().tolist()
    keep = np.arange(53) > 30
    same(mg.distribute(GRADIENT)(W, *columns(some)), GRADIENT(W, X[keep], Y[keep]))
    norms = mg.distribute(NORMS)(W, *columns(some))
    np.testing.assert_allclose(norms.compute(), NORMS(W, X[keep], Y[keep]))
    with pytest.raises(BatchError, match=r"test_calls.py:\d+: distribute\(loss\): an empty batch"):
        mg.distribute(GRADIENT)(W, *columns(frame[frame.y > 100]))


def test_frames_beside_arrays(frame):
    _, y = arrays()
    same(mg.distribute(GRADIENT)(W, columns(frame)[0], y), WHOLE)
    same(mg.distribute(GRADIENT)(W, columns(frame)[0], Y), WHOLE)
    same(mg.distribute(GRADIENT)(W, columns(frame)[0], arrays(y=15)[1]), WHOLE)  # as many chunks, of other sizes


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # Dask's own
def test_parquet_and_zarr_are_opened_by_workers(frame, client, tmp_path):
    pytest.importorskip("pyarrow")
    dd = pytest.importorskip("dask.dataframe")
    frame.to_parquet(tmp_path / "rows")
    same(mg.distribute(GRADIENT, client)(W, *columns(dd.read_parquet(tmp_path / "rows"))), WHOLE)
    zarr = pytest.importorskip("zarr")
    for name, a in (("x", X), ("y", Y)):
        stored = zarr.open_array(str(tmp_path / f"{name}.zarr"), mode="w", shape=a.shape, chunks=(10, *a.shape[1:]),
                                 dtype=a.dtype)
        stored[...] = a
    x, y = (da.from_zarr(str(tmp_path / f"{name}.zarr")) for name in "xy")
    same(mg.distribute(GRADIENT, client)(W, x, y), WHOLE)


@pytest.mark.parametrize("f", [mg.value_and_grad(mg.mean_loss(of_sentence, in_axes=(None, 0))),
                               mg.value_and_grad(mg.mean_loss(rows, over=word, in_axes=(None, 0))),
                               mg.mean_loss(of_sentence, in_axes=(None, 0))])
@pytest.mark.parametrize("partitions", [1, 4, 23])
def test_bags_are_ragged_batches(f, partitions):
    bag = db.from_sequence(EXAMPLES, npartitions=partitions)
    with ThreadPoolExecutor(2) as threads:
        found, want = mg.distribute(f, threads, in_axes=(None, 0))(V, bag), f(V, SENTENCES)
    for a, b in zip(optree.tree_leaves(found), optree.tree_leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11)


def test_bags_on_a_cluster(client):
    f = mg.value_and_grad(mg.mean_loss(of_sentence, in_axes=(None, 0)))
    bag = db.from_sequence(EXAMPLES, npartitions=5)
    step = mg.distribute(f, client)
    value, _ = step(V, bag)
    assert value == pytest.approx(f(V, SENTENCES)[0])
    few = bag.filter(lambda s: s.y > 0.5)
    chosen = mg.batch([s for s in EXAMPLES if s.y > 0.5])
    np.testing.assert_allclose(step(V, few)[1], f(V, chosen)[1], rtol=1e-11)
    norms = mg.distribute(mg.per_example.norms(of_sentence, in_axes=(None, 0)), client)(V, few)
    np.testing.assert_allclose(client.compute(norms).result(),
                               mg.per_example.norms(of_sentence, in_axes=(None, 0))(V, chosen), rtol=1e-11)


def test_bags_of_arrays_and_trees():
    f = mg.value_and_grad(mg.mean_loss(lambda w, e: loss(w, e["x"], e["y"]), in_axes=(None, 0)))
    bag = db.from_sequence([{"x": x, "y": y} for x, y in zip(X, Y, strict=True)], npartitions=4)
    with ThreadPoolExecutor(2) as threads:
        same(mg.distribute(f, threads)(W, bag), f(W, {"x": X, "y": Y}))


# -- sent once -----------------------------------------------------------------------------------------------


def test_shared_values_stay_on_the_cluster(client):
    matrix = np.linspace(-1, 1, 400).reshape(20, 20)
    f = mg.mean_loss(lambda a, x: np.sum(np.tanh(x @ a)), in_axes=(None, 0))
    x, _ = arrays()
    step = mg.distribute(f, client)

    def shared():
        keys = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks))
        return {k for k in keys if "lambda_" in str(k) and "shared" in str(k)}

    same(step(matrix, x), f(matrix, X))
    first = shared()
    same(step(matrix.copy(), x), f(matrix, X))
    assert shared() == first
    matrix[0, 0] = 9.0
    same(step(matrix, x), f(matrix, X))
    deadline = time.monotonic() + 120
    while len(shared() & first) > 1 and time.monotonic() < deadline:
        time.sleep(0.01)  # the scheduler is told
    assert len(first) == 2
    assert len(shared() & first) == 1  # the program


def test_a_worker_that_dies(client):
    x, y = (a.persist(scheduler=client) for a in arrays())
    step = mg.distribute(GRADIENT, client)
    same(step(W, x, y), WHOLE)
    for pid in client.run(os.getpid).values():
        os.kill(pid, 9)
    same(step(W, x, y), WHOLE)


def ends(x):
    os._exit(1)


def test_a_chunk_that_kills_its_workers(client):
    f = mg.mean_loss(lambda w, x: mg.callback(ends, mg.f64[()], x) * w, in_axes=(None, 0))
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 0))
        with pytest.raises(MinigradError, match=r"test_calls.py:\d+: distribute\(.*\): chunk 0 of 1: KilledWorker"):
            mg.distribute(f, client)(2.0, da.ones(3))
    client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 3))
    same(mg.distribute(GRADIENT, client)(W, *arrays()), WHOLE)


def test_pools_that_are_closed_or_break():
    x, y = arrays()
    step = mg.distribute(GRADIENT, closed := ThreadPoolExecutor(1))
    closed.shutdown()
    with pytest.raises(MinigradError, match=r"test_calls.py:\d+: distribute\(loss\): RuntimeError: cannot schedule"):
        step(W, x, y)
    f = mg.mean_loss(lambda w, x: mg.callback(ends, mg.f64[()], x) * w, in_axes=(None, 0))
    with ProcessPoolExecutor(1, get_context("spawn")) as pool, pytest.raises(
            MinigradError, match=r"test_calls.py:\d+: distribute\(.*\): BrokenProcessPool: "):
        mg.distribute(f, pool)(2.0, da.ones(3))


def sleeps(x):
    time.sleep(5)
    return x


def test_a_chunk_that_is_late(client):
    f = mg.mean_loss(lambda w, x: mg.callback(sleeps, mg.f64[()], x) * w, in_axes=(None, 0))
    with pytest.raises(MinigradError, match=r"test_calls.py:\d+: distribute\(.*\): chunk 0 of 3: no result in 0.5 s"):
        mg.distribute(f, client, timeout=0.5)(2.0, da.ones(3, chunks=1))


# -- refusals ------------------------------------------------------------------------------------------------


def test_functions_that_mix_examples_are_refused_before_anything_runs():
    def never(block):
        raise AssertionError

    x = da.from_array(X, chunks=10).map_blocks(never, dtype=X.dtype, meta=np.empty((0, 0)))
    with pytest.raises(BatchError, match=r"distribute\(lambda_\): .*mixes examples"):
        mg.distribute(lambda x: np.tanh(x - x.mean(axis=0)))(x)


def picks(w, k):
    return w[k] ** 2


def test_errors_name_the_chunk_and_the_example(client):
    k = np.arange(12)
    k[9] = 70
    chunked = da.from_array(k, chunks=4)
    f = mg.mean_loss(picks, in_axes=(None, 0))
    for executor in (None, client):
        with pytest.raises(IndexError, match=r"(?s)index 70 is out of range.*chunk 2 of 3 \(examples 8 to 11\)"):
            mg.distribute(f, executor)(W, chunked)
    losses = mg.distribute(mg.vmap(picks, in_axes=(None, 0)))(W, chunked)
    with pytest.raises(IndexError, match=r"(?s)index 70 is out of range.*chunk 2 of 3 "):
        losses.compute()


def test_chunks_that_disagree():
    odd = [X[:10], X[10:20].astype(np.float32), X[20:]]
    x = da.concatenate([da.from_delayed(dask.delayed(b, traverse=False), b.shape, X.dtype) for b in odd])
    with pytest.raises(BatchError, match=r"test_calls.py:\d+: distribute\(loss\): chunk 1 of 3 \(examples 10 to 19\): "
                                         "argument x has dtype float32 here, and float64 in the first chunk"):
        mg.distribute(GRADIENT)(W, x, Y)
    wide = [X[:10], np.ones((43, 21))]
    x = da.concatenate([da.from_delayed(dask.delayed(b, traverse=False), (len(b), 20), X.dtype) for b in wide])
    with pytest.raises(BatchError, match=r"chunk 1 of 2 \(examples 10 to 52\): argument x: expected shape "
                                         r"\[B, 20\], got \[43, 21\]"):
        mg.distribute(GRADIENT)(W, x, Y)


def test_bags_that_disagree():
    with ThreadPoolExecutor(2) as threads:
        step = mg.distribute(mg.mean_loss(lambda e: np.sum(e["x"])), threads)
        with pytest.raises(BatchError, match=r"chunk 1 of 2: .*have y here, and x in the first chunk"):
            step(db.from_sequence([{"x": 1.0}, {"y": 2.0}], npartitions=2))
        with pytest.raises(BatchError, match=r"chunk 0 of 1: the examples of a bag have one structure"):
            step(db.from_sequence([{"x": 1.0}, {"y": 2.0}], npartitions=1))
        with pytest.raises(BatchError, match=r"chunk 0 of 1: the arrays of a bag have one shape .*@mg.example"):
            step(db.from_sequence([{"x": np.ones(2)}, {"x": np.ones(3)}], npartitions=1))
        with pytest.raises(BatchError, match="an empty batch"):
            step(db.from_sequence([{"x": 1.0}], npartitions=1).filter(lambda e: False))


def test_sizes_that_differ(frame):
    x, y = arrays()
    step = mg.distribute(GRADIENT)
    with pytest.raises(BatchError, match=r"distribute\(loss\): batch sizes differ: y has 52 examples, and x 53"):
        step(W, x, y[1:])
    with pytest.raises(BatchError, match="batch sizes differ: y has 52 examples, and x 53"):
        step(W, x, Y[1:])
    with pytest.raises(BatchError, match="y has 2 partitions, and another argument 4: repartition"):
        step(W, columns(frame)[0], frame["y"].repartition(npartitions=2))
    with pytest.raises(BatchError, match=r"chunk \d of 4 .*: size B is \d+ in x and \d+ in y"):
        step(W, columns(frame)[0], frame[frame.y > 0]["y"])


def test_wrong_calls(frame):
    x, y = arrays()
    with pytest.raises(BatchError, match="parts=3, but the parts are the chunks"):
        mg.distribute(GRADIENT, parts=3)(W, x, y)
    with pytest.raises(MinigradError, match=r"distribute\(loss\): no executor, and no argument is a collection"):
        mg.distribute(GRADIENT)(W, X, Y)
    with pytest.raises(BatchError, match=r"argument|x: .* has no axis 2"):
        mg.distribute(GRADIENT, in_axes=(None, 2, 0))(W, x, y)
    with pytest.raises(BatchError, match="an empty batch"):
        mg.distribute(GRADIENT)(W, x[:0], y[:0])
    with pytest.raises(BatchError, match="y is a Dask Delayed"):
        mg.distribute(GRADIENT)(W, x, dask.delayed(Y))
    with pytest.raises(BatchError, match="whose examples are its rows: axis 0, got axis 1"):
        mg.distribute(mg.mean_loss(lambda r: np.sum(r)), in_axes=1)(frame)
    with pytest.raises(mg.MinigradError, match="cannot be traced"):
        mg.grad(mg.distribute(mg.mean_loss(loss, in_axes=AXES)))(W, X, Y)


def test_what_cannot_be_sent_is_named(client):
    f = mg.mean_loss(lambda w, x: mg.callback(lambda x: x, mg.f64[()], x) * w, in_axes=(None, 0))
    assert mg.distribute(f)(2.0, da.ones(3)) == 2.0
    with pytest.raises(MinigradError, match=r"function of callback at test_calls.py:\d+ cannot be sent"):
        mg.distribute(f, client)(2.0, da.ones(3))
