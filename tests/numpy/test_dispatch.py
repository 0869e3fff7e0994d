"""The table's functions refuse ``out=``; the namespace of traced arrays."""

import inspect

import numpy as np
import pytest

import minigrad as mg
import minigrad.numpy as mnp
from minigrad.traced_array import TABLE

WITH_OUT = {f"{f.__module__}.{f.__name__}": ours for f, ours in TABLE.items()
            if not isinstance(f, np.ufunc) and "out" in inspect.signature(ours).parameters}
X, BUFFER = np.ones((2, 3)), np.zeros((2, 3))


@pytest.mark.parametrize("name", sorted(WITH_OUT))
def test_every_function_refuses_out(name):
    with pytest.raises(mg.TraceError, match=r"^test_dispatch\.py:\d+: .*out=.*use the result"):
        mg.trace(lambda x: WITH_OUT[name](x, out=BUFFER))(X)
    assert not BUFFER.any()


@pytest.mark.parametrize("f", [
    lambda x: np.concatenate([x, x], out=BUFFER), lambda x: np.clip(x, 0, 1, BUFFER), lambda x: x.clip(0, 1, BUFFER),
    lambda x: x.sum(0, None, BUFFER), lambda x: x.cumsum(0, out=BUFFER), lambda x: mnp.add(x, x, out=BUFFER),
    lambda x: mnp.stack([x, x], out=BUFFER), lambda x: np.add(x, x, out=BUFFER)])
def test_out_by_name_position_and_namespace(f):
    with pytest.raises(mg.TraceError, match=r"^test_dispatch\.py:\d+: .*out="):
        mg.trace(f)(X)


def test_out_of_none_is_allowed():
    np.testing.assert_array_equal(mg.compile(lambda x: np.sum(x, 0, None, None))(X), X.sum(0))


def test_ndmin_adds_axes_in_front():
    assert mg.trace(lambda x: mnp.array(x, ndmin=4))(X).outputs[0].shape == (1, 1, 2, 3)


def test_namespace_of_a_traced_array():
    assert mg.trace(lambda x: x.__array_namespace__().sin(x))(np.ones(3)).count("sin") == 1
    assert mnp.float32 is np.float32
    assert mnp.pi == np.pi
    assert "einsum" in dir(mnp)
    with pytest.raises(AttributeError):
        mnp.__no_such__  # noqa: B018
    with pytest.raises(AttributeError):
        mnp.no_such_function  # noqa: B018


def test_functions_that_share_a_meaning_are_numpys_own_elsewhere():
    """On ndarrays `array` copies, as NumPy's does, though it means `asarray` on traced values, which never change."""
    assert mnp.asarray(X) is X
    copied = mnp.array(X)
    copied[0] = 5.0
    assert X[0, 0] == 1.0
    assert mnp.require(X, requirements="F").flags.f_contiguous
    assert mnp.array.__name__ == "array"
