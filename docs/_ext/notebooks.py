"""Pages as notebooks: each page that runs has a link to an ``.ipynb`` of the same cells, which needs no other file.

A page lists the files of the repository that it reads in its head, as ``files: [examples/tiny.py]``. A cell before the
first use writes them to a temporary folder, `files`; the page and its notebook run that cell.
"""

import json
import posixpath
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import yaml
from myst_nb.core.read import is_myst_markdown_notebook, read_myst_markdown_notebook
from myst_parser.config.main import MdParserConfig
from plain_markdown import PlainMarkdown
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "notebooks"
HEAD = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
FIRST_USE = re.compile(r"^```\{code-cell\}(?:(?!^```$).)*?\bfiles\b", re.MULTILINE | re.DOTALL)

# Tags that fold parts of a cell on the site, and the names of these parts in JupyterLab.
FOLDED = {"hide-input": ["source"], "remove-input": ["source"], "remove-cell": ["source"], "hide-output": ["outputs"],
          "hide-cell": ["source", "outputs"]}


def literal(name: str) -> str:
    """Return a file as an item of a dictionary in Python, a line of text per line of code."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if name.endswith(".json"):
        text = json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))
    lines = "\n".join(f"        {line!r}" for line in text.splitlines(keepends=True))
    return f"    {Path(name).name!r}: (\n{lines}),"


def with_files(text: str) -> str:
    """Return a page with a cell that writes the files of its head."""
    head = HEAD.match(text)
    names = yaml.safe_load(head[1]).get("files", []) if head else []
    if not names:
        return text
    cell = "\n".join([
        "``````````{code-cell}", ":tags: [remove-cell]", "# The files of minigrad's repository that this page reads.",
        "import tempfile", "from pathlib import Path", "", 'files = Path(tempfile.mkdtemp(prefix="minigrad-"))',
        "for name, text in {", *map(literal, names), "}.items():",
        '    (files / name).write_text(text, encoding="utf-8")', "``````````", "", ""])
    use = FIRST_USE.search(text)
    if use is None:
        raise ExtensionError(f"no cell uses the files {names}")
    return text[:use.start()] + cell + text[use.start():]


def link_from(page: str, sources: Path, site: str) -> Callable[[str, str], str]:
    """Return the function that gives a notebook's links: into the site where its address is known, else relative."""
    def address(target: str, anchor: str) -> str:
        if not target.endswith(".md"):
            return ""
        name = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))[:-len(".md")]
        place = f"{name}.html" + f"#{anchor}" * bool(anchor)
        if site:
            return f"{site.rstrip('/')}/{place}"
        here = posixpath.dirname(f"{FOLDER}/{page}")
        runs = is_myst_markdown_notebook((sources / f"{name}.md").read_text(encoding="utf-8"))
        return posixpath.relpath(f"{FOLDER}/{name}.ipynb" if runs else place, here)
    return address


def as_notebook(text: str, page: str, sources: Path, site: str = "") -> nbformat.NotebookNode:
    """Return the notebook that a page's text describes."""
    notebook = read_myst_markdown_notebook(text, MdParserConfig(), add_source_map=False)
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
                         "language_info": {"name": "python"}}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        if cell.cell_type == "markdown":
            plain = PlainMarkdown(page, sources, link_from(page, sources, site))
            cell.source = plain.convert(cell.source)
            if plain.attachments:
                cell.attachments = plain.attachments
        elif folded := {part for tag in cell.metadata.get("tags", []) for part in FOLDED.get(tag, [])}:
            cell.metadata["jupyter"] = {f"{part}_hidden": True for part in sorted(folded)}
    return notebook


def link_to_notebook(app: Sphinx, page: str, source: list[str]) -> None:
    """Write the notebook of a page that runs, and put a link to it below the page's title."""
    if not is_myst_markdown_notebook(source[0]) or Path(app.env.doc2path(page)).suffix != ".md":
        return
    text = with_files(source[0])
    target = Path(app.outdir, FOLDER, page).with_suffix(".ipynb")
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(as_notebook(text, page, Path(app.srcdir), app.config.html_baseurl), target)
    head, title, body = text.partition("\n# ")
    name, _, rest = body.partition("\n")
    there = posixpath.relpath(f"{FOLDER}/{page}.ipynb", posixpath.dirname(page) or ".")
    link = f'<a href="{there}" download>This page as a notebook</a>'
    source[0] = f"{head}{title}{name}\n\n{link}\n{rest}" if title else text


def setup(app: Sphinx) -> dict[str, bool]:
    """Convert each page as it is read."""
    app.connect("source-read", link_to_notebook)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
