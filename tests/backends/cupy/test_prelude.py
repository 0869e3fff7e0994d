"""The scalar functions of the prelude."""

import numpy as np

import minigrad as mg
from minigrad import interpreters
from minigrad.backends.cupy.program import Program

from . import programs


def test_special_values_of_floats(device):
    ends = np.array([0.0, -0.0, 1.5, -1.5, 3.0, np.inf, -np.inf, np.nan, 1e-310, 7.0, -7.0])
    x, y = (a.ravel() for a in np.meshgrid(ends, ends))

    def f(x, y):
        return [x // y, x % y, np.maximum(x, y), np.minimum(x, y), np.sign(x), np.logaddexp(x, y), x ** y, np.rint(x),
                np.abs(x), x.reshape(11, 11).max(1), x.reshape(11, 11).argmax(1), x.reshape(11, 11).argmin(0),
                np.isnan(x), np.isinf(x), np.isfinite(x), np.nextafter(x, y), x < y, mg.special.xlogy(x, y)]

    graph, arrays, sizes = programs.optimized(f, x, y)
    with np.errstate(all="ignore"):
        want = interpreters.evaluate(graph, arrays, sizes)
    for k, (have, w) in enumerate(zip(programs.call(Program(graph, device=device), arrays, sizes), want, strict=True)):
        np.testing.assert_allclose(have, w, rtol=1e-14, atol=0, err_msg=str(k))
        if have.dtype.kind == "f" and k < 10 and k != 6:
            np.testing.assert_array_equal(np.signbit(have)[~np.isnan(w)], np.signbit(w)[~np.isnan(w)], err_msg=str(k))
