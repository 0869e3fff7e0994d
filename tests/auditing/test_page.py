"""The page of an audit: well-formed, self-contained, complete, and rendered by a browser without complaint."""

import html
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

import minigrad as mg
from minigrad.auditing.page import page
from minigrad.auditing.weight_table import table_rows

from ..report.test_html import read

RNG = np.random.default_rng(0)
W, X, Y = RNG.normal(size=40), RNG.normal(size=(12, 40)), RNG.normal(size=12)


def loss(w, x, y):
    return (np.sum(np.tanh(x * w)) - y) ** 2


each = mg.compile(mg.per_example_grad(loss, in_axes=(None, 0, 0)))


def mean(w, X, Y):
    return each(w, X, Y).mean(axis=0)


def mean_of_means(w, X, Y):
    return sum(mean(w, X[k:k + 5], Y[k:k + 5]) for k in (0, 5, 10)) / 3


def dropped(w, X, Y):
    return mean(w, X[:10], Y[:10])


def clipped(w, X, Y):
    gradients = each(w, X, Y)
    norms = np.linalg.norm(gradients, axis=1)
    return (gradients * np.minimum(1, np.median(norms) / norms)[:, None]).mean(axis=0)


def centred(w, X, Y):
    return mg.grad(lambda w: np.mean((np.tanh((X - X.mean(axis=0)) * w).sum(axis=1) - Y) ** 2))(w)


def audited(step, X=X, Y=Y, w=W, **more):
    return mg.audit(step, loss, w, (X, Y), progress=False, **more)


@pytest.fixture(scope="module")
def reports():
    copies = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    found = {step.__name__: audited(step) for step in (mean, mean_of_means, dropped, clipped, centred)}
    return {**found, "copies": audited(mean_of_means, X[copies], Y[copies])}


@pytest.fixture(scope="module")
def pages(reports, tmp_path_factory):
    folder = tmp_path_factory.mktemp("audits")
    texts = {}
    for name, report in reports.items():
        path = folder / f"{name}.html"
        assert report.to_html(path) == str(path)
        texts[name] = path.read_text(encoding="utf-8")
    return texts


def bars_of(text):
    """Return the tooltip of each bar."""
    chart = re.search('<svg[^>]*aria-label="weight of .*?</svg>', text, re.DOTALL)[0]
    return [html.unescape(t) for t in re.findall("<title>(.*?)</title>", chart)]


def test_pages_are_well_formed_and_hold_the_report(reports, pages):
    for name, report in reports.items():
        reader = read(pages[name])
        words = "".join(reader.words)
        first, _, rest = report.verdict.partition(". ")
        assert first.rstrip(".") in words
        assert rest in words
        for row in table_rows(report):
            assert all(cell in words for cell in row)
        for reading in report.readings:
            assert reading.text in words
        assert report.method in words
        ids = [v for k, v in reader.attributes if k == "id"]
        assert len(ids) == len(set(ids))


def test_pages_have_no_external_resources(pages):
    for text in pages.values():
        reader = read(text)
        assert "script" not in reader.tags
        for key, value in reader.attributes:
            if key in ("src", "href", "xlink:href", "action", "srcset", "poster", "data"):
                assert value.startswith(("data:", "#")), (key, value)
        assert not re.search(r"@import|url\s*\(", text)
        assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= {"http://www.w3.org/2000/svg"}


def test_each_example_has_a_bar_with_its_weight(pages):
    titles = bars_of(pages["mean_of_means"])
    assert titles[0] == "example 0: 0.8 ×, weight 0.0666667"
    assert titles[11] == "example 11: 2 ×, weight 0.166667"
    assert len(titles) == 12
    assert bars_of(pages["dropped"])[10] == "example 10: 0 ×, weight 0"


def test_bars_have_the_colours_of_their_microbatches(pages):
    chart = re.search('<svg[^>]*aria-label="weight of .*?</svg>', pages["mean_of_means"], re.DOTALL)[0]
    colours = re.findall('<g class="plot-(\\w+)"><title>example', chart)
    assert [len(set(colours[a:b])) for a, b in ((0, 5), (5, 10), (10, 12))] == [1, 1, 1]
    assert len({colours[0], colours[5], colours[10]}) == 3
    assert "micro-batch 2 (2 examples)" in chart


def test_headlines_say_whether_the_step_is_right(pages):
    assert '<h1 class="right">The step returns the mean over 12 examples.</h1>' in pages["mean"]
    for name in ("mean_of_means", "dropped", "clipped", "centred", "copies"):
        assert '<h1 class="wrong">' in pages[name]


def test_undetermined_weights_are_hatched_and_their_sets_listed(pages):
    titles = bars_of(pages["copies"])
    assert [k for k, t in enumerate(titles) if t.endswith("not determined")] == [0, 1, 10, 11]
    assert pages["copies"].count('class="plot-hatched"') == 4 + 1  # and the legend's
    assert "<li>0, 10</li><li>1, 11</li>" in pages["copies"]


def test_clipped_gradients_have_a_plot_of_weight_against_norm(pages):
    assert "weight against the norm of the gradient" in pages["clipped"]
    assert "weight against the norm of the gradient" not in pages["mean"]


def test_mixing_examples_have_a_matrix(reports, pages):
    mixing = reports["centred"].mixing
    titles = re.findall(r"<title>(\d+) and (\d+): (\d+)</title>", pages["centred"])
    assert len(titles) == len(mixing.tried) ** 2
    for i, j, value in titles:
        assert int(value) == pytest.approx(100 * mixing.interactions[int(i), int(j)], abs=0.5)
    assert "interaction of two replaced examples" not in pages["mean"]


def test_thousands_of_units_share_bars_whose_ranges_show_each():
    n = 500
    X, Y = RNG.normal(size=(n, 600)), RNG.normal(size=n)
    weights = np.full(n, 1 / n)
    weights[123] = 0
    report = audited(lambda w, X, Y: weights @ each(w, X, Y), X, Y, RNG.normal(size=600))
    text = page(report)
    titles = bars_of(text)
    assert len(titles) == 167
    assert titles[0] == "examples 0–2: 1 ×, from 1 to 1"
    assert titles[41] == "examples 123–125: 0.666667 ×, from 0 to 1"
    assert titles[-1] == "examples 498–499: 1 ×, from 1 to 1"
    assert "3 consecutive examples" in text


def test_an_expected_weight_of_zero_is_drawn_in_plain_weights():
    wanted = np.array([0.1] * 10 + [0.0] * 2)
    text = page(audited(dropped, expected=wanted))
    assert bars_of(text)[:11:10] == ["example 0: 0.1, weight 0.1", "example 10: 0, weight 0"]
    assert "as a multiple of the expected one" not in text
    assert "given weights" in text


def test_further_directions_have_a_table():
    report = audited(lambda w, X, Y: mean(w, X, Y) + 6 * w, extra={"l2<": lambda w: 2 * w})
    assert "<th scope=row>l2&lt;</th><td>3</td><td>1</td>" in page(report)


def test_notebooks_show_the_weights_and_hold_thepage(reports, pages):
    cell = reports["mean_of_means"]._repr_html_()
    table, live = cell.split("<div class=\"minigrad-", 1)
    assert html.escape(reports["mean_of_means"].verdict) in table
    for row in table_rows(reports["mean_of_means"]):
        assert all(html.escape(word) in table for word in row)
    assert "<style" not in table  # which a notebook that is not trusted keeps as it is
    assert html.escape(pages["mean_of_means"]) in live


def test_terminals_show_the_verdict_and_the_table(reports):
    console = pytest.importorskip("rich.console")
    for report in reports.values():
        file = io.StringIO()
        console.Console(file=file, width=400).print(report)
        text = file.getvalue()
        assert report.verdict in text
        assert all(cell in text for row in table_rows(report) for cell in row)
        assert ("interaction of two" in text) == (report.mixing is not None)


PROBE = """<script>
const seen = {};
for (const name of ["h1", ".cards li", "table", "figure svg", ".plot-bar", ".plot-expected", ".plot-square"])
  seen[name] = [...document.querySelectorAll(name)].map(e => { const r = e.getBoundingClientRect();
    return [r.width, r.height] });
seen.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
document.body.dataset.seen = JSON.stringify(seen);
</script>"""


@pytest.mark.parametrize(("name", "width"), [("mean_of_means", 1280), ("centred", 420)])
def test_a_browser_renders_it(pages, tmp_path, name, width):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium is installed")
    probed = tmp_path / "probed.html"
    probed.write_text(pages[name].replace("</body>", PROBE + "</body>"), encoding="utf-8")
    done = subprocess.run(
        [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         f"--user-data-dir={tmp_path}/user", f"--window-size={width},900", "--virtual-time-budget=2000",
         "--dump-dom", probed.as_uri()],
        capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    seen = json.loads(html.unescape(re.search('data-seen="(.*?)"', done.stdout)[1]))
    keys = 3 if name == "mean_of_means" else 1  # of the legend
    assert len(seen[".plot-bar"]) == 12 + keys
    assert len(seen[".plot-square"]) == (144 if name == "centred" else 0)
    for part in ("h1", ".cards li", "table", "figure svg", ".plot-square"):
        assert all(w > 10 and h > 10 for w, h in seen[part]), part
    assert max(w for w, _ in seen[".plot-expected"]) > 200
    assert seen["wide"] <= 0  # wide tables and charts scroll by themselves; the page does not
