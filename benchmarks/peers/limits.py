"""Limits of the machine: copy bandwidth and the rate of matrix products, measured in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np

from .. import harness

SIDE = 2048  # of the square matrices whose product is timed
LEAST = 1 << 16  # bytes: below this a copy is mostly its call


@dataclass(frozen=True)
class Work:
    """The least work of a program: bytes of arguments and results, and operations in matrix products."""

    nbytes: float
    flops: float = 0.0
    dtype: str = "float32"  # of the products

    def limit(self) -> dict[str, float]:
        """Return the least seconds of a program on this machine, and the numbers that they follow from."""
        bandwidth, rate = copy_bandwidth(int(self.nbytes)), gemm_rate(self.dtype)
        return {**asdict(self), "bytes/s": bandwidth, "flop/s": rate,
                "seconds": max(self.nbytes / bandwidth, self.flops / rate)}


def traffic(*pytrees: Any) -> int:
    """Return the bytes of all arrays in pytrees."""
    import optree

    return sum(np.asarray(x).nbytes for x in optree.tree_leaves(pytrees))


def _best(call: Callable[[], Any], times: int) -> float:
    call()
    took = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        took.append(time.perf_counter() - start)
    return min(took)


@cache
def copy_bandwidth(nbytes: int) -> float:
    """Return the bytes per second, read and written ones together, of copying where `nbytes` are touched in all.

    By one thread or by all cores, whichever is faster. What fits a cache is measured in it, as programs find it.
    """
    from concurrent.futures import ThreadPoolExecutor

    n = max(nbytes, LEAST) // 2
    source, target = np.ones(n, np.uint8), np.empty(n, np.uint8)
    cores = harness.cores()
    parts = [slice(k * n // cores, (k + 1) * n // cores) for k in range(cores)]
    with ThreadPoolExecutor(cores) as pool:
        together = _best(lambda: list(pool.map(lambda s: np.copyto(target[s], source[s]), parts)), 10)
    return 2 * n / min(together, _best(lambda: np.copyto(target, source), 10))


@cache
def gemm_rate(dtype: str = "float32") -> float:
    """Return the floating-point operations per second of the fastest matrix product of the libraries here."""
    a = np.random.default_rng(0).random((SIDE, SIDE)).astype(dtype)
    products: list[Callable[[], Any]] = [lambda: a @ a]
    # JAX makes float32 of float64 unless its whole process is told not to
    for make in (_jax_product, _torch_product) if dtype == "float32" else (_torch_product,):
        found, _ = harness.gather({"product": lambda make=make: make(a)})
        products += found.values()
    return 2 * SIDE**3 / min(_best(p, 5) for p in products)


def _jax_product(a: np.ndarray) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    x, product = jnp.asarray(a), jax.jit(jnp.matmul)
    return lambda: jax.block_until_ready(product(x, x))


def _torch_product(a: np.ndarray) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(harness.cores())
    x = torch.from_numpy(a)
    return lambda: x @ x
