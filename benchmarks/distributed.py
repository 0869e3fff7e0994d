"""A mean gradient on the workers of executors: the overhead of a part, two processes against two threads, bytes sent.

The small batch shows the cost of a part: sending, waiting, adding up. The large one shows when that pays. Workers run
one thread each; one process with two threads is the reference. Ranks of MPI do the same in `benchmarks.ranks`. A pass
over a file of 10⁸ rows returns the norms of per-example gradients and the mean gradient, beside passes that add its
numbers up, and that only copy them into memory. ``--quick`` takes 10⁶ rows, MINIGRAD_BENCH_ROWS another number;
MINIGRAD_BENCH_DIR is the file's folder.
"""

from __future__ import annotations

import functools
import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.distributed.executors import Executor as AnyExecutor
from minigrad.distributed.executors import submit
from minigrad.distributed.files import InFile, Reader, sent
from minigrad.ragged.dataset import Growing
from minigrad.report import digits

from . import harness, ranks

AXES = (None, 0, 0)
GRADIENT = mg.value_and_grad(mg.mean_loss(digits.loss, in_axes=AXES))
ROWS, QUICK_ROWS, COLD_ROWS, COLUMNS = 100_000_000, 1_000_000, 5_000_000, 32


def one_thread() -> None:
    """Leave one thread to a worker."""
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

    _max_workers = 2

    def __init__(self) -> None:
        self.sent = self.received = 0
        self._executor = ThreadPoolExecutor(1)

    def submit(self, fn: Callable[..., Any], /, task: Any) -> Any:
        self.sent += len(pickle.dumps(task, protocol=5))
        future = self._executor.submit(fn, task)
        self.received += len(pickle.dumps(future.result(), protocol=5))
        return future


def bytes_sent(params: Any, images: np.ndarray, labels: np.ndarray, parts: int = 8) -> dict[str, float]:
    """Return the bytes of a step of two workers, and the least that it can be: parameters, rows and gradients.

    Parameters that have changed go to each worker once, others not at all, and rows in files neither.
    """
    counting = Counting()
    step = mg.distribute(GRADIENT, counting, parts)
    size, rows = sum(p.nbytes for p in params.values()), images.nbytes + labels.nbytes

    def sent(scale: float, *examples: np.ndarray) -> int:
        counting.sent = counting.received = 0
        step({k: p * np.float32(scale) for k, p in params.items()}, *examples)
        return counting.sent

    first = sent(1.0, images, labels)
    same, changed = sent(1.0, images, labels), sent(0.5, images, labels)
    received = counting.received
    with tempfile.TemporaryDirectory() as folder:
        stored = []
        for name, x in (("images", images), ("labels", labels)):
            np.save(Path(folder) / f"{name}.npy", x)
            stored.append(np.load(Path(folder) / f"{name}.npy", mmap_mode="r"))
        in_file = sent(0.25, *stored)
    return {"sent": changed, "at least": 2 * size + rows, "sent over least": changed / (2 * size + rows),
            "sent with the parameters of before": same, "over least with the parameters of before": same / rows,
            "sent with rows in files": in_file, "over least with rows in files": in_file / (2 * size),
            "received": received, "received over least": received / (parts * size),
            "of the first call, more": first - changed}


def rows_of(path: Path, rows: int) -> np.ndarray:
    """Write a file of random rows, which repeat after a million, and return it, not read yet."""
    block = np.random.default_rng(0).standard_normal((1_000_000, COLUMNS), np.float32)
    growing = Growing(path, block[:0])
    for k in range(0, rows, len(block)):
        growing.append(block[:rows - k])
    growing.close()
    with path.open("rb") as file:
        os.fsync(file.fileno())  # nothing is written during a pass then, and pages can be dropped
    array: np.ndarray = np.load(path, mmap_mode="r")
    return array


def linear(w: Any, row: Any) -> Any:
    """Return the squared error of a linear model; the last column is the target."""
    return (np.dot(w, row[:-1]) - row[-1]) ** 2


def statistics(w: Any, x: Any) -> Any:
    """Return the norm of each row's gradient, and the mean gradient."""
    axes = (None, 0)
    return mg.per_example.norms(linear, in_axes=axes)(w, x), mg.grad(mg.mean_loss(linear, in_axes=axes))(w, x)


def large_file(rows: int) -> dict[str, dict[str, float]]:
    """Return the figures of one pass over a file in parts, for each executor."""
    makers: dict[str, Callable[[], AnyExecutor]] = {
        "one process, two threads": lambda: ThreadPoolExecutor(2), "two processes": processes}
    if find_spec("distributed"):
        makers["Dask, two workers"] = dask
    threads = mg.get_num_threads()
    with tempfile.TemporaryDirectory(dir=os.environ.get("MINIGRAD_BENCH_DIR")) as folder:
        path = Path(folder) / "rows.npy"
        x, found = rows_of(path, rows), {}
        for name, make in makers.items():
            executor = make()
            mg.set_num_threads(1)
            try:
                found[name] = one_pass(executor, path, x)
                if name == "two processes":
                    found["two processes, from disk"] = from_disk(executor, path, x[:COLD_ROWS])
            finally:
                mg.set_num_threads(threads)
                (executor.close if hasattr(executor, "close") else executor.shutdown)()
        return found


def one_pass(executor: AnyExecutor, path: Path, x: np.ndarray, rounds: int = 2) -> dict[str, float]:
    """Return the figures of an executor: of the statistics, a sum, and a read of the same parts in turns."""
    parts, w = max(4, len(x) // 500_000), np.ones(COLUMNS - 1, np.float32)
    step = mg.distribute(statistics, executor, parts, in_axes=(None, 0), progress=f"{len(x):,} rows")
    mean = mg.distribute(mg.grad(mg.mean_loss(linear, in_axes=(None, 0))), executor, parts)
    for f in (step, mean):
        f(w, x[:8000])  # compiles
    seconds: dict[str, list[float]] = {"statistics": [], "mean gradient": [], "sum": [], "read": []}
    peak = 0.0
    for _ in range(rounds):
        for name, call in (("sum", lambda: of_parts(executor, add_up, path, parts)),
                           ("read", lambda: of_parts(executor, read, path, parts)),
                           ("mean gradient", lambda: mean(w, x))):
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
        with Watch() as watch:
            start = time.perf_counter()
            norms, gradient = step(w, x)
            seconds["statistics"].append(time.perf_counter() - start)
        peak = max(peak, watch.peak)
        assert norms.shape == (len(x),)
        del norms
        assert np.isfinite(gradient).all()
    best = {name: min(s) for name, s in seconds.items()}
    return {"rows": len(x), "bytes": x.nbytes, "seconds": best["statistics"],
            "rows per second": len(x) / best["statistics"], "GB per second": x.nbytes / best["statistics"] / 1e9,
            "of a pass that adds up": harness.over(seconds["sum"], seconds["statistics"]),
            "of a pass that reads": harness.over(seconds["read"], seconds["statistics"]),
            "mean gradient alone, of a pass that adds up": harness.over(seconds["sum"], seconds["mean gradient"]),
            "peak GB of a process, without pages of files": peak / 1e9}


def from_disk(executor: AnyExecutor, path: Path, x: np.ndarray) -> dict[str, float]:
    """Return the figures of a pass over the first rows of a file, whose pages are not in memory."""
    parts, w = 16, np.ones(COLUMNS - 1, np.float32)
    step = mg.distribute(statistics, executor, parts, in_axes=(None, 0))
    part = len(np.load(path, mmap_mode="r")) * parts // len(x)  # of the whole file, for as many rows
    seconds: dict[str, list[float]] = {"statistics": [], "read": []}
    for _ in range(2):
        for name, call in (("read", lambda: of_parts(executor, read, path, part, parts)),
                           ("statistics", lambda: step(w, x))):
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, x.nbytes, os.POSIX_FADV_DONTNEED)
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    best = {name: min(s) for name, s in seconds.items()}
    return {"rows": len(x), "seconds": best["statistics"], "GB per second": x.nbytes / best["statistics"] / 1e9,
            "of a pass that reads": harness.over(seconds["read"], seconds["statistics"])}


def of_parts(executor: AnyExecutor, work: Callable[..., Any], path: Path, parts: int, first: int | None = None) -> None:
    """Do some work on each part of a file, or on the first ones."""
    call = functools.partial(work, path, parts)
    for future in [submit(executor, call, k) for k in range(first or parts)]:
        future.result()


def add_up(path: Path, parts: int, part: int) -> float:
    """Return the sum of a part of a file, mapped into memory."""
    x = np.load(path, mmap_mode="r")
    n = len(x)
    return float(x[n * part // parts:n * (part + 1) // parts].sum(dtype=np.float32))


def read(path: Path, parts: int, part: int) -> None:
    """Copy a part of a file into memory, a block at a time."""
    x = np.load(path, mmap_mode="r")
    n, step = len(x), 1 << 14
    section = sent(x[n * part // parts:n * (part + 1) // parts])
    assert isinstance(section, InFile)
    reader = Reader(section)
    for begin in range(0, section.shape[0], step):
        reader[begin:min(begin + step, section.shape[0])]
    reader.close()


class Watch:
    """The largest memory of this process and of its children, each without the pages of files, in bytes."""

    def __init__(self) -> None:
        self.peak = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        own = os.getpid()
        children = [int(p) for task in Path(f"/proc/{own}/task").iterdir()
                    for p in (task / "children").read_text().split()] if Path("/proc").exists() else []
        while not self._ended.wait(0.02):
            self.peak = max([self.peak, *map(_anonymous, [own, *children])])


def _anonymous(process: int) -> float:
    """Return the bytes of a process's memory that belong to no file; 0 for one that has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    return next((1024.0 * int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")), 0.0)


def on_ranks(quick: bool) -> dict[str, Any] | None:
    """Return the figures of two ranks of MPI; None without it."""
    runs = Path(sys.executable).with_name("mpirun")
    if not runs.exists():
        return None
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    command = [str(runs), "--oversubscribe", "-n", "2", sys.executable, "-m", "benchmarks.ranks"]
    out = subprocess.run([*command, *(["--quick"] if quick else [])], capture_output=True, text=True, check=True,
                         env=environment, cwd=Path(__file__).parents[1])
    found: dict[str, Any] = json.loads(out.stdout.splitlines()[-1])
    return found


def _one_thread_each(step: Callable[..., Any], *args: Any) -> Any:
    threads = mg.get_num_threads()
    mg.set_num_threads(1)
    try:
        return step(*args)
    finally:
        mg.set_num_threads(threads)


def run(quick: bool) -> harness.Result:
    """Race one process against the executors, on a small batch and on all digits, repeated."""
    rows = int(os.environ.get("MINIGRAD_BENCH_ROWS") or (QUICK_ROWS if quick else ROWS))
    file = large_file(rows)  # first, as its memory is measured
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
            calls |= {name: functools.partial(_one_thread_each, step, params, x, y) for name, step in steps.items()}
            cases.append(harness.Case.of(f"mean gradient of {len(x):,} digits, a {title} batch", "ms", "one process",
                                         harness.race(calls, 5 if quick else 9), absent))
    finally:
        for executor in made.values():
            (executor.close if hasattr(executor, "close") else executor.shutdown)()
    more = on_ranks(quick)
    cases += [] if more is None else [ranks.case(data) for data in more["races"]]
    best = file["one process, two threads"]
    targets = [harness.Target("norms and mean gradient of a file of rows, of the speed of a pass that adds it up",
                              best["of a pass that adds up"], 0.7),
               harness.Target(f"memory of a process in a pass over {4 * COLUMNS * rows / 1e9:.3g} GB, in GB",
                              best["peak GB of a process, without pages of files"], 1.0, at_least=False),
               harness.Target("bytes that a rank receives in a step, over the least", None if more is None else
                              more["bytes of a step"]["received over least"], 1.01, at_least=False)]
    sent = bytes_sent(params, images, labels)
    targets += [harness.Target(f"bytes of a step, over the least, {name}", sent[key], 1.05, at_least=False)
                for name, key in (("parameters changed", "sent over least"),
                                  ("parameters as before", "over least with the parameters of before"),
                                  ("rows in files", "over least with rows in files"))]
    notes = {"bytes of a step": sent, "a file of rows": file}
    return harness.Result(cases, targets, notes if more is None else {
        **notes, "bytes of a step on ranks": more["bytes of a step"], "messages of two ranks": more["links"]})


if __name__ == "__main__":
    harness.main("distributed", run)
