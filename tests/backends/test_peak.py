"""The peak of memory outside the arena."""

import minigrad as mg
from minigrad.backends.peak import peak, type_bytes
from minigrad.graph import PRIMITIVES
from minigrad.symbolic import Dim


def test_peak_of_overlapping_pieces():
    n = Dim.new("n")
    pieces = [(0, 3, 10), (1, 1, n), (2, 5, 7), (5, 5, 2)]
    assert peak(pieces, {n.symbol: 100}, {}) == 110
    assert peak(pieces, {n.symbol: 1}, {}) == 17
    assert peak(pieces, {n.symbol: 1}, {4: 50}) == 57
    assert peak([], {}, {}) == 0


def test_bytes_of_the_arrays_of_a_node():
    graph = mg.trace(lambda x: mg.scan(lambda c, row: (c + row, c * row), x[0], x))(mg.f32[4, 3])
    (node,) = [n for n in graph.nodes if n.prim is PRIMITIVES["scan"]]
    assert type_bytes(node) == 4 * (3 + 12)
