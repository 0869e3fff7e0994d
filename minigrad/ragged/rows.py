"""Where the rows of a packed array lie: whose they are, and their coordinates within their example.

A *domain* is the tuple of an array's ragged sizes, in order. Packed, they are one axis in front: the rows of all
examples, one example after the other, and within an example as NumPy orders them, the last coordinate fastest. So
(node,) has the rows of all nodes, and (node, node) the elements of one block per example, never of the whole square.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import Unsupported, at_user_line
from ..graph import Node, full
from ..ops.broadcast import broadcast_along
from ..ops.constants import iota
from ..ops.elementwise import cast_to
from ..ops.index import gather
from ..ops.segments import nonempty, segment_ids
from ..ops.sort import cumsum
from ..symbolic import Dim, Shape, Symbol, monomials, size_of

Domain = tuple[int | Dim, ...]  # of a size that is fixed after all, each example has as many rows
_INT = np.dtype(np.int64)


def _cached(method: Callable[..., Any]) -> Callable[..., Any]:
    """Keep a node per arguments: the same rows are looked up once, and by the same nodes."""
    @functools.wraps(method)
    def found(self: Rows, *key: Any) -> Any:
        place = (method.__name__, *key)
        if place not in self._made:
            self._made[place] = method(self, *key)
        return self._made[place]

    return found


class Rows:
    """What one batch knows of its rows, as nodes that are made when they are asked for.

    Attributes
    ----------
    size : int or Dim
        The number of examples, B.
    lengths : mapping of Symbol to Node
        The sizes (B,) that a ragged symbol stands for.
    owners : mapping of Symbol to Node
        The example that each row belongs to.
    totals : mapping of tuple of Symbol to (int or Dim)
        The number of rows of all examples, for one symbol or the product of two.
    """

    def __init__(self, size: int | Dim):
        self.size = size
        self.lengths: dict[Symbol, Node] = {}
        self.owners: dict[Symbol, Node] = {}
        self.totals: dict[tuple[Symbol, ...], int | Dim] = {}
        self._made: dict[Any, Any] = {}

    # -- shapes ----------------------------------------------------------------------------------------------

    def ragged(self, n: int | Dim) -> bool:
        """Tell whether a size differs from example to example."""
        return isinstance(n, Dim) and not n.symbols.isdisjoint(self.lengths)

    def domain(self, shape: Shape) -> Domain:
        return tuple(n for n in shape if self.ragged(n))

    def dense(self, shape: Shape) -> Shape:
        return tuple(n for n in shape if not self.ragged(n))

    def packed(self, shape: Shape) -> Shape:
        """Return the shape that an array of per-example shape `shape` has in the batch."""
        domain = self.domain(shape)
        return (self.total(domain) if domain else self.size, *self.dense(shape))

    def _monomials(self, domain: Domain) -> list[tuple[tuple[Symbol, ...], int | Dim]]:
        """Return the rows of an example as a sum of products: the ragged symbols, and the factor before them."""
        terms = []
        for monomial, factor in monomials(size_of(domain)):
            for s in monomial:
                if s not in self.lengths:
                    factor = factor * Dim((((s,), 1),))
            terms.append((tuple(s for s in monomial if s in self.lengths), factor))
        return terms

    def total(self, domain: Domain) -> int | Dim:
        """Return the number of rows of all examples."""
        out: int | Dim = 0
        for symbols, factor in self._monomials(domain):
            if symbols and symbols not in self.totals:
                raise Unsupported(at_user_line(
                    f"an array with the ragged axes {' x '.join(s.name for s in symbols)}: blocks have two of the axes "
                    "of one batch at most. Sum over one of them first"))
            out = out + factor * (self.totals[symbols] if symbols else self.size)
        return out

    # -- per example: (B,) -----------------------------------------------------------------------------------

    @_cached
    def length(self, domain: Domain) -> Node:
        """Return the number of rows of each example."""
        if len(domain) == 1 and getattr(domain[0], "symbol", None) in self.lengths:
            return self.lengths[domain[0].symbol]
        total = None
        for symbols, factor in self._monomials(domain):
            term = full(factor, (self.size,), _INT) if isinstance(factor, int) else None
            if term is None:
                raise Unsupported(at_user_line(f"rows by the {factor} per example"))
            for i, s in enumerate(symbols):
                term = self.lengths[s] if not i and factor == 1 else term * self.lengths[s]
            total = term if total is None else total + term
        if any(factor < 0 for _, factor in self._monomials(domain) if isinstance(factor, int)):  # what a slice leaves
            one = full(1, (self.size,), _INT)
            total = nonempty(total + one, what="example {} has fewer rows than a slice of it leaves out") - one
        return total

    @_cached
    def offset(self, domain: Domain) -> Node:
        """Return the row at which each example begins."""
        n = self.length(domain)
        return cumsum(n, axis=0) - n

    # -- per row: (P,) ---------------------------------------------------------------------------------------

    @_cached
    def owner(self, domain: Domain) -> Node:
        """Return the example that each row belongs to."""
        if len(domain) == 1 and domain[0].symbol in self.owners:
            return self.owners[domain[0].symbol]
        return segment_ids(self.length(domain), size=self.total(domain))

    @_cached
    def position(self, domain: Domain) -> Node:
        """Return the place of each row within its example."""
        return iota(size=self.total(domain)) - self.of_owner(self.offset(domain), domain)

    @_cached
    def of_owner(self, values: Node, domain: Domain) -> Node:
        """Return, for each row, the value (B, ...) of its example."""
        return gather(values, self.owner(domain))

    @_cached
    def line(self, domain: Domain) -> Node:
        """Return, for each row, the row of all coordinates but the last."""
        return segment_ids(self._widths(domain), size=self.total(domain))

    @_cached
    def _widths(self, domain: Domain) -> Node:
        """Return how many rows each row of all coordinates but the last has."""
        return self.of_owner(self.length(domain[-1:]), domain[:-1])

    @_cached
    def coordinate(self, domain: Domain, i: int) -> Node:
        """Return coordinate `i` of each row."""
        if len(domain) == 1:
            return self.position(domain)
        if i < len(domain) - 1:
            return gather(self.coordinate(domain[:-1], i), self.line(domain))
        widths = self._widths(domain)
        return iota(size=self.total(domain)) - gather(cumsum(widths, axis=0) - widths, self.line(domain))

    @_cached
    def within(self, domain: Domain, kept: tuple[int, ...]) -> Node:
        """Return, for each row, the row of the domain of the sizes in `kept` that it projects to."""
        if kept == tuple(range(len(domain) - 1)):
            return self.line(domain)
        smaller = tuple(domain[i] for i in kept)
        return self.row(smaller, [self.coordinate(domain, i) for i in kept], self.owner(domain))

    def row(self, domain: Domain, coordinates: Sequence[Node], owner: Node) -> Node:
        """Return the rows that have given coordinates in the examples `owner`; the arrays are of one shape."""
        def per_row(values: Node) -> Node:
            return gather(values, owner)

        flat = coordinates[0]
        for n, c in zip(domain[1:], coordinates[1:], strict=True):
            flat = flat * per_row(self.length((n,))) + c
        return flat + per_row(self.offset(domain))


def lengths_as(rows: Rows, n: int | Dim, dtype: np.dtype) -> Node:
    """Return a size as a value per example (B,), of `dtype`."""
    return cast_to(rows.length((n,)), dtype)


def spread_rows(x: Node, shape: Shape) -> Node:
    """Return a vector of rows repeated along all axes behind the first."""
    return broadcast_along(x, shape, tuple(range(1, len(shape))))
