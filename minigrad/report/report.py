"""The report of `compare`: a table, numbers as JSON, and an HTML page."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from ..graph import Graph
from ..locks import importing
from . import formatting, html
from .training import Training

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table

_ANY_WIDTH = 1 << 16  # wider than each table


@dataclass(frozen=True)
class Row:
    """The measurements of one variant of the mean loss and its gradient.

    Attributes
    ----------
    name : str
    examples : int
        The number of examples.
    loss : float
    difference : float
        The largest difference of an element of the gradient from the loop's, over the largest element of its array.
    seconds : tuple of float
        The time of each run.
    speedup : float
        Examples per second, relative to the loop's on the same examples.
    peak_bytes : int
        The peak memory of a call beyond its arguments, workspace and results included.
    nodes : int
        The number of nodes of the traced graph (the loop's is that of one example).
    operations : int
        The number of arithmetic operations of the program, for all examples.
    build_seconds : float
        The time to trace, rewrite and print the program: once for all batch sizes, except for ``unrolled``.
    note : str
    """

    name: str
    examples: int
    loss: float
    difference: float
    seconds: tuple[float, ...]
    speedup: float
    peak_bytes: int
    nodes: int
    operations: int
    build_seconds: float
    note: str = ""

    @property
    def time(self) -> float:
        """The median time of a run, in seconds."""
        return float(np.median(self.seconds))

    @property
    def rate(self) -> float:
        """Examples per second."""
        return self.examples / self.time

    def cells(self) -> tuple[str, ...]:
        """Return the text of each of ``Report.COLUMNS``."""
        low, high = min(self.seconds), max(self.seconds)
        return (self.name, f"{self.examples:,}", f"{self.loss:.6g}", formatting.relative(self.difference),
                formatting.seconds(self.time), formatting.span(low, high), f"{formatting.significant(self.speedup)} ×",
                formatting.count(self.rate), formatting.memory(self.peak_bytes), f"{self.nodes:,}",
                formatting.count(self.operations), formatting.seconds(self.build_seconds))


class Point(NamedTuple):
    """A measurement at one batch size."""

    examples: int
    seconds: float
    peak_bytes: int


@dataclass(frozen=True, eq=False)
class Report:
    """The result of `compare`: ``print`` it, or write it with `to_html`.

    Attributes
    ----------
    name : str
        The name of the loss.
    rows : tuple of Row
    curves : dict of str to tuple of Point
        Time and memory against batch size.
    graphs : dict of str to Graph
        The graphs of one example, of the batch, and of the gradient.
    source : str
        The program of the vmapped gradient.
    stages : tuple of (str, str)
        The passes of the program, and their effects.
    roundoff : float
        The relative round-off of the gradient's dtype.
    environment : dict of str to str
    training : Training or None

    Examples
    --------
    >>> report = mg.compare(lambda w, x: (w * x) ** 2, 1.0, np.arange(3.0), repeats=1, progress=False)
    >>> report["loop"].speedup, round(report["vmapped"].loss, 3)
    (1.0, 1.667)
    """

    name: str
    rows: tuple[Row, ...]
    curves: dict[str, tuple[Point, ...]]
    graphs: dict[str, Graph]
    source: str
    stages: tuple[tuple[str, str], ...]
    roundoff: float
    environment: dict[str, str] = field(default_factory=dict)
    training: Training | None = None

    COLUMNS: ClassVar[tuple[str, ...]] = (
        "gradient by", "examples", "loss", "≠ loop", "time", "runs from–to", "speed-up", "examples/s", "peak memory",
        "nodes", "operations", "to build")

    def __getitem__(self, name: str) -> Row:
        """Return the row called `name`."""
        return next(r for r in self.rows if r.name == name)

    @property
    def title(self) -> str:
        """The heading of the table."""
        n = max(r.examples for r in self.rows)
        return f"{self.name}: mean loss and gradient of {n:,} example{'s' * (n != 1)}"

    @property
    def notes(self) -> list[str]:
        """The notes below the table."""
        return [*(f"{r.name}: {r.note}" for r in self.rows if r.note),
                "≠ loop: largest difference of the gradient from the loop's, relative to the largest element of each "
                f"array; the dtype's round-off is {self.roundoff:.1e}"]

    def __str__(self) -> str:
        lines = [self.title, *_align([self.COLUMNS, *(r.cells() for r in self.rows)]), *("  " + n for n in self.notes)]
        if self.training:
            lines += ["", self.training.title, *_align([self.training.COLUMNS, *self.training.cells()])]
        return "\n".join(lines)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Render the report with `rich`: tables wider than the terminal are transposed."""
        yield from _titled(self.title, self.COLUMNS, [r.cells() for r in self.rows], console, options)
        yield from (f"[dim]{n}[/dim]" for n in self.notes)
        if self.training:
            yield ""
            yield from _titled(self.training.title, self.training.COLUMNS, self.training.cells(), console, options)

    def _repr_html_(self) -> str:
        return html.notebook_cell(self)

    def to_json(self) -> str:
        """Return the numbers as JSON text."""
        rows = [{k: getattr(r, k) for k in (*Row.__dataclass_fields__, "time", "rate")} for r in self.rows]
        curves = {k: [p._asdict() for p in points] for k, points in self.curves.items()}
        return json.dumps({
            "name": self.name, "rows": rows, "curves": curves, "stages": [list(s) for s in self.stages],
            "roundoff": self.roundoff, "environment": self.environment,
            "training": self.training.as_dict() if self.training else None}, indent=1, ensure_ascii=False)

    def to_html(self, path: str | os.PathLike[str]) -> str:
        """Write the report as one self-contained HTML page, and return its path."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(html.page(self))
        return os.fspath(path)


def _align(rows: list[tuple[str, ...]]) -> list[str]:
    """Return rows of text as aligned lines: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(w.ljust(n) if not i else w.rjust(n) for i, (w, n) in enumerate(zip(row, widths, strict=True)))
            for row in rows]


def _titled(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]], console: Console,
            options: ConsoleOptions) -> Iterator[RenderableType]:
    """Yield a title and a table, transposed where its rows are wider than the terminal."""
    upright = rich_table(columns, rows)
    fits = console.measure(upright, options=options.update(max_width=_ANY_WIDTH)).maximum <= options.max_width
    yield f"[bold]{title}[/bold]"
    if fits:
        yield upright
    else:
        columns, *rows = zip(columns, *rows, strict=True)
        yield rich_table(columns, rows)


def rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table for a terminal: the first column bold and to the left, the others to the right."""
    with importing:
        from rich import box  # rich is for the command line only
        from rich.table import Table

    out = Table(box=box.SIMPLE_HEAD, header_style="bold cyan")
    for i, name in enumerate(columns):
        out.add_column(name, justify="right" if i else "left", style="" if i else "bold")
    for row in rows:
        out.add_row(*row)
    return out
