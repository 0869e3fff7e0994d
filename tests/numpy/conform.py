"""Checks that a traced function computes what NumPy computes: values, dtypes, batches and derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optree
import pytest

import minigrad as mg
from minigrad import interpreters
from minigrad.errors import MinigradError

TOLERANCE = {"float16": 2e-2, "float32": 2e-5, "float64": 1e-10}


@dataclass(frozen=True)
class Call:
    """One call: every ndarray among the arguments is traced, what else there is stays as it is.

    `smooth` says that finite differences make sense at these arguments.
    """

    args: tuple
    kwargs: dict = field(default_factory=dict)
    smooth: bool = True

    def __repr__(self) -> str:
        def show(x: Any) -> str:
            return f"{x.dtype}{list(x.shape)}" if isinstance(x, np.ndarray) else repr(x)

        flat = [str(optree.tree_map(show, a)).replace("'", "") for a in self.args]
        return ", ".join(flat + [f"{k}={v!r}" for k, v in self.kwargs.items()])


def call(*args: Any, smooth: bool = True, **kwargs: Any) -> Call:
    """Return a `Call`."""
    return Call(args, kwargs, smooth)


def split(case: Call) -> tuple[list[np.ndarray], Callable[[Callable[..., Any]], Callable[..., list[Any]]]]:
    """Return the arrays of a call, and what makes a function of these arrays alone out of a function."""
    leaves, tree = optree.tree_flatten((case.args, case.kwargs), none_is_leaf=True)
    places = [i for i, x in enumerate(leaves) if isinstance(x, np.ndarray)]

    def bind(function: Callable[..., Any]) -> Callable[..., list[Any]]:
        def bound(*arrays: Any) -> list[Any]:
            values = list(leaves)
            for i, a in zip(places, arrays, strict=True):
                values[i] = a
            args, kwargs = optree.tree_unflatten(tree, values)
            return optree.tree_leaves(function(*args, **kwargs))

        return bound

    return [leaves[i] for i in places], bind


def run_traced(function: Callable[..., Any], *arrays: Any) -> list[np.ndarray]:
    """Trace a function, check its graph, and evaluate it node by node."""
    graph = mg.trace(function)(*arrays)
    graph.check()
    return interpreters.evaluate(graph, [np.asarray(a) for a in arrays])


def assert_same_batch(have: Any, want: Sequence[Any], what: str = "") -> None:
    """Assert that a result of a batch, whose sizes may depend on values, is that of each example."""
    pairs = zip(have, want, strict=True) if isinstance(have, mg.Batch) else [(have, np.stack(want))]
    for own, expected in pairs:
        assert_same(own, expected, what)


def assert_same(have: Any, want: Any, what: str = "") -> None:
    """Assert equality of dtype and shape, and of values to round-off."""
    want, have = np.asarray(want), np.asarray(have)
    assert have.dtype == want.dtype, f"{what}: dtype {have.dtype}, NumPy's is {want.dtype}"
    assert have.shape == want.shape, f"{what}: shape {have.shape}, NumPy's is {want.shape}"
    tol = TOLERANCE.get(want.dtype.name, 0)
    np.testing.assert_allclose(have, want, rtol=tol, atol=tol, err_msg=what)


def quiet(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function with NumPy's floating-point warnings off."""
    with np.errstate(all="ignore"):
        return function(*args)


def check_call(function: Callable[..., Any], case: Call, traced: Callable[..., Any] | None = None) -> None:
    """Check values, dtypes and shapes; then vmap against a loop; then the gradient against finite differences."""
    arrays, bind = split(case)
    with np.errstate(all="ignore"):
        want = bind(function)(*arrays)
    ours = bind(traced or function)
    have = run_traced(ours, *arrays)
    assert len(have) == len(want)
    for h, w in zip(have, want, strict=True):
        assert_same(h, w, repr(case))
    if arrays:
        check_vmap(ours, arrays)
        if case.smooth:
            check_gradient(ours, arrays)


def varied(a: np.ndarray, k: int) -> np.ndarray:
    """Return another example like `a`: scaled floats, other elements in the same range."""
    return (a * (1 - 0.1 * k)).astype(a.dtype) if a.dtype.kind == "f" else np.roll(a, k)


def check_vmap(function: Callable[..., list[Any]], arrays: list[np.ndarray]) -> None:
    """Check vmap against a loop, with all arguments mapped and with each one alone."""
    n = len(arrays)
    for mapped in {(True,) * n, *(tuple(i == j for j in range(n)) for i in range(n))}:
        batch = [np.stack([varied(a, k) for k in range(3)]) if m else a for a, m in zip(arrays, mapped, strict=True)]
        rows = [function_of_arrays(function, [b[k] if m else b for b, m in zip(batch, mapped, strict=True)])
                for k in range(3)]
        have = mg.vmap(function, in_axes=tuple(0 if m else None for m in mapped))(*batch)
        for h, *ws in zip(have, *rows, strict=True):
            assert_same_batch(h, ws, f"vmap over {mapped}")


def function_of_arrays(function: Callable[..., list[Any]], arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Run one example through the traced function."""
    return run_traced(function, *arrays)


def check_gradient(function: Callable[..., list[Any]], arrays: list[np.ndarray]) -> None:
    """Check grad and jvp against a central difference along a random direction, in float64."""
    rng = np.random.default_rng(11)
    floats = [i for i, a in enumerate(arrays) if a.dtype == np.float64 and a.size]
    if not floats:
        return
    want = quiet(function_of_arrays, function, arrays)
    weights = [rng.normal(size=w.shape) if w.dtype == np.float64 else None for w in want]
    if all(w is None for w in weights):
        return

    def scalar(*xs: Any) -> Any:
        outs = function(*xs)
        return sum((o * w).sum() for o,
                   w in zip(outs, weights, strict=True) if w is not None) + 0.0 * np.nansum(xs[floats[0]])

    v = {i: rng.normal(size=arrays[i].shape) for i in floats}

    def at(h: float) -> float:
        return float(run_traced(scalar, *(a + h * v[i] if i in v else a for i, a in enumerate(arrays)))[0])

    h = 1e-6
    numeric = (at(h) - at(-h)) / (2 * h)
    gradient = mg.grad(scalar, tuple(floats))(*arrays)
    reverse = sum(float((g * v[i]).sum()) for i, g in zip(floats, gradient, strict=True))
    np.testing.assert_allclose(reverse, numeric, rtol=2e-6, atol=2e-7, err_msg="reverse mode against differences")

    def line(t: Any) -> Any:
        return scalar(*(a + t * v[i] if i in v else a for i, a in enumerate(arrays)))

    _, forward = mg.jvp(line, (np.array(0.0),), (np.array(1.0),))
    np.testing.assert_allclose(forward, reverse, rtol=1e-9, atol=1e-10, err_msg="forward mode against reverse mode")


def check_refused_alike(function: Callable[..., Any], case: Call) -> None:
    """Check that where NumPy raises, we raise one of our errors of a like kind, and where not, we agree."""
    arrays, bind = split(case)
    bound = bind(function)
    try:
        want = quiet(bound, *arrays)
    except (TypeError, ValueError, OverflowError, IndexError) as error:
        with pytest.raises((MinigradError, type(error))):
            run_traced(bound, *arrays)
        return
    for h, w in zip(run_traced(bound, *arrays), want, strict=True):
        assert_same(h, w, repr(case))
