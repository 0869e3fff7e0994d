"""Static values in pytrees: a node without children, so that structures, and all that compares them, hold the value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import optree

from .immutable import Immutable

Tree: TypeAlias = Any  # a pytree, or a key on the way to a leaf of one


class Static(Immutable):
    """A value other than an array: part of the structure of the pytree that holds it.

    Two are equal if their values have the same type and are equal; 0.0 and -0.0 differ.
    """

    __slots__ = ("value",)

    def __init__(self, value: object):
        self.value = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Static) or type(self.value) is not type(other.value):
            return False
        if isinstance(self.value, float):
            return repr(self.value) == repr(other.value)
        return self.value is other.value or bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash((type(self.value), self.value))

    def __repr__(self) -> str:
        return repr(self.value)

    def __reduce__(self) -> tuple[type[Static], tuple[object]]:
        return Static, (self.value,)


def is_marked(x: object) -> bool:
    return type(x) is Static


def unmarked(tree: Tree) -> Tree:
    """Return a pytree with the values themselves in the place of `Static` nodes."""
    return optree.tree_map(lambda x: x.value if type(x) is Static else x, tree, is_leaf=is_marked)


def without_static(tree: Tree) -> Tree:
    """Return a pytree with None in the place of `Static` nodes."""
    return optree.tree_map(lambda x: None if type(x) is Static else x, tree, is_leaf=is_marked)


def static_parts(tree: optree.PyTreeSpec) -> Iterator[tuple[tuple[Tree, ...], object]]:
    """Yield the path and the value of each static node of a structure."""
    whole: Tree = optree.tree_unflatten(tree, [0] * tree.num_leaves)
    for path, x in zip(optree.tree_paths(whole, is_leaf=is_marked), optree.tree_leaves(whole, is_leaf=is_marked),
                       strict=True):
        if type(x) is Static:
            yield path, x.value


def flatten_as(tree: Tree, like: optree.PyTreeSpec | None) -> tuple[list[Tree], optree.PyTreeSpec]:
    """Return the leaves and the structure of a pytree, with its values as static where `like` has static ones."""
    leaves, own = optree.tree_flatten(tree)
    paths = set() if like is None or own == like else {path for path, _ in static_parts(like)}
    if not paths:
        return leaves, own
    marked: Tree = optree.tree_unflatten(own, [
        Static(x) if path in paths else x for path, x in zip(optree.tree_paths(tree), leaves, strict=True)])
    return optree.tree_flatten(marked)


def _flatten(x: Static) -> tuple[tuple[()], Static, tuple[()]]:
    return (), x, ()


def _unflatten(x: Static, children: object) -> Static:
    return x


optree.register_pytree_node(Static, _flatten, _unflatten,  # type: ignore[arg-type]  # a node without children
                            namespace=optree.registry.__GLOBAL_NAMESPACE)
