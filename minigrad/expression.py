"""The running expression of the user's code, for error messages.

A frame knows the source position of its current instruction. The syntax tree around that position tells ``while`` from
``and``, an index from an assignment, and one function from another.
"""

from __future__ import annotations

import ast
import functools
import linecache
from collections.abc import Iterator
from itertools import islice
from types import FrameType, ModuleType
from typing import Any

import numpy as np

from .errors import shortened, user_frame


def running() -> tuple[FrameType | None, list[ast.AST]]:
    """Return the user's frame, and the syntax nodes around its current instruction, innermost first.

    The list is empty where the source is unknown, as for text that is passed to ``exec``.
    """
    frame = user_frame()
    if frame is None:
        return None, []
    code = frame.f_code
    unknown = (None, None, None, None)
    first, last, column, end = next(islice(code.co_positions(), frame.f_lasti // 2, None), unknown)
    tree = _tree(tuple(linecache.getlines(code.co_filename, frame.f_globals)))
    if tree is None or first is None or last is None or column is None or end is None:
        return frame, []
    path: list[ast.AST] = [tree]
    while (inner := _child_around(path[-1], (first, column), (last, end))) is not None:
        path.append(inner)
    return frame, path[::-1]


@functools.lru_cache(maxsize=4)
def _tree(lines: tuple[str, ...]) -> ast.AST | None:
    try:
        return ast.parse("".join(lines)) if lines else None
    except (SyntaxError, ValueError):  # a notebook's cell with magic in it
        return None


def _child_around(node: ast.AST, start: tuple[int, int], end: tuple[int, int]) -> ast.AST | None:
    for child in _placed(node):
        if (child.lineno, child.col_offset) <= start and end <= (child.end_lineno, child.end_col_offset):
            inner: ast.AST = child
            return inner
    return None


def _placed(node: ast.AST) -> Iterator[Any]:
    """Yield the nearest descendants that have a source position."""
    for child in ast.iter_child_nodes(node):
        if hasattr(child, "lineno"):
            yield child
            yield from getattr(child, "decorator_list", ())  # they lie before the function's own lines
        else:
            yield from _placed(child)


def text(node: ast.AST) -> str:
    """Return the source of a node in one line, shortened."""
    return shortened(ast.unparse(node))


def value(frame: FrameType, node: ast.AST) -> object:
    """Return the value of a name, or of one within a module or a random generator; None for any other expression."""
    if isinstance(node, ast.Name):
        for names in (frame.f_locals, frame.f_globals, frame.f_builtins):
            if node.id in names:
                return names[node.id]
    if isinstance(node, ast.Attribute):
        owner = value(frame, node.value)
        if isinstance(owner, (ModuleType, type, np.ufunc)) or type(owner).__module__.startswith("numpy.random"):
            return getattr(owner, node.attr, None)
    return None


def calls(frame: FrameType | None, path: list[ast.AST]) -> Any:
    """Return the function that the running expression calls, or None where it does not call a name."""
    return value(frame, path[0].func) if frame and path and isinstance(path[0], ast.Call) else None
