"""Time-outs on Dask's local schedulers: order, lateness, what runs afterwards."""

import functools
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import MinigradError

from ..losses import AXES, W, X, Y, loss

dask = pytest.importorskip("dask", reason="needs the extra dask")
da = pytest.importorskip("dask.array")
timed = pytest.importorskip("minigrad.distributed.dask.timed")

GRADIENT = mg.value_and_grad(mg.mean_loss(loss, in_axes=AXES))


def waits(path, x):
    """Return `x`; a 3 waits until a file exists."""
    deadline = time.monotonic() + 600
    while x == 3 and not Path(path).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return x


def with_a_straggler(tmp_path):
    """Return a mean of twice its numbers, in which a 3 is late, and the function that lets it go on."""
    path = tmp_path / "go"
    call = functools.partial(waits, str(path))
    return mg.mean_loss(lambda w, x: mg.callback(call, mg.f64[()], x) * w, in_axes=(None, 0)), path.touch


def named(scheduler):
    return dask.config.set(scheduler=scheduler)


@pytest.mark.parametrize("scheduler", ["threads", "synchronous", "processes"])
def test_results_within_a_time_out_are_those_without(scheduler):
    x, y = da.from_array(X, chunks=10), da.from_array(Y, chunks=10)
    with named(scheduler):
        found, want = mg.distribute(GRADIENT, timeout=3600)(W, x, y), mg.distribute(GRADIENT)(W, x, y)
    assert [np.asarray(a).tobytes() for a in found] == [np.asarray(a).tobytes() for a in want]


@pytest.mark.parametrize("scheduler", ["threads", "synchronous", "processes"])
def test_a_late_chunk_is_given_up(scheduler, tmp_path):
    f, go_on = with_a_straggler(tmp_path)
    with named(scheduler):
        with pytest.raises(MinigradError, match=r"test_timed.py:\d+: distribute\(.*\): chunk \d of 4: no result"):
            mg.distribute(f, timeout=0.5)(2.0, da.arange(4, chunks=1, dtype=float))
        go_on()
        assert mg.distribute(f, timeout=3600)(2.0, da.arange(4, chunks=2, dtype=float)) == 3, "the next call works"


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_a_late_chunk_on_a_pool(pool, tmp_path):
    f, go_on = with_a_straggler(tmp_path)
    options = {"mp_context": get_context("spawn")} if pool is ProcessPoolExecutor else {}
    with pool(2, **options) as executor:
        with pytest.raises(MinigradError, match=r"chunk \d of 4: no result in 0.5 s"):
            mg.distribute(f, executor, timeout=0.5)(2.0, da.arange(4, chunks=1, dtype=float))
        go_on()
        assert mg.distribute(f, executor, timeout=3600)(2.0, da.arange(4, chunks=2, dtype=float)) == 3


def test_no_task_begins_after_a_late_one():
    began, go = [], threading.Event()

    def work(k):
        began.append(k)
        if len(began) == 1:
            go.wait(30)
        return k

    before = {*threading.enumerate()}
    tasks = [dask.delayed(work, pure=False)(k) for k in range(6)]
    with pytest.raises(TimeoutError):
        list(timed.results(tasks, 0.2, {"scheduler": "synchronous"}))
    go.set()
    for t in {*threading.enumerate()} - before:
        t.join(30)
    assert len(began) <= 1


def test_an_error_is_that_of_the_task():
    def fails(k):
        if k == 2:
            raise ZeroDivisionError("at 2")
        return k

    results = timed.results([dask.delayed(fails, pure=False)(k) for k in (0, 1, 2)], 3600, {"scheduler": "threads"})
    with pytest.raises(ZeroDivisionError, match="at 2"):
        list(results)


def test_the_callbacks_of_the_user_are_called():
    from dask.callbacks import Callback

    seen = []
    with Callback(posttask=lambda key, *_: seen.append(key)):
        tasks = [dask.delayed(abs, pure=False)(k) for k in (-1, 2)]
        assert list(timed.results(tasks, 3600, {"scheduler": "synchronous"})) == [1, 2]
    assert {t.key for t in tasks} <= {*seen}


def test_a_scheduler_without_callbacks_is_refused_before_anything_runs():
    def alone(dsk, keys):
        raise AssertionError

    with named(alone), pytest.raises(MinigradError, match=r"test_timed.py:\d+: distribute\(loss\): timeout=3, but the "
                                                          r"scheduler .*alone.* takes no callbacks.* Give a client"):
        mg.distribute(GRADIENT, timeout=3)(W, da.from_array(X, chunks=10), da.from_array(Y, chunks=10))


def test_a_late_argument():
    go = threading.Event()

    def slow(block):
        go.wait(30)
        return block

    w = da.from_array(W, chunks=20).map_blocks(slow, dtype=W.dtype, meta=np.empty(0))
    with named("threads"), pytest.raises(MinigradError, match=r"distribute\(loss\): argument 0: no result in 0.2 s"):
        mg.distribute(GRADIENT, timeout=0.2)(w, da.from_array(X), da.from_array(Y))
    go.set()
