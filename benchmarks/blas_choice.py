"""BLAS or generated code for a product: the gain of a choice by measurement over the rule of `gemm_plan`.

Both compute each product in turns, in pieces on all threads, as programs do. Half of the rounds are the measurement:
its choice is the method with the lower median. The other half judges that choice and the rule's, so that the noise of a
measurement counts against it, as it would in a program. The products are those of layers and of square matrices, in the
three orientations of a training step. A second process has AVX2 alone, and OpenBLAS's kernels for that.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minigrad import blas
from minigrad.backends.native.kernels import gemm, gemm_plan
from minigrad.backends.native.kernels.gemm_choice import NEVER, OTHERS, Cuts, uniform
from minigrad.backends.native.runtime import jit, threads

from . import harness
from .gemm import ORIENTATIONS, bound

# Rows, terms and columns of ``x @ w``.
SIZES = ((8, 1024, 1024), (32, 784, 512), (128, 784, 512), (128, 512, 256), (1024, 512, 256), (1024, 256, 10),
         (10_000, 64, 64), (64, 64, 64), (256, 256, 256), (512, 512, 512), (1024, 1024, 1024))
METHODS = {"generated": Cuts(0, NEVER), "BLAS": Cuts(NEVER, NEVER)}
AVX2 = "AVX2 alone"
TURN = 1e-3  # seconds of the calls of one method in a round, at least


def steps(avx2: bool) -> dict[str, Callable[[int, int], None]]:
    """Return the compiled step of each dtype."""
    target = jit.Target(jit.host().triple, "x86-64-v3") if avx2 else jit.host()
    library, reason = blas.find()
    assert library, reason
    found = {}
    for name in ("float32", "float64"):
        code = jit.compile_all([gemm.tiles(np.dtype(name), target), gemm.module(np.dtype(name), library.bits, target)],
                               target)
        loaded = jit.load(code, {**blas.symbols(), **threads.symbols()}, keep=True)
        found[name] = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(loaded.address("product"))
    return found


def race(calls: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of one call in each round."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name in list(calls)[::1 if turn % 2 else -1]:
            start, count = time.perf_counter(), 0
            while (took := time.perf_counter() - start) < TURN:
                calls[name]()
                count += 1
            times[name].append(took / count)
    return {name: found[1:] for name, found in times.items()}  # the first round warms up


def child(avx2: str, rounds: str) -> None:
    """Print the rule's method for each product, and the seconds of each method and round."""
    made, rng, found = steps(bool(int(avx2))), np.random.default_rng(0), []
    resources = gemm.resources(threads.get_num_threads())
    if int(avx2):
        resources = resources._replace(choice=OTHERS)
    with blas.limited(1):
        for (m, k, n), name in ((size, name) for name in made for size in SIZES):
            x, w, d = (rng.normal(size=shape).astype(name) for shape in ((m, k), (k, n), (m, n)))
            for title, choose in ORIENTATIONS.items():
                a, b = choose(x, w, d)
                rule, _ = bound(made[name], a, b, resources)
                calls = {}
                for method, cuts in METHODS.items():
                    _, calls[method] = bound(made[name], a, b, resources._replace(choice=uniform(cuts)))
                found.append({"dtype": name, "product": f"{title}, {m} × {k} × {n}",
                              "rule": "generated" if rule == gemm_plan.GENERATED else "BLAS",
                              "seconds": race(calls, int(rounds))})
    print(json.dumps(found))


def measured(avx2: bool, rounds: int) -> list[dict[str, Any]]:
    """Return the products that a process of its own has timed."""
    code = f"from benchmarks import blas_choice; blas_choice.child('{int(avx2)}', '{rounds}')"
    environment = {**os.environ, **({"OPENBLAS_CORETYPE": "Haswell"} if avx2 else {})}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment,
                          cwd=Path(__file__).parents[1])
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def case(title: str, products: list[dict[str, Any]]) -> harness.Case:
    """Return the times of the rule, of a measurement's choice and of each method, as geometric means over products."""
    judged: dict[str, list[list[float]]] = {name: [] for name in ("rule", "measurement", *METHODS)}
    each = {}
    for one in products:
        seconds = one["seconds"]
        chosen = min(METHODS, key=lambda name: np.median(seconds[name][::2]))
        later = {name: seconds[name][1::2] for name in METHODS}
        for name, method in {"rule": one["rule"], "measurement": chosen, **dict(zip(METHODS, METHODS, strict=True))
                             }.items():
            judged[name].append(later[method])
        each[one["product"]] = {"rule": one["rule"], "measurement": chosen, "time of the rule over the measurement's":
                                float(np.median(later[one["rule"]]) / np.median(later[chosen]))}
    times = {name: np.exp(np.log(found).mean(axis=0)).tolist() for name, found in judged.items()}
    result = harness.Case.of(title, "µs", "measurement", times)
    result.more = {"products": each}
    return result


def run(quick: bool) -> harness.Result:
    """Measure on this machine's registers, and on AVX2 alone where there are wider ones."""
    wide = gemm.wide_registers(jit.host())
    cases, targets = [], []
    for title, avx2 in {"AVX-512" if wide else "this machine": False, **({AVX2: True} if wide else {})}.items():
        found = measured(avx2, 2 if quick else 10)
        for dtype in ("float32", "float64"):
            own = case(f"{title}, {dtype}", [one for one in found if one["dtype"] == dtype])
            cases.append(own)
            targets.append(harness.Target(f"{own.title}: the rule's time over that of a choice by measurement",
                                          own.ratio("rule"), 1.03, at_least=False))
    return harness.Result(cases, targets)


if __name__ == "__main__":
    harness.main("blas_choice", run)
