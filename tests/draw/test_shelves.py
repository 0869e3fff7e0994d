"""Rows of boxes without edges to the rest of a drawing."""

from minigrad.draw import shelves


def test_detached_columns():
    edges = [(0, 2), (2, 4), (1, 5), (6, 7)]
    assert shelves.detached(edges, [0, 1, 1, 0, 2, 3, 2, 3]) == ([(3,)], [(1, 5), (6, 7)])
    assert shelves.detached([], [0]) == ([], [])


def test_shelves_wrap_at_the_width():
    corners, height = shelves.shelves([(0,), (1, 2), (3,)], [(10, 5), (20, 5), (10, 5), (10, 5)], 35, 3, 2)
    assert corners == {0: (0, 0), 1: (13, 0), 2: (18, 7), 3: (0, 14)}
    assert height == 19
