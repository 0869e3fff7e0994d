"""Drawings in the colours that the reader of the site chose, where that choice differs from the system's."""

import re
from pathlib import Path

from sphinx.application import Sphinx

import minigrad as mg

FILE = "drawings.css"
STYLE = re.compile(r"<style>(.*)@media \(prefers-color-scheme:dark\)\{(.*)\}</style>", re.DOTALL)


def colours() -> str:
    """Return the light and the dark rules of a drawing, each below the theme of the page."""
    found = STYLE.search(mg.trace(lambda x: x)(mg.f64[()]).to_svg())
    assert found, "the style of a drawing has no dark part"
    return f'body[data-theme="light"]{{{found[1]}}}\nbody[data-theme="dark"]{{{found[1]}{found[2]}}}\n'


def write(app: Sphinx) -> None:
    """Write the style sheet."""
    if app.builder.format == "html":
        target = Path(app.outdir, "_static", FILE)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(colours(), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the style sheet to each page."""
    app.connect("builder-inited", write)
    app.add_css_file(FILE)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
