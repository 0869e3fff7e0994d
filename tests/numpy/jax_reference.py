"""What JAX computes for the table of calls, in float64: values and vector-Jacobian products, stored as data.

``python -m tests.numpy.jax_reference`` brings ``jax_reference.json`` up to date: it computes what is not stored, and
with ``--all`` everything, which takes minutes. `test_jax_reference` compares minigrad with that file and needs no JAX.
A call is known by a checksum of its arguments, so a changed call is noticed.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optree
import scipy.special as sp

import minigrad.numpy as mnp
from minigrad import special
from minigrad.numpy.dispatch import SCIPY
from minigrad.traced_array import TABLE

from . import test_special as scipys
from .conform import Call, call, quiet, split
from .test_table import CASES, DOMAIN, SHAPE_ONLY, SHAPES, SPECIAL, UFUNCS, case_name, values

FILE = Path(__file__).with_suffix(".json")
FLOATS = (np.float16, np.float32)

NO_SUCH = "JAX has no such function"
SINGLE = "a float32 call: the reference is of float64"
REFUSES = "JAX refuses the call"
OTHER = "JAX's value is another than NumPy's"
UNEXPLAINED = "unexplained"
NO_VALUE = "its result is no value"
SIGNS = "the signs of the vectors are LAPACK's choice, which differs between builds of it"
UNSIGNED = "it adds up and multiplies uint8 in uint8"
IN_SINGLE = "of bools and small integers it computes in float32"
DIVISION = "of bools, a division by zero has another value"
MIRRORED = "of a matrix that is not symmetric, it takes the symmetric part"
DIFFERS = {
    **dict.fromkeys(("cholesky", "eigvalsh", "pinv", "svd"), MIRRORED),
    "astype": "a negative number as uint8 is 0 there", "conjugate": "of bools it is bool, and int8 in NumPy",
    "cumprod": UNSIGNED, "cumulative_prod": UNSIGNED, "cumsum": UNSIGNED, "divide": DIVISION, "floor_divide": DIVISION,
    "fmod": DIVISION, "ldexp": "it flushes subnormal numbers to zero",
    "lstsq": "it returns residuals where NumPy returns none", "matrix_rank": "its rtol is not relative to the largest",
    "mean": IN_SINGLE, "std": IN_SINGLE, "var": IN_SINGLE, "modf": "the fraction of infinity is nan there",
    "partition": "the order within a part is free", "reciprocal": "of integers it is a float",
    "unwrap": "of integers it divides otherwise"}


@dataclass(frozen=True)
class Row:
    """One call of the table: NumPy's (or SciPy's) function, what is traced for it, and the arguments."""

    name: str
    function: Callable[..., Any]
    traced: Callable[..., Any]
    case: Call

    @property
    def label(self) -> str:
        """The call in words, the same in every process."""
        return re.sub(r" at 0x\w+|\s+", lambda m: " " if m[0].isspace() else "", repr(self.case))

    @property
    def checksum(self) -> str:
        """A checksum of the arguments, to six digits: the last ones are those of the machine's BLAS."""
        text = [self.name, self.label]
        for a in split(self.case)[0]:
            text += [str(a.dtype), str(a.shape), *(f"{x:.6g}" for x in a.ravel().tolist())]
        return hashlib.sha256(" ".join(text).encode()).hexdigest()[:12]


def rows() -> Iterator[Row]:
    """Yield every call of the table."""
    for function in sorted(TABLE, key=case_name):
        name = case_name(function)
        traced = getattr(mnp, name) if name in SHAPE_ONLY else function
        for case in [*CASES.get(name, ()), *(ufunc_calls(function) if function in UFUNCS else ())]:
            yield Row(name, function, traced, case)
    x, y = scipys.X, scipys.Y
    for name in sorted(SCIPY):
        function = getattr(sp, name)
        if function not in TABLE:
            z = scipys.DOMAIN.get(name, x)
            calls = [call(z), call(z[0, 0].copy())] if function.nin == 1 else [
                call(y, y[:, :1] + 0.3), call(y, 1.2 * y[0]), call(y, 2.0), call(2, y)]
            yield from (Row(f"special.{name}", function, function, c) for c in calls)
    m = np.concatenate([x, y])
    for name, calls in {
            "logsumexp": [*[call(m, axis=a) for a in (None, 0, -1, (0, 1))], call(m, axis=1, keepdims=True),
                          call(m, axis=1, b=np.array([1.0, 2.0, 0.5]))],
            "softmax": [call(m, axis=a) for a in (0, -1)], "log_softmax": [call(m, axis=a) for a in (0, -1)],
            "polygamma": [call(n, 3 * y) for n in range(4)], "multigammaln": [call(3 + y[0, 0], 3)]}.items():
        yield from (Row(f"special.{name}", getattr(sp, name), getattr(special, name), c) for c in calls)


def ufunc_calls(ufunc: np.ufunc) -> Iterator[Call]:
    """Yield the calls of a ufunc that NumPy takes: shapes, dtypes, kinks, and what is not finite."""
    floats = any("d" in t for t in ufunc.types)
    calls = [call(*[values("f8" if floats else "i8", s, i) for i, s in enumerate(pair[:ufunc.nin])])
             for pair in SHAPES]
    calls += [call(*[values(d, (2, 3)[i:], i) for i, d in enumerate(ds[:ufunc.nin])])
              for ds in (("?", "?"), ("i8", "i8"), ("i8", "f8"))
              if ufunc not in (np.matmul, np.vecdot) or "?" not in ds]  # which minigrad refuses of bools
    if floats:
        finite = SPECIAL[np.isfinite(SPECIAL)]
        for points in (finite, SPECIAL):
            grid = [points] if ufunc.nin == 1 else list(map(np.ravel, np.meshgrid(points, points)))
            calls += [call(*grid, smooth=False)]
        if ufunc in DOMAIN:
            calls.append(call(*[DOMAIN[ufunc], DOMAIN[ufunc][0] / 2][:ufunc.nin]))
    for case in calls:
        try:
            quiet(ufunc, *case.args)
        except (TypeError, ValueError):
            continue
        yield case


def cotangent(shape: tuple[int, ...]) -> np.ndarray:
    """Return the cotangent of a result, nothing random about it."""
    return np.cos(np.arange(np.prod(shape, dtype=int), dtype=float)).reshape(shape)


def differentiable(row: Row, arrays: list[np.ndarray]) -> list[bool]:
    """Say which arrays a call is differentiated by: none of a ufunc's at infinity and NaN."""
    if isinstance(row.function, np.ufunc) and not all(np.isfinite(a).all() for a in arrays):
        return [False] * len(arrays)
    return [a.dtype == np.float64 and a.size > 0 for a in arrays]


def encode(x: Any) -> str:
    """Return an array in ASCII, exactly: its dtype, its shape and its little-endian bytes."""
    x = np.asarray(x)
    x = x.astype({"f": "<f8", "b": "?"}.get(x.dtype.kind, "<i8"))
    return f"{x.dtype.str[1:]} {list(x.shape)} {base64.b64encode(x.tobytes()).decode()}"


def decode(text: str) -> np.ndarray:
    """Return the array that `encode` was given."""
    dtype, rest = text.split(" ", 1)
    shape, data = rest.rsplit(" ", 1)
    dtype = np.dtype(dtype).newbyteorder("<")
    return np.frombuffer(base64.b64decode(data), dtype).reshape(json.loads(shape))


def same(have: Any, want: Any) -> bool:
    """Say whether two results are equal to round-off, relative to the largest of their elements."""
    have, want = np.asarray(have), np.asarray(want)
    if have.shape != want.shape or (have.dtype.kind == "b") != (want.dtype.kind == "b"):
        return False
    finite = np.abs(want[np.isfinite(want)]) if want.dtype.kind == "f" else ()
    return np.allclose(have, want, rtol=1e-9, atol=1e-11 * max([1.0, *finite]), equal_nan=True)


class LeftOut(Exception):
    """A call that has no reference, and the reason."""


def theirs(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return JAX's function of the same name and module."""
    import jax

    name = function.__name__
    spaces = {"numpy.linalg": [jax.numpy.linalg], "numpy.fft": [jax.numpy.fft]}.get(
        getattr(function, "__module__", ""), [jax.numpy])
    if getattr(np, name, None) is not function and getattr(sp, name, None) is function:
        spaces = [jax.scipy.special, jax.nn, jax.numpy]
    for space in spaces:
        if hasattr(space, "digamma" if name == "psi" else name):
            return getattr(space, "digamma" if name == "psi" else name)
    raise LeftOut(NO_SUCH)


def reference(row: Row) -> dict[str, Any]:
    """Return what JAX computes for one call; raise `LeftOut` where that is no reference."""
    import jax

    function = theirs(row.function)
    arrays, bind = split(row.case)
    want = [np.asarray(w) for w in quiet(bind(row.function), *arrays)]
    if any(a.dtype in FLOATS for a in [*arrays, *want]):
        raise LeftOut(SINGLE)
    if any(w.dtype.kind not in "?biuf" for w in want) or not want:
        raise LeftOut(NO_VALUE)
    if row.name in ("eigh", "svd") and len(want) > 1:
        raise LeftOut(SIGNS)
    moving = differentiable(row, arrays)

    lists = False

    def bound(*floats: Any) -> list[Any]:
        given = iter(floats)
        return bind(swapped)(*(next(given) if m else a for a, m in zip(arrays, moving, strict=True)))

    def swapped(*args: Any, **kwargs: Any) -> Any:
        args = optree.tree_map(in_jax, args)
        if lists:
            args = [np.asarray(a) if isinstance(a, list) and not any(map(callable, a)) else a for a in args]
        return function(*args, **kwargs)

    def in_jax(x: Any) -> Any:
        return theirs(x) if callable(x) and not isinstance(x, type) and getattr(np, getattr(
            x, "__name__", ""), None) is x else x

    def smooth(*floats: Any) -> list[Any]:
        return [o for o, w in zip(bound(*floats), want, strict=True) if w.dtype.kind == "f"]

    floats = [a for a, m in zip(arrays, moving, strict=True) if m]
    try:
        try:
            have = [np.asarray(o) for o in bound(*floats)]
        except TypeError as error:
            lists = "<class 'list'>" in str(error)  # where NumPy takes a list, JAX asks for an array
            have = [np.asarray(o) for o in bound(*floats)]
        pulled: list[Any] = []
        if floats and any(w.dtype.kind == "f" and w.size for w in want):
            outs, pull = jax.vjp(smooth, *floats)
            pulled = [np.asarray(g) for g in pull([cotangent(o.shape) for o in outs])]
    except (TypeError, ValueError, NotImplementedError, AttributeError, IndexError, jax.errors.JAXTypeError) as error:
        first = re.sub(r" at 0x\w+|0x\w+", "", str(error).strip().split("\n")[0])[:100]
        raise LeftOut(f"{REFUSES}: {type(error).__name__}: {first}") from None
    if len(have) != len(want) or not all(map(same, have, want)):
        reason = DIFFERS.get(row.name)
        raise LeftOut(f"{OTHER}: {reason}" if reason else f"{UNEXPLAINED}: {have}, {want}")
    slopes = iter(pulled)
    return {"call": row.label, "values": [encode(h) for h in have],
            "vjp": [encode(next(slopes)) if m else None for m in moving] if pulled else None}


def generate(chosen: Iterable[Row]) -> dict[str, Any]:
    """Return the references of some calls, and what was left out for which reason."""
    import jax

    entries: dict[str, dict[str, Any]] = {}
    left_out: dict[str, dict[str, list[str]]] = {}
    with jax.enable_x64(True):
        for row in chosen:
            try:
                entries.setdefault(row.name, {})[row.checksum] = reference(row)
            except LeftOut as reason:
                left_out.setdefault(str(reason), {}).setdefault(row.name, []).append(row.checksum)
    return {"entries": {k: v for k, v in entries.items() if v}, "left_out": left_out}


def write(anew: bool = False) -> None:
    """Write the file, one line for each call, and say how many there are; keep what this JAX gave, if not `anew`."""
    import jax

    stored = json.loads(FILE.read_text()) if FILE.exists() else {}
    known = {} if anew or stored.get("jax") != jax.__version__ else stored["entries"]
    everything = list(rows())
    made = generate(row for row in everything if row.checksum not in known.get(row.name, ()))
    for row in everything:
        if row.checksum in known.get(row.name, ()):
            made["entries"].setdefault(row.name, {})[row.checksum] = known[row.name][row.checksum]
    unexplained = {reason: names for reason, names in made["left_out"].items() if reason.startswith(UNEXPLAINED)}
    if unexplained:
        raise SystemExit(f"JAX's values are others than NumPy's, and `DIFFERS` does not say why: {unexplained}")
    head = {"jax": jax.__version__, "numpy": np.__version__, "date": datetime.date.today().isoformat()}
    parts = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in head.items()]
    for key, inner in made.items():
        lines = []
        for name in sorted(inner):
            calls = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in inner[name].items())
            lines.append(f" {json.dumps(name)}: {{\n{calls}}}")
        parts.append(f"{json.dumps(key)}: {{\n" + ",\n".join(lines) + "}")
    FILE.write_text("{" + ",\n".join(parts) + "}\n")
    print(counts(made))


def counts(stored: dict[str, Any]) -> str:
    """Return how much was compared and how much was left out, in words."""
    entries = [e for calls in stored["entries"].values() for e in calls.values()]
    lines = [f"{len(stored['entries'])} functions, {len(entries)} calls, {sum(e['vjp'] is not None for e in entries)} "
             "of them with derivatives"]
    total = {}
    for reason, names in stored["left_out"].items():
        known = total.setdefault(reason.partition(":")[0], [set(), 0])
        known[0].update(names)
        known[1] += sum(map(len, names.values()))
    lines += [f"left out, {reason}: {n} calls of {len(names)} functions" for reason, (names, n) in total.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    write("--all" in sys.argv)
