"""Strided, broadcast and reversed views in machine code, against the NumPy backend."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

import minigrad as mg
from minigrad import backends, interpreters
from minigrad.graph import Graph
from tests.passes.programs import input_, node
from tests.passes.test_random import close


def agree(f, *arguments):
    """Compare what machine code returns with what NumPy does."""
    have, want = (mg.compile(f, backend=backend)(*arguments) for backend in ("native", "numpy"))
    assert len(have) == len(want)
    for a, b in zip(have, want, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_gathers_of_broadcast_rows():
    def f(x, i):
        columns, number = np.broadcast_to(x[:, None], (5, 20)), np.broadcast_to(x.sum(), (5, 20))
        return columns[i] * 2, columns.T[i], number[i] + number

    agree(f, np.arange(5.0), np.array([4, 0, -1, 2, 2]))


def test_axes_of_one_element_with_steps():
    agree(lambda x: (x[4:13, 0:1:2], 2 * x[4:13, 0:1:2]), np.arange(16.0)[:, None])


@pytest.mark.parametrize("backend", ["native", "numpy"])
def test_values_read_forward_and_reversed_or_transposed(backend):
    x = np.random.default_rng(0).normal(size=(300, 300))
    for f in (lambda x: np.exp(x) - np.exp(x)[::-1], lambda x: np.exp(x) - np.exp(x).T):
        np.testing.assert_allclose(mg.compile(f, backend=backend)(x), f(x), rtol=1e-12, atol=1e-12)


@st.composite
def views(draw):
    """Draw a function that takes an array of (4, 3, 5) through some views, as nodes."""
    steps = draw(st.lists(st.integers(0, 2**31), min_size=1, max_size=5))

    def apply(x):
        for seed in steps:
            rng = np.random.default_rng(seed)
            kind = rng.integers(0, 5)
            if kind == 0:
                x = node("transpose", x, perm=tuple(rng.permutation(x.ndim).tolist()))
            elif kind == 1:
                start = [int(rng.integers(0, n)) for n in x.shape]
                stop = [int(rng.integers(a + 1, n + 1)) for a, n in zip(start, x.shape, strict=True)]
                x = node("slice", x, start=tuple(start), stop=tuple(stop),
                         step=tuple(rng.integers(1, 3, x.ndim).tolist()))
            elif kind == 2:
                x = node("flip", x, axes=tuple(a for a in range(x.ndim) if rng.random() < 0.5) or (0,))
            elif kind == 3 and x.ndim < 5:
                at = int(rng.integers(0, x.ndim + 1))
                x = node("expand", x, shape=(*x.shape[:at], 3, *x.shape[at:]), axes=(at,))
            else:
                x = node("reshape", x, shape=(int(np.prod(x.shape)),) if x.ndim > 2 else (*x.shape, 1))
        return x

    return apply


@given(views(), views(), st.sampled_from(["f4", "f8", "i4", "?"]), st.integers(0, 2))
def test_any_strides(first, second, dtype, inside):
    x = input_(4, 3, 5, dtype=dtype)
    value = x
    if inside:
        value = node("logical_not", x) if dtype == "?" else x + x
    a, b = first(value), second(value if inside < 2 else x)
    outputs = [node("stop_gradient", v) for v in (a, b)]
    if a.shape == b.shape:
        outputs.append(node("eq", a, b))
    if dtype != "?":
        outputs += [node("sum", v, axes=(v.ndim - 1,)) for v in (a, b)]
        outputs += [node("max", v, axes=tuple(range(0, v.ndim, 2))) for v in (a, b)]
    graph = Graph((x,), tuple(outputs))
    arrays = [(np.arange(60).reshape(4, 3, 5) % 7 - 3).astype(dtype)]
    close(backends.build(graph, "native")(arrays, {}), interpreters.evaluate(graph, arrays))
