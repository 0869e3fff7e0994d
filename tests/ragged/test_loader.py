"""What goes into a batch, in which order, and what the thread does when someone stops early or fails."""

import copy
import gc
import multiprocessing
import os
import pickle
import select
import signal
import threading
import time
import tracemalloc

import numpy as np
import optree
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.ragged.dataset import Arrays
from minigrad.ragged.loader import DataLoader, ahead, cut, order

X, Y = np.arange(24.0).reshape(12, 2), np.arange(12)


class Uneven:
    """A dataset with ragged sizes whose batches are the indices themselves."""

    def __init__(self, **sizes):
        self.lengths = {name: np.array(n) for name, n in sizes.items()}

    def __len__(self):
        return len(next(iter(self.lengths.values())))

    def __getitem__(self, indices):
        return indices


def threads():
    return [t for t in threading.enumerate() if t.name == "minigrad-loader"]


# -- how many, and which -----------------------------------------------------------------------------------


def test_twelve_samples_in_six_batches_of_two():
    loader = DataLoader((X, Y), batch_size=2)
    batches = list(loader)
    assert len(loader) == len(batches) == 6
    for i, (x, y) in enumerate(batches):
        np.testing.assert_array_equal(x, X[2 * i:2 * i + 2])
        np.testing.assert_array_equal(y, Y[2 * i:2 * i + 2])


@pytest.mark.parametrize(("size", "drop", "lengths"), [
    (5, False, [5, 5, 2]), (5, True, [5, 5]), (4, True, [4, 4, 4]), (12, True, [12]), (13, True, []), (13, False, [12]),
    (1, False, [1] * 12)])
def test_length_of_the_last_batch(size, drop, lengths):
    loader = DataLoader(Y, batch_size=size, drop_last=drop)
    assert [len(b) for b in loader] == lengths
    assert len(loader) == len(lengths)


def test_batches_are_copies():
    data = np.arange(4.0)
    (batch,) = DataLoader(data, batch_size=4)
    batch[:] = -1
    np.testing.assert_array_equal(data, np.arange(4.0))


def test_a_pytree_keeps_its_structure():
    (batch,) = DataLoader({"a": X, "b": (Y, [Y])}, batch_size=12)
    np.testing.assert_array_equal(batch["b"][1][0], Y)


def test_each_epoch_has_every_example_in_another_order():
    loader = DataLoader(Y, batch_size=5, shuffle=True, seed=0)
    epochs = [np.concatenate(list(loader)) for _ in range(3)]
    for e in epochs:
        np.testing.assert_array_equal(np.sort(e), Y)
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[1], epochs[2])
    again = DataLoader(Y, batch_size=5, shuffle=True, seed=0)
    for e in epochs:
        np.testing.assert_array_equal(np.concatenate(list(again)), e)
    other = DataLoader(Y, batch_size=5, shuffle=True, seed=1)
    assert not np.array_equal(np.concatenate(list(other)), epochs[0])


def test_batches_of_a_given_epoch():
    loader = DataLoader(Y, batch_size=5, shuffle=True, seed=0)
    third = [list(map(tuple, loader)) for _ in range(3)][2]
    loader.epoch = 2
    assert list(map(tuple, loader)) == third
    assert loader.epoch == 3
    assert [tuple(b) for b in loader.batches(2)] == third
    assert loader.batches(2) is loader.batches(2)  # planned once


def test_without_a_seed_two_loaders_differ():
    data = np.arange(1000)
    assert not np.array_equal(*(next(iter(DataLoader(data, batch_size=1000, shuffle=True))) for _ in range(2)))


def test_empty_datasets_have_no_batches():
    assert list(DataLoader(np.zeros((0, 3)), batch_size=2, shuffle=True)) == []
    assert list(DataLoader(np.zeros((0, 3)), batch_size=2, drop_last=True)) == []


# -- budgets and buckets -----------------------------------------------------------------------------------


def test_max_rows():
    loader = DataLoader(Uneven(node=[3, 4, 5, 6, 1, 1]), max_rows={"node": 7})
    assert [list(b) for b in loader] == [[0, 1], [2], [3, 4], [5]]
    assert len(loader) == 4


def test_several_limits_hold_at_once():
    data = Uneven(node=[1, 1, 1, 1, 1, 1], edge=[0, 9, 1, 0, 0, 0])
    assert [list(b) for b in DataLoader(data, 3, max_rows={"node": 4, "edge": 9})] == [[0, 1], [2, 3, 4], [5]]


def test_drop_last_keeps_a_full_batch():
    assert [list(b) for b in DataLoader(Uneven(node=[2, 3, 5]), max_rows={"node": 5}, drop_last=True)] == [[0, 1], [2]]
    assert [list(b) for b in DataLoader(Uneven(node=[2, 3, 4]), max_rows={"node": 5}, drop_last=True)] == [[0, 1]]


def test_max_bytes():
    counts = np.array([3, 4, 5, 6, 1, 1])
    loader = DataLoader(Uneven(node=counts), max_bytes=700, measure=lambda some: 100 * counts[some].sum())
    assert [list(b) for b in loader] == [[0, 1], [2], [3, 4], [5]]


def test_memory_of_a_compiled_program_bounds_the_batch():
    def loss(w, x):
        return np.sum(np.linalg.norm(x[:, None] * w, axis=0) ** 3)

    step = mg.compile(mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0))))
    x, w = np.random.default_rng(0).normal(size=(300, 20)), np.ones(20)
    largest = step.workspace_bytes(w, x)
    loader = DataLoader(x, max_bytes=largest // 4, measure=lambda batch: step.workspace_bytes(w, batch))
    used = [step.workspace_bytes(w, batch) for batch in loader]
    assert max(used) <= largest // 4
    first = len(next(iter(loader)))
    assert step.workspace_bytes(w, x[:first + 1]) > largest // 4, "one more would not have fitted"
    assert len(step.entries) == 1


node, edge = mg.axis("node"), mg.axis("edge")


@mg.example
class Graph:
    x: mg.f64[node, 3]
    src: mg.index(node)[edge]
    dst: mg.index(node)[edge]


def graphs(n=60):
    rng = np.random.default_rng(0)
    sizes = [(int(a), int(b) if a else 0) for a, b in rng.integers(0, 30, (n, 2))]
    return [Graph(x=rng.normal(size=(a, 3)), src=rng.integers(0, max(a, 1), b), dst=rng.integers(0, max(a, 1), b))
            for a, b in sizes]


def graph_loss(w, g):
    return np.sum(np.tanh(mg.segment_sum((g.x @ w)[g.src], g.dst, g.x.shape[0])) ** 2)


def test_memory_of_a_compiled_program_bounds_ragged_batches():
    step, w = mg.compile(mg.value_and_grad(mg.mean_loss(graph_loss, in_axes=(None, 0)))), np.ones((3, 40))
    packed = mg.batch(graphs())
    limit = step.workspace_bytes(w, packed) // 6
    loader = DataLoader(packed, max_bytes=limit, measure=lambda b: step.workspace_bytes(w, b), shuffle=True, seed=0)
    used = [step.workspace_bytes(w, b) for b in loader]
    assert max(used) <= limit
    for some, following in zip(loader.batches(0), loader.batches(0)[1:], strict=False):
        assert step.workspace_bytes(w, packed[np.append(some, following[0])]) > limit
    assert len(step.entries) == 1


def test_one_program_serves_all_batches_of_all_epochs():
    step, w = mg.compile(mg.value_and_grad(mg.mean_loss(graph_loss, in_axes=(None, 0)))), np.ones((3, 4)) / 3
    examples = graphs()
    loader = DataLoader(examples, max_rows={node: 150, edge: 200}, shuffle=True, seed=0, prefetch=2)
    assert len({len(b) for b in loader.batches(0)}) > 2
    for epoch in range(3):
        for which, batch in zip(loader.batches(epoch), loader, strict=True):
            value, slope = step(w, batch)
            each = [mg.value_and_grad(graph_loss)(w, examples[i]) for i in which]
            np.testing.assert_allclose(value, np.mean([v for v, _ in each]), rtol=1e-12)
            np.testing.assert_allclose(slope, np.mean([g for _, g in each], axis=0), rtol=1e-10, atol=1e-14)
    assert len(step.entries) == 1


sizes = st.lists(st.integers(0, 9), min_size=1, max_size=40)


@given(sizes, st.integers(9, 30), st.one_of(st.none(), st.integers(1, 7)), st.one_of(st.none(), st.integers(1, 50)),
       st.one_of(st.none(), st.integers(0, 3)), st.booleans())
def test_cut_and_order_by_their_definition(counts, limit, batch_size, bucket, seed, by_measure):
    counts = np.array(counts)
    examples = order(counts, None if seed is None else np.random.default_rng(seed), bucket)
    np.testing.assert_array_equal(np.sort(examples), np.arange(len(counts)))
    if by_measure:
        parts, full = cut(examples, batch_size, cost=lambda some: counts[some].sum(), most=limit)
        full = full or counts[parts[-1]].sum() == limit
    else:
        parts, full = cut(examples, batch_size, [(counts, limit)])
    np.testing.assert_array_equal(np.concatenate(parts), examples)
    longest = batch_size or len(counts)
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        assert 1 <= len(part) <= longest
        assert counts[part].sum() <= limit
        if following is not None:  # no batch could have had one more
            assert len(part) == longest or counts[part].sum() + counts[following[0]] > limit
    assert full == (len(parts[-1]) == batch_size or counts[parts[-1]].sum() == limit)


def test_buckets_hold_examples_of_similar_size():
    counts = np.random.default_rng(0).integers(1, 100, 400)

    def spread(**how):
        loader = DataLoader(Uneven(node=counts), batch_size=10, shuffle=True, seed=0, **how)
        batches = list(loader)
        np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(400))
        return np.mean([np.ptp(counts[b]) for b in batches]), [counts[b].mean() for b in batches]

    (alone, _), (together, means) = spread(), spread(bucket=200)
    assert together < alone / 5
    assert np.ptp(np.sign(np.diff(means))) == 2, "the batches come in no order of size"
    whole = DataLoader(Uneven(node=counts), batch_size=10, bucket=400)
    assert np.all(np.diff(np.concatenate([counts[b] for b in whole])) >= 0)


# -- the thread --------------------------------------------------------------------------------------------


def test_prefetched_batches_are_equal():
    plain, early = (DataLoader((X, Y), batch_size=5, shuffle=True, seed=3, prefetch=n) for n in (0, 2))
    for _ in range(2):
        for (x, y), (u, v) in zip(plain, early, strict=True):
            np.testing.assert_array_equal(x, u)
            np.testing.assert_array_equal(y, v)
    assert not threads()


def test_prefetch_without_a_thread_computes_the_items_itself(monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert list(ahead(str, 3, 2)) == ["0", "1", "2"]
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda k: 1 / k, 3, 2))


def test_prefetch_bounds_the_batches_ahead():
    asked, third = [], threading.Event()

    def item(i):
        asked.append(i)
        if i == 2:
            third.set()
        return i

    made = ahead(item, 10, 2)
    assert asked == [], "nothing runs before the first is wanted"
    assert next(made) == 0
    assert third.wait(120)
    assert asked == [0, 1, 2], "one in use, two ahead"
    assert list(made) == list(range(1, 10))


def test_a_closed_iterator_ends_its_thread():
    loader = DataLoader(np.arange(100), batch_size=2, prefetch=3)
    for i, _ in enumerate(loader):
        if i == 1:
            break
    gc.collect()
    assert not threads()
    iterator = iter(loader)
    next(iterator)
    assert len(threads()) == 1
    iterator.close()
    assert not threads()
    iter(loader)  # never used: there never was one
    assert not threads()


def test_two_progress_bars_at_once_and_one_that_stops_early(capsys):
    loader = DataLoader(Y, batch_size=2, progress=True, prefetch=1)
    assert sum(len(a) for a, _ in zip(loader, loader, strict=True)) == 12
    assert len(next(iter(loader))) == 2
    gc.collect()
    assert not threads()
    assert capsys.readouterr().out


def test_errors_of_the_thread_are_raised_in_order():
    class Broken(Uneven):
        def __getitem__(self, indices):
            if 2 in indices:
                raise OSError("the disk is gone")
            return indices

    batches = iter(DataLoader(Broken(node=[1, 1, 1, 1]), batch_size=1, prefetch=2))
    assert [int(next(batches)[0]) for _ in range(2)] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
    gc.collect()
    assert not threads()


@pytest.mark.parametrize("prefetch", [0, 2])
def test_two_iterators_at_once_are_two_epochs(prefetch):
    loader = DataLoader(Y, batch_size=5, shuffle=True, seed=0, prefetch=prefetch)
    pairs = list(zip(loader, loader, strict=True))
    first, second = (np.concatenate(side) for side in zip(*pairs, strict=True))
    np.testing.assert_array_equal(first, np.concatenate(loader.batches(0)))
    np.testing.assert_array_equal(second, np.concatenate(loader.batches(1)))


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_progress_bar(prefetch, capsys):
    loader = DataLoader(Y, batch_size=5, progress="reading", prefetch=prefetch)
    assert [len(b) for b in loader] == [5, 5, 2]
    shown = capsys.readouterr().out
    assert "reading" in shown
    assert "100%" in shown


# -- shards ------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 8), st.sampled_from([None, 4]), st.integers(1, 5),
       st.booleans(), st.booleans())
def test_shards_together_are_the_batches_of_one_loader(counts, batch_size, bucket, world, shuffle, drop_last):
    dataset = Uneven(node=counts)
    rest = {"max_rows": {"node": 12}, "shuffle": shuffle, "seed": 3, "bucket": bucket, "drop_last": drop_last}
    whole = DataLoader(dataset, batch_size, **rest)
    ranks = [DataLoader(dataset, batch_size, shard=(k, world), **rest) for k in range(world)]
    for _ in range(2):
        shares = [list(rank) for rank in ranks]
        batches = list(whole)
        assert {len(steps) for steps in shares} == {len(batches)}, "as many steps on all ranks"
        for batch, *step in zip(batches, *shares, strict=True):
            assert batch.tolist() == np.concatenate(step).tolist()
            sizes = [len(share) for share in step]
            assert max(sizes) - min(sizes) <= 1


def test_a_batch_of_fewer_examples_than_ranks_has_empty_shares():
    lengths = [[len(b) for b in DataLoader(np.arange(13), 6, shard=(k, 4))] for k in range(4)]
    assert lengths == [[1, 1, 0], [2, 2, 0], [1, 1, 0], [2, 2, 1]]


@pytest.mark.parametrize("kind", ["arrays", "batch", "disk", "frame"])
def test_shards_of_each_kind_of_dataset(kind, tmp_path):
    word = mg.axis("word")
    packed = sentences()
    if kind == "disk":
        dataset = mg.open_dataset(mg.save_dataset(tmp_path / "d", packed), mg.f64[word])
    elif kind == "frame":
        dataset = pytest.importorskip("pandas").DataFrame({"x": np.arange(7.0)})
    else:
        dataset = packed if kind == "batch" else {"x": X, "y": Y}

    def rows(batch):
        if kind == "arrays":
            return batch["x"].ravel().tolist()
        return batch["x"].tolist() if kind == "frame" else batch.values.tolist()

    options = {"batch_size": 5, "shuffle": True, "seed": 1}
    several = [list(DataLoader(dataset, shard=(k, 6), prefetch=k % 2, **options)) for k in range(6)]
    for whole, *shares in zip(DataLoader(dataset, **options), *several, strict=True):
        assert [v for share in shares for v in rows(share)] == rows(whole)


def test_an_interrupted_shard_continues_at_its_epoch():
    loader = DataLoader(Y, 5, shard=(1, 2), shuffle=True, seed=4)
    list(loader)
    again = pickle.loads(pickle.dumps(loader))
    anew = DataLoader(Y, 5, shard=(1, 2), shuffle=True, seed=4)
    anew.epoch = 1
    epochs = [[b.tolist() for b in one] for one in (loader, again, anew)]
    assert epochs[0] == epochs[1] == epochs[2]
    assert repr(loader) == "<DataLoader of 12 examples, batch_size=5, shard=(1, 2)>"


# -- memory --------------------------------------------------------------------------------------------------

WORD = mg.axis("word")


def peak_of_epoch(loader, use=None):
    """Return the peak of memory while an epoch runs; its plan is made before."""
    loader.batches(0)
    gc.collect()
    tracemalloc.start()
    try:
        for batch in loader:
            if use is not None:
                use(batch)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def strings(n):
    rng = np.random.default_rng(0)
    return mg.batch([rng.normal(size=(k, 8)) for k in rng.integers(1, 40, n)], mg.f64[WORD, 8])


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("data", [np.ones((50_000, 16)), strings(6000)], ids=["dense", "ragged"])
def test_measured_memory_of_batches_is_the_memory_given(data, prefetch):
    loader = DataLoader(data, memory="2 MB", prefetch=prefetch, shuffle=True, seed=0)

    def use(batch):
        optree.tree_leaves(batch)  # an array of segment ids belongs to it
        time.sleep(0.002)

    peak = peak_of_epoch(loader, use)
    reached = (prefetch + 1) / (prefetch + 2) if prefetch else 1  # unless the thread is as fast as the hand-over
    assert 0.9 * reached * 2e6 < peak < 1.1 * 2e6
    assert sum(map(len, loader.batches(0))) == len(data)
    assert "memory=2 MB" in repr(loader)


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("data", [np.ones((30_000, 8)), strings(3000)], ids=["dense", "ragged"])
def test_measured_memory_of_batches_and_their_program_is_the_memory_given(data, backend):
    if backend == "native":
        pytest.importorskip("llvmlite")
    w = np.random.default_rng(0).normal(size=(8, 32))
    step = mg.compile(mg.value_and_grad(mg.mean_loss(lambda w, x: np.sum(np.tanh(x @ w) ** 2), (None, 0))), backend)
    loader = DataLoader(data, memory="4 MB", measure=lambda batch: step.memory(w, batch))
    sizes = {len(examples) for examples in loader.batches(0)}
    first = loader.dataset[loader.batches(0)[0][:3]]
    step(w, first)  # code that a process makes once
    fresh = step.like(step.__wrapped__)  # without a workspace
    fresh.build(w, first)
    peak = peak_of_epoch(loader, lambda batch: fresh(w, batch))
    assert 0.9 * 4e6 < peak < 1.1 * 4e6
    if isinstance(data, np.ndarray):
        assert len(sizes) == 2  # the last batch is shorter


def test_memory_of_shards_is_that_of_a_rank():
    one = DataLoader(np.ones((5000, 16)), memory="200 KB")
    ranks = [DataLoader(np.ones((5000, 16)), memory="200 KB", shard=(rank, 3)) for rank in range(3)]
    most = len(one.batches(0)[0])
    assert most == 200_000 // (2 * 16 * 8)
    assert [len(rank.batches(0)[0]) for rank in ranks] == [most] * 3
    assert sum(len(part) for rank in ranks for part in rank.batches(0)) == 5000


@pytest.mark.parametrize(("data", "which"), [(np.ones((10, 100)), "example 0"), (strings(30), r"example \d+")])
def test_an_example_above_the_memory_is_refused_with_both_numbers(data, which):
    with pytest.raises(mg.BatchError, match=rf"{which} alone exceeds.*needs [\d,]+ bytes, and 1,000 are allowed"):
        list(DataLoader(data, memory="1 KB"))


@pytest.mark.parametrize("bad", ["5 apples", 0, -1, 1.5])
def test_bad_memory_is_refused(bad):
    with pytest.raises(mg.BatchError, match=r"DataLoader: memory must be a positive number of bytes"):
        DataLoader(X, memory=bad)
    with pytest.raises(mg.BatchError, match="max_bytes or memory, not both"):
        DataLoader(X, max_bytes=5, measure=len, memory=5)


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kwargs", "words"), [
    ({}, "give batch_size, max_rows or max_bytes"), ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ({"batch_size": 2, "bucket": 0}, "bucket must be at least 1, got 0"),
    ({"max_rows": {"node": -1}}, "max_rows of node must be at least 1, got -1"), ({"max_bytes": 100}, "go together"),
    ({"batch_size": 2, "prefetch": -1}, "negative"), ({"max_rows": {"edge": 5}}, "ragged axes are node"),
    ({"max_rows": {"node": 6}}, "example 2 has 8 rows of node.*leave out the 2"),
    ({"batch_size": 2, "shard": (2, 2)}, r"shard \(2, 2\): the ranks of 2 are 0 to 1"),
    ({"batch_size": 2, "shard": (0, 0)}, "at least one rank"), ({"batch_size": 2, "shard": 1}, "two ints.*got 1"),
    ({"batch_size": 2, "shard": (True, 2)}, "two ints"), ({"batch_size": 2, "shard": (0.0, 2)}, "two ints"),
    ({"batch_size": 2, "shard": (0, 2), "shuffle": True}, "need a seed, the same on all ranks")])
def test_wrong_arguments_are_refused(kwargs, words):
    with pytest.raises(mg.BatchError, match=words) as caught:
        DataLoader(Uneven(node=[1, 7, 8]), **kwargs)
    assert str(caught.value).startswith("test_loader.py:"), "the line of the user"


def test_rows_of_arrays_of_one_shape():
    with pytest.raises(mg.BatchError, match="equal shape, give batch_size"):
        DataLoader(X, max_rows={"node": 5})


def test_examples_above_max_bytes_are_refused():
    with pytest.raises(mg.BatchError, match="example 1 alone exceeds"):
        list(DataLoader(Y, max_bytes=5, measure=lambda y: 10 * int(1 in y)))


@pytest.mark.parametrize("tree", [(X, Y[:3]), np.float64(3), (), (X, 3.0)])
def test_arrays_of_unequal_lengths_are_refused(tree):
    with pytest.raises(mg.BatchError, match="axis 0 counts the examples"):
        Arrays(tree)


def test_ambiguous_lists_are_refused():
    with pytest.raises(mg.BatchError, match=r"^test_loader.py:\d+: a dataset that is a list holds examples"):
        DataLoader([np.zeros(3)] * 3, batch_size=2)
    with pytest.raises(mg.BatchError, match="got one Graph: give a list"):
        DataLoader(graphs()[0], batch_size=2)


class Frame:
    """A stand-in for a pandas data frame: brackets take names of columns, `iloc` takes positions of rows."""

    def __init__(self, columns):
        self.columns = columns

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, names):
        return self.columns[names] if isinstance(names, str) else Frame({
            list(self.columns)[k]: list(self.columns.values())[k] for k in names})

    @property
    def iloc(self):
        frame = self

        class Rows:
            def __getitem__(self, rows):
                return Frame({name: column[rows] for name, column in frame.columns.items()})

        return Rows()


@pytest.mark.parametrize("prefetch", [0, 2])
def test_batches_of_a_data_frame_are_rows(prefetch):
    frame = Frame({"height": np.arange(5.0), "age": np.arange(10, 15)})
    batches = list(DataLoader(frame, 2, prefetch=prefetch))
    assert [len(b) for b in batches] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([b["height"] for b in batches]), np.arange(5.0))
    np.testing.assert_array_equal(np.concatenate([b["age"] for b in batches]), np.arange(10, 15))


def test_an_archive_of_arrays_is_a_mapping_of_arrays(tmp_path):
    np.savez(tmp_path / "data.npz", x=X, y=Y)
    with np.load(tmp_path / "data.npz") as archive:
        batches = list(DataLoader(archive, 5))
    np.testing.assert_array_equal(np.concatenate([b["x"] for b in batches]), X)
    np.testing.assert_array_equal(np.concatenate([b["y"] for b in batches]), Y)


def test_lengths_attributes_of_other_datasets_are_ignored():
    class Sentences:
        lengths = (3, 1, 2)

        def __len__(self):
            return 3

        def __getitem__(self, indices):
            return indices

    dataset = Sentences()
    assert [b.tolist() for b in DataLoader(dataset, 2, bucket=2)] == [[0, 1], [2]]


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("progress", [False, True])
def test_a_stop_iteration_of_the_dataset_is_an_error(prefetch, progress):
    class Short(Uneven):
        def __getitem__(self, indices):
            if 2 in indices:
                next(iter(()))
            return indices

    batches = iter(DataLoader(Short(node=[1, 1, 1, 1]), 2, prefetch=prefetch, progress=progress))
    assert next(batches).tolist() == [0, 1]
    with pytest.raises(mg.BatchError, match=r"a Short, raised StopIteration in batch 1, examples \[2, 3\]"):
        next(batches)


def test_an_interrupt_at_the_start_of_the_thread_leaves_none(monkeypatch):
    class Interrupted(threading.Thread):
        def start(self):
            super().start()
            raise KeyboardInterrupt

    monkeypatch.setattr(threading, "Thread", Interrupted)
    asked = []
    made = ahead(lambda k: asked.append(k), 1000, 2)
    with pytest.raises(KeyboardInterrupt):
        next(made)
    assert not threads()
    assert len(asked) <= 3


def test_an_interrupt_before_the_thread_runs_leaves_none(monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(ahead(str, 10, 2))
    assert not threads()


def in_a_child(work):
    """Return what `work` returns in a forked process, as text; the child is ended if it does not end in time."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, repr(work()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        ready, _, _ = select.select([file], [], [], 60)
        text = file.read().decode() if ready else "the child waits for ever"
    if not ready:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.parametrize("started", [0, 1, 3])
def test_a_forked_child_goes_on_with_the_epoch(started):
    for prefetch in (0, 1, 3):
        epoch = iter(DataLoader(np.arange(12), batch_size=2, prefetch=prefetch))
        for _ in range(started):
            next(epoch)
        want = [[k, k + 1] for k in range(2 * started, 12, 2)]
        assert in_a_child(lambda e=epoch: [b.tolist() for b in e]) == repr(want)
        assert [b.tolist() for b in epoch] == want
    assert not threads()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_forked_child_drops_the_epoch_and_begins_another():
    loader = DataLoader(np.arange(12), batch_size=2, prefetch=2)
    epoch = iter(loader)
    next(epoch)

    def work():
        epoch.close()
        return sum(len(b) for b in loader), len(threads())

    assert in_a_child(work) == "(12, 0)"
    assert len(list(epoch)) == 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_fork_while_the_thread_works_does_not_hang():
    class Busy(Uneven):
        def __getitem__(self, indices):
            return int(np.sum(np.sort(np.arange(20_000)[::-1]))) * 0 + int(indices[0])

    for seed in range(8):
        epoch = iter(DataLoader(Busy(node=[1] * 6), batch_size=1, prefetch=1 + seed % 3))
        next(epoch)
        assert in_a_child(lambda e=epoch: list(e)) == repr([1, 2, 3, 4, 5])
        assert list(epoch) == [1, 2, 3, 4, 5]


# -- copies and other processes ------------------------------------------------------------------------------


def sizes_of_epoch(loader):
    return [b.values.shape[0] for b in loader]


def sentences():
    word = mg.axis("word")
    return mg.batch([np.arange(float(n)) for n in (3, 1, 4, 1, 5, 9, 2, 6)], mg.f64[word])


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))],
                         ids=["copy", "deepcopy", "pickle"])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_copies_of_loaders_continue_at_their_epoch(again, prefetch):
    loader = DataLoader(sentences(), 3, shuffle=True, seed=1, bucket=4, prefetch=prefetch)
    first = sizes_of_epoch(loader)
    other = again(loader)
    assert other.epoch == 1
    assert sizes_of_epoch(other) == sizes_of_epoch(loader) != first
    other.epoch = 0
    assert sizes_of_epoch(other) == first
    assert loader.epoch == 2


def test_a_loader_that_measures_by_a_compiled_step_pickles():
    step = mg.compile(mg.vmap(lambda x: np.sum(np.exp(x))))
    step(sentences())
    loader = DataLoader(sentences(), max_bytes=4000, measure=step.workspace_bytes)
    other = pickle.loads(pickle.dumps(loader))
    assert sizes_of_epoch(other) == sizes_of_epoch(loader)


def test_a_dataset_on_disk_pickles_as_its_path(tmp_path):
    folder = mg.save_dataset(tmp_path / "d", sentences())
    dataset = mg.open_dataset(folder, mg.f64[mg.axis("word")])
    assert len(pickle.dumps(dataset)) < 1000
    other = pickle.loads(pickle.dumps(DataLoader(dataset, 3)))
    assert sizes_of_epoch(other) == sizes_of_epoch(DataLoader(sentences(), 3))
    assert not copy.deepcopy(dataset).values.flags.writeable or copy.deepcopy(dataset).values.flags.owndata
    (folder / "value.npy").unlink()
    with pytest.raises(mg.BatchError, match=r"value.npy: the file does not exist"):
        copy.copy(pickle.loads(pickle.dumps(dataset)))


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_loaders_in_worker_processes(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"there is no {method} here")
    loaders = [DataLoader(sentences(), k, prefetch=1) for k in (2, 3)]
    with multiprocessing.get_context(method).Pool(2) as pool:
        some = pool.map(list, loaders)
    for batches, loader in zip(some, loaders, strict=True):
        for a, b in zip(batches, loader, strict=True):
            np.testing.assert_array_equal(a.values, b.values)
            assert a.schema == b.schema
