"""HTML for the cells of notebooks."""

from __future__ import annotations

import base64
import re
import zlib
from html import escape


def cell(live: str, drawing: str) -> str:
    """Return HTML that shows `live`, or `drawing` (SVG) as an image where the notebook is not trusted.

    JupyterLab removes styles, SVG and the content of frames from outputs that it does not trust; images stay. It
    decides cell by cell, so each output's style has a name of its own.
    """
    still = re.sub("<title>.*?</title>", "", drawing, flags=re.DOTALL)  # tooltips, which images do not show
    image = base64.b64encode(still.encode()).decode()
    name = f"minigrad-{zlib.crc32(live.encode()):08x}"
    return (f'<div class="{name}" style="display:none">{live}</div>'
            f'<img class="{name}-still" style="max-width:100%" alt="drawing of the graph" '
            f'src="data:image/svg+xml;base64,{image}">'
            f"<style>.{name}{{display:block!important}}.{name}-still{{display:none!important}}</style>")


def framed(page: str, title: str, height: int = 640) -> str:
    """Return a whole HTML page in a frame that can run scripts and save files, and reach nothing outside."""
    return (f'<iframe srcdoc="{escape(page)}" sandbox="allow-scripts allow-downloads" title="{escape(title)}" '
            f'style="width:100%;height:{height}px;border:1px solid #8888" loading="lazy"></iframe>')
