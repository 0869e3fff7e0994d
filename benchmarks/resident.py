"""Resident memory of calls within a budget, each in a process of its own: the memory given, and the measured peak."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg

MEMORY = 200_000_000
FEW = 20  # examples of a first call, which loads code
PARTS = 60_000_000  # of a worker, so that the data have several parts
WORD = mg.axis("word")
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def available() -> bool:
    """Return whether the system tells the peak of a process, and resets it."""
    return STATUS.exists() and CLEAR.exists()


def status(name: str) -> int:
    """Return a number of bytes that Linux tells of this process."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def reset() -> int:
    """Let the peak begin anew, and return the resident memory.

    The allocator gives free memory back first: it would serve the call, and count before it.
    """
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # glibc
        libc.malloc_trim(0)
    CLEAR.write_text("5")
    return status("VmRSS")


def warm() -> None:
    """Let BLAS touch all of the buffers that it keeps: only a long product of many columns takes them up."""
    np.ones((60_000, 256)) @ np.ones((256, 256))


def layers(w: Any, x: Any) -> Any:
    """Return the loss of a dense example."""
    return np.sum(np.tanh(np.tanh(x @ w["a"]) @ w["b"]) ** 2)


def attention(w: Any, x: Any) -> Any:
    """Return the loss of a sequence, by a weighted mean of its words."""
    h = np.tanh(x @ w["a"])
    a = np.exp(h @ w["b"][:, 0])
    return np.sum(np.sum(a[:, None] * h, axis=0) / np.sum(a)) ** 2


def parameters() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"a": rng.normal(size=(32, 128)) / 6, "b": rng.normal(size=(128, 64)) / 12}


def dense() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(300_000, 32))


def ragged() -> Any:
    rng = np.random.default_rng(2)
    return mg.batch([rng.normal(size=(n, 32)) for n in rng.integers(1, 60, 10_000)], mg.f64[WORD, 32])


DATA: dict[str, tuple[Callable[[], Any], Callable[..., Any]]] = {
    "dense": (dense, layers), "ragged": (ragged, attention)}


def of_passes(kind: str, backend: str) -> int:
    """Return the peak of a value and gradient in passes."""
    data, loss = DATA[kind][0](), DATA[kind][1]
    step = mg.value_and_grad(mg.microbatch(mg.mean_loss(loss, (None, 0)), memory=MEMORY))
    return _peak(step if backend == "eager" else mg.compile(step, backend), data)


def of_results(kind: str, backend: str) -> int:
    """Return the peak of a result per example, in passes."""
    data = DATA[kind][0]()
    step = mg.microbatch(mg.vmap(lambda w, x: np.tanh(x @ w["a"])[..., :16], (None, 0)), memory=MEMORY)
    return _peak(step if backend == "eager" else mg.compile(step, backend), data)


def _peak(step: Callable[..., Any], data: Any) -> int:
    w = parameters()
    step(w, data[:FEW])
    warm()
    before = reset()
    step(w, data)
    return status("VmHWM") - before


def of_loader(kind: str, backend: str) -> int:
    """Return the peak of an epoch of a loader, with a compiled step on each batch."""
    data, loss = DATA[kind][0](), DATA[kind][1]
    w = parameters()
    step = mg.compile(mg.value_and_grad(mg.mean_loss(loss, (None, 0))), backend)
    loader = mg.DataLoader(data, memory=MEMORY, measure=lambda batch: step.memory(w, batch))
    loader.batches(0)
    step(w, data[:FEW])
    warm()
    before = reset()
    for batch in loader:
        step(w, batch)
    return status("VmHWM") - before


def of_worker(kind: str, backend: str) -> int:
    """Return the peak of a worker of `distribute`."""
    del backend
    data, loss = DATA[kind][0](), DATA[kind][1]
    w = parameters()
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        step = mg.distribute(mg.value_and_grad(mg.mean_loss(loss, (None, 0))), pool, memory_per_worker=PARTS)
        step(w, data[:FEW])
        pool.submit(warm).result()
        before = pool.submit(reset).result()
        step(w, data)
        return pool.submit(status, "VmHWM").result() - before


WHAT: dict[str, tuple[Callable[[str, str], int], int]] = {
    "microbatch, value and gradient": (of_passes, MEMORY), "microbatch, a result per example": (of_results, MEMORY),
    "DataLoader and a compiled step": (of_loader, MEMORY), "distribute, a worker": (of_worker, PARTS)}


def peaks(what: str, kind: str) -> dict[str, int]:
    """Return the peak by backend, each measured in a process of its own."""
    backends = {"distribute, a worker": ["native"], "DataLoader and a compiled step": ["numpy", "native"]}
    found = {}
    for backend in backends.get(what, ["numpy", "native", "eager"]):
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            found[backend] = process.submit(WHAT[what][0], kind, backend).result()
    return found
