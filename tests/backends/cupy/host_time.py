"""What a call costs the host: the CPU time of this thread, on the stand-in, with launches that do nothing.

    python -m tests.backends.cupy.host_time [CALLS]

On a GPU, the driver's own time comes on top: two calls of it for a program that is one graph.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import optree
import pytest

import minigrad as mg
from benchmarks import gpu as bench
from benchmarks import graphs
from minigrad.backends.cupy import driver
from minigrad.backends.cupy.blas import Blas
from minigrad.backends.cupy.device import Device

from . import cupy_on_numpy

CALLS, ROUNDS = 2000, 7
PARAMETERS, DRAWN, MOLECULES, STEPS = 300, 1000, 128, 60


class Flags:
    c_contiguous = True


class Array:
    """An array that is made and read about as fast as CuPy's, and holds nothing."""

    __slots__ = ("data", "dtype", "flags", "shape")

    def __init__(self, shape: Any, dtype: Any, memory: Any):
        self.shape, self.dtype, self.data, self.flags = shape, dtype, memory, Flags

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self.dtype.str, "version": 3}

    def fill(self, value: Any) -> None:
        """Do nothing."""


def placed(tree: Any) -> Any:
    """Return arrays of the host as arrays of the device."""
    def one(x: Any) -> Array:
        return Array(x.shape, x.dtype, cupy_on_numpy.CUDA.alloc(x.nbytes))

    return optree.tree_map(one, tree)


class Captured:
    """A graph of launches that do nothing."""

    def launch(self) -> None:
        """Do nothing."""


class Silent:
    """A library whose functions do nothing and succeed."""

    def __getattr__(self, name: str) -> Callable[..., int]:
        return lambda *args: 0


class Idle(Device):
    """A device whose launches do nothing."""

    def __init__(self) -> None:
        super().__init__(cupy_on_numpy.CUPY, cupy_on_numpy.COMPAT)
        self.array, self.blas = Array, Blas(Silent(), Silent())

    def function(self, text: str, name: str) -> str:
        return name

    def launch(self, function: Any, blocks: int, threads: int, params: Any) -> None:
        """Do nothing."""

    def clear(self, address: int, nbytes: int) -> None:
        """Do nothing."""

    def capture(self, *work: Any) -> Captured:
        return Captured()

    def fastest(self, calls: Sequence[Callable[[], None]], repeats: int) -> int:
        return 0


def many(params: Any, x: Any) -> Any:
    """Return a loss of many parameters."""
    for p in params:
        x = np.tanh(x + p)
    return x.sum()


def mlp(batch: int) -> tuple[Any, Any, Any]:
    """Return the arguments of the benchmark's training step."""
    return placed(optree.tree_map(lambda x: x.get(), bench.mlp_data(batch)))


def cases() -> Iterator[tuple[str, Callable[[int], Callable[[], Any]], int]]:
    """Yield a title, what makes a call, and how many calls are a round."""
    def training_step() -> Callable[[], Any]:
        step, args = mg.compile(bench.mlp_step, backend="cupy"), mlp(32)
        return lambda: step(*args)

    def parameters() -> Callable[[], Any]:
        step = mg.compile(mg.value_and_grad(many), backend="cupy")
        args = placed(([np.ones(8, "f4")] * PARAMETERS, np.ones(8, "f4")))
        return lambda: step(*args)

    def optimizer() -> Callable[[], Any]:
        _, update = mg.optim.adam(1e-3)

        def train(params: Any, state: Any, x: Any, label: Any) -> Any:
            value, gradient = mg.value_and_grad(mg.mean_loss(bench.mlp_loss, bench.AXES))(params, x, label)
            return value, *update(gradient, state, params)

        step, (params, *data) = mg.compile(train, backend="cupy"), mlp(32)
        state = 0, params, params
        return lambda: step(params, state, *data)

    def shuffled() -> Callable[[], Any]:
        examples, rng = graphs.drawn(DRAWN), np.random.default_rng(0)
        step = mg.compile(mg.value_and_grad(mg.mean_loss(graphs.loss, (None, 0))), backend="cupy")
        params = placed(graphs.parameters())
        batches = iter([placed(mg.batch([examples[i] for i in rng.integers(0, DRAWN, MOLECULES)]))
                        for _ in range(STEPS * (ROUNDS + 1) + 3)])
        return lambda: step(params, next(batches))

    yield "training step, 32 examples", training_step, CALLS
    yield f"gradient of {PARAMETERS} parameters", parameters, max(CALLS // 10, 1)
    yield "training step with Adam", optimizer, CALLS // 2
    yield f"{MOLECULES} graphs, shuffled", shuffled, STEPS


def main(calls: int = CALLS) -> int:
    with pytest.MonkeyPatch.context() as patch:
        cupy_on_numpy.install(patch)
        alloc = functools.lru_cache(None)(cupy_on_numpy.POOL.alloc)  # a pool finds memory, and does not write it
        patch.setattr(cupy_on_numpy.POOL, "alloc", alloc, raising=False)
        patch.setattr(cupy_on_numpy.CUDA, "alloc", alloc)
        device = Idle()
        patch.setattr(driver, "current", lambda: device)
        patch.setattr(sys.modules[__name__], "CALLS", calls)
        for title, make, n in cases():
            call, rounds = make(), []
            for _ in range(3):
                call()
            for k in range(ROUNDS + 1):
                start = time.thread_time()
                for _ in range(n):
                    call()
                if k:
                    rounds.append(1e6 * (time.thread_time() - start) / n)
            print(f"{title}: {min(rounds):.1f} µs a call; median of the rounds {np.median(rounds):.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
