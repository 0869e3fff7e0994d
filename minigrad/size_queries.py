"""Explanations of requests for the number behind a symbolic size: the user's expression, and alternatives."""

from __future__ import annotations

import ast
import builtins
import math

import numpy as np

from . import expression
from .tracing import EXPLAIN

# Functions of minigrad.numpy for any size.
_SHAPED = ("ones", "zeros", "empty", "full", "eye", "identity", "tri", "arange",
           "tril_indices", "triu_indices")
_LOOPS = "mg.scan(step, state, x) goes through the rows, and mg.fori_loop(0, n, step, state) counts them."
_OTHERWISE = ("Arithmetic on x.shape[0], np.mean in place of a sum over a count, and functions along the axis such as "
              f"np.sum(x, axis=0) need no number. {_LOOPS}")
_NUMBER = "Functions of NumPy take the size as it is, as in np.sqrt(n), np.maximum(n, 1) or x * n."


def instead() -> tuple[str, str]:
    """Return the source of the running expression ("" where it is unknown), and an alternative."""
    frame, path = expression.running()
    match path:
        case [ast.Call() as node, *_]:
            function = expression.calls(frame, path)
            return expression.text(node), _for_call(function)
        case [ast.Subscript(slice=ast.Slice()) as node, *_]:
            return expression.text(node), ("The first n rows of another array are minigrad.numpy.take(rows, "
                                           "minigrad.numpy.arange(n), axis=0).")
        case [ast.BinOp() as node, *_]:
            return expression.text(node), f"Sizes add and multiply. {_NUMBER}"
        case [ast.Compare() | ast.BoolOp() | ast.UnaryOp() as node, *_]:
            return expression.text(node), ("np.where(np.greater(n, 1), a, b) chooses by a size, and so do np.less and "
                                           "np.equal.")
        case [node, *_] if isinstance(node, ast.expr):
            return expression.text(node), _OTHERWISE
    return "", _OTHERWISE


def _for_call(function: object) -> str:
    name = getattr(function, "__name__", "")
    if name in _SHAPED and getattr(np, name, None) is function:
        like = f"; np.{name}_like(x) has the shape of x" if hasattr(np, f"{name}_like") else ""
        arguments = "n, v" if name == "full" else "n"
        return (f"minigrad.numpy.{name}({arguments}) takes a size that differs from example to example{like}. "
                "Or trace the code as it stands: mg.numpy_code(f).")
    if function is builtins.len:
        return "x.shape[0] is the length, for arithmetic and for minigrad.numpy.ones and its like."
    if function is builtins.range:
        return f"{_LOOPS} Functions along the axis, such as np.sum(x, axis=0), need no loop."
    if function in (builtins.max, builtins.min, builtins.float, builtins.int) or getattr(math, name, 0) is function:
        return _NUMBER
    if type(getattr(function, "__self__", None)).__module__.startswith("numpy.random"):
        return "mg.random draws arrays of such a size when the program runs, as in mg.random.normal(key, (n,))."
    if name.endswith(("median", "quantile", "percentile")):
        return ("Its elements are picked by a number that follows from the size. A whole batch has one: leave out the "
                "microbatch; mg.compile makes a program for each size.")
    if function is not None and getattr(np, name, None) is function:
        return ("Arrays of such a size are those of minigrad.numpy: arange(n), ones(n), zeros(n), full(n, v), eye(n) "
                "and tri(n).")
    return _OTHERWISE


EXPLAIN["number"] = instead
