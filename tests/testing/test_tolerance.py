"""Tolerances: the first element outside of them, and the counts of comparisons."""

import numpy as np
import pytest

from minigrad.testing.tolerance import Seen, tolerance


def test_defaults_follow_the_roundoff():
    assert tolerance(1e-16, None, None) == (pytest.approx(1e-12), None)
    assert tolerance(1e-16, 0.5, 2.0) == (0.5, 2.0)


@pytest.mark.parametrize(("have", "want", "first"), [
    ([1.0, 2.0], [1.0, 2.0], None), ([1.0, 2.1], [1.0, 2.0], (1,)), ([1.0], [1.0, 2.0], ()),
    ([np.nan, np.inf], [np.nan, np.inf], None), ([np.nan], [1.0], (0,)), ([], [], None),
    ([[1, 2], [3, 5]], [[1, 2], [3, 4]], (1, 1))])
def test_first_difference(have, want, first):
    assert Seen((1e-3, None)).first(have, want) == first


def test_integers_are_compared_exactly():
    assert Seen((0.5, None)).first([100], [101]) == (0,)
    assert Seen((0.5, None)).first([100.0], [101.0]) is None


def test_absolute_tolerance_is_relative_to_the_scale_by_default():
    assert Seen((1e-3, None)).first([0.5, 1000.0], [0.0, 1000.0]) is None
    assert Seen((1e-3, 0.1)).first([0.5, 1000.0], [0.0, 1000.0]) == (0,)


def test_counts():
    seen = Seen((1e-1, None))
    seen.first([1.0, 2.0], [1.0, 2.1])
    seen.first([0.0], [0.0])
    assert seen.comparisons == 3
    assert seen.largest == pytest.approx(0.1 / 2.1)
