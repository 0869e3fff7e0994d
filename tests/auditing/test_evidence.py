"""The words for numbers of units, and the factors that have a cause."""

import numpy as np

from minigrad.auditing.evidence import explained, named_units, ranges

from .evidence import ONES, evidence


def test_ranges():
    assert ranges([0, 1, 2, 3, 7]) == "0–3, 7"
    assert ranges([4, 5]) == "4, 5"
    assert ranges([]) == ""
    assert ranges(np.arange(0, 60, 2)).endswith("… (30 in all)")
    assert named_units(np.array([2]), "token") == "token 2"


def test_factors_have_their_causes():
    found = evidence(ONES / 6)
    assert explained(-0.1, 6, None, found) == "an update, against the gradient, with the rate 0.1"
    assert explained(6.0, 6, None, found) == "the division by 6 is missing"
    assert explained(1 / 6, 6, None, found) == "divided by 6 twice"
    assert explained(2.0**10, 6, None, found) == "a loss scale of 2^10 left in"
    assert explained(0.5, 6, 12.0, found).startswith("padding counts in the denominator (12 instead of 6)")
    assert explained(1.7, 6, None, found) == ""
