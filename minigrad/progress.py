"""Progress bars in the cells of notebooks; `rich` draws those of terminals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape

from .errors import notebook_shell

_PAUSE = 0.1  # seconds between two messages to the browser, at least


def in_notebook() -> bool:
    """Return whether a notebook's kernel runs this process."""
    return getattr(notebook_shell(), "kernel", None) is not None


@contextmanager
def notebook_bar(title: str, total: int, transient: bool = False) -> Iterator[Callable[[int, str], None]]:
    """Yield a function that shows the number of finished steps and a text; a transient bar disappears at the end."""
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
