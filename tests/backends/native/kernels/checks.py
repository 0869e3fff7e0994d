"""Checks of native steps against the reference evaluation."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from minigrad import backends, interpreters
from minigrad.backends.native.runtime import threads
from minigrad.graph import PRIMITIVES, Graph, Node
from tests.passes.programs import node

NUMBERS = ("f4", "f8", "i1", "i4", "i8", "u1", "u2", "u8")


def same(inputs, outputs, arrays, sizes=None, native=True):
    """Check outputs against the reference, bit by bit, and that Python had no part in them."""
    graph = Graph(tuple(inputs), tuple(outputs))
    program = backends.build(graph, "native")
    assert program.native or not native, str(program.stages[-1])
    assert program.source
    assert program.workspace_bytes(sizes or {}) >= 0
    with np.errstate(all="ignore"):
        wanted = interpreters.evaluate(graph, arrays, sizes or {})
    for have, want in zip(program(arrays, sizes or {}), wanted, strict=True):
        assert have.dtype == want.dtype
        assert have.shape == want.shape
        np.testing.assert_array_equal(have, want)
        if have.dtype.kind == "f":
            np.testing.assert_array_equal(np.signbit(have) & ~np.isnan(have), np.signbit(want) & ~np.isnan(want))
    return program


def random_array(rng, shape, dtype):
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, 100, shape).astype(dtype)


def any_view(rng, x: Node) -> Node:
    """Return a view of `x` of as many axes, with other strides."""
    for _ in range(rng.integers(0, 4)):
        kind = rng.integers(0, 4)
        if kind == 0:
            x = node("transpose", x, perm=tuple(rng.permutation(x.ndim).tolist()))
        elif kind == 1:
            x = node("flip", x, axes=(int(rng.integers(0, x.ndim)),))
        elif kind == 2:
            start = tuple(int(rng.integers(0, n)) for n in x.shape)
            x = node("slice", x, start=start, stop=x.shape, step=tuple(rng.integers(1, 3, x.ndim).tolist()))
        else:
            axis = int(rng.integers(0, x.ndim))
            first = tuple(1 if a == axis else n for a, n in enumerate(x.shape))
            x = node("slice", x, start=(0,) * x.ndim, stop=first, step=(1,) * x.ndim)
            shape = tuple(n for a, n in enumerate(first) if a != axis)
            x = node("expand", node("reshape", x, shape=shape), shape=(*shape[:axis], 4, *shape[axis:]), axes=(axis,))
    return x


def program_of(name, arrays, **params):
    inputs = [PRIMITIVES["input"](shape=a.shape, dtype=a.dtype) for a in arrays]
    return backends.build(Graph(tuple(inputs), (PRIMITIVES[name](*inputs, **params),)), "native")


def native(name, arrays, **params):
    program = program_of(name, arrays, **params)
    assert "python" not in program.ways, program.why
    before, found = threads.get_num_threads(), []
    try:
        for n in (1, 2, 5):
            threads.set_num_threads(n)
            (out,) = program(arrays, {})
            found.append(out)
    finally:
        threads.set_num_threads(before)
    assert all(f.tobytes() == found[0].tobytes() for f in found), "the same bits for any number of threads"
    return found[0]
