"""Symbolic sizes: integer polynomials in place of the sizes that a call determines.

A shape is a tuple of ``int | Dim``. A `Dim` is a polynomial with integer coefficients in named
symbols: sizes may be added, multiplied and compared, which is all that shapes need.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import overload

from .immutable import Immutable

_uid = itertools.count()


class Symbol(Immutable):
    """A named size. Two symbols of the same name are different symbols.

    `rows` marks a number of rows, which may be 0; a batch has at least one example.
    """

    __slots__ = ("hint", "name", "rows", "uid")

    def __init__(self, name: str, hint: int | None = None, rows: bool = False):
        self.name, self.hint, self.rows, self.uid = name, hint, rows, next(_uid)

    def __repr__(self) -> str:
        return self.name

    # Symbols have identity: a copy is the symbol itself, and a pickle makes a new one.

    def __reduce__(self) -> tuple[type[Symbol], tuple[str, int | None, bool]]:
        return Symbol, (self.name, self.hint, self.rows)


class Dim(Immutable):
    """A symbolic size: an integer polynomial in symbols, in canonical form; never a plain constant.

    Attributes
    ----------
    terms : tuple of (tuple of Symbol, int)
        The monomials, each with its factor.

    Examples
    --------
    >>> n = mg.Dim.new("n")
    >>> n * (n + 1) - n
    n*n
    >>> (2 * n + 1).value({n.symbol: 5})
    11
    """

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: tuple[tuple[tuple[Symbol, ...], int], ...]):
        self.terms = terms
        self._hash = hash(terms)

    @classmethod
    def new(cls, name: str, hint: int | None = None, rows: bool = False) -> Dim:
        """Return a fresh size called `name`; `hint` is its value in the traced example."""
        return cls.of(Symbol(name, hint, rows))

    @classmethod
    def of(cls, symbol: Symbol) -> Dim:
        """Return the size that is one symbol."""
        return cls((((symbol,), 1),))

    @property
    def symbols(self) -> set[Symbol]:
        return {s for monomial, _ in self.terms for s in monomial}

    @property
    def symbol(self) -> Symbol | None:
        """The symbol, where the size is a single symbol; else None."""
        (monomial, factor), *others = self.terms
        return monomial[0] if not others and factor == 1 and len(monomial) == 1 else None

    @property
    def hint(self) -> int | None:
        """The value in the example that is traced, or None where it is unknown."""
        symbols = self.symbols
        values = {s: s.hint for s in symbols if s.hint is not None}
        return self.value(values) if len(values) == len(symbols) else None

    @overload
    def value(self, sizes: Mapping[Symbol, int]) -> int: ...

    @overload
    def value(self, sizes: Mapping[Symbol, int | Dim]) -> int | Dim: ...

    def value(self, sizes: Mapping[Symbol, int | Dim]) -> int | Dim:
        """Return the size with a number, or another size, in place of each symbol."""
        total: int | Dim = 0
        factor: int | Dim
        for monomial, factor in self.terms:
            for s in monomial:
                factor *= sizes[s]
            total += factor
        return total

    def replace(self, new: Mapping[Symbol, int | Dim]) -> int | Dim:
        """Return this size with symbols replaced by other sizes."""
        symbol = self.symbol
        return new.get(symbol, self) if symbol else self.value({s: new.get(s, Dim.of(s)) for s in self.symbols})

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Dim) and self.terms == other.terms)

    def __hash__(self) -> int:
        return self._hash

    def __add__(self, other: int | Dim) -> int | Dim:
        terms = dict(self.terms)
        for monomial, factor in monomials(other):
            terms[monomial] = terms.get(monomial, 0) + factor
        return _dim(terms)

    __radd__ = __add__

    def __neg__(self) -> int | Dim:
        return self * -1

    def __sub__(self, other: int | Dim) -> int | Dim:
        return self + other * -1

    def __rsub__(self, other: int) -> int | Dim:
        return self * -1 + other

    def __mul__(self, other: int | Dim) -> int | Dim:
        terms: dict[tuple[Symbol, ...], int] = {}
        for m1, f1 in self.terms:
            for m2, f2 in monomials(other):
                monomial = tuple(sorted(m1 + m2, key=lambda s: s.uid))
                terms[monomial] = terms.get(monomial, 0) + f1 * f2
        return _dim(terms)

    __rmul__ = __mul__

    def divide(self, other: int | Dim) -> int | Dim | None:
        """Return the exact quotient by a size of one term, or None where it does not exist."""
        terms_of_divisor = tuple(monomials(other))
        if len(terms_of_divisor) != 1:
            return None
        ((divisor, by),) = terms_of_divisor
        terms = {}
        for monomial, factor in self.terms:
            left = list(monomial)
            for s in divisor:
                if s not in left:
                    return None
                left.remove(s)
            if factor % by:
                return None
            terms[tuple(left)] = factor // by
        return _dim(terms)

    def format(self, name: Callable[[Symbol], str] = lambda s: s.name) -> str:
        """Return the size as a Python expression; `name` spells each symbol."""
        parts = []
        for monomial, factor in self.terms:
            words = ([str(factor)] if factor != 1 or not monomial else []) + [name(s) for s in monomial]
            parts.append("*".join(words))
        return " + ".join(parts).replace("+ -", "- ")

    def __repr__(self) -> str:
        return self.format()

    def __reduce__(self) -> tuple[Callable[..., int | Dim], tuple[dict[tuple[Symbol, ...], int]]]:
        return polynomial, (dict(self.terms),)


Shape = tuple[int | Dim, ...]


def monomials(size: int | Dim) -> Iterable[tuple[tuple[Symbol, ...], int]]:
    """Return the terms of a size: the symbols of each, and its factor."""
    if isinstance(size, Dim):
        return size.terms
    return (((), int(size)),) if size else ()


def _dim(terms: dict[tuple[Symbol, ...], int]) -> int | Dim:
    kept = {m: f for m, f in terms.items() if f}
    if kept.keys() <= {()}:
        return kept.get((), 0)
    return Dim(tuple(sorted(kept.items(), key=lambda t: (-len(t[0]), [s.uid for s in t[0]]))))


def size_of(shape: Iterable[int | Dim]) -> int | Dim:
    """Return the number of elements of `shape`."""
    total: int | Dim = 1
    for n in shape:
        total = total * n
    return total


def divide(a: int | Dim, b: int | Dim) -> int | Dim | None:
    """Return ``a / b`` where it is exact, else None."""
    if a == b:
        return 1
    if isinstance(a, Dim):
        return a.divide(b)
    return None if isinstance(b, Dim) or b == 0 or a % b else a // b


@overload
def value(size: int | Dim, sizes: Mapping[Symbol, int]) -> int: ...


@overload
def value(size: int | Dim, sizes: Mapping[Symbol, int | Dim]) -> int | Dim: ...


def value(size: int | Dim, sizes: Mapping[Symbol, int | Dim]) -> int | Dim:
    """Return the number of a size, given that of every symbol."""
    return size.value(sizes) if isinstance(size, Dim) else size


def differs(n: int | Dim) -> bool:
    """Return whether a size differs between examples, so that no guard can fix it to a number."""
    return isinstance(n, Dim) and n.hint is None and all(s.rows for s in n.symbols)


def symbols(shape: Iterable[int | Dim]) -> set[Symbol]:
    """Return the symbols that occur in `shape`."""
    return {s for n in shape if isinstance(n, Dim) for s in n.symbols}


def format_shape(shape: Sequence[int | Dim]) -> str:
    """Return a shape as graphs and errors print it, such as ``[B, 10]``."""
    return "[" + ", ".join(str(n) for n in shape) + "]"


def polynomial(terms: Mapping[tuple[Symbol, ...], int]) -> int | Dim:
    """Return the sum of products of symbols, each with its factor."""
    return _dim({tuple(sorted(m, key=lambda s: s.uid)): f for m, f in terms.items()})
