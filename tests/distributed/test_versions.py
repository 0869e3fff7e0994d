"""Versions of shared operands: a new one for each change, whoever made it."""

import numpy as np

from minigrad.distributed.versions import Versions


def test_a_change_has_a_version_of_its_own():
    versions = Versions()
    x = np.array([1.0, np.nan])
    first, new = versions.of("f", 0, x)
    assert new
    assert versions.of("f", 0, x) == (first, False)
    assert versions.of("f", 0, x.copy()) == (first, False)
    x[0] = 2.0  # in place
    second, new = versions.of("f", 0, x)
    assert new
    assert second != first


def test_bytes_are_compared():
    versions = Versions()
    first, _ = versions.of("f", 0, np.zeros(3))
    assert versions.of("f", 0, -np.zeros(3)) != (first, False)
    assert versions.of("f", 0, np.zeros(3, np.int64))[1]
    assert versions.of("f", 0, np.zeros((3, 1), np.int64))[1]
    strided = np.arange(12.0).reshape(3, 4)[:, ::2]
    second, _ = versions.of("f", 0, strided)
    assert versions.of("f", 0, strided.copy()) == (second, False)


def test_places_programs_and_functions_are_apart():
    one, other, x = Versions(), Versions(), np.zeros(3)
    names = [one.of("f", 0, x), one.of("f", 1, x), one.of("g", 0, x), other.of("f", 0, x)]
    assert all(new for _, new in names)
    assert len({name for name, _ in names}) == 4
