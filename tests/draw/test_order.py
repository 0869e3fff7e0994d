"""The order of boxes within layers."""

from minigrad.draw.layout import arrange


def test_crossings_that_can_be_avoided_are():
    edges = [(0, 7), (1, 6), (2, 5), (3, 4)]
    place = arrange([(60, 40)] * 8, edges, [0] * 4 + [1] * 4)
    assert sorted(range(4), key=place.x.__getitem__) == sorted(range(4), key=lambda u: place.x[7 - u])
