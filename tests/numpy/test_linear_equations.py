"""The matrix exponential, against SciPy's."""

import numpy as np
import pytest
import scipy.linalg

import minigrad as mg
import minigrad.numpy as mnp

from .conform import call, check_call, run_traced

rng = np.random.default_rng(5)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_expm_is_scipys(scale):
    a = rng.normal(size=(2, 3, 3)) * scale
    a = a - np.swapaxes(a, -1, -2) if scale > 1 else a  # rotations, whose exponential does not overflow
    have, want = run_traced(lambda a: [mnp.linalg.expm(a)], a)[0], scipy.linalg.expm(a)
    np.testing.assert_allclose(have, want, rtol=1e-11, atol=1e-12)
    if scale == 1.0:
        check_call(scipy.linalg.expm, call(a[0]), traced=mnp.linalg.expm)


def test_expm_overflows_to_nan_and_is_exact_at_zero():
    zero = np.zeros((2, 2))
    np.testing.assert_allclose(run_traced(lambda a: [mnp.linalg.expm(a)], zero)[0], np.eye(2), rtol=1e-15)
    np.testing.assert_allclose(mg.grad(lambda a: mnp.linalg.expm(a)[0, 1])(zero), [[0, 1], [0, 0]], atol=1e-15)
    assert np.isnan(run_traced(lambda a: [mnp.linalg.expm(a)], np.eye(2) * 1e7)[0]).all()
