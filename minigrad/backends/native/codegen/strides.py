"""The strides of views in the memory of their values.

The code depends on the axes that repeat, and on those that are contiguous with the next, so that one loop runs over
both. Its arguments are offsets and strides in bytes: formulas of the sizes, and numbers once those are known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ....graph import Node
from ....passes.fuse import Roles
from ....primitive import PART
from ....symbolic import Dim, Shape
from ....views import dense_strides, strided


class Access(NamedTuple):
    """The memory layout of a view, as far as it does not depend on sizes.

    Attributes
    ----------
    root : Node
        The value that owns the memory; a part of a tuple is a value of its own.
    repeated : tuple of bool
        Per axis, whether its stride is 0.
    linked : tuple of bool
        Per axis that does not repeat: whether it is contiguous with the next one that does not repeat; of the last
        such axis, whether its elements are neighbours.
    steps : tuple of int
        Per axis, the elements from one to the next; 0 where sizes decide them.
    """

    root: Node
    repeated: tuple[bool, ...]
    linked: tuple[bool, ...]
    steps: tuple[int, ...]

    def last(self) -> int | None:
        """Return the last axis that does not repeat."""
        return max((a for a, r in enumerate(self.repeated) if not r), default=None)


def access(node: Node, roles: Roles) -> Access:
    """Return the layout of `node` in the memory of its root."""
    return _layout(root_of(node, roles), node, Strides(roles)(node)[1])


def whole(node: Node) -> Access:
    """Return the layout of a contiguous value."""
    return _layout(node, node, dense_strides(node.shape, node.dtype.itemsize))


def root_of(node: Node, roles: Roles) -> Node:
    """Return the value whose memory a view lies in."""
    while is_view(node, roles):
        node = node.inputs[0]
    return node


def is_view(node: Node, roles: Roles) -> bool:
    """Return whether code reads a node in the memory of its root."""
    return node.prim.view is not None and node.prim.view is not PART and roles.is_view(node)


def _layout(root: Node, node: Node, strides: Sequence[int | Dim]) -> Access:
    # Axes of one element are among those that repeat: their strides are never used.
    empty = 0 in node.shape
    repeated = tuple(n == 1 or (stride == 0 and not empty) for n, stride in zip(node.shape, strides, strict=True))
    linked = [False] * node.ndim
    steps = [stride // node.dtype.itemsize if isinstance(stride, int) else 0 for stride in strides]
    beyond: int | Dim = node.dtype.itemsize  # the stride of an axis that is contiguous with the next
    for axis in reversed(range(node.ndim)):
        if not repeated[axis]:
            linked[axis] = strides[axis] == beyond
            beyond = strides[axis] * node.shape[axis]
    return Access(root, repeated, tuple(linked), tuple(steps))


class View(NamedTuple):
    """A strided operand.

    Attributes
    ----------
    base : int
        The number of an address in the table of a call.
    offset : int
        Bytes from there to the first element.
    shape : tuple of int
    strides : tuple of int
        In bytes; of any sign, and 0 along axes that repeat.
    """

    base: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def merged(axes: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Drop axes of one element, and join neighbouring axes along which every operand continues as along the inner one.

    Each axis is its size, and the stride of each operand.
    """
    joined: list[tuple[int, ...]] = []
    for n, *strides in axes:
        if n == 1:
            continue
        if joined and all(outer == s * n for outer, s in zip(joined[-1][1:], strides, strict=True)):
            joined[-1] = (joined[-1][0] * n, *strides)
        else:
            joined.append((n, *strides))
    return joined


class Strides:
    """The offsets and strides of views, as formulas; each is computed once."""

    def __init__(self, roles: Roles):
        self._roles = roles
        self._known: dict[Node, tuple[int | Dim, tuple[int | Dim, ...]]] = {}
        self._dense: dict[tuple[Shape, int], tuple[int | Dim, ...]] = {}  # equal layers have equal ones

    def __call__(self, node: Node) -> tuple[int | Dim, tuple[int | Dim, ...]]:
        """Return a view's offset in the memory of its root, and its strides, in bytes."""
        known = self._known.get(node)
        if known is None:
            shape, unit = node.shape, node.dtype.itemsize
            if is_view(node, self._roles):
                known = strided(node, *self(node.inputs[0]), unit)
            elif (dense := self._dense.get((shape, unit))) is not None:
                known = 0, dense
            else:
                known = 0, self._dense.setdefault((shape, unit), dense_strides(shape, unit))
            self._known[node] = known
        return known
