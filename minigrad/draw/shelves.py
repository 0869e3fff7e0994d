"""Rows for boxes that no edge ties to the rest of a drawing: inputs used far below, results made far above."""

from __future__ import annotations

from collections.abc import Sequence

from .order import Edge, neighbours

Column = tuple[int, ...]

_TALLEST = 4  # boxes in a column


def detached(edges: Sequence[Edge], ranks: Sequence[int]) -> tuple[list[Column], list[Column]]:
    """Return the detached columns of the first and of the last layer.

    A column is a box without edges, or a short chain of boxes with no edges but those between them. One that reaches
    from the first layer to the last is in neither list.
    """
    above, below = neighbours(len(ranks), edges)
    last = max(ranks, default=0)
    columns = []
    for v in range(len(ranks)):
        if not above[v]:
            column = [v]
            while len(below[column[-1]]) == 1 == len(above[below[column[-1]][0]]) and len(column) <= _TALLEST:
                column.append(below[column[-1]][0])
            if not below[column[-1]] and len(column) <= _TALLEST:
                columns.append(tuple(column))
    return ([c for c in columns if len(c) == 1 and ranks[c[0]] == 0 < last],
            [c for c in columns if ranks[c[-1]] == last and ranks[c[0]] > 0])


def shelves(columns: Sequence[Column], sizes: Sequence[tuple[float, float]], width: float, apart: float,
            gap: float) -> tuple[dict[int, tuple[float, float]], float]:
    """Return the left upper corner of each box of the columns, set in rows, and the height of all rows.

    Parameters
    ----------
    columns : sequence of tuple of int
        Boxes that stand above each other.
    sizes : sequence of (float, float)
        Width and height of every box.
    width : float
        The width at which a row ends; a wider column has a row of its own.
    apart, gap : float
        The space between columns, and between the boxes of a column and rows.
    """
    corners: dict[int, tuple[float, float]] = {}
    x = y = tall = 0.0
    for column in columns:
        wide = max(sizes[v][0] for v in column)
        if x and x + wide > width:
            x, y, tall = 0.0, y + tall + gap, 0.0
        top = y
        for v in column:
            corners[v] = x + (wide - sizes[v][0]) / 2, top
            top += sizes[v][1] + gap
        tall = max(tall, top - gap - y)
        x += wide + apart
    return corners, y + tall
