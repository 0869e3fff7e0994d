"""The rows of packed arrays: the example of each row, and its coordinates within the example.

A *domain* is the tuple of an array's ragged sizes, in order. Packed, they are one leading axis: the rows of all
examples, one example after the other, and within an example in row-major order. So (node,) has the rows of all nodes,
and (node, node) the elements of one block per example.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from ..errors import BatchError, at_user_line
from ..graph import Node, full
from ..ops.broadcast import broadcast_along
from ..ops.constants import iota, size_scalar
from ..ops.elementwise import cast_to, eq
from ..ops.index import gather
from ..ops.reduce import sum_
from ..ops.segments import nonempty, segment_ids
from ..ops.selection import define_size
from ..ops.sort import cumsum
from ..symbolic import Dim, Shape, Symbol, monomials, size_of
from ..tracing import guard_equal

P = ParamSpec("P")
R = TypeVar("R")
Domain = tuple[int | Dim, ...]  # of a fixed size, each example has that many rows
_INT = np.dtype(np.int64)


def _cached(method: Callable[Concatenate[Rows, P], R]) -> Callable[Concatenate[Rows, P], R]:
    """Cache the nodes of a method by its arguments, so that equal rows are the same node."""
    @functools.wraps(method)
    def cached(self: Rows, /, *args: P.args, **kwargs: P.kwargs) -> R:
        key = (method.__name__, *args)
        if key not in self._cache:
            self._cache[key] = method(self, *args, **kwargs)
        node: R = self._cache[key]
        return node

    return cached


class Rows:
    """The rows of one batch, as nodes that are created on demand.

    Attributes
    ----------
    size : int or Dim
        The number of examples, B.
    lengths : mapping of Symbol to Node
        The sizes (B,) that a ragged symbol stands for.
    owners : mapping of Symbol to Node
        The example of each row.
    totals : mapping of tuple of Symbol to (int or Dim)
        The number of rows of all examples, for one symbol or the product of two.
    definitions : mapping of tuple of Symbol to Node
        The nodes that define the totals of sizes that the examples define themselves.
    checks : list of Node
        The checks that two batches have examples of equal lengths.
    """

    def __init__(self, size: int | Dim):
        self.size = size
        self.lengths: dict[Symbol, Node] = {}
        self.owners: dict[Symbol, Node] = {}
        self.totals: dict[tuple[Symbol, ...], int | Dim] = {}
        self.definitions: dict[tuple[Symbol, ...], Node] = {}
        self.checks: list[Node] = []
        self.enter_product = self._define_product  # in a loop, by the rows around it
        self._cache: dict[tuple[object, ...], Any] = {}

    # -- shapes ----------------------------------------------------------------------------------------------

    def ragged(self, n: int | Dim) -> bool:
        """Return whether a size differs between examples."""
        return isinstance(n, Dim) and not n.symbols.isdisjoint(self.lengths)

    def domain(self, shape: Shape) -> Domain:
        """Return the ragged sizes of a shape, in order."""
        return tuple(n for n in shape if self.ragged(n))

    def dense(self, shape: Shape) -> Shape:
        """Return the fixed sizes of a shape, in order."""
        return tuple(n for n in shape if not self.ragged(n))

    def packed(self, shape: Shape) -> Shape:
        """Return the shape that an array of per-example shape `shape` has in the batch."""
        domain = self.domain(shape)
        return (self.total(domain) if domain else self.size, *self.dense(shape))

    def _monomials(self, domain: Domain) -> list[tuple[tuple[Symbol, ...], int | Dim]]:
        """Return the rows of an example as a sum of products: the ragged symbols of each, and its factor."""
        terms: list[tuple[tuple[Symbol, ...], int | Dim]] = []
        for monomial, coefficient in monomials(size_of(domain)):
            fixed = (Dim.of(s) for s in monomial if s not in self.lengths)
            terms.append((tuple(s for s in monomial if s in self.lengths), size_of((coefficient, *fixed))))
        return terms

    def total(self, domain: Domain) -> int | Dim:
        """Return the number of rows of all examples."""
        out: int | Dim = 0
        for symbols, factor in self._monomials(domain):
            if symbols and symbols not in self.totals:
                self.enter_product(symbols)
            out = out + factor * (self.totals[symbols] if symbols else self.size)
        return out

    def enter(self, symbol: Symbol, lengths: Node, owners: Node) -> None:
        """Enter a ragged axis of a batch; that of a further batch must have the lengths of the first."""
        total = owners.shape[0]
        if symbol not in self.lengths:
            self.lengths[symbol], self.owners[symbol], self.totals[(symbol,)] = lengths, owners, total
            return
        require_as_many_rows(symbol, self.totals[(symbol,)], total)
        same = cast_to(eq(self.lengths[symbol], lengths), _INT)
        self.checks.append(nonempty(same, message=f"example {{}}: its lengths of {symbol} differ between two batches, "
                                                  "whose rows are combined one by one"))

    def _define_product(self, symbols: tuple[Symbol, ...]) -> None:
        """Define the elements of all blocks of several axes, whose number the arguments do not tell."""
        self._define(symbols, functools.reduce(operator.mul, (self.lengths[s] for s in symbols)))

    def define(self, symbol: Symbol, lengths: Node) -> None:
        """Enter a size that each example defines, from its numbers (B,); the first of equal definitions stays."""
        if (symbol,) in self.definitions:
            return
        self.lengths[symbol] = lengths
        self._define((symbol,), lengths)
        self.owners[symbol] = segment_ids(lengths, size=self.totals[(symbol,)])

    def _define(self, symbols: tuple[Symbol, ...], lengths: Node) -> None:
        name = "_".join(s.name for s in symbols) + "s"
        self.totals[symbols], self.definitions[symbols] = define_size(sum_(lengths, axes=(0,)), name)

    def has_total(self, domain: Domain) -> bool:
        """Return whether the batch knows the number of rows of all examples."""
        return all(not symbols or symbols in self.totals for symbols, _ in self._monomials(domain))

    # -- per example: (B,) -----------------------------------------------------------------------------------

    @_cached
    def length(self, domain: Domain) -> Node:
        """Return the number of rows of each example; the program checks that none is negative."""
        total = self.value(domain)
        if any(isinstance(factor, int) and factor < 0 for _, factor in self._monomials(domain)):  # of a slice
            one = full(1, (self.size,), _INT)
            total = nonempty(total + one, message="example {} has fewer rows than a slice of it leaves out") - one
        return total

    @_cached
    def value(self, domain: Domain) -> Node:
        """Return the product of the sizes of `domain` in each example, which may be negative."""
        if (symbol := self._only_symbol(domain)) is not None:
            return self.lengths[symbol]
        products = self._monomials(domain) or [((), 0)]
        terms: list[Node] = []
        for symbols, factor in products:
            factors = [self.lengths[s] for s in symbols]
            if factor != 1 or not factors:
                factors.insert(0, broadcast_along(size_scalar(factor, _INT), (self.size,), (0,)))
            terms.append(functools.reduce(operator.mul, factors))
        return functools.reduce(operator.add, terms)

    def _only_symbol(self, domain: Domain) -> Symbol | None:
        """Return the symbol of a domain that is one ragged axis of the batch."""
        symbol = domain[0].symbol if len(domain) == 1 and isinstance(domain[0], Dim) else None
        return symbol if symbol in self.lengths else None

    @_cached
    def offset(self, domain: Domain) -> Node:
        """Return the first row of each example."""
        n = self.length(domain)
        return cumsum(n, axis=0) - n

    # -- per row: (P,) ---------------------------------------------------------------------------------------

    @_cached
    def owner(self, domain: Domain) -> Node:
        """Return the example of each row."""
        if (symbol := self._only_symbol(domain)) is not None:
            return self.owners[symbol]
        return segment_ids(self.length(domain), size=self.total(domain))

    @_cached
    def position(self, domain: Domain) -> Node:
        """Return the position of each row within its example."""
        return iota(size=self.total(domain)) - self.of_owner(self.offset(domain), domain)

    @_cached
    def of_owner(self, values: Node, domain: Domain) -> Node:
        """Return a value per example (B, ...) at each row."""
        return gather(values, self.owner(domain))

    @_cached
    def line(self, domain: Domain) -> Node:
        """Return, for each row, the row of the domain without the last size."""
        return segment_ids(self._widths(domain), size=self.total(domain))

    @_cached
    def _widths(self, domain: Domain) -> Node:
        """Return the number of rows of each row of the domain without the last size."""
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
        """Return, for each row, its row of the domain of the sizes in `kept`."""
        if kept == tuple(range(len(domain) - 1)):
            return self.line(domain)
        smaller = tuple(domain[i] for i in kept)
        return self.row(smaller, [self.coordinate(domain, i) for i in kept], self.owner(domain))

    def row(self, domain: Domain, coordinates: Sequence[Node], owner: Node) -> Node:
        """Return the rows of given coordinates within the examples `owner`; all arrays have one shape."""
        flat = coordinates[0]
        for n, c in zip(domain[1:], coordinates[1:], strict=True):
            flat = flat * gather(self.length((n,)), owner) + c
        return flat + gather(self.offset(domain), owner)


def require_as_many_rows(axis: Symbol, first: int | Dim, second: int | Dim) -> None:
    """Raise `BatchError` unless two batches whose rows are combined one by one have as many of them."""
    if not guard_equal(first, second):
        raise BatchError(at_user_line(f"the lengths of {axis} differ between two batches, whose rows are combined one "
                                      f"by one: they have {first} and {second} rows of all examples"))


def spread_rows(x: Node, shape: Shape) -> Node:
    """Return a vector of rows, repeated along the trailing axes of `shape`."""
    return broadcast_along(x, shape, tuple(range(1, len(shape))))
