"""The documentation names every public name and setting; Sphinx itself runs the pages and checks their links."""

import importlib
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
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


@pytest.fixture
def extension(monkeypatch):
    """Return a module of the site's own extensions."""
    for package in ("sphinx", "myst_nb", "nbformat"):
        pytest.importorskip(package)
    monkeypatch.syspath_prepend(DOCS / "_ext")
    return importlib.import_module


@pytest.fixture
def notebook(extension):
    """Return the notebook of a page."""
    def make(page, site=""):
        notebooks = extension("notebooks")
        name = str(page.relative_to(DOCS).with_suffix(""))
        return notebooks.as_notebook(notebooks.with_files(page.read_text()), name, DOCS, site)

    return make


RUN = [page for page in PAGES if page.read_text().startswith("---\nfile_format: mystnb")]


@pytest.mark.parametrize("page", RUN, ids=lambda p: str(p.relative_to(DOCS)))
def test_notebooks_hold_the_cells_of_their_pages(page, notebook):
    made = notebook(page)
    importlib.import_module("nbformat").validate(made)
    code = [cell.source for cell in made.cells if cell.cell_type == "code"]
    cells = [cell for _, cell in re.findall(BLOCK.format("code-cell"), page.read_text(), re.DOTALL | re.MULTILINE)]
    if "\nfiles: " in page.read_text():
        (added,) = (k for k, source in enumerate(code) if "import tempfile" in source)
        assert not any("files" in source for source in code[:added])
        del code[added]
    assert code == [re.sub(r"^(?::.*\n)*\n*", "", cell).rstrip("\n") for cell in cells]
    assert made.metadata["kernelspec"]["name"] == "python3"


def prose(tokens):
    """Yield the texts, links and roles of parsed Markdown, code left out."""
    for k, token in enumerate(tokens):
        after = tokens[k + 1] if k + 1 < len(tokens) else None
        if token.type == "text":
            role = after is not None and after.type == "code_inline" and re.search(r"\{[a-z:-]+\}$", token.content)
            definition = k > 0 and tokens[k - 1].type == "softbreak" and token.content.startswith(": ")
            yield f"{'ROLE ' * bool(role)}{'DEFINITION ' * definition}{token.content}"
        elif token.type == "link_open":
            yield f"LINK {token.attrs['href']}"
        yield from prose(token.children or ())


@pytest.mark.parametrize("page", RUN, ids=lambda p: str(p.relative_to(DOCS)))
def test_notebooks_are_markdown_without_directives(page, notebook):
    """No syntax of MyST reaches Jupyter, and each relative link leads to the notebook or page of a source file."""
    parser = importlib.import_module("markdown_it").MarkdownIt("commonmark").enable("table")
    for cell in notebook(page).cells:
        if cell.cell_type == "markdown":
            tokens = parser.parse(cell.source)
            assert [t.info for t in tokens if t.type == "fence" and t.info.startswith("{")] == []
            for text in prose(tokens):
                assert not re.search(r"^ROLE|^DEFINITION|:::|^\(\S+\)=|MINIGRAD_ROOT", text), text
                if text.startswith("LINK ") and not text.startswith("LINK http"):
                    place = (DOCS / "notebooks" / page.relative_to(DOCS)).parent / text[5:].partition("#")[0]
                    source = Path(os.path.normpath(place)).relative_to(DOCS)
                    if source.suffix == ".ipynb":
                        assert DOCS / source.relative_to("notebooks").with_suffix(".md") in RUN, text
                    else:
                        assert source.suffix == ".html"
                        assert (DOCS / source).with_suffix(".md").exists(), text


def test_links_of_notebooks_lead_into_a_site_whose_address_is_known(notebook):
    made = notebook(DOCS / "tutorials" / "quickstart.md", "https://example.org/minigrad/")
    text = "\n".join(cell.source for cell in made.cells)
    assert "(https://example.org/minigrad/howto/ragged.html)" in text
    assert ".ipynb" not in text


def test_directives_become_markdown(extension, tmp_path):
    (tmp_path / "guide").mkdir()
    (tmp_path / "code.py").write_text("# one\na = 1\n# two\nb = 2\n# three\n")
    (tmp_path / "guide" / "dot.svg").write_text("<svg/>")
    convert = extension("plain_markdown").PlainMarkdown("guide/page", tmp_path, lambda target, anchor: target.upper())
    assert convert.convert("""(label)=
A [link](a.md), `[code](b.md)`, an [address](https://example.org).

:::{note}
See [this](c.md).
:::

````{admonition} Mind
- a list
````

- item

  ```{literalinclude} /code.py
  :caption: two
  :start-at: "# two"
  :end-before: "# three"
  ```

```{figure} dot.svg
:alt: a dot

Its *caption*.
```

word
: its meaning

```python
f[0](x)  # {not} a directive
```
""") == """
A [link](A.MD), `[code](b.md)`, an [address](https://example.org).

> **Note.**
>
> See [this](C.MD).

> **Mind**
>
> - a list

- item

  *two*

  ```python
  # two
  b = 2
  ```

![a dot](attachment:dot.svg)

Its *caption*.

- **word**: its meaning

```python
f[0](x)  # {not} a directive
```"""
    assert convert.attachments == {"dot.svg": {"image/svg+xml": "PHN2Zy8+"}}
    for unknown in ("```{tab-set}\n```", "{doc}`a`"):
        with pytest.raises(Exception, match=r"guide/page: .*(tab-set|\{doc\})"):
            convert.convert(unknown)


@pytest.mark.parametrize("name", ["tutorials/tiny", "reference/conventions"])
def test_notebooks_with_files_run_anywhere(name, notebook, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    made = notebook(DOCS / f"{name}.md")
    nbclient.NotebookClient(made, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert list(tmp_path.iterdir()) == []


def test_each_site_lists_the_sites_beside_it(extension, tmp_path):
    for folder, version in (("0.9.0", "0.9.0"), ("latest", "0.10.0"), ("0.10.0", "0.10.0")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "version.json").write_text(json.dumps({"version": version, "pages": ["index"]}))
    (tmp_path / "unrelated").mkdir()
    extension("versions").renew(tmp_path)
    texts = {path.read_text() for path in tmp_path.glob("*/versions.js")}
    assert len(texts) == 1
    assert not (tmp_path / "unrelated" / "versions.js").exists()
    entries = json.loads(texts.pop().partition(" = ")[2].rstrip(";\n"))
    assert [(e["folder"], e["version"]) for e in entries] == [
        ("latest", "0.10.0"), ("0.10.0", "0.10.0"), ("0.9.0", "0.9.0")]


def test_stored_answers_of_peers_are_complete():
    conventions = runpy.run_path(str(DOCS / "peers" / "conventions.py"))
    stored = json.loads((DOCS / "peers" / "conventions.json").read_text())
    for library in ("jax", "torch"):
        assert set(stored[library]["answers"]) == {
            question for question, ways in conventions["QUESTIONS"].items() if library in ways}


def test_broken_links_are_found(extension, tmp_path):
    faults = extension("links").faults
    (tmp_path / "a.html").write_text('<a id="here" href="b.html#there">b</a> <a class="x" href="#here">a</a>'
                                     '<a href="https://example.org">elsewhere</a><img src="data:image/png;base64,AA">')
    (tmp_path / "b.html").write_text('<a href="a.html#gone">a</a> <script src="https://example.org/x.js"></script>'
                                     '<a href="c.html">c</a>')
    cell = {"cell_type": "markdown", "source": ["[a](a.html) and [d](../d.ipynb)"]}
    (tmp_path / "c.ipynb").write_text(json.dumps({"cells": [cell]}))
    assert sorted(faults(tmp_path)) == [
        "a.html links to b.html#there", "b.html links to a.html#gone", "b.html links to c.html",
        "b.html loads https://example.org/x.js", "c.ipynb links to ../d.ipynb"]


PROGRAM = """import numpy as np
import minigrad as mg

graph = mg.trace(lambda w, x: np.sum(np.tanh(x * w)) ** 2)(mg.f64[3], mg.f64[3])
page = mg.explore(lambda w, x: np.sum(np.tanh(x * w)) ** 2, np.ones(3), (np.eye(3),))
"""

# The output of a cell: the upper half of the image is white, as the ground of a plot, and the lower half pure red.
PLOT = """<div class="cell_output"><img alt="a plot" width="20" height="20" src="data:image/png;base64,\
iVBORw0KGgoAAAANSUhEUgAAABQAAAAUCAIAAAAC64paAAAAHElEQVR42mP4TwFgGNU8qp\
mwZgby0ajmUc0EEQDYRh0OQ1Sv5QAAAABJRU5ErkJggg=="></div>"""


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """Build a site of two pages with drawings, once with both pages and once as a version with one."""
    for package in ("sphinx", "myst_nb", "furo"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("sites")
    names = {}
    exec(PROGRAM, names)
    drawing, page = names["graph"].to_svg(), names["page"]._repr_mimebundle_()["text/html"]
    for version, pages in (("0.1.0", ["index", "other"]), ("0.2.0", ["index"])):
        source = folder / f"source-{version}"
        source.mkdir()
        (source / "drawing.svg").write_text(drawing)
        (source / "other.md").write_text("---\norphan: true\n---\n\n# Other\n")
        (source / "live.html").write_text(f"<div>{drawing}</div>{page}{PLOT}")
        (source / "index.md").write_text(
            "# Index\n\n![a drawing](drawing.svg)\n\n```{raw} html\n:file: live.html\n```\n")
        for name in {"index", "other"}.difference(pages):
            (source / f"{name}.md").unlink()
        subprocess.run([sys.executable, "-m", "sphinx", "-qW", "-b", "html", "-c", DOCS, "-D", f"version={version}",
                        source, folder / version], check=True)
    return folder


@pytest.mark.parametrize("system", ["light", "dark"])
def test_drawings_follow_the_theme_of_the_page(sites, browser, system):
    expect = importlib.import_module("playwright.sync_api").expect
    page = browser.new_page(color_scheme=system)
    page.goto(f"file://{sites}/0.1.0/index.html")
    page.locator("iframe").evaluate("frame => frame.scrollIntoView()")
    box = {"light": "rgb(233, 240, 253)", "dark": "rgb(28, 42, 68)"}
    frame_text = {"light": "rgb(31, 35, 40)", "dark": "rgb(230, 232, 234)"}
    image = page.locator("img[alt='a drawing']")
    pictures = {}
    for theme in ("light", "dark", "auto", "dark", "light"):
        page.evaluate("theme => { document.body.dataset.theme = theme; }", theme)
        shown = system if theme == "auto" else theme
        expect(page.locator("svg.mg .mg-box:visible").first).to_have_css("fill", box[shown])
        expect(page.frame_locator("iframe").locator("body")).to_have_css("color", frame_text[shown])
        pictures.setdefault(shown, set()).add(image.screenshot())
    assert [len(same) for same in pictures.values()] == [1, 1]  # an image looks the same however its theme was chosen
    page.close()


@pytest.mark.parametrize("system", ["light", "dark"])
def test_plots_are_dark_in_the_dark(sites, browser, system):
    """The white ground of a plot becomes that of the page, and colours keep their hue."""
    image = pytest.importorskip("PIL.Image")
    page = browser.new_page(color_scheme=system)
    page.goto(f"file://{sites}/0.1.0/index.html")
    plot = page.locator("img[alt='a plot']")
    for theme in ("light", "dark", "auto"):
        page.evaluate("theme => { document.body.dataset.theme = theme; }", theme)
        page.mouse.move(0, 0)
        seen = image.open(io.BytesIO(plot.screenshot())).convert("RGB")
        ground, (red, green, blue) = seen.getpixel((10, 4)), seen.getpixel((10, 15))
        dark = system == "dark" if theme == "auto" else theme == "dark"
        behind = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == (tuple(map(int, re.findall(r"\d+", behind))) if dark else (255, 255, 255))
        assert red > green + 50
        assert red > blue + 50
    page.close()


def test_the_switch_leads_to_the_page_in_another_version(sites, browser):
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"file://{sites}/0.2.0/index.html")
    switch = page.get_by_label("version")
    assert switch.locator("option").all_inner_texts() == ["0.2.0", "0.1.0"]
    assert switch.input_value() == "0.2.0"
    switch.select_option("0.1.0")
    page.wait_for_url("**/0.1.0/index.html")
    page.goto(f"file://{sites}/0.1.0/other.html")
    page.get_by_label("version").select_option("0.2.0")
    page.wait_for_url("**/0.2.0/index.html")  # this version has no such page
    assert errors == []
    page.close()


def test_a_single_version_is_named(sites, browser, tmp_path):
    shutil.copytree(sites / "0.1.0", tmp_path / "site")
    (tmp_path / "site" / "versions.js").write_text(
        'window.minigradVersions = [{"version": "0.1.0", "folder": "site", "pages": []}];')
    page = browser.new_page()
    page.goto(f"file://{tmp_path}/site/index.html")
    assert page.locator(".versions").inner_text() == "Version 0.1.0"
    page.close()


@pytest.fixture(scope="module")
def explored(request):
    """Return the programs of the page on the explorer, and the script that takes their pictures."""
    pytest.importorskip("sklearn")
    pytest.importorskip("playwright")
    pytest.importorskip("PIL")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS / "explorer")
        return importlib.import_module("screenshots")


def test_programs_of_the_explorer_have_the_stages_of_their_pictures(explored):
    page = (DOCS / "howto" / "explorer.md").read_text()
    for name, (make, stage, second, example, operation) in explored.VIEWS.items():
        exploration = make()
        titles = [s.title for s in exploration.stages]
        assert {stage, second} - {None} <= set(titles)
        assert example is None or example < 16
        assert operation is None or operation in {n.prim.name for s in exploration.stages for n in s.graph.nodes}
        assert f"{make.__name__}\n" in page
        for scheme in ("light", "dark"):
            assert f"{name}-{scheme}.png" in page
            assert (DOCS / "explorer" / f"{name}-{scheme}.png").exists()


def test_pictures_of_the_explorer_are_taken(explored, browser):
    make, *view = explored.VIEWS["logistic"]
    light, dark = (explored.picture(browser, make(), tuple(view), scheme) for scheme in ("light", "dark"))
    assert light.startswith(b"\x89PNG")
    assert light != dark
