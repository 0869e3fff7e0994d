"""Python's operators on traced arrays."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ..graph import Node
from ..ops import elementwise as ew
from ..ops import overflow
from ..traced_array import TABLE, Array, as_array
from .dispatch import NAMES
from .elementwise import clip, round_


def _matmul(self: Array, other: Any) -> Any:
    if getattr(type(other), "__array_ufunc__", self) is None:  # it multiplies from the right itself, as `Sparse` does
        return NotImplemented
    return NAMES["matmul"](self, other)


# What grows beyond the widest integers, as floats. Counting does not get there.
_GROWS = {np.multiply: operator.mul, np.power: ew.pow_, np.left_shift: lambda x, y: x * ew.exp2(y)}


def _of_python(ufunc: np.ufunc, out: Node, xs: list[Array]) -> Array:
    """Return the result of Python's arithmetic on Python's numbers, which is one, and whose integers have no bounds."""
    if ufunc in _GROWS and out.dtype.kind in "iu" and not out.is_constant:
        out = overflow.held(out, _GROWS[ufunc](*(ew.cast_to(x._node, np.dtype(float)) for x in xs)), out.dtype)
    return Array(out, weak=out.dtype != np.bool_)


def _operators() -> None:
    """Give `Array` Python's operators, each of which is the ufunc that NumPy gives it."""
    binary = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.divide, "pow": np.power,
              "floordiv": np.floor_divide, "mod": np.remainder, "and": np.bitwise_and, "or": np.bitwise_or,
              "xor": np.bitwise_xor, "lshift": np.left_shift, "rshift": np.right_shift}
    compare = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
               "ge": np.greater_equal}
    unary = {"neg": np.negative, "pos": np.positive, "abs": np.absolute, "invert": np.invert}

    def wrap(ufunc: np.ufunc, flipped: bool = False) -> Callable[..., Any]:
        function = TABLE[ufunc]

        def method(self: Array, *others: Any) -> Any:
            if any(x is None or isinstance(x, str) for x in others):
                return NotImplemented
            xs = [as_array(x) for x in ((*others, self) if flipped else (self, *others))]
            out = function(*xs)  # a ufunc, asked by name, gives NumPy's numbers
            return _of_python(ufunc, out._node, xs) if all(x._weak for x in xs) else out

        return method

    for name, ufunc in binary.items():
        setattr(Array, f"__{name}__", wrap(ufunc))
        setattr(Array, f"__r{name}__", wrap(ufunc, flipped=True))
    for name, ufunc in compare.items():
        setattr(Array, f"__{name}__", wrap(ufunc))
    for name, ufunc in unary.items():
        setattr(Array, f"__{name}__", wrap(ufunc))
    power = Array.__pow__
    Array.__pow__ = lambda self, other: (  # NumPy's fast way for `** 2`, which of bools is int8
        TABLE[np.square](self) if type(other) is int and other == 2 and self.dtype == np.bool_ else power(self, other))
    Array.__hash__ = object.__hash__
    Array.__matmul__ = _matmul
    Array.__rmatmul__ = lambda self, other: NAMES["matmul"](other, self)
    Array.__divmod__ = lambda self, other: (operator.floordiv(self, other), operator.mod(self, other))
    Array.__rdivmod__ = lambda self, other: (operator.floordiv(other, self), operator.mod(other, self))
    Array.__round__ = lambda self, n=0: NAMES["round"](self, n)


_operators()

Array.clip, Array.round = clip, round_
