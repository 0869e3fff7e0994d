"""The stand-in for CuPy refuses what CuPy refuses, and has no function that CuPy lacks."""

import gc
import importlib.util

import numpy as np
import pytest

import minigrad as mg

from . import cupy_on_numpy
from .cupy_on_numpy import COMPAT, CUPY, LACKING, LACKING_SPECIAL, LINALG, POSITIONAL, SPECIAL

X = np.array([1.0, 2.0, 3.0])
HERE = cupy_on_numpy.asarray(X)


def test_arrays_of_the_host_are_refused():
    for f in (lambda: HERE + X, lambda: X + HERE, lambda: CUPY.sin(X), lambda: CUPY.concatenate([HERE, X]),
              lambda: HERE.__setitem__(..., X), lambda: CUPY.add(HERE, X), lambda: np.add(X, HERE)):
        with pytest.raises(TypeError, match="Unsupported type"):
            f()
    for f in (lambda: np.asarray(HERE), lambda: np.array(HERE), lambda: np.testing.assert_array_equal(HERE, HERE)):
        with pytest.raises(TypeError, match="Implicit conversion"):
            f()


def test_dtypes_are_given_by_name():
    for name in sorted(POSITIONAL):
        with pytest.raises(TypeError, match="multiple values for argument 'xp'"):
            getattr(COMPAT, name)(*[3] * POSITIONAL[name], np.float32)
    assert COMPAT.zeros(3, dtype="f4").dtype == np.float32


def test_stand_in_refuses_python_scalars_as_arrays():
    for f in (lambda: CUPY.where(False, HERE, HERE), lambda: SPECIAL.polygamma(1, HERE), lambda: CUPY.sum(1.0)):
        with pytest.raises(AttributeError, match="has no attribute 'astype'"):
            f()
    assert isinstance(CUPY.sum(HERE), cupy_on_numpy.ndarray)
    assert isinstance(HERE[0], cupy_on_numpy.ndarray)
    np.testing.assert_array_equal((2 * HERE + np.float64(1)).get(), 2 * X + 1)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4", "i8"])
def test_fresh_memory_holds_large_numbers(dtype):
    assert np.all(CUPY.empty((4,), dtype).get() > 10_000)


def test_functions_that_cupy_lacks_are_absent():
    for name in LACKING:
        assert not hasattr(CUPY, name)
    assert not hasattr(SPECIAL, "hyp1f1")


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")
def test_functions_of_the_stand_in_are_cupys():
    compat, special = pytest.importorskip("array_api_compat.cupy"), pytest.importorskip("cupyx.scipy.special")
    names = [n for n in dir(np) if not n.startswith("_") and callable(getattr(np, n)) and hasattr(COMPAT, n)]
    assert [n for n in names if not hasattr(compat, n)] == []
    assert [n for n in dir(np.linalg) if callable(getattr(np.linalg, n)) and n not in ("multi_dot", "test")
            and not n.startswith("_") and not hasattr(compat.linalg, n)] == []
    names = [n for n in mg.graph.PRIMITIVES if hasattr(SPECIAL, n)]
    assert [n for n in names if not hasattr(special, n)] == []
    assert not any(hasattr(special, n) for n in LACKING_SPECIAL)
    for name, count in POSITIONAL.items():
        with pytest.raises(TypeError):
            getattr(compat, name)(*[3] * count, np.float32)
    assert hasattr(LINALG, "eigh")


def test_memory_in_use_while_garbage_is_collected():
    """A collection within the copy of the entries deletes some of them."""
    kept, thresholds = cupy_on_numpy.POOL.alloc(8), gc.get_threshold()
    gc.set_threshold(10**6)
    try:
        for _ in range(9000):
            cycle = [cupy_on_numpy.POOL.alloc(8)]
            cycle.append(cycle)
        gc.set_threshold(gc.get_count()[0] + 100)
        assert len(cupy_on_numpy.POOL.buffers()) >= 1
    finally:
        gc.set_threshold(*thresholds)
    assert kept is not None
