"""The explorer's page in Chromium: first paint, steps and size by the number of nodes, and its layout.

Layouts of gradients are compared by width, height, crossings of edges, and overlaps of boxes: those of the page, and
those of the static drawing (`graph.to_svg`).
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import minigrad as mg
from minigrad.explorer import Exploration, seed

from . import harness

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NODES = (5, 64, 500, 5000)
_STEPS = 25

# Milliseconds of each step, with the layout of the document.
_STEP = """count => { const all = [];
    for (let k = 0; k < count; k++) {
        const begin = performance.now();
        minigradExplorer.move(k);
        document.body.offsetHeight;
        all.push(performance.now() - begin);
    }
    return all; }"""
_PAINT = """() => new Promise(resolve => { const look = () => {
    const [paint] = performance.getEntriesByName("first-contentful-paint");
    const [drawn] = performance.getEntriesByName("drawn");
    if (paint && drawn) resolve([paint.startTime, drawn.startTime]); else setTimeout(look, 10); }; look(); })"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a headless Chromium."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        sys.exit("needs Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def chain(layers: int) -> Exploration:
    """Return the page of a loss with some layers, all of one line."""
    def loss(p: list[np.ndarray], x: np.ndarray) -> np.ndarray:
        for w in p:
            x = np.tanh(x * w) + x
        return np.sum(x**2)

    return mg.explore(loss, list(np.linspace(0.1, 0.3, layers)), (np.ones((4, 3)),))


def written_out(layers: int) -> Exploration:
    """Return the page of a loss with a line of its own for each layer."""
    lines = ["def loss(p, x):", *(f"    x = np.tanh(x * p[{k}]) + x" for k in range(layers)), "    return np.sum(x**2)"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "layers.py")
        path.write_text("\n".join(lines))
        space: dict[str, object] = {"np": np, "__name__": "layers"}
        exec(compile(path.read_text(), str(path), "exec"), space)
        loss = space["loss"]
        assert callable(loss)
        return mg.explore(loss, list(np.linspace(0.1, 0.3, layers)), (np.ones((4, 3)),))


def largest(exploration: Exploration) -> int:
    """Return the index of the stage with the most nodes."""
    counts = [len(stage.graph.nodes) for stage in exploration.stages]
    return counts.index(max(counts))


def sized(make: Callable[[int], Exploration], nodes: int) -> Exploration:
    """Return the page whose largest stage has about so many nodes."""
    few, more = (len(p.stages[largest(p)].graph.nodes) for p in map(make, (2, 3)))
    return make(max(1, round((nodes - few) / (more - few)) + 2))


def times(browser: Browser, path: Path, stage: int) -> tuple[float, float, float]:
    """Return the seconds to the first paint, to the end of the first drawing, and of a step in the largest stage."""
    tab = browser.new_page(viewport={"width": 1300, "height": 850})
    tab.goto(f"file://{path}")
    paint, drawn = tab.evaluate(_PAINT)
    tab.wait_for_timeout(500)
    tab.evaluate("k => { minigradExplorer.state.stage = k; minigradExplorer.draw(); }", stage)
    steps = tab.evaluate(_STEP, _STEPS)
    tab.close()
    return paint / 1e3, drawn / 1e3, float(np.median(steps)) / 1e3


def programs() -> dict[str, Exploration]:
    """Return pages of known programs."""
    def digits(params: dict[str, np.ndarray], x: np.ndarray, label: np.ndarray) -> np.ndarray:
        h = np.maximum(x @ params["W1"] + params["b1"], 0)
        z = h @ params["W2"] + params["b2"]
        return np.log(np.sum(np.exp(z - z.max()))) + z.max() - z[label]

    def deep(params: list[np.ndarray], x: np.ndarray) -> np.ndarray:
        for w in params:
            x = np.tanh(w @ x)
        return np.sum(x**2)

    def attention(p: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
        q, k, v = x @ p["q"], x @ p["k"], x @ p["v"]
        a = np.exp(q @ k.T)
        return np.sum((a / np.sum(a, axis=1, keepdims=True) @ v) ** 2)

    rng = np.random.default_rng(0)

    def matrix(*shape: int) -> np.ndarray:
        return rng.normal(size=shape)

    network = {"W1": matrix(64, 128), "b1": np.zeros(128), "W2": matrix(128, 10), "b2": np.zeros(10)}
    return {"seed": mg.explore(seed.s, seed.params, seed.examples),
            "digits": mg.explore(digits, network, (matrix(8, 64), np.arange(8))),
            "six layers": mg.explore(deep, [matrix(4, 4) for _ in range(6)], (matrix(8, 4),)),
            "attention": mg.explore(attention, {k: matrix(4, 4) for k in "qkv"}, (matrix(3, 5, 4),))}


Point = tuple[float, float]


def static_metrics(svg: str) -> dict[str, int]:
    """Return the size of a static drawing, its boxes, and the pairs of edges that cross and of boxes that overlap."""
    width, height = (float(re.search(rf'<svg[^>]* {side}="([\d.]+)"', svg)[1]) for side in ("width", "height"))
    segments = [s for d in re.findall(r'<path class="mg-edge" d="([^"]+)"', svg) for s in _segments(d)]
    boxes = [tuple(map(float, m)) for m in re.findall(
        r'<g class="mg-node[^>]*translate\(([\d.-]+) ([\d.-]+)\).*?<rect class="mg-box" '
        r'width="([\d.]+)" height="([\d.]+)"', svg, re.DOTALL)]
    overlaps = sum(a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]
                   for i, a in enumerate(boxes) for b in boxes[:i])
    crossings = sum(_cross(*a, *b) for i, a in enumerate(segments) for b in segments[:i])
    return {"boxes": len(boxes), "width": round(width), "height": round(height), "crossings": crossings,
            "overlaps": overlaps}


def _segments(path: str) -> Iterator[tuple[Point, Point]]:
    """Return the slanted lines of a path; vertical ones lie between boxes of a column and cross nothing."""
    x = y = 0.0
    for command, text in re.findall(r"([MVC])([^MVC]+)", path):
        numbers = [float(t) for t in text.split()]
        new = (x, numbers[0]) if command == "V" else (numbers[-2], numbers[-1])
        if command != "M":
            yield (x, y), new
        x, y = new


def _cross(a: Point, b: Point, c: Point, d: Point) -> bool:
    def side(p: Point, q: Point, r: Point) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0


def layouts(browser: Browser, folder: Path) -> dict[str, dict[str, dict[str, int]]]:
    """Return the metrics of the gradients of all programs, on the page and in the static drawing."""
    found = {}
    for name, exploration in programs().items():
        stage = next(k for k, s in enumerate(exploration.stages) if s.title == "gradient")
        tab = browser.new_page()
        tab.goto("file://" + exploration.save(folder / "layout.html"))
        page = tab.evaluate("k => layoutMetrics(minigradExplorer.layout(minigradExplorer.stages[k]))", stage)
        tab.close()
        found[name] = {"page": page, "static drawing": static_metrics(exploration.stages[stage].graph.to_svg())}
    return found


def run(quick: bool) -> harness.Result:
    """Open each page several times."""
    rounds = 1 if quick else 5
    columns: dict[str, list[tuple[float, float, float]]] = {}
    sizes: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        folder = Path(name)
        pages = {**{f"{n:,} nodes": sized(chain, n) for n in NODES},
                 "5,000 nodes of many lines": sized(written_out, 5000)}
        for title, page in pages.items():
            path = Path(page.save(folder / "page.html"))
            sizes[title] = [float(path.stat().st_size)]
            columns[title] = [times(browser, path, largest(page)) for _ in range(rounds)]
        metrics = layouts(browser, folder)
    titles = "first paint", "end of the first drawing", "a step in the largest stage"
    cases = [harness.Case.of(text, "ms", "5 nodes", {t: [row[k] for row in rows] for t, rows in columns.items()})
             for k, text in enumerate(titles)]
    cases.append(harness.Case.of("the page's file", "MB", "5 nodes", sizes))
    paint, _, step, _ = cases
    targets = []
    for title in list(columns)[-2:]:
        targets += [harness.Target(f"seconds to the first paint, {title}", paint.median(title), 1.0, False),
                    harness.Target(f"seconds of a step, {title}", step.median(title), 0.05, False)]
    return harness.Result(cases, targets, {f"layout of the gradient, {name}: {drawing}": ", ".join(
        f"{value:,} {key}" for key, value in values.items()) for name, both in metrics.items()
        for drawing, values in both.items()})


if __name__ == "__main__":
    harness.main("explorer", run)
