"""Values of outer traces within functions that nodes hold."""

import numpy as np
import pytest

import minigrad as mg


def test_outer_values_have_slopes():
    def f(w, x):
        return mg.fori_loop(0, 3, lambda i, s: s * w + x, 1.0)  # w**3 + x (w**2 + w + 1)

    value, (dw, dx) = mg.value_and_grad(f, argnums=(0, 1))(2.0, 5.0)
    assert (value, dw, dx) == (8 + 35, 12 + 25, 7)


def test_outer_values_may_be_batched():
    f = mg.vmap(lambda w: mg.cond(w > 0, lambda x: x * w, lambda x: x - w, 10.0))
    np.testing.assert_array_equal(f(np.array([2.0, -3.0])), [20.0, 13.0])


def test_values_of_a_finished_trace_are_refused():
    kept = []
    mg.grad(lambda x: kept.append(x) or x * 2.0)(1.0)
    with pytest.raises(mg.TraceError, match="outside the function that it was traced in"):
        mg.fori_loop(0, 2, lambda i, s: s + kept[0], 1.0)
