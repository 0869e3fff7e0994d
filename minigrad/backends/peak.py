"""The peak of memory outside the arena: outputs, results of steps that allocate, and copies that a step makes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..graph import Node
from ..symbolic import Dim, Symbol, size_of, value

Sizes = Mapping[Symbol, int]
Piece = tuple[int, int, int | Dim]  # the first and the last step in which memory is in use, and its bytes


def type_bytes(node: Node) -> int | Dim:
    """Return the bytes of a node's arrays."""
    total: int | Dim = 0
    for t in node.types:
        total = total + size_of(t.shape) * t.dtype.itemsize
    return total


def peak(pieces: Iterable[Piece], sizes: Sizes, more: Mapping[int, int]) -> int:
    """Return the most bytes in use in any step; `more` are those of some steps alone."""
    change: dict[int, int] = {}
    for first, last, n in pieces:
        nbytes = value(n, sizes)
        change[first] = change.get(first, 0) + nbytes
        change[last + 1] = change.get(last + 1, 0) - nbytes
    live = most = 0
    for k in sorted({*change, *more}):
        live += change.get(k, 0)
        most = max(most, live + more.get(k, 0))
    return most
