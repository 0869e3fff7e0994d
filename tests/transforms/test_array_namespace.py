"""Results on a device are the caller's own arrays."""

import numpy as np

from minigrad.transforms.array_namespace import own


def test_shared_results_are_copied():
    given, fresh = np.arange(3.0), np.ones(2)
    view = np.arange(4.0)[:2]
    results = own([given, fresh, fresh, view], [given])
    for result, value in zip(results, [given, fresh, fresh, view], strict=True):
        np.testing.assert_array_equal(result, value)
        assert result.base is None
    assert results[0] is not given
    assert results[1] is fresh
    assert results[2] is not fresh
