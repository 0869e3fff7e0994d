"""Pages of the repository within the site: ``<!-- page: CONTRIBUTING.md -->`` stands for the file's text."""

import re
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
MARK = re.compile(r"^<!-- page: (\S+) -->$", re.MULTILINE)
LINK = re.compile(r"\[([^\]\[]+)\]\(([^)#:\s]+)(#[^)\s]*)?\)")

# The page of the site that a file of the repository has. Links to other files become plain text.
PAGES = {
    "README.md": "/index.md", "ARCHITECTURE.md": "/explanation/architecture.md",
    "CONTRIBUTING.md": "/howto/contributing.md", "CHANGELOG.md": "/reference/changelog.md",
    "minigrad/numpy/FUNCTIONS.md": "/reference/functions.md"}


def site_link(found: re.Match[str]) -> str:
    """Return a link of a repository's page as the site has it."""
    text, target, anchor = found[1], found[2], found[3] or ""
    if target in PAGES:
        return f"[{text}]({PAGES[target]}{anchor})"
    return text


def page_text(name: str) -> str:
    """Return a page of the repository, without its title, with links that hold within the site."""
    text = (ROOT / name).read_text(encoding="utf-8").partition("\n")[2]
    return LINK.sub(site_link, text)


def include(app: Sphinx, page: str, source: list[str]) -> None:
    """Put pages of the repository in place of their marks."""
    for name in MARK.findall(source[0]):
        app.env.note_dependency(str(ROOT / name), docname=page)
    source[0] = MARK.sub(lambda found: page_text(found[1]), source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Include pages as they are read."""
    app.connect("source-read", include)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
