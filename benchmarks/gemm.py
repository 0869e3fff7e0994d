"""The products of a training step of an MLP, each alone: generated code and BLAS, against NumPy, JAX and PyTorch.

And how much of the step is not products: biases, activations and the loss, which run after the products. What could be
gained if they were applied to pieces of the products' results is less than that.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import optree

from minigrad import blas
from minigrad.backends.native.codegen import strides
from minigrad.backends.native.kernels import gemm, gemm_plan
from minigrad.backends.native.plan.launch_plan import ARENA
from minigrad.backends.native.runtime import cache, jit, threads

from . import harness
from .peers import contestants, mlp

LAYERS = ((784, 512), (512, 256), (256, 10))
BATCHES = (1, 32, 128, 1024)
ORIENTATIONS = {"x @ w": lambda x, w, d: (x, w), "d @ w.T": lambda x, w, d: (d, w.T),
                "x.T @ d": lambda x, w, d: (x.T, d)}


def step(bits: int | None) -> Callable[..., None]:
    """Return the compiled step for float32; with `bits` of None it has no BLAS."""
    name = f"products of float32, {bits}"
    code = cache.object_code(cache.generated(name, lambda: (gemm.module(np.dtype(np.float32), bits), None)))
    _, tiles = map(cache.object_code, gemm.code_requests(np.dtype(np.float32)))
    library = jit.load([tiles, code], {**blas.symbols(), **threads.symbols()})
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(library.address("product"))
    call.library = library  # the code lives as long as its caller
    return call


def bound(call: Callable[..., None], x: np.ndarray, y: np.ndarray, resources: gemm_plan.Resources
          ) -> tuple[int, Callable[[], None]]:
    """Return the method of a product of two matrices, and the step that is bound to them, as programs call it."""
    out = np.empty((x.shape[0], y.shape[1]), x.dtype)
    views = [strides.View(i, 0, v.shape, v.strides) for i, v in enumerate((x, y, out))]
    args = np.array(gemm_plan.gemm_args("ik,kj->ij", *views, x.dtype, resources))
    bases = np.array([v.ctypes.data for v in (x, y, out)], np.uintp)
    keep = (args, bases, out, x, y)
    addresses = args.ctypes.data, bases.ctypes.data

    def run(_keep: Any = keep) -> None:
        call(*addresses)

    def alone() -> None:
        with blas.limited(1):
            run()

    run()
    np.testing.assert_allclose(out, x @ y, rtol=1e-3, atol=1e-3 * np.sqrt(x.shape[1]))
    return int(args[gemm_plan.METHOD]), alone if gemm_plan.shared_by_blas(args.tolist()) else run


def by_numpy(x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    out = np.empty((x.shape[0], y.shape[1]), x.dtype)
    return lambda: np.matmul(x, y, out=out)


def by_jax(x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    import jax

    turned = [not v.flags.c_contiguous for v in (x, y)]
    stored = [jax.device_put(v.T if t else v) for v, t in zip((x, y), turned, strict=True)]
    product = jax.jit(lambda p, q: (p.T if turned[0] else p) @ (q.T if turned[1] else q))
    return lambda: product(*stored).block_until_ready()


def by_torch(x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    import torch

    p, q = torch.from_numpy(x), torch.from_numpy(y)
    out = torch.empty(x.shape[0], y.shape[1])
    return lambda: torch.mm(p, q, out=out)


def beside_products(batch: int, rounds: int) -> float:
    """Return the share of a step's time, value and gradient of the loss, that is not spent in products."""
    made = contestants.maker(mlp.PROGRAM, "minigrad native")()
    args = made.put(mlp.data((*(n for n, _ in LAYERS), LAYERS[-1][1]), batch))
    step = made.build(args)
    step(*args)
    entry, arrays = step.entries[-1], optree.tree_leaves(args)
    program = entry.program
    bound = program._executable(entry.sizes([a.shape for a in arrays]), threads.get_num_threads())
    given = (*arrays, *(np.empty(*kind) for kind in bound.out_types))
    arena = program.arenas.borrow(bound.layout.total)
    bound.bases[ARENA] = arena.address
    ((table, count),) = bound.stretches
    ways = [how for how in program.ways if how != "bound"]
    assert len(ways) == count, "each statement is one step"
    took = np.empty((rounds, count))
    for times in took:
        for i in range(count):
            start = time.perf_counter()
            bound.run_steps(table + 16 * i, 1, bound.bases_address, given, 2, len(given))
            times[i] = time.perf_counter() - start
    return harness.over(took[:, [how != "product" for how in ways]].sum(axis=1), took.sum(axis=1))


def run(quick: bool) -> harness.Result:
    """Measure each product of each layer; the targets are geometric means over a batch size's products."""
    found, _ = blas.find()
    call = step(found.bits if found else None)
    resources = gemm.resources(threads.get_num_threads())
    cases, targets = [], []
    rng = np.random.default_rng(0)
    for batch in BATCHES[1:3] if quick else BATCHES:
        ratios = {}
        for inputs, outputs in LAYERS:
            x, w, d = (rng.normal(size=shape).astype(np.float32)
                       for shape in ((batch, inputs), (inputs, outputs), (batch, outputs)))
            for name, choose in ORIENTATIONS.items():
                if name == "d @ w.T" and inputs == LAYERS[0][0]:
                    continue  # nothing needs the gradient of the inputs
                a, b = choose(x, w, d)
                present, absent = harness.gather({
                    "numpy": lambda a=a, b=b: by_numpy(a, b),
                    "native": lambda a=a, b=b: bound(call, a, b, resources)[1],
                    "generated": lambda a=a, b=b: bound(call, a, b, resources._replace(blas=False))[1],
                    "jax": lambda a=a, b=b: by_jax(a, b), "torch": lambda a=a, b=b: by_torch(a, b)})
                times = harness.race(present, 3 if quick else 7, 0.005)
                title = f"{name}, {batch} examples, {inputs} to {outputs}"
                cases.append(harness.Case.of(title, "µs", "numpy", times, absent))
                for other in present:
                    ratios.setdefault(other, []).append(np.median(np.divide(times["native"], times[other])))
        for other in ("numpy", "jax", "torch"):
            value = float(np.exp(np.mean(np.log(ratios[other])))) if other in ratios else None
            text = f"{batch} examples: native's time as a share of {other}'s"
            targets.append(harness.Target(text, value, 1.0, at_least=False))
    shares = {batch: beside_products(batch, 20 if quick else 200) for batch in BATCHES[1:]}
    rest = {f"{n} examples: share of a step that is not products": f"{share:.3f}" for n, share in shares.items()}
    return harness.Result(cases, targets, rest)


if __name__ == "__main__":
    harness.main("gemm", run)
