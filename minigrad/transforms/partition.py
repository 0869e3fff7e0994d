"""Cuts of a batch into parts of whole examples: the sizes of a part, and the rows of its axes and indices.

A part of a dense batch has one size, its number of examples. A part of a packed batch has a number of rows per ragged
axis, too, and all of these are cut together, between examples. The values of a part count from the part's first row:
an index into a packed axis is smaller than in the whole batch, by the rows that precede the part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..graph import ArrayType
from ..symbolic import Dim, Symbol, divide, monomials, size_of

Size = int | Dim
Spans = frozenset[tuple[Size, Size]]  # stretches of an axis: the rows before it, and its length
NONE: Spans = frozenset()


@dataclass(frozen=True)
class Facts:
    """The knowledge about a value that differs from part to part.

    Attributes
    ----------
    layout : Spans
        The stretches of its cut axis, each in the order of the examples. Empty: all rows are alike.
    points : Spans
        The stretches of another axis that its integers point into. Empty: the integers do not depend on the cut.
    null : bool
        Whether -1 among its integers points nowhere.
    count : int, Dim or None
        The number of rows that an element counts, in sizes of one example: the symbol of a part's rows stands for those
        of an example.
    """

    layout: Spans = NONE
    points: Spans = NONE
    null: bool = False
    count: Size | None = None


@dataclass(eq=False, repr=False)
class Cut:
    """A cut of a batch.

    Attributes
    ----------
    dim : Dim
        The number of examples of a part.
    totals : dict of Symbol to (int or Dim)
        The size in the whole batch of each size of a part.
    rows : dict of tuple of Symbol to Dim
        The number of rows of a part, for products of sizes of an example; the empty product has one row per example.
    defined : dict of Symbol to Dim
        The rows of an example, for each size of a part that the part's own values define.
    """

    dim: Dim
    totals: dict[Symbol, Size]
    rows: dict[tuple[Symbol, ...], Dim] = field(default_factory=dict)
    defined: dict[Symbol, Dim] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # the rows of one example, for each size of a part
        self._products: dict[Symbol, Size] = dict.fromkeys(self.dim.symbols, 1)
        self._known: dict[Dim, tuple[bool, Size | None]] = {}

    def add_rows(self, rows: Dim, *product: Dim) -> None:
        """Enter the number of rows of a part that have, in each example, a product of sizes."""
        (symbol,) = rows.symbols
        self.rows[tuple(sorted((s for n in product for s in n.symbols), key=lambda s: s.uid))] = rows
        self._products.setdefault(symbol, size_of(product))

    def define(self, symbol: Symbol) -> None:
        """Enter a size that the values of a part define. Its number in the whole batch is unknown."""
        if symbol not in self.defined:
            self.defined[symbol] = Dim.new(symbol.name)
            self.totals[symbol] = Dim.of(symbol)
            self.add_rows(Dim.of(symbol), self.defined[symbol])

    def counts(self, symbol: Symbol, count: Size | None) -> bool:
        """Return whether the rows of an example for a defined size are a new product of its other sizes; enter it."""
        monomial, factor = count.terms[0] if isinstance(count, Dim) and len(count.terms) == 1 else ((), 0)
        if factor != 1 or monomial in self.rows:
            return False
        self.rows[monomial], self._products[symbol] = Dim.of(symbol), size_of(map(Dim.of, monomial))
        self._known.clear()
        return True

    def is_defined(self, shape: Iterable[Size]) -> bool:
        """Return whether a shape has a size that the values of a part define."""
        return any(type(n) is Dim and not n.symbols.isdisjoint(self.defined) for n in shape)

    def crosses(self, shape: Iterable[Size]) -> bool:
        """Return whether a shape has a size that differs from part to part."""
        return any(type(n) is Dim and self._place(n)[0] for n in shape)

    def _place(self, n: Dim) -> tuple[bool, Size | None]:
        """Return whether a size differs from part to part, and the rows of an example along an axis of that length."""
        place = self._known.get(n)
        if place is None:
            place = self._known[n] = not n.symbols.isdisjoint(self.totals), self._rows_of(n)
        return place

    def _rows_of(self, n: Dim) -> Size | None:
        if any(sum(s in self.totals for s in monomial) != 1 for monomial, _ in n.terms):
            return None
        return n.replace(self._products)

    def whole(self, n: Size) -> Size:
        """Return the size in the whole batch of a size of a part."""
        return n.replace(self.totals) if isinstance(n, Dim) else n

    def per_example(self, n: Size) -> Size | None:
        """Return the rows of an example along an axis of length `n`; None if the parts' rows do not add up to `n`."""
        return self._place(n)[1] if isinstance(n, Dim) else None

    def counted(self, n: Size, count: Size | None) -> Size | None:
        """Return the sum of a count over an axis of length `n`, or None if it is unknown."""
        each = self.per_example(n)
        if each is None or count is None:
            return None
        total: Size = 0
        of_examples = {s for product in self.rows for s in product}
        for monomial, factor in monomials(each * count):
            rows = self.rows.get(tuple(s for s in monomial if s in of_examples))
            if rows is None:
                return None
            total = total + rows * factor * size_of(Dim((((s,), 1),)) for s in monomial if s not in of_examples)
        return total

    def axis_of(self, t: ArrayType) -> int | None:
        """Return the one axis along which the parts of an array follow each other, or None."""
        places = [a for a, n in enumerate(t.shape) if type(n) is Dim and self._place(n)[0]]
        return places[0] if len(places) == 1 and self.per_example(t.shape[places[0]]) is not None else None

    def size_of_axis(self, t: ArrayType) -> Size:
        """Return the size of the one axis along which the parts of an array follow each other."""
        (n,) = (n for n in t.shape if type(n) is Dim and self._place(n)[0])
        return n

    def straight(self, t: ArrayType) -> Spans:
        """Return the layout of an array whose examples follow each other."""
        return frozenset([(0, n) for n in t.shape if type(n) is Dim and self._place(n)[0]])


def scaled(spans: Spans, by: Size, to: Size) -> Spans | None:
    """Return the stretches of an axis of length `by` on one of length `to`, or None if that splits a row."""
    if by == to:
        return spans
    out: set[tuple[Size, Size]] = set()
    for span in spans:
        start, length = (0 if n == 0 else divide(n * to, by) for n in span)
        if start is None or length is None:
            return None
        out.add((start, length))
    return frozenset(out)


def agree(spans: Spans, n: Size) -> bool:
    """Return whether stretches of an axis of length `n` are parts of one layout."""
    return len(spans) < 2 or ((0, n) not in spans and len({start for start, _ in spans}) == len(spans))


def merged(spans: Iterable[Spans]) -> Spans:
    """Return the union of stretches."""
    return NONE.union(*spans)
