"""Formats of numbers: digits and units at the borders between them."""

import math

import pytest

from minigrad.report import formatting


@pytest.mark.parametrize(("value", "text"), [
    (0, "0"), (0.012345, "0.0123"), (1.0, "1.00"), (9.996, "10.0"), (1234.5, "1,230"), (-5.678, "-5.68"),
    (math.inf, "inf"), (math.nan, "nan")])
def test_significant_digits(value, text):
    assert formatting.significant(value) == text


@pytest.mark.parametrize(("value", "text"), [
    (1.5, "1.50 s"), (0.9996, "1.00 s"), (0.0123, "12.3 ms"), (4.56e-6, "4.56 µs"), (7e-10, "0.700 ns")])
def test_seconds(value, text):
    assert formatting.seconds(value) == text


def test_spans_share_a_unit_where_they_can():
    assert formatting.span(0.00123, 0.00456) == "1.23 – 4.56 ms"
    assert formatting.span(0.0009, 0.002) == "900 µs – 2.00 ms"


@pytest.mark.parametrize(("value", "text"), [(999, "999 B"), (1000, "1.00 kB"), (2_500_000, "2.50 MB"),
                                             (1.25e10, "12.5 GB")])
def test_memory(value, text):
    assert formatting.memory(value) == text


@pytest.mark.parametrize(("value", "text"), [(17, "17"), (9999, "9,999"), (12_345, "12.3 k"), (1.5e9, "1.50 G"),
                                             (2.5, "2.50")])
def test_counts(value, text):
    assert formatting.count(value) == text


def test_relative_differences():
    assert formatting.relative(0.0) == "0"
    assert formatting.relative(2.14e-7) == "2.1e-07"
