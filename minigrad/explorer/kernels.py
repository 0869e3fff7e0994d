"""Kernel expressions of primitives as functions in JavaScript, for the evaluation of graphs in the page."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..primitive import Primitive

# Functions of kernel expressions, by their names in C, and the expressions in JavaScript. The `F` functions stand in
# `assets/engine.js`.
_MATH = (
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "cos", "cosh", "exp",
    "expm1", "floor", "hypot", "log", "log10", "log1p", "log2", "max", "min", "pow", "sign", "sin", "sinh",
    "sqrt", "tan", "tanh", "trunc")
_OWN = ["erf", "erfc", "exp2", "isfinite", "isinf", "isnan", "lgamma", "logaddexp", "mod", "rint", "seldom", "tgamma"]
FUNCTIONS = {**{name: f"Math.{name}" for name in _MATH}, **{name: f"F.{name}" for name in _OWN}}
_BITS = re.compile(r"<<|>>|~|\^|(?<!&)&(?!&)|(?<!\|)\|(?!\|)")  # JavaScript has these for 32 bits alone
_CALL = re.compile(r"([A-Za-z_]\w*)\(")


def javascript(prim: Primitive) -> str | None:
    """Return the arrow function of an elementwise primitive, or None where the page lacks a function that it calls."""
    kernel = prim.kernel
    if not kernel or "{T}" in kernel or _BITS.search(kernel) or not set(_CALL.findall(kernel)) <= FUNCTIONS.keys():
        return None
    operands = sorted({int(i) for i in re.findall(r"\{(\d)\}", kernel)})
    body = _CALL.sub(lambda m: FUNCTIONS[m.group(1)] + "(", kernel)
    for i in operands:
        body = body.replace(f"{{{i}}}", f"x{i}")
    names = ", ".join(f"x{i}" for i in range(max(operands, default=-1) + 1))
    return f"({names}) => +({body})"


def functions(prims: Iterable[Primitive]) -> str:
    """Return the object of all functions that the page needs, as JavaScript source."""
    known = {p.name: text for p in prims if (text := javascript(p)) is not None}
    return "{" + ", ".join(f"{name}: {text}" for name, text in sorted(known.items())) + "}"
