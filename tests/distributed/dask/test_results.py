"""Results of different size per example, lazily: bags of examples, packed rows, indices of the whole batch."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import optree
import pytest

import minigrad as mg

from ..clusters import cluster
from ..losses import SENTENCES, Sentence, V, word

dask = pytest.importorskip("dask", reason="needs the extra dask")
da = pytest.importorskip("dask.array")
db = pytest.importorskip("dask.bag")

rng = np.random.default_rng(5)
FIRST, LAST = (Sentence(x=np.zeros((0, 4)), head=[], y=y) for y in (0.0, 1.0))
EXAMPLES = [FIRST, *SENTENCES.unbatch(), LAST]
BATCH = mg.batch(EXAMPLES)


def bag(partitions=4):
    return db.from_sequence(EXAMPLES, npartitions=partitions)


def computed(x):
    return x.compute(scheduler="synchronous")


def same(found, want):
    assert len(found) == len(want)
    for a, b in zip(found, want, strict=True):
        assert (type(a), np.asarray(a).dtype) == (type(b), np.asarray(b).dtype)
        np.testing.assert_allclose(a, b, rtol=1e-13)


@pytest.mark.parametrize("partitions", [1, 4, 25])
@pytest.mark.parametrize("f", [
    lambda v, s: s.x * v, lambda v, s: s.x @ v, lambda v, s: s.head, lambda v, s: (s.x @ v)[s.head],
    lambda v, s: s.x @ s.x.T, lambda v, s: np.cumsum(s.x, axis=0)])
def test_results_of_different_size_are_a_bag(f, partitions):
    of_batch = mg.vmap(f, in_axes=(None, 0))
    found = mg.distribute(of_batch)(V, bag(partitions))
    assert isinstance(found, db.Bag)
    assert found.npartitions == partitions
    same(computed(found), of_batch(V, BATCH).unbatch())


def test_bags_are_lazy_and_chunks_run_once():
    ran = []
    noted = bag().map_partitions(lambda part: ran.append(1) or list(part))
    found = mg.distribute(mg.vmap(lambda s: {"rows": s.x * 2, "sum": np.sum(s.x)}))(noted)
    ran.clear()  # the first example was read for its type
    assert {name: type(x).__name__ for name, x in found.items()} == {"rows": "Bag", "sum": "Array"}
    rows, sums = dask.compute(found["rows"], found["sum"], scheduler="synchronous")
    assert len(ran) == 4
    same(rows, [s.x * 2 for s in EXAMPLES])
    np.testing.assert_allclose(sums, [s.x.sum() for s in EXAMPLES])


@pytest.mark.parametrize("keep", [lambda s: False, lambda s: s.y == 0.0, lambda s: len(s.x) == 1])
def test_empty_partitions(keep):
    few, chosen = bag(6).filter(keep), [s for s in EXAMPLES if keep(s)]
    step = mg.distribute(mg.vmap(lambda v, s: s.x * v, in_axes=(None, 0)))
    if not chosen:
        with pytest.raises(mg.BatchError, match="an empty batch"):
            step(V, few)
        return
    same(computed(step(V, few)), [s.x * V for s in chosen])


def test_a_whole_class_of_examples():
    found = mg.distribute(lambda s: s)(bag())
    for a, b in zip(computed(found), EXAMPLES, strict=True):
        assert isinstance(a, Sentence)
        same([a.x, a.head, a.y], [b.x, b.head, b.y])


def test_means_beside_bags_and_on_a_cluster():
    def both(v, s):
        rows = mg.vmap(lambda v, s: np.tanh(s.x @ v), in_axes=(None, 0))(v, s)
        return rows, mg.mean_loss(lambda v, s: np.sum(s.x @ v), in_axes=(None, 0))(v, s)

    want = both(V, BATCH)
    with cluster(default=False) as client:
        for executor in (None, client):
            rows, mean = mg.distribute(both, executor, in_axes=(None, 0))(V, bag())
            assert mean == pytest.approx(want[1], rel=1e-12)
            same(rows.compute() if executor is None else client.compute(rows).result(), want[0].unbatch())


def test_packed_rows_without_a_batch_are_an_array():
    found = mg.distribute(lambda v, s: s.x * v, in_axes=(None, 0))(V, bag())
    assert isinstance(found, da.Array)
    assert found.dtype == np.float64
    np.testing.assert_allclose(computed(found), BATCH.x * V)


@mg.example
class Pointing:
    x: mg.f64[word, 2]
    root: mg.index(word)[()]
    other: mg.index(word, null=-1)[()]


POINTING = [Pointing(x=rng.normal(size=(n, 2)), root=n - 1, other=-1 if n % 2 else 0) for n in (2, 3, 1, 4, 2)]


@pytest.mark.parametrize("f", [lambda s: s.root, lambda s: s.other, lambda s: s.segment_ids[word],
                               lambda s: {"root": s.root, "x": s.x}])
@pytest.mark.parametrize("partitions", [1, 2, 5])
def test_indices_count_the_rows_of_the_whole_batch(f, partitions):
    want = f(mg.batch(POINTING))
    with ThreadPoolExecutor(2) as threads:
        found = mg.distribute(f, threads, in_axes=0)(db.from_sequence(POINTING, npartitions=partitions))
    for a, b in zip(optree.tree_leaves(found), optree.tree_leaves(want), strict=True):
        np.testing.assert_array_equal(computed(a), b)
