"""From the start of a process to the first value and gradient, import and compilation included, in each library.

Each start is a process of its own, in turns. minigrad's native backend keeps machine code on disk: it starts with an
empty cache, with one that ``minigrad cache --fill`` filled with the kernels that programs share, and with that of an
earlier start. In the early tier NumPy answers the first call, and the cache is empty.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from .. import harness
from . import attention, mlp, table
from .contestants import Args, Program, maker, makers, minigrad_backends

PROGRAMS: dict[str, tuple[str, Program, Any]] = {
    "mlp": ("784-512-256-10, batch 32", mlp.PROGRAM, partial(mlp.data, (784, 512, 256, 10), 32)),
    "attention": ("layer norm and attention, batch 32", attention.PROGRAM, partial(attention.data, attention.BATCH))}
SLOW = frozenset({"torch.compile", "PyTensor"})  # started once, and not in a quick run
CHILD = "import sys; from benchmarks.peers import cold; cold.child(*sys.argv[1:])"


def child(program: str, contestant: str) -> None:
    """Compute one value and gradient; print the clock when the numbers are there, and the norm of them all."""
    _, loss, data = PROGRAMS[program]
    args: Args = data()
    made = maker(loss, contestant)()
    own = made.put(args)
    result = made.build(own)(*own)
    norm = sum(float((a**2).sum()) for a in table.numbers(result)) ** 0.5
    print(json.dumps([time.monotonic_ns(), norm]))


def start(program: str, contestant: str, cache: str, tier: str = "final") -> tuple[float, float]:
    """Return the seconds from before a process starts until its result is there, and the result's norm."""
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "MINIGRAD_CACHE_DIR": cache, "MINIGRAD_TIER": tier}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # installed packages have their bytecode; so shall this tree
    before = time.monotonic_ns()
    done = subprocess.run([sys.executable, "-c", CHILD, program, contestant], capture_output=True, text=True,
                          check=False, env=environment)
    assert not done.returncode, done.stderr
    stamp, norm = json.loads(done.stdout.splitlines()[-1])
    return (stamp - before) / 1e9, norm


def measure(program: str, quick: bool, warm: str, shared: str) -> tuple[harness.Case, list[harness.Target]]:
    """Return one program's table, and its goals.

    Minigrad's compiled programs stay in the folder `warm`; the kernels that they share lie in the folder `shared`.
    """
    title, loss, data = PROGRAMS[program]
    args = data()
    present, absent = harness.gather(makers(loss))
    if quick:
        absent |= dict.fromkeys(SLOW & set(present), table.NOT_QUICK)
    names = [name for name in present if name not in absent]
    starts = {name: partial(_fresh_cache, program, name) for name in names}
    for name in (name for name in names if "native" in name):
        starts |= {f"{name}, shared kernels in its cache": partial(_fresh_cache, program, name, shared),
                   f"{name}, from its cache": partial(start, program, name, warm),
                   f"{name}, early tier": partial(_fresh_cache, program, name, tier="early")}
    expected = sum(float((a**2).sum()) for a in table.exact(loss, args)) ** 0.5
    times: dict[str, list[float]] = {name: [] for name in starts}
    for k in range(-1, 1 if quick else 5):
        for name, call in starts.items():
            if name in SLOW and k != 0:
                times[name].extend(times[name][:1])  # its one time stands for every round
                continue
            took, norm = call()
            assert abs(norm - expected) < table.TOLERANCE * expected, f"{name} is wrong: {norm}, not {expected}"
            if k >= 0:  # the first round brings the files into memory
                times[name].append(took)
    case = harness.Case.of(f"process start to first gradient: {title}", "s", f"minigrad {minigrad_backends()[-1]}",
                           times, absent)
    return case, [harness.Target(f"{program}, {name}: JAX's time over ours", harness.over(times["JAX jit"], own)
                                 if "JAX jit" in times else None, 3)
                  for name, own in times.items() if name.startswith("minigrad")]


def _fresh_cache(program: str, contestant: str, shared: str | None = None, tier: str = "final") -> tuple[float, float]:
    """Start with a cache that is empty, or has a copy of the folder `shared`."""
    with tempfile.TemporaryDirectory() as fresh:
        if shared is not None:
            shutil.copytree(shared, fresh, dirs_exist_ok=True)
        return start(program, contestant, fresh, tier)


def _fill(shared: str) -> None:
    """Compile the kernels that programs share, if there is a native backend."""
    if "native" in minigrad_backends():
        subprocess.run([sys.executable, "-m", "minigrad", "cache", "--fill"], check=True, stdout=subprocess.DEVNULL,
                       env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "MINIGRAD_CACHE_DIR": shared})


def run(quick: bool) -> harness.Result:
    """Start every contestant a few times over."""
    cases, targets = [], []
    with tempfile.TemporaryDirectory() as warm, tempfile.TemporaryDirectory() as shared:
        _fill(shared)
        for program in list(PROGRAMS)[:1] if quick else PROGRAMS:
            case, goals = measure(program, quick, warm, shared)
            cases.append(case)
            targets += goals
    return harness.Result(cases, targets)


if __name__ == "__main__":
    harness.main("peers.cold", run)
