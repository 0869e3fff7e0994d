"""Drawings of graphs: SVG and HTML by the standard library alone, PNG and PDF by an installed converter."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Sequence

import numpy as np

from ..errors import MinigradError, at_user_line
from ..graph import ArrayType, Graph, PyTree
from ..locks import importing
from ..text import is_literal
from .boxes import picture
from .notebook import cell, folded_text, graph_text, image, stage_html
from .roles import roles
from .svg import render, xml
from .values import input_arrays, input_sizes, node_values

__all__ = ["graph_html", "graph_svg", "roles", "show", "stage_html", "with_values"]


def graph_svg(graph: Graph) -> str:
    """Return a self-contained SVG drawing of `graph`.

    Data flows from the inputs at the top to the results at the bottom. A box shows its operation, its name on the
    printed page, its type, its value if the graph has values, and the user's line; its colour shows its role
    (per-example, shared, batched, combined, gradient). A large graph is shortened, with a note.
    """
    count = graph.count() - sum(map(is_literal, graph.nodes))
    return render(picture(graph), f"{graph.name} · {count:,} node{'s' * (count != 1)}", graph.notes)


def graph_html(graph: Graph) -> str:
    """Return HTML with the drawing in a scrolling frame, and the page of text, folded, below."""
    svg = graph_svg(graph)
    drawing = cell(f'<div style="overflow:auto;max-height:80vh">{svg}</div>', image(svg))
    return f'<div class="minigrad-graph">{drawing}{folded_text("as text", graph_text(graph))}</div>'


def show(graph: Graph, path: str | os.PathLike[str] | None = None, values: Sequence[PyTree] | None = None) -> str:
    """Write the drawing into a file and return the file's path.

    Parameters
    ----------
    graph : Graph
    path : str or os.PathLike, optional
        The file; its ending names the format: ``.svg`` (the default), ``.html``, and ``.png`` and ``.pdf`` with
        CairoSVG or rsvg-convert. Without a path, an SVG file goes to the folder for temporary files and opens in a
        browser, if one is available.
    values : sequence of arrays or pytrees, optional
        The values of the inputs; every box then shows the value of its node.
    """
    if values is not None:
        graph = with_values(graph, values, "show")
    if path is not None:
        path = os.fspath(path)
        ending = os.path.splitext(path)[1].lower()
        if ending not in _WRITERS:
            raise MinigradError(at_user_line(f"show({path!r}): a drawing is written as .svg, .html, .png or .pdf, not "
                                             f"as {ending}"))
        data = _WRITERS[ending](graph, path)
        with open(path, "wb") as drawing:
            drawing.write(data)
        return path
    return open_text(graph_svg(graph), graph.name, ".svg")


def with_values(graph: Graph, values: Sequence[PyTree], method: str = "with_values") -> Graph:
    """Return the graph with the values of its nodes in words; see `Graph.with_values`."""
    arrays = input_arrays(graph, values, method)
    computed = node_values(graph, arrays, input_sizes(graph, arrays, method))
    valued = graph.replace()
    vars(valued)["value_words"] = {n: in_words(np.asarray(v)) for n, v in computed.items()
                                   if isinstance(n.type, ArrayType)}
    return valued


def in_words(array: np.ndarray) -> str:
    """Return ``= 0.5``, ``= [1 2 3]``, or ``in -1.5 … 2`` with the number of NaN."""
    if array.size <= 4:
        numbers = " ".join(f"{x:.4g}" for x in array.ravel().tolist())
        return f"= {numbers}" if array.ndim == 0 else f"= [{numbers}]"
    missing = int(np.isnan(array).sum()) if array.dtype.kind == "f" else 0
    if missing == array.size:
        return "= nan"
    low, high = (f(array[~np.isnan(array)] if missing else array) for f in (np.min, np.max))
    return f"in {low:.4g} … {high:.4g}" + (f", {missing} nan" if missing else "")


def _page(graph: Graph, path: str) -> bytes:
    title = xml(f"graph {graph.name}")
    return (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>'
            f"<body>{graph_html(graph)}</body></html>").encode()


def _converted(graph: Graph, path: str) -> bytes:
    """Return the drawing as PNG or PDF, or raise an error that names the converters."""
    kind = os.path.splitext(path)[1][1:].lower()
    svg = graph_svg(graph).encode()
    if importlib.util.find_spec("cairosvg") is not None:
        with importing:
            import cairosvg

        scaled = {"scale": 2, "background_color": "white"} if kind == "png" else {}
        data: bytes = getattr(cairosvg, f"svg2{kind}")(bytestring=svg, **scaled)
        return data
    if command := shutil.which("rsvg-convert"):
        options = ["--zoom=2", "--background-color=white"] if kind == "png" else []
        return subprocess.run([command, f"--format={kind}", "--unlimited", *options], input=svg, capture_output=True,
                              check=True).stdout
    raise MinigradError(at_user_line(
        f"show({path!r}): a drawing is SVG, and nothing here turns it into {kind.upper()}. Install CairoSVG "
        f"(pip install cairosvg) or rsvg-convert (librsvg), or write {os.path.splitext(path)[0] + '.svg'!r}, which "
        "browsers open"))


_WRITERS: dict[str, Callable[[Graph, str], bytes]] = {
    **dict.fromkeys(("", ".svg"), lambda graph, path: graph_svg(graph).encode()),
    **dict.fromkeys((".html", ".htm"), _page), **dict.fromkeys((".png", ".pdf"), _converted)}


def open_text(text: str, name: str, ending: str) -> str:
    """Write a text to a temporary file, open it where there is a browser, and return its path."""
    name = re.sub(r"[^A-Za-z0-9_]+", "-", name)[:40]
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix=f"minigrad-{name}-", suffix=ending,
                                     delete=False) as file:
        file.write(text)
    open_in_browser(file.name)
    return file.name


def open_in_browser(path: str) -> None:
    """Open `path` in a browser, if there is a screen and a browser with a window of its own."""
    if sys.platform not in ("win32", "darwin") and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        return
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return
    if type(browser) is webbrowser.GenericBrowser:  # lynx and the like, which take over the terminal
        return
    # Some browsers block until they close.
    threading.Thread(target=browser.open, args=("file://" + path.replace(os.sep, "/"),), name="show").start()
