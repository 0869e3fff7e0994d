"""Progress bars: in the cells of notebooks, and in terminals, where `rich` draws them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import TextIO

from .errors import notebook_shell
from .locks import importing

_PAUSE = 0.1  # seconds between two messages to the browser, at least


def in_notebook() -> bool:
    """Return whether a notebook's kernel runs this process."""
    return getattr(notebook_shell(), "kernel", None) is not None


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a stream shows its text on a terminal; Python has None for a closed one."""
    return stream is not None and stream.isatty()


@contextmanager
def notebook_bar(title: str, total: int, transient: bool = False) -> Iterator[Callable[[int, str], None]]:
    """Yield a function that shows the number of finished steps and a text; a transient bar disappears at the end."""
    with importing:
        from IPython.display import HTML, display

    def html(done: int, text: str) -> HTML:
        return HTML(f'<progress max="{total}" value="{done}"></progress> <b>{escape(title)}</b> {done}/{total} '
                    f"{escape(text)}")

    shown = 0.0
    bar = display(html(0, ""), display_id=True)

    def update(done: int, text: str = "") -> None:
        nonlocal shown
        if done == total or time.monotonic() - shown > _PAUSE:
            shown = time.monotonic()
            bar.update(html(done, text))

    try:
        yield update
    finally:
        if transient:
            bar.update(HTML(""))


@contextmanager
def examples_bar(title: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows finished steps, of `total`, and the examples a second.

    Parameters
    ----------
    title : str
    total : int
        The number of steps: batches, or parts.

    Yields
    ------
    callable
        ``update(steps, examples)`` takes the numbers so far.
    """
    start = time.perf_counter()

    def rate(examples: int) -> str:
        return f"{examples / max(time.perf_counter() - start, 1e-9):,.0f} examples/s"

    if in_notebook():
        with notebook_bar(title, total) as show:
            yield lambda steps, examples: show(steps, rate(examples))
        return
    with importing:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
               TextColumn("{task.fields[rate]}"))
    with Progress(*columns) as bar:
        task = bar.add_task(title, total=total, rate="")
        yield lambda steps, examples: bar.update(task, completed=steps, rate=rate(examples))


def title_of(progress: bool | str, default: str) -> str:
    """Return the title of a bar from the argument that asks for it."""
    return progress if isinstance(progress, str) else default
