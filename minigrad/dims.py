"""Symbolic sizes: what a shape holds where the number is not known before the call.

A shape is a tuple of ``int | Dim``. A `Dim` is a polynomial with integer coefficients in named
symbols: sizes may be added, multiplied and compared, which is all that shapes need. Two faces of
it exist for people's code: a `Size` is what ``x.shape`` shows of a symbolic axis, and a `Tagged`
int is what it shows of an axis whose number is known but which may turn out to be a batch axis.
"""

from __future__ import annotations

import itertools
import math
import operator
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from . import size_asked
from .errors import ShapeError, at_user_line, user_location

_uid = itertools.count()


class Symbol:
    """A named size. Two symbols of the same name are different symbols.

    `rows` says that it counts rows, of which there may be none; a batch has at least one example.
    """

    __slots__ = ("hint", "name", "rows", "uid")

    def __init__(self, name: str, hint: int | None = None, rows: bool = False):
        self.name, self.hint, self.rows, self.uid = name, hint, rows, next(_uid)

    def __repr__(self) -> str:
        return self.name

    # A symbol is itself and no other: copies are the same, and a pickle makes one that is new.

    def __copy__(self) -> Symbol:
        return self

    def __deepcopy__(self, memo: dict) -> Symbol:
        return self

    def __reduce__(self) -> tuple:
        return Symbol, (self.name, self.hint, self.rows)


class Dim:
    """An integer polynomial in symbols, in canonical form; never a plain constant."""

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: tuple[tuple[tuple[Symbol, ...], int], ...]):
        self.terms = terms
        self._hash = hash(terms)

    @classmethod
    def new(cls, name: str, hint: int | None = None, rows: bool = False) -> Dim:
        """Return a fresh size called `name`; `hint` is its value in the example at hand."""
        return cls((((Symbol(name, hint, rows),), 1),))

    @property
    def symbols(self) -> set[Symbol]:
        return {s for monomial, _ in self.terms for s in monomial}

    @property
    def symbol(self) -> Symbol | None:
        """The symbol, where this size is one symbol and nothing else."""
        (monomial, factor), *rest = self.terms
        return monomial[0] if not rest and factor == 1 and len(monomial) == 1 else None

    @property
    def hint(self) -> int | None:
        """The value in the example that is being traced, where one is known."""
        values = {s: s.hint for s in self.symbols}
        return None if None in values.values() else self.value(values)

    def value(self, sizes: Mapping[Symbol, int]) -> int:
        """Return the number that this size is under `sizes`."""
        total = 0
        for monomial, factor in self.terms:
            for s in monomial:
                factor *= sizes[s]
            total += factor
        return total

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Dim) and self.terms == other.terms)

    def __hash__(self) -> int:
        return self._hash

    def __add__(self, other: int | Dim) -> int | Dim:
        terms = dict(self.terms)
        for monomial, factor in _terms(other):
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
            for m2, f2 in _terms(other):
                monomial = tuple(sorted(m1 + m2, key=lambda s: s.uid))
                terms[monomial] = terms.get(monomial, 0) + f1 * f2
        return _dim(terms)

    __rmul__ = __mul__

    def divide(self, other: int | Dim) -> int | Dim | None:
        """Return the exact quotient by a one-term size, or None where there is none."""
        ((divisor, by),) = divisor_terms = tuple(_terms(other)) or (((), 0),)
        if len(divisor_terms) != 1 or by == 0:
            return None
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
        """Return the size as an expression that Python can read, given each symbol's name."""
        parts = []
        for monomial, factor in self.terms:
            words = ([str(factor)] if factor != 1 or not monomial else []) + [name(s) for s in monomial]
            parts.append("*".join(words))
        return " + ".join(parts).replace("+ -", "- ")

    def __repr__(self) -> str:
        return self.format()

    def __copy__(self) -> Dim:
        return self

    def __deepcopy__(self, memo: dict) -> Dim:
        return self

    def __reduce__(self) -> tuple:
        return polynomial, (dict(self.terms),)


Shape = tuple[int | Dim, ...]


def _terms(size: int | Dim) -> Iterable[tuple[tuple[Symbol, ...], int]]:
    if isinstance(size, Dim):
        return size.terms
    return (((), int(size)),) if size else ()


def _dim(terms: dict[tuple[Symbol, ...], int]) -> int | Dim:
    kept = {m: f for m, f in terms.items() if f}
    if not kept:
        return 0
    if list(kept) == [()]:
        return kept[()]
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


def common_divisor(a: int | Dim, b: int | Dim) -> int | Dim:
    """Return the greatest common divisor of two sizes; of sums of symbols, one of the two or 1."""
    if isinstance(a, int) and isinstance(b, int):
        return math.gcd(a, b)
    for x, y in ((a, b), (b, a)):
        if divide(x, y) is not None:
            return y
    both = [tuple(_terms(n)) for n in (a, b)]
    if any(len(terms) != 1 for terms in both):
        return 1
    ((left, p),), ((right, q),) = both
    shared: list[Symbol] = []
    for s in left:
        if shared.count(s) < right.count(s):
            shared.append(s)
    return _dim({tuple(shared): math.gcd(p, q)})


def value(size: int | Dim, sizes: Mapping[Symbol, int]) -> int:
    """Return the number that `size` is once every symbol has one."""
    return size.value(sizes) if isinstance(size, Dim) else size


def symbols(shape: Iterable[int | Dim]) -> set[Symbol]:
    """Return the symbols that occur in `shape`."""
    return {s for n in shape if isinstance(n, Dim) for s in n.symbols}


def format_shape(shape: Sequence[int | Dim]) -> str:
    """Return ``[B, 10]``, as it is printed in graphs and errors."""
    return "[" + ", ".join(str(n) for n in shape) + "]"


def bind(shapes: Iterable[tuple[Shape, tuple[int, ...], str]]) -> dict[Symbol, int]:
    """Find every symbol's number by matching symbolic shapes with real ones.

    Parameters
    ----------
    shapes : iterable of (symbolic shape, real shape, name)
        The name is that of the argument, for the error.

    Raises
    ------
    ShapeError
        If a number does not match, or one symbol would need two values.
    """
    sizes: dict[Symbol, int] = {}
    whose: dict[Symbol, str] = {}
    rest = []
    for want, have, name in shapes:
        if len(want) != len(have):
            raise ShapeError(f"argument {name}: expected shape {format_shape(want)}, got {format_shape(have)}")
        for axis, (w, h) in enumerate(zip(want, have, strict=True)):
            symbol = w.symbol if isinstance(w, Dim) else None
            if symbol is None:
                rest.append((w, h, name, want, have))
            elif sizes.setdefault(symbol, h) != h:
                raise ShapeError(f"size {symbol} is {sizes[symbol]} in {whose[symbol]} and {h} in {name} (axis {axis})")
            else:
                whose.setdefault(symbol, name)
    for w, h, name, want, have in rest:
        if value(w, sizes) != h:
            raise ShapeError(f"argument {name}: expected shape {format_shape(want)}, got {format_shape(have)}")
    return sizes


def polynomial(terms: Mapping[tuple[Symbol, ...], int]) -> int | Dim:
    """Return the sum of products of symbols, each with its factor."""
    return _dim({tuple(sorted(m, key=lambda s: s.uid)): f for m, f in terms.items()})


# -- what people's code sees ---------------------------------------------------------------------


class Tagged(int):
    """An ordinary int that remembers which axis of which argument it is the size of."""

    def __new__(cls, n: int, origin: object):
        self = super().__new__(cls, n)
        self.origin = origin
        return self

    def __copy__(self) -> Tagged:
        return self

    def __deepcopy__(self, memo: dict) -> Tagged:
        return self

    def __reduce__(self) -> tuple:
        return int, (int(self),)


class Watch(threading.local):
    """What the trace that runs on this thread wants to know about sizes.

    ``batched`` collects the origins of sizes that a `vmap` maps; ``insisted`` collects the symbols
    whose number the traced code asked for, with the line that asked; ``merged`` collects pairs of
    symbols that the code takes to be one size.
    """

    def __init__(self):
        self.batched: list[tuple[object, ...]] | None = None
        self.named: dict[object, str] = {}
        self.insisted: dict[Symbol, tuple[str, int] | None] | None = None
        self.merged: list[tuple[Symbol, Symbol]] | None = None

    def note_batch(self, sizes: Iterable[object], name: str = "") -> None:
        """Note sizes that are one and may be any number; `name` is that of a ragged axis, which may have no rows."""
        origins = tuple(n.origin for n in sizes if isinstance(n, Tagged))
        if self.batched is not None and origins:
            self.batched.append(origins)
            if name:
                self.named |= dict.fromkeys(origins, name)

    def insist(self, dim: Dim) -> int:
        """Return the number that `dim` has in this example, and note that it was needed."""
        hint = dim.hint
        if hint is None:
            said, instead = size_asked.instead()
            said = f"`{said}`" if said else "the code"
            raise ShapeError(at_user_line(f"{said} needs the number behind the symbolic size {dim}, which is known "
                                          f"only when the program is called. {instead}"))
        if self.insisted is not None:
            for s in dim.symbols:
                self.insisted.setdefault(s, user_location())
        return hint


watch = Watch()


def differs(n: int | Dim) -> bool:
    """Tell whether a size differs from example to example, so that there is no number that it could be fixed to."""
    return isinstance(n, Dim) and n.hint is None and all(s.rows for s in n.symbols)


def number(n: int | Dim) -> int:
    """Return `n` as an int; where it is symbolic, this axis will be specialised to its size."""
    return watch.insist(n) if isinstance(n, Dim) else int(n)


def same(a: int | Dim, b: int | Dim) -> bool:
    """Tell whether two sizes are equal.

    Two sizes that only happen to be equal in the example at hand count as equal. That is noted, and the
    function is traced again: with one symbol in the place of two, or with the number.
    """
    if a is b or a == b:
        return True
    if watch.insisted is None or not (isinstance(a, Dim) or isinstance(b, Dim)):
        return False
    hints = [n.hint if isinstance(n, Dim) else n for n in (a, b)]
    if hints[0] is None or hints[0] != hints[1]:
        return False
    pair = [n.symbol if isinstance(n, Dim) else None for n in (a, b)]
    if None in pair:
        return number(a) == number(b)
    watch.merged.append(tuple(pair))
    return True


def same_shape(a: Sequence[int | Dim], b: Sequence[int | Dim]) -> bool:
    """Tell whether two shapes are equal, size by size."""
    return len(a) == len(b) and all(map(same, a, b))


class Size:
    """A symbolic size in people's code: it adds, multiplies and compares.

    With a float, or under NumPy's functions, it becomes a traced scalar: ``1 / n`` and ``np.sqrt(n)`` hold for
    every size. Whatever else is asked of it (``range(n)``, ``n > 3``, ``n // 2``) is answered with the number of
    the example at hand, and that axis is then specialised to it.
    """

    __slots__ = ("dim",)
    lift: Callable[[Size], object]  # to a traced scalar; put here by the NumPy face

    def __init__(self, dim: Dim):
        self.dim = dim

    def __index__(self) -> int:
        return watch.insist(self.dim)

    __int__ = __index__

    def __float__(self) -> float:
        return float(self.__index__())

    def __bool__(self) -> bool:
        return bool(self.__index__())

    def __hash__(self) -> int:
        return hash(self.__index__())

    def __neg__(self) -> int | Size:
        return shown(-self.dim)

    def __abs__(self) -> Size:
        return self

    def __divmod__(self, other: int) -> tuple[int, int]:
        return divmod(self.__index__(), other)

    def __array_ufunc__(self, ufunc: object, method: str, *inputs: object, **kwargs: object) -> object:
        lifted = (x.lift() if isinstance(x, Size) else x for x in inputs)
        return getattr(ufunc, method)(*lifted, **kwargs)

    def __repr__(self) -> str:
        return str(self.dim)

    def __copy__(self) -> Size:
        return self

    def __deepcopy__(self, memo: dict) -> Size:
        return self

    def __reduce__(self) -> tuple:
        return shown, (self.dim,)

    def __eq__(self, other: object) -> bool:
        return same(self.dim, unwrap(other)) or (isinstance(other, (int, Size)) and self.__index__() == int(other))


def _arithmetic(name: str) -> None:
    function = getattr(operator, name)

    def method(self: Size, other: object, flipped: bool = False) -> object:
        if isinstance(other, (int, Size)) and name != "truediv":
            if name in ("add", "sub", "mul"):
                a, b = self.dim, unwrap(other)
            else:
                a, b = self.__index__(), int(other)
            return shown(function(b, a) if flipped else function(a, b))
        if not isinstance(other, (int, float, Size)):
            return NotImplemented
        a, b = self.lift(), other.lift() if isinstance(other, Size) else other
        return function(b, a) if flipped else function(a, b)

    setattr(Size, f"__{name}__", method)
    setattr(Size, f"__r{name}__", lambda self, other: method(self, other, flipped=True))


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "lt", "le", "gt", "ge"):
    _arithmetic(_name)


def shown(n: int | Dim) -> int | Size:
    """Wrap a size for people's code."""
    return Size(n) if isinstance(n, Dim) else n


def unwrap(n: object) -> object:
    """Undo `shown`."""
    return n.dim if isinstance(n, Size) else n
