"""Parts within the memory of a worker."""

import concurrent.futures
import pickle
import tracemalloc

import numpy as np
import pytest

import minigrad as mg

from ..transforms.common import close

rng = np.random.default_rng(0)
W = {"a": rng.normal(size=(16, 64)) / 4, "b": rng.normal(size=(64, 32)) / 8}
X = rng.normal(size=(60_000, 16))
WORD = mg.axis("word")
WORDS = mg.batch([rng.normal(size=(n, 16)) for n in rng.integers(1, 60, 3000)], mg.f64[WORD, 16])
MEAN = mg.value_and_grad(mg.mean_loss(lambda w, x: np.sum(np.tanh(np.tanh(x @ w["a"]) @ w["b"]) ** 2), (None, 0)))
EACH = mg.vmap(lambda w, x: np.tanh(x @ w["a"]), (None, 0))


class Worker:
    """An executor that does what a process does with a message, and measures it.

    Attributes
    ----------
    peaks : list of int
        The most memory during each part, with that which programs keep from part to part.
    """

    def __init__(self):
        self.peaks = []
        self._kept = 0

    def submit(self, function, /, task):
        message = pickle.dumps(task, protocol=5)
        del task
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        task = pickle.loads(message)
        receiving = tracemalloc.get_traced_memory()[1] + len(message)
        tracemalloc.reset_peak()
        result = function(task)
        answer = pickle.dumps(result, protocol=5)
        self.peaks.append(self._kept + max(receiving, tracemalloc.get_traced_memory()[1]) - before)
        del task, result
        self._kept += tracemalloc.get_traced_memory()[0] - before - len(answer)
        future = concurrent.futures.Future()
        future.set_result(pickle.loads(answer))
        return future


def measured(f, data, few, **kwargs):
    """Return the result of a distributed function, and the peaks; `few` are for a first call, which compiles."""
    worker = Worker()
    step = mg.distribute(f, worker, **kwargs)
    step(W, few)
    worker.peaks.clear()
    tracemalloc.start()
    result = step(W, data)
    tracemalloc.stop()
    return result, worker.peaks


@pytest.mark.parametrize("f", [MEAN, EACH], ids=["mean", "each"])
@pytest.mark.parametrize("data", [X, WORDS], ids=["dense", "ragged"])
@pytest.mark.parametrize("megabytes", [5, 15])
def test_measured_memory_of_a_worker_is_the_memory_given(f, data, megabytes):
    result, peaks = measured(f, data, data[:50], memory_per_worker=f"{megabytes} MB")
    assert max(peaks) < 1.1 * megabytes * 1e6
    assert max(peaks) > 0.75 * megabytes * 1e6
    whole = f(W, data)
    if f is EACH and data is WORDS:
        result, whole = result.values, whole.values
    close(result, whole)


def test_sections_of_files_are_read_block_by_block(tmp_path):
    np.save(tmp_path / "x.npy", X)
    rows = np.load(tmp_path / "x.npy", mmap_mode="r")
    result, peaks = measured(MEAN, rows, rows[:50], memory_per_worker="4 MB")
    assert max(peaks) < 1.1 * 4e6
    assert len(peaks) < 5, "the length of a part costs no memory"
    close(result, MEAN(W, X))


def test_threads_hold_no_messages():
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        step = mg.distribute(MEAN, executor, memory_per_worker="3 MB")
        step(W, X[:100])
        tracemalloc.start()
        result = step(W, X)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1.15 * 3e6
    close(result, MEAN(W, X))


def test_there_are_as_many_parts_as_workers():
    with concurrent.futures.ThreadPoolExecutor(3) as executor:
        close(mg.distribute(MEAN, executor, memory_per_worker="1 GB")(W, X[:10]), MEAN(W, X[:10]))
        close(mg.distribute(MEAN, executor, memory_per_worker="1 GB")(W, X[:2]), MEAN(W, X[:2]))


@pytest.mark.parametrize(("data", "which"), [(X, "one example"), (WORDS, r"example \d+")], ids=["dense", "ragged"])
def test_an_example_above_the_memory_is_refused_with_both_numbers(data, which):
    worker = Worker()
    with pytest.raises(mg.BatchError, match=rf"distribute\(.*\): memory is 20,000 bytes, and a part of {which} needs "):
        mg.distribute(MEAN, worker, memory_per_worker="20 KB")(W, data)
    assert worker.peaks == []


@pytest.mark.parametrize("bad", ["5 apples", 0, -1, 1.5])
def test_bad_memory_is_refused(bad):
    with pytest.raises(mg.BatchError, match=r"distribute\(.*\): memory must be a positive number of bytes"):
        mg.distribute(MEAN, Worker(), memory_per_worker=bad)
    with pytest.raises(mg.BatchError, match="parts or memory_per_worker, not both"):
        mg.distribute(MEAN, Worker(), 2, memory_per_worker="1 MB")
    with pytest.raises(mg.BatchError, match="an empty batch"):
        mg.distribute(MEAN, Worker(), memory_per_worker="1 MB")(W, X[:0])
