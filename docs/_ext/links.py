"""Check the built pages and notebooks: each internal link has its target; pages load no file from another server."""

import json
import re
from pathlib import Path
from urllib.parse import unquote

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

LINK = re.compile(r"<(\w+)[^>]*?\s(href|src)=\"([^\"]+)\"")
LINK_IN_CELL = re.compile(r"\]\(([^)\s]+)\)")
ELSEWHERE = ("http:", "https:", "mailto:")


def faults(folder: Path) -> list[str]:
    """Return the links of all pages in a folder that lead nowhere, and the files that come from elsewhere."""
    texts = {path.resolve(): path.read_text(encoding="utf-8") for path in folder.rglob("*.html")}
    anchors = {path: set(re.findall(r"\s(?:id|name)=\"([^\"]+)\"", text)) for path, text in texts.items()}
    found = []
    for page, text in texts.items():
        for place in LINK.finditer(text):
            tag, attribute, link = place.groups()
            if link.startswith(ELSEWHERE):
                if (attribute == "src" or tag == "link") and 'rel="canonical"' not in place[0]:
                    found.append(f"{page.name} loads {link}")
            elif not link.startswith("data:"):
                path, _, anchor = unquote(link).partition("#")
                target = (page.parent / path.partition("?")[0]).resolve() if path else page
                if not target.exists() or (anchor and target in anchors and anchor not in anchors[target]):
                    found.append(f"{page.name} links to {link}")
    for notebook in folder.rglob("*.ipynb"):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        links = [link for link in LINK_IN_CELL.findall(text) if not link.startswith((*ELSEWHERE, "attachment:"))]
        found += [f"{notebook.name} links to {link}" for link in links
                  if not (notebook.parent / unquote(link).partition("#")[0]).exists()]
    return found


def check(app: Sphinx, exception: Exception | None) -> None:
    """Fail the build where a link leads nowhere."""
    if exception is None and app.builder.format == "html" and (found := faults(Path(app.outdir))):
        raise ExtensionError("\n".join(found))


def setup(app: Sphinx) -> dict[str, bool]:
    """Check when all pages are written."""
    app.connect("build-finished", check, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
