"""Parents of the nodes of trees, from the children of each node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized

import numpy as np

from ..errors import DtypeError, GraphError, at_user_line
from ..tracebacks import boundary


@boundary
def tree_parents(children: Sequence[Iterable[int]]) -> np.ndarray:
    """Return the parent of each node of a tree, from the children of each node.

    Parameters
    ----------
    children : sequence of N iterables of int
        The children of each node, by row. A leaf has none.

    Returns
    -------
    int64 array (N,)
        The row of each node's parent; -1 for a root. `tree_scan` takes it, and so does a field
        ``mg.index(node, null=-1)[node]``. The children of a node are read in the order of their rows.

    Raises
    ------
    GraphError
        If a child is not a node, a node has two parents, or a node is its own ancestor. The error names the node.
    DtypeError
        If a child is not an integer, or the children of a node are not listed.

    Examples
    --------
    >>> mg.tree_parents([[1, 2], [], [3], []])
    array([-1,  0,  0,  2])
    """
    if not isinstance(children, Sized):
        raise DtypeError(at_user_line(f"tree_parents: it takes the list of each node's children, got {children!r}"))
    parent = np.full(len(children), -1, np.int64)
    for node, own in enumerate(children):
        if not isinstance(own, Iterable):
            raise DtypeError(at_user_line(f"tree_parents: the children of node {node} must be a list of ints, got "
                                          f"{own!r}. A leaf has the list []"))
        for child in own:
            if not isinstance(child, (int, np.integer)) or isinstance(child, bool):
                raise DtypeError(at_user_line(f"tree_parents: the children of node {node} must be ints, got {child!r}"))
            if not 0 <= child < len(parent):
                raise GraphError(at_user_line(f"tree_parents: node {node} has the child {child}, but the nodes are 0 "
                                              f"to {len(parent) - 1}"))
            if parent[child] >= 0:
                raise GraphError(at_user_line(f"tree_parents: node {child} is a child of node {parent[child]} and of "
                                              f"node {node}: a node of a tree has one parent. Give each of them a copy "
                                              "of it"))
            parent[child] = node
    if (cyclic := _on_a_cycle(parent)) is not None:
        raise GraphError(at_user_line(f"tree_parents: node {cyclic} is its own ancestor: the children of a tree have "
                                      "no cycle"))
    return parent


def _on_a_cycle(parent: np.ndarray) -> int | None:
    """Return a node that is its own ancestor, or None: each jump goes twice as far as the one before."""
    ancestor = np.append(parent, -1)  # the ancestor of -1 is -1
    for _ in range(len(parent).bit_length()):
        ancestor = ancestor[ancestor]
    rest = np.flatnonzero(ancestor >= 0)
    return int(ancestor[rest[0]]) if len(rest) else None
