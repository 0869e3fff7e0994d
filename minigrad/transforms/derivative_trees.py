"""Derivatives in the pytree of their values, with None for zeros in the place of any part."""

from __future__ import annotations

from typing import TypeAlias

import optree

from ..graph import PyTree

Leaf: TypeAlias = object  # an array, or None for zeros


def derivative_leaves(value: PyTree, like: PyTree) -> list[Leaf] | None:
    """Return the leaves of a derivative in the pytree of `like`, or None where it has another structure.

    A leaf or branch that is None gives None for each leaf of `like`.
    """
    actual, expected = (optree.tree_structure(x, none_is_leaf=True) for x in (value, like))
    values = iter(optree.tree_leaves(value, none_is_leaf=True))
    out: list[object] = []

    def fill(actual: optree.PyTreeSpec, expected: optree.PyTreeSpec) -> bool:
        if actual.is_leaf():
            leaf = next(values)
            out.extend([leaf] * expected.num_leaves)
            return leaf is None or expected.is_leaf()
        same = actual.type is expected.type and actual.entries() == expected.entries()
        return same and all(map(fill, actual.children(), expected.children()))

    if not fill(actual, expected):
        return None
    return [v for v, x in zip(out, optree.tree_leaves(like, none_is_leaf=True), strict=True) if x is not None]
