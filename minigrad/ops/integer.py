"""Elementwise functions of integers, and `nextafter`.

Only `nextafter` has a derivative, which is that of its first operand.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..families import elementwise
from ..primitive import Sample, on_host


def _by_numpy(function: np.ufunc) -> Callable[..., np.ndarray]:
    """Return the evaluation of a NumPy function that the array API standard lacks."""
    return lambda xp, *xs: function(*xs) if xp is np else xp.asarray(function(*map(on_host, xs)))


left_shift = elementwise("left_shift", lambda xp, x, y: xp.bitwise_left_shift(x, y), "{0} << {1}", domain="iu")
right_shift = elementwise("right_shift", lambda xp, x, y: xp.bitwise_right_shift(x, y), "{0} >> {1}", domain="iu")
gcd = elementwise("gcd", _by_numpy(np.gcd), "gcd({0}, {1})", domain="iu")
lcm = elementwise("lcm", _by_numpy(np.lcm), "lcm({0}, {1})", domain="iu")
nextafter = elementwise("nextafter", lambda xp, x, y: xp.nextafter(x, y), "nextafter({0}, {1})",
                        d=lambda out, x, y: (1, 0),
                        samples=lambda: [Sample((np.array([0.5, 1.5, -2.0]), np.array([3.0, -1.0, 0.0])))])
