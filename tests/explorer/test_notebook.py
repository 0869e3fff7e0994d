"""Notebooks: what cells show in nbconvert's pages, in JupyterLab with and without trust, and under VS Code's policy."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

nbformat = pytest.importorskip("nbformat", reason="needs nbformat, of the extra `notebook`")
nbclient = pytest.importorskip("nbclient", reason="needs nbclient, of the extra `notebook`")
pytest.importorskip("ipykernel", reason="needs ipykernel, of the extra `notebook`")

ROOT = Path(__file__).resolve().parents[2]
W, X = np.array([0.5, -1.0, 2.0]), np.array([[1.0, 2.0, 3.0], [0.5, 0.0, -0.5], [2.0, 2.0, 1.0]])
CELLS = [
    "import numpy as np, minigrad as mg\n"
    f"W, X = np.array({W.tolist()}), np.array({X.tolist()})",
    "def loss(w, x):\n    return np.sum(np.tanh(x * w)) ** 2\n\nmg.explore(loss, W, (X,))",
    "graph = mg.trace(loss)(W, X[0])\ngraph.with_values(W, X[0])",
    "step = mg.compile(mg.value_and_grad(mg.mean_loss(loss, (None, 0))))\nstep(W, X)\nstep.stages",
    "report = mg.compare(loss, W, X, repeats=1)\nreport",
    "print(graph)\nfor batch in mg.DataLoader(X, batch_size=1, progress='reading'):\n    pass",
]
EXPLORER, GRAPH, STAGES, REPORT, TEXT = range(1, 6)
VALUE = f"{np.sum(np.tanh(X[0] * W)) ** 2:.4g}"


@pytest.fixture(scope="session")
def notebook(tmp_path_factory):
    """A notebook with the outputs of its cells, which no server has signed."""
    code = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    book = nbformat.v4.new_notebook(cells=code, metadata={"kernelspec": {"name": "python3", "display_name": "Python"}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        nbclient.NotebookClient(book, timeout=120, resources={
            "metadata": {"path": str(tmp_path_factory.mktemp("book"))}}).execute()
    return book


def shown(notebook, cell):
    """Return the last display of a cell, by its formats."""
    return [output.data for output in notebook.cells[cell].outputs if "data" in output][-1]


@pytest.fixture
def open_html(browser, tmp_path):
    """Open HTML in a page that has no network; the test fails where it prints to its console."""
    contexts, said = [], []

    def open_page(html, **options):
        context = browser.new_context(viewport={"width": 1100, "height": 900}, **options)
        context.route(lambda url: url.startswith("http"), lambda route: route.fulfill(body=""))
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        path = tmp_path / f"page{len(contexts)}.html"
        path.write_text(html, encoding="utf-8")
        page.goto(f"file://{path}")
        contexts.append(context)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def check_explorer_steps(page):
    frame = page.frame_locator("iframe[title='minigrad: loss']")
    frame.get_by_role("button", name="step forward").click()
    assert "forward 1 of 4: %1 = mul" in frame.locator(".formula").inner_text()
    for _ in range(3):
        frame.get_by_role("button", name="step forward").click()
    assert frame.locator(".formula").inner_text().split(" = ")[-1].startswith(VALUE[:4])


def test_lines_of_cells_and_progress_bars(notebook):
    assert re.search(r"mul\(x, w\) +# In\[2\]:2\n", notebook.cells[TEXT].outputs[0].text)
    assert '<progress max="3" value="3">' in shown(notebook, TEXT)["text/html"]
    assert "In[2]:2</text>" in shown(notebook, GRAPH)["image/svg+xml"]
    assert f"f64[] = {VALUE}" in shown(notebook, GRAPH)["image/svg+xml"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_of_nbconvert_hold_the_live_displays(notebook, open_html, scheme):
    nbconvert = pytest.importorskip("nbconvert", reason="needs nbconvert, of the extra `notebook`")
    page = open_html(nbconvert.HTMLExporter().from_notebook_node(notebook)[0], color_scheme=scheme)
    check_explorer_steps(page)
    outputs = page.locator(".jp-OutputArea-output")
    assert not any(image.is_visible() for image in page.locator("img[alt='drawing of the graph']").all())
    assert page.locator("svg.mg").first.is_visible()
    assert page.get_by_text("speed-up", exact=True).first.is_visible()
    for button, start in (("SVG", b"<svg"), ("PNG", b"\x89PNG\r\n"), ("frames", b"PK\x03\x04")):
        with page.expect_download() as saved:  # out of a frame of its own origin
            page.frame_locator("iframe[title='minigrad: loss']").get_by_role("button", name=button).click()
        assert Path(saved.value.path()).read_bytes().startswith(start)
    details = outputs.filter(has_text="18 nodes for every B").locator("details").first
    assert not details.locator("pre").is_visible()
    details.locator("summary").press("Enter")
    assert "tanh" in details.locator("pre").inner_text()
    page.get_by_text("curves, graphs and program").press("Enter")
    whole = page.frame_locator("iframe[title^='loss: mean loss and gradient']")
    assert whole.get_by_role("heading", name="The program").is_visible()


def test_frames_run_under_the_policy_of_vs_code(notebook, open_html):
    """VS Code puts the HTML of an output into a webview with this policy, which frames inherit."""
    policy = ("default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
              "img-src https: http: data:; font-src https:; connect-src https:; child-src https: data:")
    page = open_html(f'<!doctype html><meta http-equiv="Content-Security-Policy" content="{policy}"><body>'
                     f'{shown(notebook, EXPLORER)["text/html"]}{shown(notebook, GRAPH)["text/html"]}')
    check_explorer_steps(page)
    assert page.locator("svg.mg").is_visible()
    assert not any(image.is_visible() for image in page.locator("img").all())


@pytest.fixture
def lab(tmp_path):
    """The address of a JupyterLab server for a folder of its own."""
    pytest.importorskip("jupyterlab", reason="needs JupyterLab, of the extra `notebook`")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = {f"JUPYTER_{kind}_DIR": str(tmp_path / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
         "--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={tmp_path}", "--IdentityProvider.token=test",
         "--LabApp.extension_manager=readonly"],
        env=os.environ | folders | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert server.poll() is None, "the server ended"
            try:
                urllib.request.urlopen(f"{address}/api?token=test", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait()


def test_jupyterlab_shows_drawings_without_trust_and_the_explorer_with_it(notebook, lab, browser, tmp_path):
    nbformat.write(notebook, tmp_path / "book.ipynb")
    context = browser.new_context(viewport={"width": 1300, "height": 3000})
    page = context.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{lab}/lab/tree/book.ipynb?token=test")
    images = page.locator("img[alt='drawing of the graph']")
    images.nth(1).wait_for(timeout=120_000)
    # Not trusted: JupyterLab has removed frames, styles and SVG; the drawings are images, and tables stay.
    assert page.locator(".jp-OutputArea-output iframe, .jp-OutputArea-output svg.mg").count() == 0
    for image in images.all():
        assert image.is_visible()
        assert image.evaluate("image => image.complete && image.naturalWidth > 100")
    assert page.get_by_text("speed-up", exact=True).first.is_visible()
    page.get_by_text("| Idle").wait_for(timeout=120_000)  # before it has a kernel, JupyterLab runs no cell
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    page.locator(".jp-OutputArea-output svg.mg").wait_for(timeout=120_000)
    check_explorer_steps(page)
    assert not any(image.is_visible() for image in images.all())
    assert errors == []
    context.close()
