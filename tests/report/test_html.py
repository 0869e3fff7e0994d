"""The page of a report: well-formed, self-contained, complete, and rendered by a browser without complaint."""

import dataclasses
import html.parser
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

import minigrad as mg
from minigrad.report.html import _coloured
from minigrad.report.training import Run, Training

RNG = np.random.default_rng(0)
VOID = {"meta", "link", "input", "br"}


def weird_loss(params, x, y):
    return np.sum(np.maximum(x @ params["<W>&"], 0)) * y


@pytest.fixture(scope="module")
def report():
    found = mg.compare(weird_loss, {"<W>&": RNG.normal(size=(4, 3))}, (RNG.normal(size=(20, 4)), RNG.normal(size=20)),
                       repeats=2, copies=4, progress=False)
    runs = tuple(Run(name, batch, 0.1, 3, (2.0, 1.0, 0.5), (0.1, 0.5, 0.9), 0.1)
                 for name, batch in (("batch", 20), ("mini-batch", 4), ("stochastic", 1)))
    return dataclasses.replace(found, training=Training(runs, 2, 20, 5))


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    return report.to_html(tmp_path_factory.mktemp("report") / "page.html")


@pytest.fixture(scope="module")
def text(page):
    with open(page, encoding="utf-8") as file:
        return file.read()


class Reader(html.parser.HTMLParser):
    """Checks that tags are nested, and collects attributes and words."""

    def __init__(self):
        super().__init__()
        self.open, self.attributes, self.words, self.tags = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read(text):
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_is_well_formed_and_holds_everything(report, text):
    reader = read(text)
    words = "".join(reader.words)
    for row in report.rows:
        for cell in row.cells():
            assert cell in words
    for graph in report.graphs.values():
        assert str(graph) in words
    assert report.source.strip() in words
    for value in report.environment.values():
        assert value in words
    assert reader.tags.count("figure") == 4
    assert reader.tags.count("svg") == 4 + len(report.graphs)
    assert "90.0%" in words
    ids = [v for k, v in reader.attributes if k == "id"]
    assert len(ids) == len(set(ids))


def test_notebooks_show_the_tables_and_hold_the_page(report, text):
    cell = report._repr_html_()
    tables, live = cell.split("<div class=\"minigrad-", 1)
    for row in report.rows:
        assert all(html.escape(word) in tables for word in row.cells())
    assert "<style" not in tables  # which a notebook that is not trusted keeps as it is
    assert html.escape(text) in live


def test_pages_have_no_external_resources(text):
    reader = read(text)
    assert "script" not in reader.tags
    for key, value in reader.attributes:
        if key in ("src", "href", "xlink:href", "action", "srcset", "poster", "data"):
            assert value.startswith(("data:", "#")), (key, value)
    assert not re.search(r"@import|url\s*\(", text)
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= {"http://www.w3.org/2000/svg"}


def test_a_report_without_training_and_with_one_row(tmp_path):
    small = mg.compare(lambda w, x: np.sum(w * x), RNG.normal(size=3), (RNG.normal(size=(1, 3)),), rows=("loop",),
                       repeats=1, progress=False)
    path = small.to_html(tmp_path / "small.html")
    assert "lambda_" in "".join(read((tmp_path / "small.html").read_text(encoding="utf-8")).words)
    assert path.endswith("small.html")


def test_programs_are_coloured_without_losing_a_character():
    source = 'import numpy as np\n\n\ndef f(x):  # a < b\n    return "&" + x * 2.5\n'
    coloured = _coloured(source)
    assert "".join(read(coloured).words) == source
    assert '<i class="k">import</i>' in coloured
    assert '<i class="c"># a &lt; b</i>' in coloured
    assert '<i class="n">2.5</i>' in coloured
    assert _coloured("__global__ void f(float* '") == "__global__ void f(float* &#x27;"


PROBE = """<script>
const seen = {};
for (const name of ["h1", ".cards li", "table", "tbody tr", "figure svg", ".plot-line", ".drawing svg", "pre"])
  seen[name] = [...document.querySelectorAll(name)].map(e => { const r = e.getBoundingClientRect();
    return [r.width, r.height] });
seen.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
seen.shown = [];
for (const label of document.querySelectorAll(".tabs > label")) { label.click();
  seen.shown.push([...document.querySelectorAll(".panel")].findIndex(p => p.getBoundingClientRect().height > 0)) }
document.body.dataset.seen = JSON.stringify(seen);
</script>"""


@pytest.mark.parametrize("width", [1280, 420])
def test_a_browser_renders_it(report, text, tmp_path, width):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium is installed")
    probed = tmp_path / "probed.html"
    probed.write_text(text.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    done = subprocess.run(
        [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         f"--user-data-dir={tmp_path}/user", f"--window-size={width},900", "--virtual-time-budget=2000",
         "--dump-dom", probed.as_uri()],
        capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    seen = json.loads(html.unescape(re.search('data-seen="(.*?)"', done.stdout)[1]))
    assert len(seen["tbody tr"]) == len(report.rows) + 3
    assert len(seen["figure svg"]) == 4
    assert len(seen[".plot-line"]) == 3 * 4
    for name in ("h1", ".cards li", "table", "tbody tr", "figure svg"):
        assert all(w > 10 and h > 10 for w, h in seen[name]), name
    assert all(w > 100 for w, _ in seen[".plot-line"])
    assert seen[".drawing svg"][0][1] > 100  # the first drawing is shown, the others on demand
    assert seen["shown"] == list(range(len(report.graphs)))
    assert seen["wide"] <= 0  # wide tables scroll by themselves; the page does not
