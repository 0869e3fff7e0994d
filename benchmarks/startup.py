"""From the start of a process to the first gradient of a small model, with an empty cache of machine code."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import harness

DATA = """
import time
import numpy as np
rng = np.random.default_rng(0)
p = {"W": rng.standard_normal((8, 16)) / 4, "b": np.zeros(16), "v": rng.standard_normal(16) / 4}
X, Y = rng.standard_normal((32, 8)), rng.standard_normal(32)
p, X, Y = {k: v.astype(np.float32) for k, v in p.items()}, X.astype(np.float32), Y.astype(np.float32)
"""
END = """
norm = float(np.sqrt(np.sum(np.asarray(g["W"]) ** 2)))  # the numbers must have arrived before the clock is read
print(time.monotonic_ns(), norm)
"""
PROGRAMS = {
    "NumPy by hand": """
h = np.tanh(X @ p["W"] + p["b"])
r = 2 * (h @ p["v"] - Y) / len(X)
d = r[:, None] * p["v"] * (1 - h * h)
g = {"W": X.T @ d, "b": d.sum(0), "v": h.T @ r}
""",
    "minigrad": """
import minigrad as mg
def loss(p, x, y):
    return (np.tanh(x @ p["W"] + p["b"]) @ p["v"] - y) ** 2
g = mg.grad(mg.mean_loss(loss, in_axes=(None, 0, 0)))(p, X, Y)
""",
    "minigrad, compiled": """
import minigrad as mg
def loss(p, x, y):
    return (np.tanh(x @ p["W"] + p["b"]) @ p["v"] - y) ** 2
g = mg.compile(mg.grad(mg.mean_loss(loss, in_axes=(None, 0, 0))))(p, X, Y)
""",
    "JAX": """
import jax, jax.numpy as jnp
def loss(p, x, y):
    return (jnp.tanh(x @ p["W"] + p["b"]) @ p["v"] - y) ** 2
g = jax.grad(lambda p, X, Y: jax.vmap(loss, (None, 0, 0))(p, X, Y).mean())(p, X, Y)
""",
    "JAX jit": """
import jax, jax.numpy as jnp
def loss(p, x, y):
    return (jnp.tanh(x @ p["W"] + p["b"]) @ p["v"] - y) ** 2
g = jax.jit(jax.grad(lambda p, X, Y: jax.vmap(loss, (None, 0, 0))(p, X, Y).mean()))(p, X, Y)
""",
    "PyTorch": """
import torch
p = {k: torch.tensor(v, requires_grad=True) for k, v in p.items()}
X, Y = torch.from_numpy(X), torch.from_numpy(Y)
((torch.tanh(X @ p["W"] + p["b"]) @ p["v"] - Y) ** 2).mean().backward()
g = {k: v.grad for k, v in p.items()}
""",
}
COMPILED = PROGRAMS["minigrad, compiled"]
PROGRAMS |= {f"minigrad, compiled, {tier} tier": COMPILED.replace("0, 0)))", f"0, 0))), tier={tier!r}")
             for tier in ("quick", "early")}
PROGRAMS["minigrad, compiled, from its cache"] = COMPILED
NEEDS = {"JAX": "jax", "JAX jit": "jax", "PyTorch": "torch"}


def first_gradient(program: str, cache: str) -> tuple[float, float]:
    """Return the seconds from before the process starts until its gradient is there, and the gradient's norm."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "MINIGRAD_CACHE_DIR": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # installed packages have their bytecode; so shall this tree
    start = time.monotonic_ns()
    done = subprocess.run([sys.executable, "-c", DATA + program + END], capture_output=True, text=True, check=False,
                          env=environment)
    assert not done.returncode, done.stderr
    stamp, norm = done.stdout.split()
    return (int(stamp) - start) / 1e9, float(norm)


def run(quick: bool) -> harness.Result:
    """Start each program in turn, a few times over."""
    absent = {name: f"{package} is not installed" for name, package in NEEDS.items()
              if importlib.util.find_spec(package) is None}
    programs = {name: text for name, text in PROGRAMS.items() if name not in absent}
    times: dict[str, list[float]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as kept:
        _, expected = first_gradient(programs["NumPy by hand"], kept)
        for k in range(-1, 3 if quick else 9):
            for name, program in programs.items():
                with tempfile.TemporaryDirectory() as empty:
                    took, norm = first_gradient(program, kept if "from its cache" in name else empty)
                assert abs(norm - expected) < 1e-3 * expected, f"{name} disagrees: {norm}, not {expected}"
                if k >= 0:  # the first round brings the files into memory
                    times[name].append(took)
    case = harness.Case.of("process start to first gradient", "s", "minigrad", times, absent)
    jax = min((times[name] for name in ("JAX", "JAX jit") if name in times),
              key=lambda seconds: harness.spread(seconds)["median"], default=None)
    return harness.Result([case], [
        harness.Target(f"{name}: times as soon as JAX (the sooner of its two)",
                       None if jax is None else harness.over(jax, times[name]), 3)
        for name in case.rows if name.startswith("minigrad")])


if __name__ == "__main__":
    harness.main("startup", run)
