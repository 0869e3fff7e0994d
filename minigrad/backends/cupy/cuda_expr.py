"""Elements in CUDA C++: types, constants, and the kernel expressions of primitives."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from ...graph import Node, Number
from ...ops import elementwise as ew
from ...ops import integer, special
from ...primitive import Combiner, Primitive
from .prelude import PRELUDE

_STORED = {np.dtype(name): ctype for name, ctype in {
    "bool": "bool", "int8": "signed char", "int16": "short", "int32": "int", "int64": "i64", "uint8": "unsigned char",
    "uint16": "unsigned short", "uint32": "unsigned", "uint64": "u64", "float16": "unsigned short",
    "float32": "float", "float64": "double"}.items()}
_HALF = np.dtype(np.float16)  # computed in single precision, and rounded after each operation
_NAME = re.compile(r"\b([a-z_]\w*)\(")
_DECIMAL = re.compile(r"(?<![\w.])\d+\.\d+")
_FUNCTIONS = frozenset(re.findall(r"\b(?:mg_|(?:ONE|TWO)\()(\w+)", PRELUDE))
# Kernel expressions where NumPy's result differs from that of the C expression, for some operands.
_OWN: dict[Primitive, str] = {
    **{prim: f"{prim.name}({{0}}, {{1}})" for prim in (
        ew.floor_divide, integer.left_shift, integer.right_shift, special.xlogy, special.xlog1py)},
    special.ndtri: "normcdfinv({0})", special.i0: "cyl_bessel_i0({0})", special.i1: "cyl_bessel_i1({0})",
    ew.logical_xor: "{0} != {1}"}


def stored(dtype: np.dtype) -> str:
    """Return the C type of an array's elements."""
    return _STORED[dtype]


def computed(dtype: np.dtype) -> str:
    """Return the C type that an element is computed in."""
    return "float" if dtype == _HALF else _STORED[dtype]


def accumulated(dtype: np.dtype) -> str:
    """Return the C type of accumulators of sums, extremes and truth."""
    return {"b": "int", "i": "i64", "u": "u64"}.get(dtype.kind, computed(dtype))


def literal(value: Number | np.generic, dtype: np.dtype) -> str:
    """Return a constant."""
    kind = computed(dtype)
    if dtype.kind == "b":
        return "true" if value else "false"
    if dtype.kind in "iu":
        value = int(value)
        if value == -2**63:
            return "(-9223372036854775807LL - 1)"
        return f"(({kind}){value}{'ULL' if dtype.kind == 'u' else 'LL'})"
    value = float(np.asarray(value, dtype))
    if math.isnan(value):
        return f"(({kind})MG_NAN)"
    if math.isinf(value):
        return f"({'-' * (value < 0)}({kind})MG_INF)"
    text = repr(float(value)) if kind == "double" else str(np.float32(value))
    text += "" if any(c in text for c in ".e") else ".0"
    text += "f" * (kind == "float")
    return f"({text})" if text.startswith("-") else text


def identity(by: Combiner, dtype: np.dtype) -> str:
    """Return the number that changes no value of `dtype`."""
    number = by.identity(dtype)
    return str(int(number)) if number in (0, 1) else literal(number, dtype)


def kernel(node: Node) -> str | None:
    """Return the kernel expression of an elementwise node, or None where CUDA C++ has no such function."""
    text = _OWN.get(node.prim, node.prim.kernel)
    if text is None or not _FUNCTIONS.issuperset(_NAME.findall(text)) or (node.params and node.prim is not ew.cast):
        return None
    return text


def expression(node: Node, xs: Sequence[str]) -> str:
    """Return the value of an elementwise node, given the names of its operands."""
    kind = computed(node.dtype)
    operand = computed(node.inputs[0].dtype) if node.prim is not ew.where else kind
    if node.prim is ew.cast:
        return cast(xs[0], node.dtype)
    text = _NAME.sub(r"mg_\1(", kernel(node) or "")
    text = _DECIMAL.sub(lambda m: f"({operand}){m[0]}", text)
    text = re.sub(r"min\(\{0\}, 0\)", f"min({{0}}, ({operand})0)", text)
    text = text.format(*xs, T=kind)
    if node.dtype.kind in "iu":  # C computes small integers as int
        text = f"({kind})({text})"
    return rounded(text, node.dtype)


def cast(x: str, to: np.dtype) -> str:
    """Return the conversion of a computed or accumulated value to a dtype."""
    if to.kind == "b":
        return f"({x} != 0)"
    return rounded(f"({computed(to)}){x}", to)


def rounded(text: str, dtype: np.dtype) -> str:
    """Return a computed value rounded to the digits of its stored type."""
    return f"round_half({text})" if dtype == _HALF else text


def load(place: str, dtype: np.dtype) -> str:
    """Return a stored element in its type of computation."""
    return f"from_half({place})" if dtype == _HALF else place


def store(place: str, value: str, dtype: np.dtype) -> str:
    """Return the statement that writes an element."""
    return f"{place} = {f'to_half({value})' if dtype == _HALF else value};"
