"""BLAS or generated code for a product: the usual cuts of `gemm_choice` and measured ones, beside the best choice.

Both compute each product in turns, as programs do. Half of the rounds are a measurement of that product: the best
choice is the method with the lower median. The other half judges that choice and those by cuts, so that the noise of a
measurement counts against it, as it would in a program. The measured cuts are those of ``minigrad cache --fill``, from
other products. The products here are those of layers, of square matrices, and small and narrow ones, in the three
orientations of a training step. A second process has AVX2 alone, and OpenBLAS's kernels for that.
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
from minigrad.backends.native.kernels import gemm, gemm_measurement, gemm_plan
from minigrad.backends.native.kernels.gemm_choice import NEVER, OTHERS, Cuts, uniform
from minigrad.backends.native.runtime import jit, threads

from . import harness
from .gemm import ORIENTATIONS, bound

# Rows, terms and columns of ``x @ w``.
SIZES = ((8, 1024, 1024), (32, 784, 512), (128, 784, 512), (128, 512, 256), (1024, 512, 256), (1024, 256, 10),
         (10_000, 64, 64), (64, 64, 64), (256, 256, 256), (512, 512, 512), (1024, 1024, 1024), (32, 16, 16),
         (100, 20, 50), (64, 32, 48), (32, 48, 4), (4096, 6, 5), (256, 512, 4), (16, 2048, 2), (512, 8, 128))
CHOICES = ("usual cuts", "measured cuts", "best choice")
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
            while (took := time.perf_counter() - start) < TURN or not count:
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
    by_size = {np.dtype(name).itemsize: step for name, step in made.items()}
    start = time.perf_counter()
    timed = gemm_measurement.timings(by_size, resources, gemm_measurement.sizes())
    took = time.perf_counter() - start
    cuts, _ = gemm_measurement.fitted(timed, resources.choice)
    for (m, k, n), name in ((size, name) for name in made for size in SIZES):
        x, w, d = (rng.normal(size=shape).astype(name) for shape in ((m, k), (k, n), (m, n)))
        for title, choose in ORIENTATIONS.items():
            a, b = choose(x, w, d)
            chosen = {way: bound(made[name], a, b, resources._replace(choice=choice))[0]
                      for way, choice in zip(CHOICES, (resources.choice, cuts), strict=False)}
            calls = {method: bound(made[name], a, b, resources._replace(choice=uniform(limits)))[1]
                     for method, limits in METHODS.items()}
            found.append({"dtype": name, "product": f"{title}, {m} × {k} × {n}", "seconds": race(calls, int(rounds)),
                          **{way: "generated" if method == gemm_plan.GENERATED else "BLAS"
                             for way, method in chosen.items()}})
    print(json.dumps({"products": found, "seconds": took}))


def measured(avx2: bool, rounds: int) -> dict[str, Any]:
    """Return the products that a process of its own has timed, and the seconds in which it measured its cuts."""
    code = f"from benchmarks import blas_choice; blas_choice.child('{int(avx2)}', '{rounds}')"
    environment = {**os.environ, **({"OPENBLAS_CORETYPE": "Haswell"} if avx2 else {})}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment,
                          cwd=Path(__file__).parents[1])
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def case(title: str, products: list[dict[str, Any]]) -> harness.Case:
    """Return the times of each choice and of each method, as geometric means over products."""
    judged: dict[str, list[list[float]]] = {name: [] for name in (*CHOICES, *METHODS)}
    each = {}
    for one in products:
        seconds = one["seconds"]
        later = {name: seconds[name][1::2] for name in METHODS}
        chosen = {way: one[way] for way in CHOICES[:-1]}
        chosen[CHOICES[-1]] = min(METHODS, key=lambda name: np.median(seconds[name][::2]))
        for name, method in (chosen | dict(zip(METHODS, METHODS, strict=True))).items():
            judged[name].append(later[method])
        best = later[min(METHODS, key=lambda name: np.median(later[name]))]
        each[one["product"]] = {**chosen, "time over the faster method's": {
            way: harness.over(later[chosen[way]], best) for way in CHOICES}}
    times = {name: np.exp(np.log(found).mean(axis=0)).tolist() for name, found in judged.items()}
    result = harness.Case.of(title, "µs", CHOICES[-1], times)
    result.more = {"products": each}
    return result


def run(quick: bool) -> harness.Result:
    """Measure on this machine's registers, and on AVX2 alone where there are wider ones."""
    wide = gemm.wide_registers(jit.host())
    cases, targets, notes = [], [], {}
    for title, avx2 in {"AVX-512" if wide else "this machine": False, **({AVX2: True} if wide else {})}.items():
        found = measured(avx2, 2 if quick else 10)
        text = f"{title}: seconds in which the cuts are measured"
        targets.append(harness.Target(text, found["seconds"], 1, at_least=False))
        for dtype in ("float32", "float64"):
            own = case(f"{title}, {dtype}", [one for one in found["products"] if one["dtype"] == dtype])
            cases.append(own)
            for way in CHOICES[:-1]:
                targets.append(harness.Target(f"{own.title}: the time of the {way} over the best choice's",
                                              own.ratio(way), 1.03, at_least=False))
                losses = {product: one["time over the faster method's"][way]
                          for product, one in own.more["products"].items()}
                worst = max(losses, key=losses.get)
                text = f"{own.title}: most over the faster method's time with the {way}"
                notes[text] = f"{losses[worst]:.2f} ({worst})"
    return harness.Result(cases, targets, notes)


if __name__ == "__main__":
    harness.main("blas_choice", run)
