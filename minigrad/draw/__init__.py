"""Drawings of graphs: SVG text and HTML, from the standard library alone."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
import webbrowser
from typing import Any

from ..text import format_graph
from .boxes import picture
from .svg import render, xml

_LINES = 2000  # of text in a notebook's cell

__all__ = ["graph_html", "graph_svg", "show"]


def graph_svg(graph: Any) -> str:
    """Return a self-contained SVG drawing of `graph`.

    Data flows from the inputs at the top to the results at the bottom. A box shows its operation, its name
    on the printed page, its type and the user's line; its colour says whether it is per-example, shared,
    batched or gradient. A graph of more boxes than can be looked at is shortened, and a note says so.
    """
    count = sum(n.prim.name not in ("input", "full") for n in graph.nodes)
    return render(picture(graph), f"{graph.name} · {count:,} node{'s' * (count != 1)}", graph.notes)


def graph_html(graph: Any) -> str:
    """Return the drawing in a frame that scrolls, and below it the page of text, folded, as HTML."""
    lines = format_graph(graph).split("\n")
    if len(lines) > _LINES:
        lines[_LINES:] = [f"  … {len(lines) - _LINES:,} more lines: print(graph) shows them"]
    return ('<div class="minigrad-graph"><div style="overflow:auto;max-height:80vh">'
            f"{graph_svg(graph)}</div><details><summary>as text</summary>"
            f'<pre style="overflow:auto;max-height:80vh">{xml(chr(10).join(lines))}</pre></details></div>')


def show(graph: Any, path: str | os.PathLike | None = None) -> str:
    """Write the drawing into an SVG file and return the file's path.

    Parameters
    ----------
    graph : Graph
    path : str or os.PathLike, optional
        Where to write. Without it the file goes to the folder for temporary files and is opened in the
        browser, where there is one to open it in.
    """
    svg = graph_svg(graph)
    if path is not None:
        with open(path, "w", encoding="utf-8") as file:
            file.write(svg)
        return os.fspath(path)
    name = re.sub(r"[^A-Za-z0-9_]+", "-", graph.name)[:40]
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix=f"minigrad-{name}-", suffix=".svg",
                                     delete=False) as file:
        file.write(svg)
    _open_in_browser(file.name)
    return file.name


def _open_in_browser(path: str) -> None:
    """Open `path` where there is a screen and a browser that does not take over the terminal."""
    if sys.platform not in ("win32", "darwin") and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        return
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return
    if type(browser) is webbrowser.GenericBrowser:  # lynx and its like: they would wait for keys
        return
    # Some browsers are waited for; the caller need not be.
    threading.Thread(target=browser.open, args=("file://" + path.replace(os.sep, "/"),), name="show").start()
