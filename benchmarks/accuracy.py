"""Errors of the native backend's functions in units of the last place, beside NumPy's and JAX's.

In float32 minigrad's functions of one operand are measured at all 2**32 of them, the others' at every 61st; float64
holds the right values, from NumPy and SciPy. SciPy's trigamma would take a quarter of an hour for all: at every 61st
operand it has the right values, at the others minigrad's own float64 function. In float64 all functions are measured at
the same millions of operands: of all magnitudes, of usual ones, and around the places where formulas change; the right
values are of 80 bits, or mpmath's. A result counts as infinite where it is NaN and should not be, or the reverse; one
that is flushed to 0 counts in full. With --only, the file keeps the other functions' figures and tells their machine.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import mpmath
import numpy as np
import scipy.special

from minigrad.backends.native.codegen.vector_math import FUNCTIONS
from minigrad.backends.native.codegen.vector_math.lanes import Lanes, select

from . import harness
from .native_calls import compiled

CHUNK = 1 << 15  # the arrays stay in the cache
BOUND = 2.0
STEP, PEERS_STEP = 1, 61  # at which float32 minigrad's functions are measured, and others'
PAIRS = ("pow", "atan2", "hypot", "logaddexp")
NUMPY_NAMES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "asinh": "arcsinh", "acosh": "arccosh",
               "atanh": "arctanh", "atan2": "arctan2", "pow": "power"}
SPECIAL = ("expit", "log_expit", "erf", "erfc", "erfcx", "lgamma", "digamma", "trigamma")
SCIPY_NAMES = {"lgamma": "gammaln"}
POLES = {"lgamma": mpmath.inf, "digamma": mpmath.nan, "trigamma": mpmath.inf}  # the values at negative integers
SLOW = ("trigamma",)  # SciPy takes a quarter of a microsecond for each operand
FLOATS = (np.float32, np.float64)
Function = Callable[..., np.ndarray]


def by_numpy(name: str) -> Function:
    """Return NumPy's function, or SciPy's."""
    if name == "trigamma":
        return _trigamma
    module = scipy.special if name in SPECIAL else np
    return getattr(module, SCIPY_NAMES.get(name, NUMPY_NAMES.get(name, name)))


def _trigamma(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return the derivative of digamma; SciPy's would add 1 / (x + k)**2 term by term from a negative x on."""
    r = np.where(np.isfinite(x), x - np.rint(x), 0).astype(x.dtype)
    positive = scipy.special.zeta(2, np.where(x < 0, 1 - x, x))
    result: np.ndarray = np.where(x < 0, (np.pi / np.sin(np.pi * r)) ** 2 - positive, positive)
    if out is None:
        return result
    np.copyto(out, result)
    return out


def by_jax(name: str) -> Function | None:
    """Return JAX's function of NumPy's arrays; None where it has none."""
    import jax

    jax.config.update("jax_enable_x64", True)
    names = {**NUMPY_NAMES, **SCIPY_NAMES, "log_expit": "log_sigmoid"}
    if name == "trigamma":
        return lambda x: np.asarray(jax.jit(jax.scipy.special.polygamma)(1, x))
    for module in (jax.numpy, jax.scipy.special, jax.nn):
        if hasattr(module, names.get(name, name)):
            function = jax.jit(getattr(module, names.get(name, name)))
            return lambda *xs: np.asarray(function(*xs))
    return None


def by_mpmath(name: str) -> Callable[[Any], Any]:
    """Return the function of one number, in many digits."""
    if name in POLES:
        return partial(_beside_poles, name)
    return {"erf": mpmath.erf, "erfc": _erfc, "erfcx": _erfcx}[name]


def _erfc(x: Any) -> Any:
    return mpmath.erfc(min(x, mpmath.mpf(100)))


def _erfcx(x: Any) -> Any:
    if x > 10**6:  # two terms of the asymptotic series: the next is less than 1e-24 of them
        return (1 - 1 / (2 * x * x)) / (x * mpmath.sqrt(mpmath.pi))
    return mpmath.inf if x < -30 else mpmath.exp(x * x) * mpmath.erfc(x)


def _beside_poles(name: str, x: Any) -> Any:
    """Return lgamma, digamma or trigamma; of infinities by SciPy."""
    if x == 0:
        return mpmath.inf
    if not mpmath.isfinite(x):
        return mpmath.mpf(float(by_numpy(name)(np.float64(x))))
    if x < 0 and x == mpmath.floor(x):
        return POLES[name]
    if name == "lgamma":
        return mpmath.re(mpmath.loggamma(x))
    if name == "digamma":
        return mpmath.digamma(x)
    if x < 0:
        return (mpmath.pi / mpmath.sinpi(x)) ** 2 - mpmath.zeta(2, 1 - x)
    return 1 / x + 1 / (2 * x * x) if x > 10**13 else mpmath.zeta(2, x)


# -- errors ------------------------------------------------------------------------------------------------


def _error_of_single(got: Lanes, want: Lanes) -> Lanes:
    """Return how many last places of float32 lie between two doubles; infinity counts as 2**128, as in rounding."""
    infinity = 2.0**128

    def finite(x: Lanes) -> Lanes:
        return select(x > infinity, infinity, select(x < -infinity, -infinity, x))

    exponent = (want.bits() >> 52) & 2047
    exponent = select(exponent < 1023 - 126, 1023 - 126, select(exponent > 1023 + 127, 1023 + 127, exponent))
    places = abs(finite(got) - finite(want)) * ((2 * 1023 + 23 - exponent) << 52).floats()
    return select(got.isnan() ^ want.isnan(), float("inf"), select(got.isnan(), 0.0, places))


def error_of_single() -> Function:
    """Return the function of results and right values, both as float64, compiled."""
    def emit(builder: Any, got: Any, want: Any) -> Any:
        return _error_of_single(Lanes(builder, got), Lanes(builder, want)).value
    return compiled(emit, 2, np.float64, 8)


def errors(got: np.ndarray, want: np.ndarray, scale: np.ndarray | None = None) -> np.ndarray:
    """Return how many last places of the dtype of `got` lie between it and the more precise `want`.

    They are last places of `want`, or of `scale`.
    """
    largest = want.dtype.type(np.finfo(got.dtype).max)
    infinity = np.ldexp(want.dtype.type(1), np.finfo(got.dtype).maxexp)
    with np.errstate(all="ignore"):
        size = np.clip(np.abs(want if scale is None else scale), np.finfo(got.dtype).tiny, largest)
        _, exponent = np.frexp(size)
        place = np.ldexp(want.dtype.type(1), exponent - 1 - np.finfo(got.dtype).nmant)
        distance = np.abs(np.clip(got.astype(want.dtype), -infinity, infinity) - np.clip(want, -infinity, infinity))
        result = (distance / place).astype(np.float64)
    result[np.isnan(got) & np.isnan(want)] = 0
    result[np.isnan(got) ^ np.isnan(want)] = np.inf
    return result


# -- float32 -----------------------------------------------------------------------------------------------


def worst_of_singles(function: Function, oracle: Function, step: int, threads: int = 2) -> float:
    """Return the greatest error at every `step`-th float32, by its bits."""
    error = error_of_single()
    ramp = np.arange(CHUNK, dtype=np.uint64) * step

    def worst(starts: range) -> float:
        wide, got, want, places = (np.empty(CHUNK) for _ in range(4))  # new ones each time cost more than all else
        found = 0.0
        for start in starts:
            x = (ramp + np.uint64(start)).astype(np.uint32).view(np.float32)  # past the end it begins anew
            np.copyto(wide, x)
            np.copyto(got, function(x))
            oracle(wide, out=want)
            found = max(found, float(error(got, want, out=places).max()))
        return found

    def quietly(starts: range) -> float:
        with np.errstate(all="ignore"):
            return worst(starts)

    starts = range(0, 1 << 32, CHUNK * step)
    with ThreadPoolExecutor(threads) as pool:
        return max(pool.map(quietly, [starts[k::16] for k in range(16)]))


# -- samples -----------------------------------------------------------------------------------------------

EDGES = (0.0, 0.23, 1 / 3, 2**0.5 - 1, 0.477, 0.5, 0.5**0.5, 3 / 4, 0.8, 1.0, 2**0.5, 2.0, 9.2, 10, 26.5, 27.2, 32.0,
         np.log(2) / 2, 1.5 * np.log(2), np.pi / 4, np.pi / 2, np.pi, 88.7, 103.97, 709.78, 745.13, 2.0**16, 2.0**20,
         2.0**30, 2.0**60)


def sample(n: int, dtype: Any, seed: int = 0) -> np.ndarray:
    """Return n numbers: of all bits, of usual magnitudes, near the edges of formulas, and special ones."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    unsigned = np.uint32 if dtype == np.float32 else np.uint64
    k = n // 6
    edges = rng.choice(EDGES, k) * (1 + rng.normal(size=k) * 10.0 ** rng.uniform(-16, -1, k))
    parts = [np.frombuffer(rng.bytes(k * dtype.itemsize), unsigned).view(dtype), rng.uniform(-1, 1, k),
             rng.normal(size=k) * 10, rng.uniform(-750, 750, k), np.where(rng.random(k) < 0.5, edges, -edges),
             np.arange(1, k + 1) * (np.pi / 2)]
    values = np.concatenate([np.asarray(part, dtype) for part in parts])
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, -0.5, 2.0, np.finfo(dtype).max, np.finfo(dtype).tiny,
               np.finfo(dtype).smallest_subnormal, -np.finfo(dtype).smallest_subnormal]
    values[: len(special)] = special
    return values


def operands(name: str, n: int, dtype: Any) -> tuple[np.ndarray, ...]:
    """Return the sampled operands of a function of one or two."""
    x = sample(n, dtype)
    if name not in PAIRS:
        return (x,)
    rng = np.random.default_rng(1)
    y = rng.permutation(x)
    near = rng.random(x.size) < 0.3
    with np.errstate(all="ignore"):
        y = np.where(near, x * rng.uniform(-2, 2, x.size).astype(dtype), y)
    return x, y


def right_values(name: str, xs: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the values of doubles in 80 bits."""
    wide = [x.astype(np.longdouble) for x in xs]
    with np.errstate(all="ignore"):
        if name == "expit":
            e = np.exp(-np.abs(wide[0]))
            return np.where(wide[0] < 0, e, 1) / (1 + e)
        if name == "log_expit":
            return np.minimum(wide[0], 0) - np.log1p(np.exp(-np.abs(wide[0])))
        if name in POLES:  # a number of mpmath has no signed zero
            return np.where(xs[0] == 0, by_numpy(name)(xs[0]), _by_mpmath(by_mpmath(name), xs[0]))
        if name in SPECIAL:
            return _by_mpmath(by_mpmath(name), xs[0])
        return by_numpy(name)(*wide)


def _by_mpmath(function: Callable[[Any], Any], x: np.ndarray) -> np.ndarray:
    """Return values with 25 digits."""
    with mpmath.workdps(30):
        found = [mpmath.nstr(function(mpmath.mpf(float(v))), 25).lstrip("+") for v in x]
    return np.array([np.longdouble(v) for v in found])


def terms(name: str, xs: tuple[np.ndarray, ...], want: np.ndarray) -> np.ndarray:
    """Return the numbers in whose last places an error counts: the right values, but where terms cancel.

    logaddexp has the terms max and log1p(exp(-|x - y|)); lgamma and digamma of a negative x have that of -x, and
    terms near 1.
    """
    if name == "logaddexp":
        high = np.maximum(*xs)
        return np.maximum(np.abs(want), np.maximum(np.abs(high), np.abs(want - high)))
    if name in ("lgamma", "digamma"):
        reflected = by_numpy(name)(np.abs(xs[0]).astype(np.float64))
        return np.where(xs[0] < 0, np.maximum(np.abs(want) + np.abs(reflected), 1), want)
    return want


# -- the table ---------------------------------------------------------------------------------------------


def contestants(name: str, dtype: Any) -> dict[str, Function]:
    """Return minigrad's function, NumPy's (or SciPy's) and JAX's, where it is installed."""
    arity = 1 + (name in PAIRS)
    lanes = 16 if dtype == np.float32 else 8
    found: dict[str, Function] = {"minigrad": compiled(FUNCTIONS[name], arity, dtype, lanes), "NumPy": by_numpy(name)}
    try:
        jax = by_jax(name)
    except ModuleNotFoundError:
        return found
    return found if jax is None else {**found, "JAX": jax}


def measure(name: str, dtype: Any, quick: bool) -> dict[str, float]:
    """Return each contestant's greatest error."""
    functions = contestants(name, dtype)
    if dtype == np.float32 and name not in PAIRS:
        every = STEP if name not in SLOW else PEERS_STEP
        found = {who: worst_of_singles(f, by_numpy(name), 9973 if quick else every if who == "minigrad" else PEERS_STEP)
                 for who, f in functions.items()}
        if name in SLOW and not quick:
            own = compiled(FUNCTIONS[name], 1, np.float64, 8)
            found["minigrad"] = max(found["minigrad"], worst_of_singles(functions["minigrad"], own, STEP))
        return found
    n = 60_000 if name in SPECIAL[2:] else 6 << (16 if quick else 20)
    xs = operands(name, n, dtype)
    with np.errstate(all="ignore"):
        want = by_numpy(name)(*(x.astype(np.float64) for x in xs)) if dtype == np.float32 else right_values(name, xs)
        scale = terms(name, xs, want)
        return {who: float(errors(f(*xs), want, scale).max()) for who, f in functions.items()}


def title(name: str, dtype: Any) -> str:
    """Return the beginning of a target's text."""
    return f"last places {name} is off in {np.dtype(dtype).name} at worst"


def run(quick: bool, names: Sequence[str]) -> harness.Result:
    """Measure functions in both precisions; minigrad's error has a bound, the others' stand beside it."""
    if hasattr(os, "nice"):
        os.nice(10)
    targets = []
    for name in names:
        for dtype in FLOATS:
            found = measure(name, dtype, quick)
            others = ", ".join(f"{who} {error:.3g}" for who, error in found.items() if who != "minigrad")
            targets.append(harness.Target(f"{title(name, dtype)} ({others})", found["minigrad"], BOUND, at_least=False))
            print(targets[-1], flush=True)
    return harness.Result([], targets, {
        "float32": f"1 of {STEP} of the 2**32 operands, for others 1 of {PEERS_STEP}; pairs are sampled",
        "trigamma": f"in float32 against minigrad's float64, and at 1 of {PEERS_STEP} operands against SciPy's",
        "float64": "sampled; against 80 bits, or mpmath's digits for the error and gamma functions",
        "lgamma, digamma": "of negative numbers in last places of the greatest of the result, that of -x, and 1",
        "logaddexp": "in last places of the result, or of the terms max and log1p(exp(-|x - y|)) where they cancel"})


def merged(old: Mapping[str, Any], result: harness.Result, names: Sequence[str]) -> tuple[harness.Result, list[Any]]:
    """Return a result with the functions of an older file that it lacks, and the conditions of these."""
    targets, kept = [], []
    for name in FUNCTIONS:
        for text in (title(name, dtype) for dtype in FLOATS):
            targets += [t for t in result.targets if t.text.startswith(text)]
            if name not in names:
                rows = [t for t in old["targets"] if t["text"].startswith(text)]
                targets += [harness.Target(**{k: v for k, v in row.items() if k != "met"}) for row in rows]
                kept += [name] * (bool(rows) and name not in kept)
    return harness.Result([], targets, result.notes), harness.earlier(old, kept)


def main() -> None:
    """Measure all functions or some, and write the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy")
    parser.add_argument("--quick", action="store_true", help="few operands, and no file written")
    parser.add_argument("--only", nargs="+", choices=FUNCTIONS, metavar="NAME", help=f"of {', '.join(FUNCTIONS)}")
    options = parser.parse_args()
    os.environ["MINIGRAD_CACHE_DIR"] = ""  # no code of an earlier run
    path, names = harness.RESULTS / "accuracy.json", options.only or tuple(FUNCTIONS)
    result, earlier = run(options.quick, names), []
    if not options.quick:
        if options.only and path.exists():
            result, earlier = merged(json.loads(path.read_text()), result, names)
        path.write_text(harness.document("accuracy", result, {"earlier": earlier}), encoding="utf-8")


if __name__ == "__main__":
    main()
