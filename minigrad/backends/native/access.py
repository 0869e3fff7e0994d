"""How a view's elements lie in the memory of the value behind it.

For the code: which axes repeat, and which lie in one piece with the next one, so that loops over both are one loop.
For its arguments: offset and strides in bytes, as formulas of the sizes, and as numbers once those are known.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ...dims import Dim
from ...graph import Node
from ...passes.fuse import Roles


@dataclass(frozen=True)
class Access:
    """What of a view is known without its sizes.

    Attributes
    ----------
    root : Node
        The value whose memory it is; a part of a tuple is one of its own.
    repeated : tuple of bool
        Per axis, whether all its elements are one.
    linked : tuple of bool
        Per axis that does not repeat: whether one step along it is as far as all steps along the next that does
        not repeat, of the last such axis: whether its elements are next to each other.
    """

    root: Node
    repeated: tuple[bool, ...]
    linked: tuple[bool, ...]

    def last(self) -> int | None:
        """Return the last axis that does not repeat."""
        return max((a for a, r in enumerate(self.repeated) if not r), default=None)


def access(node: Node, roles: Roles) -> Access:
    """Return how `node` lies in the memory of what it is a view of."""
    views = _views(node, roles)
    found = whole(views[-1].inputs[0] if views else node)
    for v in reversed(views):
        found = _real(_CHANGES[v.prim.name](found, v), v)
    return found


def _views(node: Node, roles: Roles) -> list[Node]:
    """Return the views between a node and its root, the node first."""
    found = []
    while roles.is_view(node) and node.prim.name != "proj":
        found.append(node)
        node = node.inputs[0]
    return found


def whole(root: Node, view: Node | None = None) -> Access:
    """Return how a value lies in memory of its own, as one piece."""
    ndim = (view or root).ndim
    return _real(Access(root, (False,) * ndim, (True,) * ndim), view or root)


def _real(a: Access, node: Node) -> Access:
    """Return `a` with axes of one element among those that repeat: no step along them is ever made."""
    one = [n == 1 for n in node.shape]
    return Access(a.root, tuple(r or o for r, o in zip(a.repeated, one, strict=True)),
                  tuple(k and not o for k, o in zip(a.linked, one, strict=True)))


def _keep(a: Access, node: Node) -> Access:
    return a


def _expand(a: Access, node: Node) -> Access:
    axes, old = node.params["axes"], iter(range(len(a.repeated)))
    where = [None if k in axes else next(old) for k in range(node.ndim)]
    return Access(a.root, tuple(w is None or a.repeated[w] for w in where),
                  tuple(w is not None and a.linked[w] for w in where))


def _transpose(a: Access, node: Node) -> Access:
    perm = node.params["perm"]
    real = [k for k, r in enumerate(a.repeated) if not r]
    following = dict(zip(real, [*real[1:], None], strict=False))  # none, where all are repeated
    order = [k for k in perm if not a.repeated[k]]
    now = dict(zip(order, [*order[1:], None], strict=False))
    return Access(a.root, tuple(a.repeated[k] for k in perm),
                  tuple(not a.repeated[k] and a.linked[k] and following[k] == now[k] for k in perm))


def _slice(a: Access, node: Node) -> Access:
    cut = {k for k, (n, m) in enumerate(zip(node.shape, node.inputs[0].shape, strict=True)) if n != m}
    apart = {k for k, s in enumerate(node.params["step"]) if s != 1}
    return _broken(a, cut | apart, apart)


def _flip(a: Access, node: Node) -> Access:
    return _broken(a, node.params["axes"], node.params["axes"])


def _broken(a: Access, narrower: Collection[int], apart: Collection[int]) -> Access:
    """Return `a` with the axes `narrower` changed, so that the axis before is not linked, and `apart` not linked."""
    linked, before = list(a.linked), None
    for k, r in enumerate(a.repeated):
        if r:
            continue
        if k in apart:
            linked[k] = False
        if before is not None and k in narrower:
            linked[before] = False
        before = k
    return Access(a.root, a.repeated, tuple(linked))


def _reshape(a: Access, node: Node) -> Access:
    return whole(a.root, node)  # a view only where the source is in one piece


_CHANGES = {"expand": _expand, "transpose": _transpose, "slice": _slice, "flip": _flip, "reshape": _reshape,
            "barrier": _keep}


def dense_strides(shape: Sequence[int | Dim], itemsize: int) -> tuple[int | Dim, ...]:
    """Return the strides of an array in row-major order."""
    strides: list[int | Dim] = [itemsize] * len(shape)
    for k in range(len(shape) - 1, 0, -1):
        strides[k - 1] = strides[k] * (shape[k] or 1)
    return tuple(strides)


class View(NamedTuple):
    """An operand: where it is, and how its elements lie there.

    Attributes
    ----------
    base : int
        Which of the addresses that a call brings.
    offset : int
        Bytes from there to the first element.
    shape : tuple of int
    strides : tuple of int
        In bytes; of any sign, and 0 along axes that are repeated.
    """

    base: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Strides:
    """The offsets and strides of views, as formulas; each is worked out once."""

    def __init__(self, roles: Roles):
        self._roles = roles
        self._known: dict[Node, tuple[int | Dim, tuple[int | Dim, ...]]] = {}

    def __call__(self, node: Node) -> tuple[int | Dim, tuple[int | Dim, ...]]:
        """Return a view's offset in the memory of its root, and its strides, in bytes."""
        found = self._known.get(node)
        if found is None:
            if self._roles.is_view(node) and node.prim.name != "proj":
                found = _moved(node, *self(node.inputs[0]))
            else:
                found = 0, _dense(node)
            self._known[node] = found
        return found


def _dense(node: Node) -> tuple[int | Dim, ...]:
    return dense_strides(node.shape, node.dtype.itemsize)


def _moved(view: Node, offset: int | Dim, old: tuple[int | Dim, ...]) -> tuple[int | Dim, tuple[int | Dim, ...]]:
    """Return offset and strides of a view of something that has those given."""
    name, p = view.prim.name, view.params
    if name == "barrier":
        return offset, old
    if name == "reshape":
        return offset, _dense(view)
    if name == "expand":
        left = iter(old)
        return offset, tuple(0 if k in p["axes"] else next(left) for k in range(view.ndim))
    if name == "transpose":
        return offset, tuple(old[k] for k in p["perm"])
    if name == "slice":
        return (offset + sum(s * a for s, a in zip(old, p["start"], strict=True)),
                tuple(s * n for s, n in zip(old, p["step"], strict=True)))
    new = list(old)  # flip
    for k in p["axes"]:
        offset, new[k] = offset + old[k] * (view.shape[k] - 1), -old[k]
    return offset, tuple(new)
