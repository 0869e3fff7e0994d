"""The strides of views in the memory of their values.

The code depends on the axes that repeat, and on those that are contiguous with the next, so that one loop runs over
both. Its arguments are offsets and strides in bytes: formulas of the sizes, and numbers once those are known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ....graph import Node
from ....passes.fuse import Roles
from ....primitive import PART
from ....symbolic import Dim
from ....views import dense_strides, strided, window


@dataclass(frozen=True)
class Access:
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
    """

    root: Node
    repeated: tuple[bool, ...]
    linked: tuple[bool, ...]

    def last(self) -> int | None:
        """Return the last axis that does not repeat."""
        return max((a for a, r in enumerate(self.repeated) if not r), default=None)


def access(node: Node, roles: Roles) -> Access:
    """Return the layout of `node` in the memory of its root."""
    views = _views(node, roles)
    layout = whole(views[-1].inputs[0] if views else node)
    for v in reversed(views):
        layout = _viewed(layout, v)
    return layout


def _views(node: Node, roles: Roles) -> list[Node]:
    """Return the views between a node and its root, the node first."""
    views = []
    while roles.is_view(node) and node.prim.view is not PART:
        views.append(node)
        node = node.inputs[0]
    return views


def whole(root: Node, view: Node | None = None) -> Access:
    """Return the layout of a contiguous value, or of a view that copies it."""
    ndim = (view or root).ndim
    return _real(Access(root, (False,) * ndim, (True,) * ndim), view or root)


def _real(a: Access, node: Node) -> Access:
    """Return `a` with axes of one element among those that repeat: their strides are never used."""
    one = [n == 1 for n in node.shape]
    return Access(a.root, tuple(r or o for r, o in zip(a.repeated, one, strict=True)),
                  tuple(k and not o for k, o in zip(a.linked, one, strict=True)))


def _viewed(a: Access, view: Node) -> Access:
    """Return the layout of a view, given its operand's.

    An axis stays linked where the view takes single steps along it, and all of the same next axis.
    """
    positions = window(view)
    if positions is None:
        return whole(a.root, view)
    axes, _, step = positions
    shape = view.inputs[0].shape
    real = [k for k, r in enumerate(a.repeated) if not r]
    after = dict(zip(real, [*real[1:], None], strict=False))  # none, where all are repeated
    order = sorted(real, key=axes.__getitem__)
    following = dict(zip(order, [*order[1:], None], strict=False))
    repeated, linked = [True] * view.ndim, [False] * view.ndim
    for k in real:
        beside = after[k]
        repeated[axes[k]] = False
        linked[axes[k]] = a.linked[k] and step[k] == 1 and beside == following[k] and (
            beside is None or (step[beside] == 1 and view.shape[axes[beside]] == shape[beside]))
    return _real(Access(a.root, tuple(repeated), tuple(linked)), view)


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

    def __call__(self, node: Node) -> tuple[int | Dim, tuple[int | Dim, ...]]:
        """Return a view's offset in the memory of its root, and its strides, in bytes."""
        known = self._known.get(node)
        if known is None:
            unit = node.dtype.itemsize
            if self._roles.is_view(node) and node.prim.view is not PART:
                known = strided(node, *self(node.inputs[0]), unit)
            else:
                known = 0, dense_strides(node.shape, unit)
            self._known[node] = known
        return known
