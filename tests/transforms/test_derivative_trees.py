"""Derivatives in the pytree of their values."""

import pytest

from minigrad.static import Static
from minigrad.transforms.derivative_trees import derivative_leaves

LIKE = (1.0, {"a": 2.0, "b": [3.0, None]}, Static("mean"))


@pytest.mark.parametrize(("value", "leaves"), [
    ((10, {"a": 20, "b": [30, None]}, None), [10, 20, 30]), ((None, {"a": 20, "b": None}, None), [None, 20, None]),
    ((10, None, None), [10, None, None]), (None, [None, None, None])], ids=repr)
def test_none_stands_for_any_part(value, leaves):
    assert derivative_leaves(value, LIKE) == leaves


@pytest.mark.parametrize("value", [
    (10, {"a": 20}, None), (10, [20, 30], None), (10, {"a": 20, "b": 30}, None),
    (10, {"a": 20, "b": [30, None]}, "mean"), (10, {"a": 20, "b": [30, None]})], ids=repr)
def test_other_structures_are_none(value):
    assert derivative_leaves(value, LIKE) is None
