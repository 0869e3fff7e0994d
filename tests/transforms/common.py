"""What the tests of the transforms share."""

import numpy as np
import optree


def close(have, want, rtol=1e-9, atol=1e-11):
    """Assert equal pytrees: structure, shapes, and values to round-off."""
    assert optree.tree_structure(have) == optree.tree_structure(want)
    for h, w in zip(optree.tree_leaves(have), optree.tree_leaves(want), strict=True):
        assert np.shape(h) == np.shape(w)
        np.testing.assert_allclose(h, w, rtol=rtol, atol=atol)


def stacked(results):
    """Return a list of equal pytrees as one, its leaves stacked."""
    return optree.tree_map(lambda *xs: np.stack(xs), *results)


def slope(f, x, v, h=1e-6):
    """Return the central difference of a scalar function of an array along a direction."""
    return (f(x + h * v) - f(x - h * v)) / (2 * h)
