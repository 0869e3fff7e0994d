"""The order of boxes within layers."""

import pytest

from minigrad.draw.layout import arrange
from minigrad.draw.order import fewest_crossings


def ordered(layers, links):
    """Return the layers in order, given the links between them."""
    count = sum(map(len, layers))
    above, below = ([[e[k] for e in links if e[1 - k] == v] for v in range(count)] for k in (0, 1))
    return fewest_crossings(layers, links, above, below)


def crossings(layers, links):
    """Return the number of pairs of links that cross, by trying all pairs."""
    place = {v: i for layer in layers for i, v in enumerate(layer)}
    rank = {v: r for r, layer in enumerate(layers) for v in layer}
    return sum(rank[a] == rank[c] and (place[a] - place[c]) * (place[b] - place[d]) < 0
               for i, (a, b) in enumerate(links) for c, d in links[:i])


def test_crossings_that_can_be_avoided_are():
    edges = [(0, 7), (1, 6), (2, 5), (3, 4)]
    place = arrange([(60, 40)] * 8, edges, [0] * 4 + [1] * 4)
    assert sorted(range(4), key=place.x.__getitem__) == sorted(range(4), key=lambda u: place.x[7 - u])


@pytest.mark.parametrize(("layers", "links", "fewest"), [
    ([[0, 1], [2, 3]], [(0, 3), (1, 2)], 0),
    ([[0, 1], [2, 3]], [(0, 2), (0, 3), (1, 2), (1, 3)], 1),  # K(2, 2)
    ([[0, 1, 2], [3, 4, 5]], [(u, v) for u in range(3) for v in range(3, 6)], 9),  # K(3, 3)
    ([[0], [1, 2, 3], [4, 5, 6], [7]], [(0, 1), (0, 2), (0, 3), (1, 6), (2, 5), (3, 4), (4, 7), (5, 7), (6, 7)], 0),
    ([[0, 1, 2], [3, 4, 5]], [(0, 5), (1, 3), (2, 4)], 0),
    ([[], []], [], 0),
    # The minimum over all orders, found with sweeps upwards, in both directions by their own neighbours, and exchanges:
    ([[0, 1, 2], [3, 4, 5, 6], [7, 8, 9]],
     [(0, 4), (0, 6), (1, 4), (1, 5), (1, 6), (2, 6), (5, 8), (6, 7)], 1),
    ([[0, 1, 2], [3, 4, 5], [6, 7, 8]],
     [(0, 5), (1, 3), (1, 4), (2, 4), (3, 6), (3, 7), (3, 8), (4, 6), (5, 6)], 0),
    ([[0, 1, 2], [3, 4, 5, 6], [7, 8, 9]],
     [(0, 4), (0, 5), (0, 6), (1, 3), (2, 3), (2, 4), (3, 7), (3, 8), (4, 7), (5, 7), (5, 8)], 2),
])
def test_fewest_crossings(layers, links, fewest):
    result = ordered(layers, links)
    assert [sorted(layer) for layer in result] == [sorted(layer) for layer in layers]
    assert crossings(result, links) == fewest


def test_layers_without_crossings_keep_their_order():
    layers, links = [[3, 1, 0], [4, 2, 5]], [(3, 4), (1, 2), (0, 5)]
    assert ordered(layers, links) == layers
