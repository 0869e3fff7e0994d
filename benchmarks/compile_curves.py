"""Compile time and memory over the size of a program, beside JAX's: each compilation in a process of its own.

The curves are gradients of loops of Python over 30 to 3,000 steps (a GARCH recursion, which is rolled into a scan) and
layers (each with weights of its own), and further derivatives of networks. Times go to the first result, in a process
that has compiled a small program before. JAX takes minutes for long loops: from `CAP` seconds on, a row says so.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from . import harness
from .typical.libraries import LIBRARIES, Library
from .typical.programs import PROGRAMS

CAP = 20.0  # seconds
CHILD = "import sys; from benchmarks import compile_curves; compile_curves.child(*sys.argv[1:])"
SIZES = (30, 100, 300, 1000, 3000)
CONTESTANTS = ("minigrad native", "minigrad numpy", "JAX jit")
REFERENCE = CONTESTANTS[0]
BACKENDS = ("native", "numpy")  # of minigrad
DERIVATIVES = ("hessian_network", "hessian_logistic", "laplacian", "gradient_penalty", "hessian_vector")
STEPS_GOAL, LAYER_GOAL = 1.0, 1e-3  # seconds of 1,000 steps, and of one more layer


def recursion(lib: Library, p: Any, returns: Any) -> Any:
    """Return the loss of a GARCH recursion, as a loop of Python."""
    variance, total = lib.np.exp(p[0]), 0.0
    for t in range(returns.shape[0]):
        variance = lib.np.exp(p[0]) + p[1] * returns[t] ** 2 + p[2] * variance
        total = total + lib.np.log(variance) + returns[t] ** 2 / variance
    return total


def layers(lib: Library, p: Any, x: Any) -> Any:
    """Return the loss of a deep network."""
    for w, b in p:
        x = x + lib.np.tanh(x @ w + b)
    return (x**2).mean()


LOOPS: dict[str, tuple[Callable[..., Any], Callable[[int], tuple[Any, ...]]]] = {
    "GARCH recursion, steps": (recursion, lambda n: (
        np.array([-2.0, 0.1, 0.8]), np.random.default_rng(0).normal(size=n))),
    "network, layers": (layers, lambda n: (
        [(w, np.zeros(8)) for w in 0.1 * np.random.default_rng(0).normal(size=(n, 8, 8))], np.ones((5, 8))))}


def child(program: str, size: str, contestant: str) -> None:
    """Compile a program; print the seconds to the first result, and the bytes by which the process has grown."""
    library, _, backend = contestant.partition(" ")
    lib = LIBRARIES[library]()
    if program in LOOPS:
        loss, data = LOOPS[program]
        args, step = data(int(size)), lib.outer_value_and_grad(lambda *args: loss(lib, *args))
    else:
        args, step = PROGRAMS[program].args(), PROGRAMS[program].step(lib)
    own, compile_ = lib.put(args), partial(lib.compile, backend=backend) if backend in BACKENDS else lib.compile
    compile_(lib.outer_value_and_grad(lambda x: (lib.np.tanh(x) ** 2).sum()))(lib.put(np.ones(3)))
    before = _most_bytes()
    start = time.perf_counter()
    compile_(step)(*own)
    print(json.dumps([time.perf_counter() - start, _most_bytes() - before]))


def _most_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def compiled(program: str, size: int, contestant: str) -> tuple[float, int] | str:
    """Return the seconds and the bytes of one compilation, or why there are none."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "MINIGRAD_CACHE_DIR": ""}
    try:
        done = subprocess.run([sys.executable, "-c", CHILD, program, str(size), contestant], capture_output=True,
                              text=True, check=False, env=environment, timeout=CAP)
    except subprocess.TimeoutExpired:
        return f"more than {CAP:g} s"
    if "No module named 'jax'" in done.stderr:
        return "jax is not installed"
    assert not done.returncode, done.stderr
    seconds, nbytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, nbytes


def measure(title: str, program: str, size: int, skip: dict[str, str], rounds: int) -> harness.Case:
    """Return the table of one program and size; `skip` holds contestants that took too long for a smaller one."""
    times: dict[str, list[float]] = {}
    peaks: dict[str, int] = {}
    absent = dict(skip)
    for _ in range(rounds):
        for contestant in (name for name in CONTESTANTS if name not in absent):
            result = compiled(program, size, contestant)
            if isinstance(result, str):
                absent[contestant] = result
                continue
            times.setdefault(contestant, []).append(result[0])
            peaks[contestant] = result[1]
    case = harness.Case.of(title, "s", REFERENCE, {name: t for name, t in times.items() if name not in absent}, absent)
    case.more = {"size": size}
    for name, row in case.rows.items():
        row["peak"] = peaks[name]
    return case


def run(quick: bool) -> harness.Result:
    """Compile every program in every library."""
    cases, targets = [], []
    for name in LOOPS:
        skip: dict[str, str] = {}
        curve: dict[int, harness.Case] = {}
        for size in SIZES[:2] if quick else SIZES:
            curve[size] = measure(f"{size:,}: {name}", name, size, skip, 1)
            skip |= curve[size].absent
            print(curve[size], flush=True)
        cases += curve.values()
        targets += goals(name, curve)
    for name in DERIVATIVES:
        case = measure(PROGRAMS[name].title, name, 0, {}, 1 if quick else 3)
        print(case, flush=True)
        cases.append(case)
        jax = case.ratio("JAX jit") if {"JAX jit", REFERENCE} <= {*case.rows} else None
        targets.append(harness.Target(f"{case.title}: JAX's time to the first result over ours", jax, 1.0))
    return harness.Result(cases, targets)


def goals(name: str, curve: dict[int, harness.Case]) -> list[harness.Target]:
    """Return the goals of a curve; one that took too long has no figure."""
    seconds = {n: case.median(REFERENCE) for n, case in curve.items() if REFERENCE in case.rows}
    small, large = min(curve), max(n for n in curve if n <= 1000)
    if name == "network, layers":
        each = (seconds[large] - seconds[small]) / (large - small) if {small, large} <= {*seconds} else None
        return [harness.Target("seconds to compile one more layer", each, LAYER_GOAL, False)]
    return [harness.Target("seconds to compile 1,000 steps of a recursion", seconds.get(1000), STEPS_GOAL, False)]


if __name__ == "__main__":
    harness.main("compile_curves", run)
