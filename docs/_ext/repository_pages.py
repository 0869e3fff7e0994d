"""Pages of the repository within the site: ``<!-- page: CONTRIBUTING.md -->`` stands for the file's text, and
``<!-- examples -->`` for all examples.
"""

import ast
import re
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
MARK = re.compile(r"^<!-- page: (\S+) -->$", re.MULTILINE)
EXAMPLES = "<!-- examples -->"
LINK = re.compile(r"\[([^\]\[]+)\]\(([^)#:\s]+)(#[^)\s]*)?\)")

# The page of the site that a file of the repository has. Links to other files become plain text.
PAGES = {
    "README.md": "/index.md", "ARCHITECTURE.md": "/explanation/architecture.md",
    "CONTRIBUTING.md": "/howto/contributing.md", "CHANGELOG.md": "/reference/changelog.md",
    "minigrad/numpy/FUNCTIONS.md": "/reference/functions.md"}


def site_link(found: re.Match[str]) -> str:
    """Return a link of a repository's page as the site has it."""
    text, target, anchor = found[1], found[2], found[3] or ""
    if target.startswith("examples/") and target.endswith(".py"):
        return f"[{text}](/reference/examples.md#{Path(target).stem}py)"
    if target in PAGES:
        return f"[{text}]({PAGES[target]}{anchor})"
    return text


def page_text(name: str) -> str:
    """Return a page of the repository, without its title, with links that hold within the site."""
    text = (ROOT / name).read_text(encoding="utf-8").partition("\n")[2]
    return LINK.sub(site_link, text)


def examples() -> str:
    """Return a section for each example: the first line of its docstring, and its text."""
    sections = []
    for path in sorted((ROOT / "examples").glob("*.py")):
        source = path.read_text(encoding="utf-8")
        (summary, *_) = (ast.get_docstring(ast.parse(source)) or "").splitlines()
        sections.append(f"## {path.name}\n\n{summary}\n\n```{{literalinclude}} /../examples/{path.name}\n```\n")
    return "\n".join(sections)


def include(app: Sphinx, page: str, source: list[str]) -> None:
    """Put pages of the repository in place of their marks."""
    for name in MARK.findall(source[0]):
        app.env.note_dependency(str(ROOT / name), docname=page)
    if EXAMPLES in source[0]:
        source[0] = source[0].replace(EXAMPLES, examples())
    source[0] = MARK.sub(lambda found: page_text(found[1]), source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Include pages as they are read."""
    app.connect("source-read", include)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
