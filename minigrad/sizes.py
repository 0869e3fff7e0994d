"""Symbolic sizes in the user's code: what ``x.shape`` shows of a symbolic axis."""

from __future__ import annotations

import operator
from collections.abc import Callable

from .symbolic import Dim
from .tracing import guard_equal, number


class Size:
    """A symbolic size in people's code: it adds, multiplies and compares.

    With a float, or under NumPy's functions, it becomes a traced scalar: ``1 / n`` and ``np.sqrt(n)`` hold for
    every size. Other uses (``range(n)``, ``n > 3``, ``n // 2``) take the number of the example at hand, and a guard
    fixes the axis to it.
    """

    __slots__ = ("dim",)
    lift: Callable[[Size], object]  # to a traced scalar; put here by the NumPy face

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
        return guard_equal(self.dim, unwrap(other)) or (
            isinstance(other, (int, Size)) and self.__index__() == int(other))


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
