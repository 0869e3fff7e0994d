"""The scheduler that computes for an executor, and the values that it keeps."""

import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from minigrad.errors import MinigradError

from ..clusters import cluster

dask = pytest.importorskip("dask", reason="needs the extra dask")
Scheduler = pytest.importorskip("minigrad.distributed.dask.scheduler").Scheduler


def double(x):
    return 2 * x


def fails(x):
    raise ZeroDivisionError(f"at {x}")


def tasks(f, n=4):
    return [dask.delayed(f, pure=False)(k) for k in range(n)]


def test_pools_compute_in_order():
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(1, get_context("spawn")) as processes:
        for executor, pickles in ((None, False), (threads, False), (processes, True)):
            scheduler = Scheduler(executor, None, "f")
            assert scheduler.pickles == pickles
            assert list(scheduler.values(tasks(double))) == [0, 2, 4, 6]
            assert scheduler.value(dask.delayed(double)(4), "an argument") == 8
            value = dask.delayed(np.ones(3))
            assert scheduler.kept(value) is value
            assert scheduler.is_kept(value)


def test_a_client_keeps_values_until_it_restarts():
    with cluster(n_workers=1, processes=False) as client:
        for executor in (client, None):  # without an executor, the client that is current
            scheduler = Scheduler(executor, 10, "f")
            assert scheduler.client is client
            assert list(scheduler.values(tasks(double))) == [0, 2, 4, 6]
        kept = scheduler.kept(dask.delayed(np.ones(3), name="kept", traverse=False))
        assert scheduler.is_kept(kept)
        assert scheduler.value(dask.delayed(np.sum)(kept), "an argument") == 3
        with pytest.raises(MinigradError, match="f: chunk 0 of 4: ZeroDivisionError: at 0"):
            list(scheduler.values(tasks(fails)))
        client.restart(wait_for_workers=False)
        deadline = time.monotonic() + 120
        while scheduler.is_kept(kept):  # the client is told
            assert time.monotonic() < deadline
            time.sleep(0.01)
