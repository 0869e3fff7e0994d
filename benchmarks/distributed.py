"""A mean gradient on the workers of executors: the overhead of a part, two processes against two threads, bytes sent.

The small batch shows the cost of a part: sending, waiting, adding up. The large one shows when that pays. Workers run
one thread each; one process with two threads is the reference. A second table reads a file of rows in parts, which
workers open.
"""

from __future__ import annotations

import functools
import os
import pickle
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.distributed.distribute import Executor as AnyExecutor
from minigrad.report import digits

from . import harness

AXES = (None, 0, 0)
GRADIENT = mg.value_and_grad(mg.mean_loss(digits.loss, in_axes=AXES))
ROWS, QUICK_ROWS, COLUMNS = 100_000_000, 1_000_000, 32


def one_thread() -> None:
    """Leave one thread to a worker."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    mg.set_num_threads(1)


def processes() -> Executor:
    """Return two processes of one thread each."""
    return ProcessPoolExecutor(2, get_context("spawn"), initializer=one_thread)


def dask() -> AnyExecutor:
    """Return the client of two Dask workers of one thread each."""
    from dask.distributed import Client, LocalCluster

    client = Client(LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None))
    client.run(one_thread)
    executor: AnyExecutor = client
    return executor


class Counting:
    """An executor that counts the bytes that it sends and receives."""

    def __init__(self) -> None:
        self.sent = self.received = 0
        self._executor = ThreadPoolExecutor(1)

    def submit(self, fn: Callable[..., Any], /, task: Any) -> Any:
        self.sent += len(pickle.dumps(task, protocol=5))
        future = self._executor.submit(fn, task)
        self.received += len(pickle.dumps(future.result(), protocol=5))
        return future


def bytes_sent(params: Any, images: np.ndarray, labels: np.ndarray, parts: int = 2) -> dict[str, float]:
    """Return the bytes of a step, of its first call, and the least that it can be: parameters, rows and gradients."""
    counting = Counting()
    step = mg.distribute(GRADIENT, counting, parts)
    step(params, images, labels)
    first = counting.sent
    counting.sent = counting.received = 0
    step(params, images, labels)
    size = sum(p.nbytes for p in params.values())
    least = parts * size + images.nbytes + labels.nbytes
    return {"sent": counting.sent, "at least": least, "sent over least": counting.sent / least,
            "received": counting.received, "received over least": counting.received / (parts * size),
            "of the first call, more": first - counting.sent}


def rows_of(path: Path, rows: int) -> np.ndarray:
    """Write a file of random rows, and return it, not read yet."""
    out = np.lib.format.open_memmap(path, "w+", np.float32, (rows, COLUMNS))
    rng = np.random.default_rng(0)
    for k in range(0, rows, 1 << 20):
        out[k:k + (1 << 20)] = rng.standard_normal((min(1 << 20, rows - k), COLUMNS), np.float32)
    out.flush()
    del out
    array: np.ndarray = np.load(path, mmap_mode="r")
    return array


def linear(w: Any, row: Any) -> Any:
    """Return the squared error of a linear model; the last column is the target."""
    return (np.dot(w, row[:-1]) - row[-1]) ** 2


def large_file(rows: int) -> dict[str, float]:
    """Return the time of the mean gradient over a file in parts, beside a pass that only adds its numbers up."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("MINIGRAD_BENCH_DIR")) as folder, processes() as executor:
        x = rows_of(Path(folder) / "rows.npy", rows)
        parts = max(4, rows // 500_000)
        step = mg.distribute(mg.value_and_grad(mg.mean_loss(linear, in_axes=(None, 0))), executor, parts)
        w = np.ones(COLUMNS - 1, np.float32)
        step(w, x[:1000])
        seconds, read = [], []
        for _ in range(2):
            start = time.perf_counter()
            list(executor.map(functools.partial(_add_up, Path(folder) / "rows.npy"), range(parts), [parts] * parts))
            read.append(time.perf_counter() - start)
            start = time.perf_counter()
            _, gradient = step(w, x)
            seconds.append(time.perf_counter() - start)
        assert np.isfinite(gradient).all()
        return {"rows": rows, "bytes": x.nbytes, "seconds": min(seconds), "rows per second": rows / min(seconds),
                "of the bandwidth of reading": min(read) / min(seconds),
                "peak GB of this process, with the pages of the file": resource.getrusage(
                    resource.RUSAGE_SELF).ru_maxrss / 1e6}


def _add_up(path: Path, part: int, parts: int) -> float:
    x = np.load(path, mmap_mode="r")
    n = len(x)
    return float(x[n * part // parts:n * (part + 1) // parts].sum(dtype=np.float32))


def run(quick: bool) -> harness.Result:
    """Race one process against the executors, on a small batch and on all digits, repeated."""
    images, labels = digits.load().train
    params = digits.init()
    made, absent = harness.gather({"two processes": processes, "two threads of Python": lambda: ThreadPoolExecutor(2),
                                   "Dask, two workers": dask})
    cases = []
    try:
        for title, times in (("small", 0), ("large", 4 if quick else 40)):
            x = images[:2] if not times else np.tile(images, (times, 1))
            y = labels[:2] if not times else np.tile(labels, times)
            whole = mg.compile(GRADIENT)
            steps = {name: mg.distribute(GRADIENT, executor, 2) for name, executor in made.items()}
            want = whole(params, x, y)
            for name, step in steps.items():
                value, _ = step(params, x, y)
                assert abs(value - want[0]) < 1e-4 * abs(want[0]), name
            calls = {"one process": functools.partial(whole, params, x, y)}
            calls |= {name: functools.partial(step, params, x, y) for name, step in steps.items()}
            cases.append(harness.Case.of(f"mean gradient of {len(x):,} digits, a {title} batch", "ms", "one process",
                                         harness.race(calls, 5 if quick else 15), absent))
    finally:
        for executor in made.values():
            (executor.close if hasattr(executor, "close") else executor.shutdown)()
    return harness.Result(cases, [], {"bytes of a step": bytes_sent(params, images, labels),
                                      "a file of rows": large_file(QUICK_ROWS if quick else ROWS)})


if __name__ == "__main__":
    harness.main("distributed", run)
