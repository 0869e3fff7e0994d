"""`all_reduce` over threads that stand for ranks, and over MPI where it is installed."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import optree
import pytest

import minigrad as mg
from minigrad.distributed import blocks, ranks
from minigrad.distributed.divide import Dividing, PartProgram
from minigrad.errors import BatchError, MinigradError

from .group import BufferRank, Group, NonblockingRank
from .losses import AXES, SENTENCES, V, W, X, Y, loss, of_sentence, rows, word

ROOT = Path(__file__).resolve().parents[2]
GRADIENT = mg.value_and_grad(mg.mean_loss(loss, in_axes=AXES))


def own(comm, edges, *args):
    k = comm.Get_rank()
    return [a[edges[k]:edges[k + 1]] for a in args]


@pytest.mark.parametrize("kind", [None, BufferRank])
@pytest.mark.parametrize("edges", [[0, 53], [0, 20, 53], [0, 40, 40, 53], [0, 0, 53]])
def test_all_ranks_have_the_mean_of_all_rows(edges, kind):
    found = Group(len(edges) - 1, kind).run(
        lambda comm: mg.all_reduce(GRADIENT, comm)(W, *own(comm, edges, X, Y)))
    want = GRADIENT(W, X, Y)
    for got in found:
        for a, b in zip(optree.tree_leaves(got), optree.tree_leaves(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
    assert len({np.asarray(g).tobytes() for _, g in found}) == 1


@pytest.mark.parametrize("kind", [None, BufferRank])
@pytest.mark.parametrize("small", [0, 1 << 13])
def test_ranks_have_the_bits_of_parts(kind, small, monkeypatch):
    monkeypatch.setattr(ranks, "_SMALL", small)
    edges = [0, 53 // 2, 53]
    (_, by_rank), _ = Group(2, kind).run(lambda comm: mg.all_reduce(GRADIENT, comm)(W, *own(comm, edges, X, Y)))
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


@pytest.mark.parametrize("kind", [None, BufferRank])
@pytest.mark.parametrize("small", [0, 1 << 13])
def test_an_error_on_a_rank_is_raised_on_all(kind, small, monkeypatch):
    monkeypatch.setattr(ranks, "_SMALL", small)

    def picks(w, k):
        return w[k] ** 2

    k = np.arange(12)
    k[9] = 70

    def work(comm):
        step = mg.all_reduce(mg.mean_loss(picks, in_axes=(None, 0)), comm, in_axes=(None, 0))
        try:
            step(W, *own(comm, [0, 4, 12], k))
        except Exception as error:
            assert step(W, *own(comm, [0, 4, 9], k)) == pytest.approx(np.mean(W[:9] ** 2)), "the next call works"
            return error

    found = Group(2, kind).run(work)
    assert isinstance(found[1], IndexError)
    assert "example 9" in str(found[1])
    assert isinstance(found[0], MinigradError)
    assert "rank 1 raised an error" in str(found[0])


def test_objects_are_sent_in_the_first_call_only():
    def work(comm):
        step = mg.all_reduce(GRADIENT, comm)
        step(W, *own(comm, [0, 20, 53], X, Y))
        before = comm.received, comm.objects
        step(W * 2, *own(comm, [0, 30, 53], X, Y))
        return comm.received - before[0], comm.objects - before[1]

    # 8 numbers before the call; then the gradient, the value, and whether the rank failed
    assert Group(2, BufferRank).run(work) == [(8 * 8 + (20 + 1 + 1) * 8, 0)] * 2


# -- large results ----------------------------------------------------------------------------------------


def layers(w, x):
    return np.sum(np.tanh(np.tanh(x @ w["first"]) @ w["second"]) ** 2)


BIG = np.random.default_rng(1)
WEIGHTS = {"first": BIG.normal(size=(100, 90)), "second": BIG.normal(size=(90, 95))}
ROWS = BIG.normal(size=(31, 100))
OF_LAYERS = mg.value_and_grad(mg.mean_loss(layers, in_axes=(None, 0)))


def needs_announcements(*args):
    divided, *_ = Dividing(OF_LAYERS, (None, 0), "all_reduce")(args, {})
    if not divided.here.ready_order:
        pytest.skip("programs of this backend do not tell when a result is written")


@pytest.mark.parametrize("edges", [[0, 15, 31], [0, 31, 31], [0, 10, 20, 31]])
def test_large_gradients_are_sent_when_they_are_written(edges):
    needs_announcements(WEIGHTS, ROWS)
    size = len(edges) - 1

    def work(comm):
        step = mg.all_reduce(OF_LAYERS, comm)
        out = [step(WEIGHTS, *own(comm, edges, ROWS)) for _ in range(2)]
        return out, comm.begun

    found = Group(size, NonblockingRank).run(work)
    at_the_end = Group(size, BufferRank).run(lambda comm: mg.all_reduce(OF_LAYERS, comm)(
        WEIGHTS, *own(comm, edges, ROWS)))
    second, first = (size * -(-w.size // size) * 8 for w in (WEIGHTS["second"], WEIGHTS["first"]))
    for (outs, begun), want in zip(found, at_the_end, strict=True):
        assert begun == [second, first] * 2, "the last layer's gradient is written first"
        for out in outs:
            for a, b in zip(optree.tree_leaves(out), optree.tree_leaves(want), strict=True):
                assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_a_gradient_is_sent_before_the_program_ends():
    needs_announcements(WEIGHTS, ROWS)
    events = []

    class Noting(NonblockingRank):
        def Ialltoall(self, x, out):
            events.append("sent")
            return super().Ialltoall(x, out)

    divided, leaves, sizes = Dividing(OF_LAYERS, (None, 0), "all_reduce")((WEIGHTS, ROWS), {})
    (comm,) = Group(1, Noting).run(lambda comm: comm)
    early = ranks.Early(comm, [k for k in divided.here.ready_order if k])
    ready = {}

    def note(k, value):
        events.append(k)
        early.ready(k, value)
        ready[k] = value.copy()

    values = divided.here.run(divided.operands(leaves, sizes), 0, note)
    assert events == [0, 1, "sent", 2, "sent"], "the value first, then the last layer"
    for k, value in ready.items():
        np.testing.assert_array_equal(value, values[k])


@pytest.mark.parametrize("size", [1 << 21, 1])
def test_a_gradient_is_sent_before_others_are_computed(size, monkeypatch):
    """Rows that are set to 0 when the last layer's gradient is sent change the first layer's gradient alone."""
    needs_announcements(WEIGHTS, ROWS)
    monkeypatch.setattr(blocks, "BLOCK", size)
    monkeypatch.setattr(blocks, "_SHARED", 0)
    edges, rows = [0, 15, 31], ROWS.copy()
    pieces = [rows[:15], rows[15:]]

    class Erasing(NonblockingRank):
        def Ialltoall(self, x, out):
            if not self.begun:
                pieces[self.Get_rank()][...] = 0
            return super().Ialltoall(x, out)

    found = Group(2, Erasing).run(lambda comm: mg.all_reduce(OF_LAYERS, comm)(WEIGHTS, *own(comm, edges, rows)))
    in_last = [30, 14] if size == 1 else range(31)  # the examples of the last block of each rank, whose length is 1
    want, of_others = OF_LAYERS(WEIGHTS, ROWS), np.delete(ROWS, in_last, axis=0)
    lost = OF_LAYERS(WEIGHTS, of_others)[1]["first"] * (len(of_others) / len(ROWS)) if len(of_others) else 0
    for value, gradient in found:
        assert value == pytest.approx(want[0], rel=1e-12)
        np.testing.assert_allclose(gradient["second"], want[1]["second"], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(gradient["first"], lost, rtol=1e-10, atol=1e-12)


def test_large_gradients_of_several_blocks_have_the_bits_of_those_sent_at_the_end(monkeypatch):
    needs_announcements(WEIGHTS, ROWS)
    monkeypatch.setattr(blocks, "BLOCK", 1)
    monkeypatch.setattr(blocks, "_SHARED", 0)
    found = [Group(2, kind).run(lambda comm: mg.all_reduce(OF_LAYERS, comm)(WEIGHTS, *own(comm, [0, 12, 31], ROWS)))
             for kind in (NonblockingRank, BufferRank)]
    first, *others = [[np.asarray(x).tobytes() for x in optree.tree_leaves(out)] for outs in found for out in outs]
    assert all(other == first for other in others)


def test_an_error_on_a_rank_while_large_gradients_are_sent():
    def f(w, x):
        return layers(w, x["row"]) + np.sum(w["first"][x["pick"]])

    step = mg.value_and_grad(mg.mean_loss(f, in_axes=(None, 0)))
    pick = np.arange(31)
    wrong = np.where(pick == 20, 700, pick)

    def work(comm):
        reduced = mg.all_reduce(step, comm)
        rows, good, bad = own(comm, [0, 15, 31], ROWS, pick, wrong)
        before = reduced(WEIGHTS, {"row": rows, "pick": good})
        with pytest.raises((IndexError, MinigradError), match=r"rank 1 raised an error|example 20"):
            reduced(WEIGHTS, {"row": rows, "pick": bad})
        return before, reduced(WEIGHTS, {"row": rows, "pick": good})

    for before, after in Group(2, NonblockingRank).run(work):
        assert before[0] == after[0]


def test_ranks_whose_programs_write_in_other_orders_send_at_the_end(monkeypatch):
    monkeypatch.setattr(PartProgram, "ready_order", property(lambda self: next(orders)))
    orders = iter([[2, 1, 0], [1, 2, 0]])

    def work(comm):
        out = mg.all_reduce(OF_LAYERS, comm)(WEIGHTS, *own(comm, [0, 15, 31], ROWS))
        return out[0], comm.begun

    (value, begun), other = Group(2, NonblockingRank).run(work)
    assert (value, begun) == other
    assert begun == []


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
