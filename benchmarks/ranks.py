"""Two ranks of MPI: the cost of `all_reduce`, of its messages, and strong scaling against one process.

    mpirun -n 2 python -m benchmarks.ranks [--quick]

It prints JSON, which `benchmarks.distributed` reads. While rank 0 measures one process, the others sleep.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.distributed.ranks import exchanged, gathered
from minigrad.report import digits

from . import harness

AXES = (None, 0, 0)
GRADIENT = mg.value_and_grad(mg.mean_loss(digits.loss, in_axes=AXES))


class Counting:
    """A communicator that counts the bytes which this rank receives from others, all sent at the end of a step."""

    def __init__(self, comm: Any):
        self._comm, self.received = comm, 0

    def Get_rank(self) -> int:
        rank: int = self._comm.Get_rank()
        return rank

    def Get_size(self) -> int:
        size: int = self._comm.Get_size()
        return size

    def allgather(self, x: Any) -> list[Any]:
        objects: list[Any] = self._comm.allgather(x)
        return objects

    def Allgather(self, x: np.ndarray, out: np.ndarray) -> None:
        self._comm.Allgather(x, out)
        self.received += out.nbytes - x.nbytes

    def Alltoall(self, x: np.ndarray, out: np.ndarray) -> None:
        self._comm.Alltoall(x, out)
        self.received += out.nbytes * (self.Get_size() - 1) // self.Get_size()


def together(comm: Any, call: Callable[[], Any], repeats: int) -> list[float]:
    """Return the seconds of calls that all ranks begin together."""
    seconds = []
    for k in range(repeats + 2):
        comm.Barrier()
        start = time.perf_counter()
        call()
        if k > 1:
            seconds.append(time.perf_counter() - start)
    return seconds


def alone(comm: Any, call: Callable[[], Any], repeats: int) -> list[float]:
    """Return the seconds of calls of rank 0; other ranks sleep until it has finished."""
    seconds = []
    if comm.Get_rank() == 0:
        for k in range(repeats + 2):
            start = time.perf_counter()
            call()
            if k > 1:
                seconds.append(time.perf_counter() - start)
    ended = comm.Ibarrier()
    while not ended.Test():  # a blocking call would keep its core busy
        time.sleep(0.005)
    return seconds


def race(comm: Any, title: str, x: np.ndarray, y: np.ndarray, rounds: int, repeats: int) -> dict[str, Any]:
    """Return the seconds of the mean gradient: of one process with two threads, two ranks of one, and own rows alone.

    Ranks send a layer's gradient when it is written; or all at the end. Own rows alone are computed by the ranks at the
    same time, in the same blocks of rows, each in a communicator of its own.
    """
    from mpi4py.MPI import COMM_SELF

    params, rank, size = digits.init(), comm.Get_rank(), comm.Get_size()
    own = slice(len(x) * rank // size, len(x) * (rank + 1) // size)
    whole, step = mg.compile(GRADIENT), mg.all_reduce(GRADIENT, comm)
    at_the_end, part = mg.all_reduce(GRADIENT, Counting(comm)), mg.all_reduce(GRADIENT, COMM_SELF)
    found: dict[str, list[float]] = {"one process": [], "two ranks": [], "two ranks, sent at the end": [],
                                     "own rows alone": []}
    for _ in range(rounds):
        mg.set_num_threads(size)
        found["one process"].append(np.median(alone(comm, lambda: whole(params, x, y), repeats) or [0.0]))
        mg.set_num_threads(1)
        found["two ranks"].append(np.median(together(comm, lambda: step(params, x[own], y[own]), repeats)))
        found["two ranks, sent at the end"].append(
            np.median(together(comm, lambda: at_the_end(params, x[own], y[own]), repeats)))
        found["own rows alone"].append(np.median(together(comm, lambda: part(params, x[own], y[own]), repeats)))
    return {"title": title, "examples": len(x), "bytes": sum(p.nbytes for p in params.values()) + 4,
            "seconds": {name: [float(s) for s in values] for name, values in found.items()}}


def links(comm: Any, repeats: int) -> list[dict[str, float]]:
    """Return the seconds of the two messages that add up sums of some sizes."""
    out = []
    for power in range(3, 25, 3):
        n = 1 << power
        x = np.ones((comm.Get_size(), max(1, n // 8 // comm.Get_size())))
        seconds = together(comm, lambda x=x: gathered(comm, exchanged(comm, x)[0]), repeats)
        out.append({"bytes": n, "seconds": float(np.median(seconds)), "least": float(min(seconds))})
    return out


def bytes_of_a_step(comm: Any) -> dict[str, float]:
    """Return the bytes that a rank receives in a step, beside the least: gradient and value, of its half each way."""
    images, labels = digits.load().train
    params, rank = digits.init(), comm.Get_rank()
    counting = Counting(comm)
    step = mg.all_reduce(GRADIENT, counting)
    step(params, images[rank::2], labels[rank::2])
    counting.received = 0
    step(params, images[rank::2], labels[rank::2])
    least = 2 * (comm.Get_size() - 1) / comm.Get_size() * (sum(p.nbytes for p in params.values()) + 4)
    return {"received": counting.received, "at least": least, "received over least": counting.received / least}


def case(data: dict[str, Any]) -> harness.Case:
    """Return the table of a race."""
    found = harness.Case.of(data["title"], "ms", "one process", data["seconds"])
    found.more.update(examples=data["examples"], bytes=data["bytes"])
    return found


def main() -> None:
    from mpi4py import MPI

    comm, quick = MPI.COMM_WORLD, "--quick" in sys.argv
    images, labels = digits.load().train
    times, rounds = (4, 3) if quick else (40, 9)
    found = {"ranks": comm.Get_size(), "races": [
        race(comm, f"mean gradient of {n:,} digits on ranks, a {title} batch", x, y, rounds, repeats)
        for title, x, y, n, repeats in (
            ("small", images[:2], labels[:2], 2, 50),
            ("large", np.tile(images, (times, 1)), np.tile(labels, times), times * len(images), 3))],
        "links": links(comm, 20 if quick else 100), "bytes of a step": bytes_of_a_step(comm)}
    if comm.Get_rank() == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
