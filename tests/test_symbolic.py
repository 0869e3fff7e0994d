"""Polynomials of symbolic sizes: arithmetic and division."""

import copy

from minigrad.symbolic import Dim, divide, size_of

B, N = Dim.new("B"), Dim.new("N")


def test_arithmetic_agrees_with_numbers():
    sizes = {B.symbol: 3, N.symbol: 5}
    assert ((B + 2) * (N - B) - 4).value(sizes) == (3 + 2) * (5 - 3) - 4
    assert (B * N).value(sizes) == 15
    assert size_of((2, B, N)).value(sizes) == 30


def test_constants_are_plain_numbers():
    assert B - B == 0
    assert type(B - B) is int
    assert type((B + 7) - B) is int
    assert (B + 7) - B == 7


def test_equal_names_are_different_symbols():
    assert Dim.new("B") != B
    assert copy.deepcopy(B) == B


def test_division_is_exact_or_none():
    assert divide(6 * B * N, 2 * B) == 3 * N
    assert divide(B + 1, B) is None
    assert divide(B, N + 1) is None
    assert divide(B, 0) is None
    assert divide(7, 2) is None
    assert divide(8, 2) == 4


def test_hint_needs_every_symbol():
    known = Dim.new("n", hint=4)
    assert (known * known + 1).hint == 17
    assert (known * B).hint is None


def test_replace_takes_sizes():
    assert (B * N).replace({N.symbol: 2}) == 2 * B
    assert B.replace({B.symbol: N}) == N
