"""HTML for the cells of notebooks.

JupyterLab removes styles, SVG and the content of frames from outputs that it does not trust. Images, tables and texts
stay.
"""

from __future__ import annotations

import base64
import re
import zlib
from html import escape

from ..graph import Graph
from ..text import format_graph
from .svg import xml

_LINES = 2000  # of a graph's text


def cell(live: str, still: str = "") -> str:
    """Return HTML that shows `live` in a trusted cell, and `still` in another one."""
    name = f"minigrad-{zlib.crc32(live.encode()):08x}"  # trust differs between cells: each has a style of its own
    return (f'<div class="{name}" style="display:none">{live}</div><div class="{name}-still">{still}</div>'
            f"<style>.{name}{{display:block!important}}.{name}-still{{display:none!important}}</style>")


def image(drawing: str) -> str:
    """Return an SVG drawing as an image, which is without tooltips."""
    still = re.sub("<title>.*?</title>", "", drawing, flags=re.DOTALL)
    return (f'<img style="max-width:100%" alt="drawing of the graph" '
            f'src="data:image/svg+xml;base64,{base64.b64encode(still.encode()).decode()}">')


def framed(page: str, title: str, height: int = 640) -> str:
    """Return a whole HTML page in a frame that can run scripts and save files, and reach nothing outside."""
    return (f'<iframe srcdoc="{escape(page)}" sandbox="allow-scripts allow-downloads" title="{escape(title)}" '
            f'style="width:100%;height:{height}px;border:1px solid #8888" loading="lazy"></iframe>')


def folded_text(summary: str, text: str) -> str:
    """Return a text that opens by a click on its summary."""
    return (f"<details><summary>{xml(summary)}</summary>"
            f'<pre style="overflow:auto;max-height:80vh">{xml(text)}</pre></details>')


def graph_text(graph: Graph) -> str:
    """Return the printed graph, cut after 2,000 lines."""
    lines = format_graph(graph).split("\n")
    if len(lines) > _LINES:
        lines[_LINES:] = [f"  … {len(lines) - _LINES:,} more lines: print(graph) shows them"]
    return "\n".join(lines)


def stage_html(name: str, note: str, after: Graph | str) -> str:
    """Return a step of a compilation: its name, its note, and the graph or the plan after it, folded."""
    summary, text = (f"{after.count()} nodes", graph_text(after)) if isinstance(after, Graph) else ("plan", after)
    return f"<b>{xml(name)}</b>: {xml(note)}{folded_text(summary, text)}"
