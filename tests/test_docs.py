"""The documentation names every public name and setting; Sphinx itself runs the pages and checks their links."""

import json
import re
import runpy
from collections import Counter
from pathlib import Path

import pytest

import minigrad as mg
from minigrad import testing

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if not p.relative_to(DOCS).parts[0].startswith(("_", "jupyter")))
BLOCK = r"^(`{{3,}})\{{{}\}}[^\n]*\n(.*?)^\1$"  # a fenced directive
DOCUMENTED = Counter(
    name for page in PAGES
    for _, block in re.findall(BLOCK.format("public"), page.read_text(), re.DOTALL | re.MULTILINE)
    for name in block.split())
SPACES = {"random": mg.random, "optim": mg.optim, "per_example": mg.per_example}


def test_every_public_name_has_one_entry_in_the_reference():
    public = {*mg.__all__, *(f"{space}.{name}" for space, module in SPACES.items() for name in module.__all__)}
    assert public - set(DOCUMENTED) - set(SPACES) == set()
    assert [name for name, count in DOCUMENTED.items() if count > 1] == []
    assert set(testing.__all__) <= set(DOCUMENTED)


def test_every_setting_is_listed():
    text = (DOCS / "reference" / "settings.md").read_text()
    used = {name for path in (ROOT / "minigrad").rglob("*.py")
            for name in re.findall(r"environ(?:\.get\(|\[)\"(MINIGRAD_\w+)", path.read_text())}
    assert len(used) >= 4
    assert [name for name in used if f"`{name}`" not in text] == []


def test_every_page_is_reachable():
    """Each page stands in the table of contents of its folder's index."""
    for page in PAGES:
        if page.name != "index.md":
            entries = (page.parent / "index.md").read_text().splitlines()
            assert page.stem in entries, page


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_code_on_pages_is_python(page):
    for _, cell in re.findall(BLOCK.format("code-cell"), page.read_text(), re.DOTALL | re.MULTILINE):
        code = re.sub(r"^(?::.*\n)+", "", cell)
        compile(code, str(page), "exec")


@pytest.mark.parametrize("name", ["quickstart", "tiny", "slides"])
def test_notebooks_hold_the_cells_of_their_pages(name):
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("myst_nb")
    page = (DOCS / "tutorials" / f"{name}.md").read_text()
    notebook = runpy.run_path(str(DOCS / "_ext" / "notebooks.py"))["as_notebook"](page)
    nbformat.validate(notebook)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    cells = [cell for _, cell in re.findall(BLOCK.format("code-cell"), page, re.DOTALL | re.MULTILINE)]
    assert code == [re.sub(r"^(?::.*\n)*\n*", "", cell).rstrip("\n") for cell in cells]
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    assert not any(".md)" in cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_stored_answers_of_peers_are_complete():
    conventions = runpy.run_path(str(DOCS / "peers" / "conventions.py"))
    stored = json.loads((DOCS / "peers" / "conventions.json").read_text())
    for library in ("jax", "torch"):
        assert set(stored[library]["answers"]) == {
            question for question, ways in conventions["QUESTIONS"].items() if library in ways}


def test_broken_links_are_found(tmp_path):
    pytest.importorskip("sphinx")
    faults = runpy.run_path(str(DOCS / "_ext" / "links.py"))["faults"]
    (tmp_path / "a.html").write_text('<a id="here" href="b.html#there">b</a> <a class="x" href="#here">a</a>'
                                     '<a href="https://example.org">elsewhere</a><img src="data:image/png;base64,AA">')
    (tmp_path / "b.html").write_text('<a href="a.html#gone">a</a> <script src="https://example.org/x.js"></script>'
                                     '<a href="c.html">c</a>')
    assert sorted(faults(tmp_path)) == [
        "a.html links to b.html#there", "b.html links to a.html#gone", "b.html links to c.html",
        "b.html loads https://example.org/x.js"]
