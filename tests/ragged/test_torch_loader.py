"""PyTorch's DataLoader with `mg.batch` as its collate_fn, in this process and in workers."""

import multiprocessing

import numpy as np
import pytest

import minigrad as mg

node = mg.axis("node")
LENGTHS = (2, 0, 3, 1, 4, 2, 1)
WORKERS = [(0, None), *((2, way) for way in multiprocessing.get_all_start_methods() if way != "forkserver")]


@mg.example
class Graph:
    x: mg.f64[node, 2]
    src: mg.index(node)[node]
    y: mg.f64[()]


class Graphs:
    """A dataset as PyTorch has it: a length, and one example for each index."""

    def __len__(self):
        return len(LENGTHS)

    def __getitem__(self, i):
        n = LENGTHS[i]
        return Graph(x=np.arange(2.0 * n).reshape(n, 2) + i, src=np.arange(n)[::-1].copy(), y=float(i))


class Broken(Graphs):
    def __getitem__(self, i):
        return i


def loss(w, g):
    return (np.sum(np.tanh(g.x[g.src] @ w)) - g.y) ** 2


def loader(dataset, workers, way):
    data = pytest.importorskip("torch.utils.data")
    return data.DataLoader(dataset, batch_size=3, num_workers=workers, multiprocessing_context=way, collate_fn=mg.batch)


@pytest.mark.parametrize(("workers", "way"), WORKERS)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_batches_of_workers(workers, way):
    w, step = np.array([0.3, -0.2]), mg.compile(mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0))))
    step(w, mg.batch([Graphs()[i] for i in range(3)]))  # a child is forked from a process with machine code in it
    for _ in range(2):
        batches = list(loader(Graphs(), workers, way))
        assert [len(b) for b in batches] == [3, 3, 1]
        for k, b in enumerate(batches):
            each = [mg.value_and_grad(loss)(w, Graphs()[i]) for i in range(3 * k, min(3 * k + 3, len(LENGTHS)))]
            np.testing.assert_array_equal(b.lengths[node], LENGTHS[3 * k:3 * k + 3])
            for have, want in zip(step(w, b), zip(*each, strict=True), strict=True):
                np.testing.assert_allclose(have, np.mean(want, axis=0), rtol=1e-12)


@pytest.mark.parametrize(("workers", "way"), WORKERS)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_errors_of_workers(workers, way):
    with pytest.raises(mg.BatchError, match="example 0 is a"):
        list(loader(Broken(), workers, way))
