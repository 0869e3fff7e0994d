"""`distribute` on threads and processes against the whole batch in one; faults of workers."""

import contextlib
import os
import pickle
import threading
import tracemalloc
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import optree
import pytest

import minigrad as mg
from minigrad import blas
from minigrad.distributed import files, worker
from minigrad.errors import BatchError, MinigradError

from .clusters import cluster
from .losses import AXES, FUNCTIONS, IN_AXES, SENTENCES, Sentence, V, W, X, Y, loss, of_sentence

GRADIENT = mg.value_and_grad(mg.mean_loss(loss, in_axes=AXES))


@pytest.fixture(scope="module")
def threads():
    with ThreadPoolExecutor(3) as executor:
        yield executor


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, get_context("spawn")) as executor:
        yield executor


def bits(tree):
    return [np.asarray(x).tobytes() for x in optree.tree_leaves(tree)]


def same(tree, other):
    for a, b in zip(optree.tree_leaves(tree), optree.tree_leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("parts", [1, 2, 7, 100])
def test_parts_are_the_whole_batch(threads, name, parts):
    f, args = FUNCTIONS[name]
    same(mg.distribute(f, threads, parts, in_axes=IN_AXES[name])(*args), f(*args))


@pytest.mark.parametrize("name", ["value and gradient", "ragged"])
def test_bits_depend_on_the_parts_alone(threads, processes, name):
    f, args = FUNCTIONS[name]
    with ThreadPoolExecutor(1) as alone:
        found = [bits(mg.distribute(f, e, 5, in_axes=IN_AXES[name])(*args)) for e in (threads, processes, alone)]
    assert found[0] == found[1] == found[2]


class Backwards:
    """An executor whose calls finish in reverse."""

    _max_workers = 4

    def __init__(self):
        self._calls = []

    def submit(self, fn, /, *args):
        future = Future()
        self._calls.append((future, fn, args))
        if len(self._calls) == self._max_workers:
            for f, call, arguments in reversed(self._calls):
                f.set_result(call(*arguments))
            self._calls.clear()
        return future


def test_order_of_arrival_changes_nothing(threads):
    assert bits(mg.distribute(GRADIENT, Backwards())(W, X, Y)) == bits(mg.distribute(GRADIENT, threads, 4)(W, X, Y))


class Counting:
    """An executor that runs calls at once, and counts the programs that it gets."""

    _max_workers = 3

    def __init__(self):
        self.programs, self.values, self.anew, self.tasks = 0, 0, False, []

    def submit(self, fn, /, task):
        if self.anew:
            worker._programs.clear()
            self.anew = False
        self.programs += task.program is not None
        self.tasks.append(task)
        self.values += sum(isinstance(x, worker.Kept) and x.value is not None for x in task.operands)
        future = Future()
        future.set_result(fn(task))
        return future


def test_the_program_is_sent_on_the_first_call_only():
    executor = Counting()
    step = mg.distribute(GRADIENT, executor, 3)
    for _ in range(3):
        step(W, X, Y)
    assert executor.programs == 3
    step(W, X[:20], Y[:20])  # the same program for another batch
    assert executor.programs == 3


def test_a_worker_that_has_started_anew_gets_the_program():
    executor = Counting()
    step = mg.distribute(GRADIENT, executor, 3)
    want = step(W, X, Y)
    executor.anew = True
    same(step(W, X, Y), want)
    assert executor.programs == 6


def matrix_loss(a, b, x):
    return np.sum(np.tanh(x @ a) @ b) ** 2


A, B = np.linspace(-1, 1, 400).reshape(20, 20), np.linspace(0, 1, 1600).reshape(20, 80)
OF_MATRICES = mg.value_and_grad(mg.mean_loss(matrix_loss, in_axes=(None, None, 0)), argnums=(0, 1))


def test_parameters_are_sent_to_each_worker_once_per_change():
    executor = Counting()
    step = mg.distribute(OF_MATRICES, executor, 7)
    a, b = A.copy(), B.copy()
    for sent in (6, 0):  # two matrices, three workers
        same(step(a, b, X), OF_MATRICES(a, b, X))
        assert executor.values == sent
        executor.values = 0
    a[0, 0] = 5.0  # in place
    same(step(a, b, X), OF_MATRICES(a, b, X))
    assert (executor.values, executor.programs) == (3, 3)


def test_parameters_of_a_worker_that_has_started_anew():
    executor = Counting()
    step = mg.distribute(OF_MATRICES, executor, 3)
    step(A, B, X)
    executor.anew = True
    same(step(A, B, X), OF_MATRICES(A, B, X))


def test_parameters_of_concurrent_calls_are_kept_apart(processes):
    step = mg.distribute(OF_MATRICES, processes, 4)
    want = [bits(step(A + k, B, X)) for k in range(6)]
    with ThreadPoolExecutor(4) as callers:
        found = [callers.submit(step, A + k, B, X) for k in range(6)]
        assert [bits(future.result()) for future in found] == want


def test_arrays_in_files_are_not_sent(tmp_path, processes):
    np.save(tmp_path / "x.npy", X)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    section = files.sent(x[7:20])
    assert isinstance(section, files.InFile)
    np.testing.assert_array_equal(section.open(), X[7:20])
    assert files.sent(X) is X
    assert not isinstance(files.sent(x[::2]), files.InFile)
    assert not isinstance(files.sent(np.asarray(x) + 1), files.InFile)
    step = mg.distribute(GRADIENT, processes, 3)
    same(step(W, x, Y), GRADIENT(W, X, Y))


def test_fields_of_datasets_are_not_sent(tmp_path):
    f = mg.value_and_grad(mg.mean_loss(of_sentence, in_axes=(None, 0)))
    data = mg.open_dataset(mg.save_dataset(tmp_path / "data", SENTENCES), Sentence)
    executor = Counting()
    same(mg.distribute(f, executor, 4)(V, data), f(V, SENTENCES))
    names = {Path(x.path).name for task in executor.tasks for x in task.operands if isinstance(x, files.InFile)}
    assert names == {"x.npy", "head.npy", "y.npy", "lengths word.npy"}


@pytest.mark.parametrize("name", ["ragged", "mean over rows", "ragged results"])
def test_bytes_of_a_dataset_do_not_grow_with_it(tmp_path, name):
    f, _ = FUNCTIONS[name]

    def sent(times):
        examples = SENTENCES[np.tile(np.arange(23), times)]
        data = mg.open_dataset(mg.save_dataset(tmp_path / str(times), examples), Sentence)
        executor = Counting()
        step = mg.distribute(f, executor, 4, in_axes=(None, 0))
        step(V, data)
        executor.tasks.clear()
        same(step(V, data), f(V, examples))
        return sum(len(pickle.dumps(task, protocol=5)) for task in executor.tasks)

    few, many = sent(1), sent(200)
    assert many < few + 4 * 100, "of longer numbers and file names alone"


def test_segment_ids_are_not_sent():
    f, args = FUNCTIONS["ragged"]
    executor = Counting()
    step = mg.distribute(f, executor, 4, in_axes=(None, 0))
    same(step(*args), f(*args))
    rows = sum(x.nbytes for task in executor.tasks for x in task.operands if isinstance(x, np.ndarray))
    assert rows == SENTENCES.nbytes + 8 * len(SENTENCES) + 4 * (V.nbytes + 8), "fields, lengths, and what parts share"


def test_examples_of_one_number(threads):
    f = mg.mean_loss(loss, in_axes=AXES)
    assert mg.distribute(f, threads)(W, X[:1], Y[:1]) == pytest.approx(loss(W, X[0], Y[0]))


@pytest.mark.parametrize(("workers", "share"), [(1, 4), (2, 2), (8, 1)])
def test_parts_on_threads_share_the_threads_of_blas(workers, share, monkeypatch):
    limits = []

    @contextlib.contextmanager
    def limited(n):
        limits.append(n)
        yield

    monkeypatch.setattr(blas, "limited", limited)
    before = mg.get_num_threads()
    mg.set_num_threads(4)
    try:
        with ThreadPoolExecutor(workers) as executor:
            mg.distribute(GRADIENT, executor, 1)(W, X, Y)
    finally:
        mg.set_num_threads(before)
    assert limits[0] == share


# -- faults ------------------------------------------------------------------------------------------------


def picks(w, k):
    return w[k] ** 2


def test_an_error_names_the_example_of_the_whole_batch(threads, processes):
    k = np.arange(10)
    k[8] = 40
    for executor in (threads, processes, Counting()):
        step = mg.distribute(mg.mean_loss(picks, in_axes=(None, 0)), executor, 3, in_axes=(None, 0))
        with pytest.raises(IndexError, match=r"(?s)test_distribute.py:\d+: `return w\[k\] .*: index 40 is out of range "
                           r"for an axis of size 20, in k of example 8.*part 2 of 3 \(examples 6 to 9\)"):
            step(W, k)
        assert step(W, np.arange(10)) == pytest.approx(np.mean(W[:10] ** 2))


class Dies:
    """An executor of processes; one dies in mid-step."""

    def __init__(self, executor):
        self._executor = executor

    def submit(self, fn, /, task):
        return self._executor.submit(os._exit if task.first else fn, 1 if task.first else task)


def test_a_dead_worker_is_an_error_and_the_next_call_works():
    with ProcessPoolExecutor(2, get_context("spawn")) as executor, pytest.raises(
            MinigradError, match=r"part [01] of 2 \(examples \d+ to \d+\): BrokenProcessPool"):
        mg.distribute(GRADIENT, Dies(executor), 2)(W, X, Y)
    with ProcessPoolExecutor(2, get_context("spawn")) as executor:
        same(mg.distribute(GRADIENT, executor, 2)(W, X, Y), GRADIENT(W, X, Y))


class Straggles(ThreadPoolExecutor):
    """A thread; the last part waits to be told, after all others are done."""

    def __init__(self):
        super().__init__(1)
        self.go = threading.Event()

    def submit(self, fn, /, task):
        if task.first:
            return super().submit(lambda t: (self.go.wait(120), fn(t))[1], task)
        future = super().submit(fn, task)
        wait([future])
        return future


def test_a_straggler_is_given_up():
    with Straggles() as executor:
        executor.go.set()
        mg.distribute(GRADIENT, executor, 2)(W, X, Y)  # a first call, which compiles, may take longer
        executor.go.clear()
        step = mg.distribute(GRADIENT, executor, 2, timeout=2)
        with pytest.raises(MinigradError, match=r"part 1 of 2 \(examples 26 to 52\): no result in 2 s"):
            step(W, X, Y)
        executor.go.set()
        same(step(W, X, Y), GRADIENT(W, X, Y))


def test_an_interrupt_cancels_what_waits(monkeypatch):
    with ThreadPoolExecutor(1) as executor:
        blocked = threading.Event()
        executor.submit(blocked.wait, 30)
        futures = []
        submit = executor.submit

        def watched(*args):
            futures.append(submit(*args))
            if len(futures) == 3:
                raise KeyboardInterrupt
            return futures[-1]

        monkeypatch.setattr(executor, "submit", watched)
        with pytest.raises(KeyboardInterrupt):
            mg.distribute(GRADIENT, executor, 4)(W, X, Y)
        assert [f.cancelled() for f in futures[:2]] == [True, True]
        blocked.set()


def test_a_function_that_mixes_examples_is_refused_before_anything_is_sent():
    executor = Counting()
    with pytest.raises(BatchError, match="mixes examples"):
        mg.distribute(lambda x: np.tanh(x - x.mean(axis=0)), executor, 2, in_axes=0)(X)
    with pytest.raises(BatchError, match="nothing depends on the examples"):
        mg.distribute(lambda w, x: w * 2, executor, 2, in_axes=(None, 0))(W, X)
    assert executor.programs == 0


def test_wrong_calls(threads):
    with pytest.raises(BatchError, match="parts must be a positive int, got 0"):
        mg.distribute(GRADIENT, threads, 0)
    for timeout in (0, -1, "3", True, float("nan")):
        with pytest.raises(MinigradError, match=r"test_distribute.py:\d+: distribute\(loss\): timeout must be a "):
            mg.distribute(GRADIENT, threads, timeout=timeout)
    with pytest.raises(MinigradError, match=r"test_distribute.py:\d+: distribute\(loss\): the executor must .*got 3"):
        mg.distribute(GRADIENT, 3)
    with pytest.raises(MinigradError, match="the function that makes an executor returned None"):
        mg.distribute(GRADIENT, lambda: None)(W, X, Y)
    with pytest.raises(MinigradError, match="cannot be traced"):
        mg.grad(mg.distribute(mg.mean_loss(loss, in_axes=AXES), threads))(W, X, Y)
    with pytest.raises(BatchError, match="empty batch"):
        mg.distribute(GRADIENT, threads)(W, X[:0], Y[:0])
    with ThreadPoolExecutor(1) as closed:
        pass
    with pytest.raises(MinigradError, match=r"part 0 of 1 .*cannot schedule new futures after shutdown"):
        mg.distribute(GRADIENT, closed)(W, X, Y)


def test_a_refusal_is_of_the_transform_that_was_called(threads):
    """Each names `distribute`, the node's line, and a way out that `distribute` has."""
    def statistic(x):
        return np.sum((x - x.mean(axis=0)) ** 2)

    with pytest.raises(BatchError, match=r"test_distribute.py:\d+: distribute\(statistic\): expand\(.* mixes examples"):
        mg.distribute(statistic, threads, in_axes=0)(X)
    with pytest.raises(BatchError, match=r"distribute\(statistic\): (?!.*mg.microbatch)"):
        mg.distribute(mg.grad(statistic), threads, in_axes=0)(X)
    with pytest.raises(BatchError, match=r"distribute\(microbatch.*|distribute\(.*computed in passes already. Give the "
                                         "function without microbatch"):
        mg.distribute(mg.microbatch(mg.mean_loss(loss, in_axes=AXES), 5), threads)(W, X, Y)
    with pytest.raises(BatchError, match=r"distribute\(loss\): batch sizes differ: 53 .* and 52"):
        mg.distribute(mg.mean_loss(loss, in_axes=AXES), threads)(W, X, Y[1:])


def test_numbers_of_python_come_back_as_such(threads, processes):
    f = mg.mean_loss(lambda w, x: w * x, in_axes=(None, 0))

    def several(w, x):
        return f(w, x), 3, 2.5, {"w": w + 1}

    for executor in (threads, processes):
        found = mg.distribute(several, executor, in_axes=(None, 0))(2, np.ones(4))
        want = several(2, np.ones(4))
        assert found == want
        assert list(map(type, optree.tree_leaves(found))) == list(map(type, optree.tree_leaves(want)))


def test_several_threads_call_at_once(threads):
    step = mg.distribute(GRADIENT, threads, 3)
    want, found = GRADIENT(W, X, Y), []
    with ThreadPoolExecutor(4) as callers:
        found = [f.result() for f in [callers.submit(step, W, X, Y) for _ in range(8)]]
    for value in found:
        same(value, want)


def test_dask():
    with cluster() as client:
        step = mg.distribute(GRADIENT, client)
        same(step(W, X, Y), GRADIENT(W, X, Y))
        (first, *_) = client.run(os.getpid).values()
        os.kill(first, 9)  # Dask starts another worker, which gets the program
        same(step(W, X, Y), GRADIENT(W, X, Y))
    with pytest.raises(MinigradError, match=r"test_distribute.py:\d+: distribute\(loss\): the Dask client is closed"):
        step(W, X, Y)
    da = pytest.importorskip("dask.array")
    with pytest.raises(MinigradError, match=r"test_distribute.py:\d+: distribute\(loss\): the Dask client is closed"):
        step(W, da.from_array(X), Y)


def test_a_call_on_dask_is_none_of_an_earlier_one_with_the_same_arguments(tmp_path):
    np.save(tmp_path / "k.npy", [1, 2, 50])
    k = np.load(tmp_path / "k.npy", mmap_mode="r")
    with cluster(n_workers=1, processes=False) as client:
        step = mg.distribute(mg.mean_loss(picks, in_axes=(None, 0)), client, 3)
        with pytest.raises(IndexError) as failed:
            step(W, k)
        np.load(tmp_path / "k.npy", mmap_mode="r+")[2] = 3
        assert step(W, k) == pytest.approx(np.mean(W[1:4] ** 2))
        assert "example" in str(failed.value)  # it holds the futures of the first call


class Odd(Exception):
    def __init__(self, name, number):
        super().__init__(f"{name} {number}")


class OddIndex(Odd, IndexError):
    pass


def raises_odd(x):
    raise Odd("pear", 3)


def raises_odd_index(x):
    raise OddIndex("plum", 4)


@pytest.mark.parametrize(("function", "words"), [(raises_odd, "Odd: pear 3"), (raises_odd_index, "OddIndex: plum 4")])
def test_errors_with_constructors_of_their_own_keep_the_pool(threads, processes, function, words):
    f = mg.mean_loss(lambda w, x: mg.callback(function, mg.f64[()], x) * w, in_axes=(None, 0))
    for executor in (threads, processes):
        with pytest.raises(MinigradError, match=rf"(?s)(?=.*part 0 of 1).*{words}"):
            mg.distribute(f, executor, 1)(2.0, np.arange(3.0))
        same(mg.distribute(GRADIENT, executor, 2)(W, X, Y), GRADIENT(W, X, Y))


def test_what_cannot_be_sent_is_named(threads):
    f = mg.mean_loss(lambda w, x: mg.checkpoint(lambda w, x: mg.callback(lambda x: x, mg.f64[()], x) * w)(w, x),
                     in_axes=(None, 0))
    assert mg.distribute(f, threads, 2)(2.0, np.arange(3.0)) == 2.0  # nothing is sent to a thread
    executor = Counting()
    with pytest.raises(MinigradError, match=r"distribute\(.*function of callback at test_distribute.py:\d+ cannot be "
                                            "sent to other processes: .*Define functions"):
        mg.distribute(f, executor, 2)(2.0, np.arange(3.0))
    assert executor.programs == 0


def test_numbers_of_python_give_way_to_other_dtypes(threads):
    step = mg.distribute(mg.mean_loss(lambda w, x: w * x, in_axes=(None, 0)), threads, 2)
    x = np.ones(4, np.float32)
    assert [step(w, x).dtype for w in (2.0, np.float64(2), np.int64(2), 2)] == ["f4", "f8", "f8", "f4"]


class Lazy:
    """An executor whose calls run when their results are asked for."""

    _max_workers = 2

    def submit(self, fn, /, *args):
        class Later:
            def result(self, timeout=None):
                return fn(*args)

            def cancel(self):
                return True

        return Later()


def test_results_of_parts_are_given_up_as_soon_as_they_are_joined():
    x = np.arange(2.0**18)
    step = mg.distribute(mg.vmap(lambda x: 2.0 * x), Lazy(), 16)
    step(x)
    tracemalloc.start()
    try:
        out = step(x)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(out, 2.0 * x)
    assert peak < 1.5 * out.nbytes, "of one part at a time, beside the whole"


def test_one_result_twice_is_two_arrays():
    def twice(x):
        y = mg.vmap(lambda x: 2.0 * x)(x)
        return y, y, mg.vmap(lambda x: 2.0 * x)(x)

    first, second, third = mg.distribute(twice, Lazy(), 2)(np.arange(4.0))
    for y in (first, second, third):
        np.testing.assert_array_equal(y, [0.0, 2.0, 4.0, 6.0])
        y += 1.0  # the caller's own
