"""An elementwise loss of many examples and its gradient by four shared numbers, float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import harness
from . import limits, table
from .contestants import Args, Contestant, Names, Program, makers, torch_names

SIZES = (1_000, 100_000, 1_000_000, 10_000_000)
GOALS = {1_000: 2.0, 1_000_000: 1.5, 10_000_000: 1.3}


def one(names: Names, p: Any, x: Any, y: Any) -> Any:
    """Return the loss of one example: x is a number, y is 1 or -1."""
    np = names.np
    h = np.tanh(p["a"] * x + p["b"])
    return np.log(1 + np.exp(-y * (p["c"] * h + p["d"])))


def batch(names: Names, p: Any, x: Any, y: Any) -> Any:
    """Return the mean loss; elementwise code maps itself."""
    return one(names, p, x, y).mean()


PROGRAM = Program(one, batch, lambda p, x, y: batch(torch_names(), p, x, y))


def data(n: int) -> Args:
    """Return parameters and `n` examples."""
    rng = np.random.default_rng(0)
    params = {name: np.array(v, np.float32) for name, v in zip("abcd", (0.7, -0.2, 1.3, 0.1), strict=True)}
    x = rng.standard_normal(n, np.float32)
    return params, x, np.where(rng.random(n) < 1 / (1 + np.exp(-2 * x)), 1, -1).astype(np.float32)


def with_numba() -> Contestant:
    """Return value and gradient as one writes them by hand for numba: one parallel loop over the examples."""
    import numba

    def loop(a: Any, b: Any, c: Any, d: Any, x: Any, y: Any) -> Any:
        value = da = db = dc = dd = 0.0
        for i in numba.prange(len(x)):
            h = np.tanh(a * x[i] + b)
            e = np.exp(-y[i] * (c * h + d))
            value += np.log(np.float32(1) + e)
            z = -y[i] * e / (np.float32(1) + e)
            t = z * c * (np.float32(1) - h * h)
            da += t * x[i]
            db += t
            dc += z * h
            dd += z
        return value, da, db, dc, dd

    def build(args: Args) -> Callable[..., Any]:
        compiled = numba.njit(parallel=True)(loop)

        def step(p: Any, x: Any, y: Any) -> Any:
            value, *gradient = (v / len(x) for v in compiled(*(p[k][()] for k in "abcd"), x, y))
            return value, dict(zip("abcd", gradient, strict=True))

        return step

    return Contestant(build)


def run(quick: bool) -> harness.Result:
    """Measure four sizes."""
    cases, targets = [], []
    for n in SIZES[:1] if quick else SIZES:
        args = data(n)
        case = table.measure(f"value and gradient, {n:,} examples", makers(PROGRAM) | {"numba by hand": with_numba},
                             args, table.exact(PROGRAM, args), limits.Work(limits.traffic(args)), quick, size=n)
        cases.append(case)
        if n in GOALS:
            targets += [table.faster(case, peer, GOALS[n], f"{n:,} examples") for peer in ("JAX jit", "torch.compile")]
    return harness.Result(cases, [*targets, table.compiles_sooner(cases[0], f"{SIZES[0]:,} examples")])


if __name__ == "__main__":
    harness.main("peers.elementwise", run)
