"""Differences with values at their ends."""

import numpy as np

from .conform import call, check_call

rng = np.random.default_rng(5)
M = rng.normal(size=(3, 4))


def test_diff_with_ends():
    for options in ({"prepend": 0.5}, {"append": M[:, :2].copy(), "prepend": 1}, {"append": 2.0, "axis": 0, "n": 2}):
        check_call(np.diff, call(M, **options))
    check_call(np.diff, call(np.arange(4), prepend=0.5))
