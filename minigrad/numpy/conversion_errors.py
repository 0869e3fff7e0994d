"""Explanations of conversion errors: the user's expression that needs a number or an ndarray, and an alternative.

Python's syntax and C code call conversion methods without arguments, so the user's source tells the operation.
"""

from __future__ import annotations

import ast
import builtins
import math
from collections.abc import Mapping

import numpy as np

from .. import expression
from ..tracing import thread

Answer = tuple[str, str]  # the source of the expression, and an alternative

_WHERE = ("np.where(condition, a, b) chooses per element; mg.cond(condition, f, g, x) calls one of two functions where "
          "the other must not run.")
_SEVERAL = "np.stack([a, b]) first makes one array of several."
_TRUTH_OF_CALLS = {
    builtins.max: f"np.maximum(a, b) is the larger of two; np.max(x) that of an array. {_SEVERAL}",
    builtins.min: f"np.minimum(a, b) is the smaller of two; np.min(x) that of an array. {_SEVERAL}",
    builtins.sorted: f"np.sort(x) sorts an array. {_SEVERAL}",
    builtins.any: f"np.any(x) is that of an array. {_SEVERAL}",
    builtins.all: f"np.all(x) is that of an array. {_SEVERAL}",
    builtins.filter: "np.where(mask, x, 0) keeps the shape, and so does a reduction with where=mask.",
    builtins.bool: "Keep the value as an array: x != 0 is one of bools."}
_ARRAYS = (np.array, np.asarray, np.asanyarray, np.ascontiguousarray, np.asfortranarray, np.require, np.copy)
_MATH = {"fabs": "abs", "asin": "arcsin", "acos": "arccos", "atan": "arctan"}
WRITES = "it writes into an array, and traced arrays never change"
FORMATTED = ("mg.print(\"x = {:.2f}\", x) prints it while the program runs; without a format, f\"{x}\" shows its type; "
             "or return it and print it outside.")


def as_it_stands() -> str:
    """Return the way out of an error that NumPy's protocols cannot prevent, for code that is not traced so already."""
    return "" if thread.trace.numpy_code else " Or trace the code as it stands: mg.numpy_code(f)."


def truth() -> Answer | None:
    """Return the expression that needs a truth value, and an alternative."""
    frame, path = expression.running()
    for node, parent in zip(path, [*path[1:], None], strict=False):
        source = expression.text(node)
        match node:
            case ast.Call():
                function = expression.calls(frame, [node])
                instead = _found(_TRUTH_OF_CALLS, function)
                out = as_it_stands() if function in (builtins.max, builtins.min) else ""
                return (source, instead + out) if instead else None
            case ast.Compare(ops=[ast.In() | ast.NotIn()]):
                return source, "np.any(np.equal(x, values)) says whether a value is one of several."
            case ast.Compare(ops=[_, _, *_]):
                return source, "Write two comparisons: (a < b) & (b < c)."
            case ast.BoolOp(op=ast.And()):
                return source, "np.logical_and(a, b), or (a > 0) & (b > 0) with brackets, holds where both do."
            case ast.BoolOp(op=ast.Or()):
                return source, "np.logical_or(a, b), or (a > 0) | (b > 0) with brackets, holds where either does."
            case ast.UnaryOp(op=ast.Not()):
                return source, "np.logical_not(x), or ~(a > 0), is the opposite."
        match parent:
            case ast.While(test=test) if test is node:
                return f"while {source}", "mg.while_loop(test, body, state) runs body as long as test(state) holds."
            case ast.If(test=test) if test is node:
                return f"if {source}", _WHERE
            case ast.IfExp(test=test) if test is node:
                return expression.text(parent), _WHERE
            case ast.Assert(test=test) if test is node:
                return f"assert {source}", "Check the inputs before tracing; `with mg.debug_nans():` finds NaN."
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                if any(node in c.ifs for c in parent.generators):
                    return expression.text(parent), "np.where(mask, x, 0) keeps the shape; a sum takes where=mask."
    return None


def key() -> Answer | None:
    """Return the expression that needs a key, and an alternative."""
    _, path = expression.running()
    match path:
        case [ast.Compare(ops=[ast.In() | ast.NotIn()]) as node, *_]:
            return expression.text(node), "np.any(np.equal(x, list(values))) says whether a value is one of several."
    return None


def number() -> Answer | None:
    """Return the expression that needs a float or an int, and an alternative."""
    frame, path = expression.running()
    match path:
        case [ast.BinOp(op=ast.Mod()) as node, *_]:
            return expression.text(node), FORMATTED
        case [ast.Subscript(ctx=ast.Store()) as target, *parents]:
            return _stored(target, parents)
        case [ast.Call() as node, *_]:
            function = expression.calls(frame, path)
            name = getattr(function, "__name__", "")
            if getattr(math, name, None) is function is not None:
                instead = "the functions of math take Python's numbers, those of NumPy traced values"
                ours = _MATH.get(name, name)
                return expression.text(node), (f"Write np.{ours}: {instead}." if hasattr(np, ours) else (
                    f"{instead[0].upper()}{instead[1:]}.")) + as_it_stands()
            return _cast(node, function)
    return None


def index() -> Answer | None:
    """Return the expression that needs an index or a size, and an alternative."""
    frame, path = expression.running()
    match path:
        case [ast.Subscript(ctx=ast.Store()) as target, *parents]:
            return _stored(target, parents)
        case [ast.Subscript(slice=ast.Slice()) as node, *_]:
            return expression.text(node), (
                "A slice with a traced bound has no fixed length. With a fixed number n of elements: "
                "minigrad.numpy.take(x, start + np.arange(n), axis=0).")
        case [ast.Subscript() as node, *_]:
            return expression.text(node), (
                "minigrad.numpy.take(x, i, axis=0) indexes an ndarray or a list of numbers with it; "
                "np.stack([a, b])[i] chooses among traced values, and mg.switch(i, [f, g], x) among functions."
                + (as_it_stands() if frame and isinstance(expression.value(frame, node.value), np.ndarray) else ""))
        case [ast.BinOp(op=ast.Mult()) as node, *_]:
            return expression.text(node), (
                "A list repeats a fixed number of times. np.asarray(values) * n multiplies its numbers.")
        case [ast.Call() as node, *_] if expression.calls(frame, path) is builtins.range:
            return expression.text(node), "mg.fori_loop(0, n, body, state) runs state = body(i, state) n times."
    return None


def array() -> Answer | None:
    """Return the expression that needs an ndarray, and an alternative."""
    frame, path = expression.running()
    match path:
        case [ast.Subscript(ctx=ast.Store()) as target, *parents]:
            return _stored(target, parents)
        case [ast.Subscript(slice=ast.Tuple()) as node, *_]:
            return expression.text(node), (
                "An ndarray cannot take a traced index. minigrad.numpy.getitem(x, (i, j)) is x[i, j] with it."
                + as_it_stands())
        case [ast.Subscript() as node, *_]:
            return expression.text(node), (
                "An ndarray cannot take a traced index. minigrad.numpy.take(x, i, axis=0) is x[i] with it."
                + as_it_stands())
        case [ast.Call() as node, *_]:
            function = expression.calls(frame, path)
            source = expression.text(node)
            if any(function is f for f in _ARRAYS):
                listed = node.args and isinstance(node.args[0], (ast.List, ast.Tuple, ast.ListComp, ast.GeneratorExp))
                return source, as_it_stands().join((
                    "np.stack([a, b]) makes one array of several; minigrad.numpy.array takes nested lists and numbers, "
                    "too." if listed else "A traced value is an array already: use it as it is, or x.astype(dtype). Of "
                    f"a list, np.stack([a, b]) makes one; minigrad.numpy.{function.__name__} takes all of these.", ""))
            return _cast(node, function) or (_generic(source) if function is not None else None)
    return None


def _generic(source: str) -> Answer:
    return source, (
        "Keep the value as an array: arithmetic and np functions take it as it is, and minigrad.numpy's take lists of "
        "such values, too. What else must be an ndarray must come from outside the traced function." + as_it_stands())


def _cast(node: ast.Call, function: object) -> Answer | None:
    if isinstance(function, type) and issubclass(function, np.generic):
        return expression.text(node), f"Write x.astype(np.{function.__name__}).{as_it_stands()}"
    return None


def _stored(target: ast.Subscript, around: list[ast.AST]) -> Answer:
    statement = around[0] if around and isinstance(around[0], (ast.Assign, ast.AugAssign, ast.AnnAssign)) else target
    out = expression.text(target.value)
    return expression.text(statement), (
        "An ndarray cannot take traced values, nor be indexed with them: it lies outside the program. Write "
        f"{out} = minigrad.numpy.at({out})[i].set(v), or make the array at once, with np.stack or np.where."
        + as_it_stands())


def _found(table: Mapping[object, str], function: object) -> str | None:
    try:
        return table.get(function)
    except TypeError:  # not hashable
        return None
