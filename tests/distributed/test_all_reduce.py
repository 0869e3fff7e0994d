"""`all_reduce` over threads that stand for ranks, and over MPI where it is installed."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import optree
import pytest

import minigrad as mg
from minigrad.errors import BatchError, MinigradError

from .losses import AXES, SENTENCES, V, W, X, Y, loss, of_sentence, rows, word

ROOT = Path(__file__).resolve().parents[2]
GRADIENT = mg.value_and_grad(mg.mean_loss(loss, in_axes=AXES))


class Group:
    """Ranks in threads, which exchange objects at a barrier."""

    def __init__(self, size):
        self.size, self.slots, self.barrier = size, [None] * size, threading.Barrier(size, timeout=30)

    def run(self, work):
        """Return what `work` returns, or raises, on each rank."""
        out = [None] * self.size

        def on(rank):
            try:
                out[rank] = work(Rank(self, rank))
            except Exception as error:
                out[rank] = error

        ranks = [threading.Thread(target=on, args=(k,)) for k in range(self.size)]
        for t in ranks:
            t.start()
        for t in ranks:
            t.join()
        return out


class Rank:
    """The communicator of one rank."""

    def __init__(self, group, rank):
        self._group, self._rank = group, rank

    def Get_rank(self):
        return self._rank

    def Get_size(self):
        return self._group.size

    def allgather(self, x):
        self._group.slots[self._rank] = x
        self._group.barrier.wait()
        out = list(self._group.slots)
        self._group.barrier.wait()
        return out


def own(comm, edges, *args):
    k = comm.Get_rank()
    return [a[edges[k]:edges[k + 1]] for a in args]


@pytest.mark.parametrize("edges", [[0, 53], [0, 20, 53], [0, 40, 40, 53], [0, 0, 53]])
def test_all_ranks_have_the_mean_of_all_rows(edges):
    found = Group(len(edges) - 1).run(
        lambda comm: mg.all_reduce(GRADIENT, comm)(W, *own(comm, edges, X, Y)))
    want = GRADIENT(W, X, Y)
    for got in found:
        for a, b in zip(optree.tree_leaves(got), optree.tree_leaves(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
    assert len({np.asarray(g).tobytes() for _, g in found}) == 1


def test_ranks_have_the_bits_of_parts():
    edges = [0, 53 // 2, 53]
    (_, by_rank), _ = Group(2).run(lambda comm: mg.all_reduce(GRADIENT, comm)(W, *own(comm, edges, X, Y)))
    with ThreadPoolExecutor(1) as executor:
        _, by_part = mg.distribute(GRADIENT, executor, 2)(W, X, Y)
    assert by_rank.tobytes() == by_part.tobytes()


@pytest.mark.parametrize("world", [2, 5])
def test_sharded_loaders_train_to_the_bits_of_one_process(world):
    options = {"batch_size": 10, "shuffle": True, "seed": 7}  # the last batch has 3 examples

    def trained(step, loader):
        w = W
        for _ in range(2):
            for batch in loader:
                w = w - 0.1 * step(w, *batch)[1]
        return w

    found = Group(world).run(lambda comm: trained(
        mg.all_reduce(GRADIENT, comm), mg.DataLoader((X, Y), shard=(comm.Get_rank(), world), **options)))
    with ThreadPoolExecutor(1) as executor:
        want = trained(mg.distribute(GRADIENT, executor, world), mg.DataLoader((X, Y), **options))
    assert {w.tobytes() for w in found} == {want.tobytes()}


@pytest.mark.parametrize("f", [mg.value_and_grad(mg.mean_loss(of_sentence, in_axes=(None, 0))),
                               mg.value_and_grad(mg.mean_loss(rows, over=word, in_axes=(None, 0)))])
def test_ragged_rows(f):
    edges = [0, 5, 23]
    found = Group(2).run(lambda comm: mg.all_reduce(f, comm, in_axes=(None, 0))(V, *own(comm, edges, SENTENCES)))
    value, gradient = f(V, SENTENCES)
    for v, g in found:
        assert v == pytest.approx(value, rel=1e-12)
        np.testing.assert_allclose(g, gradient, rtol=1e-11)



@mg.example
class Weighted:
    x: mg.f64[word, 3]
    table: mg.shared(mg.f64[3])


def test_a_rank_without_examples_has_the_shared_fields():
    examples = mg.batch([Weighted(x=np.full((n, 3), float(n)), table=np.arange(3.0)) for n in (1, 2, 4)])
    f = mg.mean_loss(lambda v, s: np.sum(s.x @ (v * s.table)), in_axes=(None, 0))
    found = Group(2).run(lambda comm: mg.all_reduce(f, comm)(np.ones(3), *own(comm, [0, 0, 3], examples)))
    assert found == [21.0, 21.0]  # (1 + 4 + 16) / 3 times 0 + 1 + 2


def test_rows_of_all_ranks_are_refused():
    edges = [0, 10, 53]
    found = Group(2).run(lambda comm: mg.all_reduce(mg.vmap(loss, in_axes=AXES), comm)(W, *own(comm, edges, X, Y)))
    assert all("needs the rows of all ranks" in str(e) for e in found)


def test_ranks_that_differ_are_refused():
    edges = [0, 20, 53]
    found = Group(2).run(lambda comm: mg.all_reduce(GRADIENT, comm)(W + comm.Get_rank(), *own(comm, edges, X, Y)))
    assert all("w differs between rank 0 and rank 1" in str(e) for e in found)
    found = Group(2).run(lambda comm: mg.all_reduce(GRADIENT, comm)(
        W.astype([np.float64, np.float32][comm.Get_rank()]), *own(comm, edges, X, Y)))
    assert all("rank 1 runs another program than rank 0" in str(e) for e in found)


@pytest.mark.parametrize("place", ["before", "within", "after"])
def test_ranks_with_other_constants_are_refused(place):
    def work(comm):
        by = {"before": 1.0, "within": 1.0, "after": 1.0, place: 2.0 + comm.Get_rank()}

        def f(w, x):
            v = np.tanh(w * by["before"])
            return by["after"] * np.mean(mg.vmap(lambda x: np.sum(v * x) * by["within"])(x))

        return mg.all_reduce(f, comm, in_axes=(None, 0))(W, *own(comm, [0, 20, 53], X))

    assert all("rank 1 runs another program than rank 0" in str(e) for e in Group(2).run(work))


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_no_rank_waits_for_one_that_is_stopped(stop):
    def work(comm):
        def f(w, x):
            if comm.Get_rank():
                raise stop("now")
            return np.mean(x @ w)

        try:
            return mg.all_reduce(f, comm, in_axes=(None, 0))(W, *own(comm, [0, 20, 53], X))
        except stop as error:
            return error

    waits, stopped = Group(2).run(work)
    assert isinstance(stopped, stop)
    assert f"rank 1 raised an error; rank 1: {stop.__name__}: now" in str(waits)


def test_an_error_on_a_rank_is_raised_on_all():
    def picks(w, k):
        return w[k] ** 2

    k = np.arange(12)
    k[9] = 70
    found = Group(2).run(lambda comm: mg.all_reduce(mg.mean_loss(picks, in_axes=(None, 0)), comm, in_axes=(None, 0))(
        W, *own(comm, [0, 4, 12], k)))
    assert isinstance(found[1], IndexError)
    assert "example 9" in str(found[1])
    assert isinstance(found[0], MinigradError)
    assert "rank 1 raised an error" in str(found[0])


def test_no_examples_anywhere():
    found = Group(2).run(lambda comm: mg.all_reduce(GRADIENT, comm)(W, X[:0], Y[:0]))
    assert all(isinstance(e, BatchError) and "no rank has an example" in str(e) for e in found)


def test_it_cannot_be_traced():
    (error,) = Group(1).run(lambda comm: mg.grad(mg.all_reduce(mg.mean_loss(loss, in_axes=AXES), comm))(W, X, Y))
    assert "cannot be traced" in str(error)


def test_mpi():
    """The example trains on two ranks to the bits of one process with two parts."""
    pytest.importorskip("mpi4py")
    runs = Path(sys.executable).with_name("mpirun")
    if not runs.exists():
        pytest.skip("no mpirun beside this Python")
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                   "PYTHONPATH": str(ROOT)}
    command = [str(runs), "--oversubscribe", "-n", "2", sys.executable, str(ROOT / "examples" / "mpi.py")]
    out = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert out.returncode == 0, out.stderr
    assert "bit for bit" in out.stdout
