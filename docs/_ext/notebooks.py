"""Pages as notebooks: each page that runs has a link to an ``.ipynb`` of the same cells."""

import re
from pathlib import Path

import nbformat
from myst_nb.core.read import is_myst_markdown_notebook, read_myst_markdown_notebook
from myst_parser.config.main import MdParserConfig
from sphinx.application import Sphinx

FOLDER = "_notebooks"
LINK = re.compile(r"(?<!!)\[([^\]\[]+)\]\((?!https?:)[^)\s]+\)")  # to a page of the site


def as_notebook(text: str) -> nbformat.NotebookNode:
    """Return the notebook that a page's text describes. Links to other pages become plain text: it travels alone."""
    notebook = read_myst_markdown_notebook(text, MdParserConfig(), add_source_map=False)
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
                         "language_info": {"name": "python"}}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        if cell.cell_type == "markdown":
            cell.source = LINK.sub(r"\1", cell.source)
    return notebook


def link_to_notebook(app: Sphinx, page: str, source: list[str]) -> None:
    """Write the notebook of a page that runs, and put a link to it below the page's title."""
    text = source[0]
    if not is_myst_markdown_notebook(text) or Path(app.env.doc2path(page)).suffix != ".md":
        return
    target = Path(app.srcdir, FOLDER, page).with_suffix(".ipynb")
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(as_notebook(text), target)
    head, title, body = text.partition("\n# ")
    name, _, rest = body.partition("\n")
    link = f"{{download}}`This page as a notebook </{target.relative_to(app.srcdir)}>`"
    if "MINIGRAD_ROOT" in text:
        link += " It reads files of the repository: run it in the root of a checkout."
    source[0] = f"{head}{title}{name}\n\n{link}\n{rest}" if title else text


def setup(app: Sphinx) -> dict[str, bool]:
    """Convert each page as it is read."""
    app.connect("source-read", link_to_notebook)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
