"""The expression of the user's code that runs now, for errors that say what was called.

A frame knows the place in the source of the instruction that it runs. The syntax tree around that place tells
``while`` from ``and``, an index from an assignment, and which function is called.
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
    """Return the user's frame, and the syntax nodes around the instruction that it runs, innermost first.

    There are none where the source is not known, as for text that is passed to ``exec``.
    """
    frame = user_frame()
    if frame is None:
        return None, []
    code = frame.f_code
    place = next(islice(code.co_positions(), frame.f_lasti // 2, None), (None,))
    lines = tuple(linecache.getlines(code.co_filename, frame.f_globals))
    tree = None if None in place else _tree(lines)
    if tree is None:
        return frame, []
    first, last, column, end = place
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
            return child
    return None


def _placed(node: ast.AST) -> Iterator[Any]:
    """Yield the children that have a place in the source, in the place of those that have none."""
    for child in ast.iter_child_nodes(node):
        if hasattr(child, "lineno"):
            yield child
        else:
            yield from _placed(child)


def text(node: ast.AST) -> str:
    """Return the source of a node in one line, shortened."""
    return shortened(ast.unparse(node))


def value(frame: FrameType, node: ast.AST) -> Any:
    """Return what a name, or a name within a module, stands for; None for any other expression."""
    if isinstance(node, ast.Name):
        for names in (frame.f_locals, frame.f_globals, frame.f_builtins):
            if node.id in names:
                return names[node.id]
    if isinstance(node, ast.Attribute):
        owner = value(frame, node.value)
        if isinstance(owner, (ModuleType, type, np.ufunc)):
            return getattr(owner, node.attr, None)
    return None


def calls(frame: FrameType | None, path: list[ast.AST]) -> Any:
    """Return the function that the running expression calls; None where it calls none, or its name says too little."""
    return value(frame, path[0].func) if path and isinstance(path[0], ast.Call) else None
