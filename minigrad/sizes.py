"""Symbolic sizes in the user's code: what ``x.shape`` shows of a symbolic axis."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from .immutable import Immutable
from .symbolic import Dim, differs, divide
from .tracing import guard_equal, number

T = TypeVar("T")
_POWERS = 4  # the largest exponent of a size that is a size


class Size(Immutable):
    """A symbolic size in the user's code: it adds, multiplies and compares.

    With a float, or under NumPy's functions, it becomes a traced scalar: ``1 / n`` and ``np.sqrt(n)`` hold for
    every size. So it does in ``n == 3`` and ``n // 2``, if it differs between the examples of a batch. Other uses
    (``range(n)``; ``n > 3`` of any other size) take the number of the traced example, and a guard fixes the axis to it.
    """

    __slots__ = ("dim",)
    lift: ClassVar[Callable[[int | Size], Any]]  # to a traced scalar; set by `traced_array`

    def __init__(self, dim: Dim):
        self.dim = dim

    def __index__(self) -> int:
        return number(self.dim)

    __int__ = __index__

    def __float__(self) -> float:
        return float(self.__index__())

    def __bool__(self) -> bool:
        return bool(self.__index__())

    def __hash__(self) -> int:
        return hash(self.__index__())

    def __neg__(self) -> int | Size:
        return shown(-self.dim)

    def __abs__(self) -> object:
        return self if all(factor > 0 for _, factor in self.dim.terms) else abs(Size.lift(self))

    def __divmod__(self, other: object) -> tuple[object, object]:
        return self // other, self % other

    def __rdivmod__(self, other: object) -> tuple[object, object]:
        return other // self, other % self

    def __array_ufunc__(self, ufunc: object, method: str, *inputs: object, **kwargs: object) -> object:
        lifted = (Size.lift(x) if isinstance(x, Size) else x for x in inputs)
        return getattr(ufunc, method)(*lifted, **kwargs)

    if TYPE_CHECKING:  # the operators that `_arithmetic` defines

        def _operator(self, other: object) -> Any: ...

        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _operator
        __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = _operator
        __lt__ = __le__ = __gt__ = __ge__ = _operator

    def __repr__(self) -> str:
        return str(self.dim)

    def __reduce__(self) -> tuple[Callable[..., int | Size], tuple[Dim]]:
        return shown, (self.dim,)


def _arithmetic(name: str) -> None:
    function = getattr(operator, name)

    def method(self: Size, other: Any, flipped: bool = False) -> object:
        if name in ("eq", "ne") and isinstance(other, (Real, Size)):
            size: Any = unwrap(other)  # a number of any kind, NumPy's included
            same = guard_equal(self.dim, size)
            if same or not (isinstance(other, (int, Size)) or differs(self.dim)):
                return same == (name == "eq")
        if isinstance(other, (int, Size)) and name != "truediv":
            pair = (unwrap(other), self.dim) if flipped else (self.dim, unwrap(other))
            exact = function(*pair) if name in ("add", "sub", "mul") else _exact(name, *pair)
            if exact is not None:
                return shown(exact)
            if not any(map(differs, pair)):
                return function(*map(number, pair))
        if not isinstance(other, (int, float, Size)):
            return NotImplemented
        lifted = Size.lift(self), Size.lift(other) if isinstance(other, Size) else other
        return function(*(lifted[::-1] if flipped else lifted))

    setattr(Size, f"__{name}__", method)
    setattr(Size, f"__r{name}__", lambda self, other: method(self, other, flipped=True))


def _exact(name: str, a: int | Dim, b: int | Dim) -> int | Dim | None:
    """Return a quotient without remainder or a power as a size; None for all else."""
    if name == "floordiv" and differs(a):
        return divide(a, b)
    if name == "pow" and differs(a) and isinstance(b, int) and 0 <= b <= _POWERS:
        return math.prod([a] * b)
    return None


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "lt", "le", "gt", "ge", "eq", "ne"):
    _arithmetic(_name)


def shown(n: int | Dim) -> int | Size:
    """Return a size as the user's code gets it."""
    return Size(n) if isinstance(n, Dim) else int(n)


def unwrap(n: T | Size) -> T | Dim:
    """Return the `Dim` of a `Size`, and any other number as it is: undo `shown`."""
    return n.dim if isinstance(n, Size) else n
