"""Files and pages of drawings, their values, and the browser."""

import gc
import html
import importlib.util
import os
import re
import shutil
import threading
import weakref
import webbrowser
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import draw
from tests.draw.graphs import chain, model


def test_html_holds_the_drawing_and_the_page():
    graph = model()[0]
    page = draw.graph_html(graph)
    assert draw.graph_svg(graph) in page
    assert str(graph) == html.unescape(re.search(r"<pre[^>]*>(.*)</pre>", page, re.S)[1])
    assert "3,002 more lines" in draw.graph_html(chain(5000))


def test_show_writes_a_file(tmp_path):
    graph = model()[2]
    path = tmp_path / "g.svg"
    assert draw.show(graph, path) == str(path)
    assert path.read_text(encoding="utf-8") == draw.graph_svg(graph) == graph.to_svg() == graph._repr_svg_()
    assert graph._repr_html_() == draw.graph_html(graph)


@pytest.fixture
def browser(monkeypatch, tmp_path):
    opened = []

    class Fake(webbrowser.BaseBrowser):
        def open(self, url, new=0, autoraise=True):
            opened.append(url)

    monkeypatch.setattr(webbrowser, "get", Fake)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    return opened


def _after_threads(opened):
    """Return the pages that a browser has, once the threads that open them have ended."""
    for thread in threading.enumerate():
        if thread.name == "show":
            thread.join()
    return opened


def test_show_opens_a_browser_where_there_is_a_screen(browser, monkeypatch, tmp_path):
    monkeypatch.setenv("DISPLAY", ":0")
    path = draw.show(model()[1])
    assert os.path.dirname(path) == str(tmp_path)
    assert _after_threads(browser) == ["file://" + path]


def test_show_opens_nothing_without_a_screen(browser):
    path = draw.show(model()[1])
    assert os.path.getsize(path) > 1000
    assert not browser


def test_show_opens_no_browser_in_the_terminal(browser, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(webbrowser, "get", lambda: webbrowser.GenericBrowser("false"))
    monkeypatch.setattr(webbrowser.GenericBrowser, "open", lambda self, url: browser.append(url))
    draw.show(model()[0])

    def none():
        raise webbrowser.Error("no browser")

    monkeypatch.setattr(webbrowser, "get", none)
    draw.show(model()[0])
    assert not _after_threads(browser)


def test_show_writes_the_format_of_its_ending(tmp_path):
    graph = mg.trace(lambda x: np.tanh(x) * 2)(mg.f64[3])
    for name, start in (("a.svg", b"<svg "), ("a", b"<svg "), ("a.SVG", b"<svg "), ("a.html", b"<!doctype html>")):
        assert Path(graph.show(tmp_path / name)).read_bytes().startswith(start)
    with pytest.raises(mg.MinigradError, match=r"test_show.py:\d+: show\(.*svg, .html, .png or .pdf, not as .jpg"):
        graph.show(tmp_path / "a.jpg")
    assert not (tmp_path / "a.jpg").exists()


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG\r\n"), ("pdf", b"%PDF-")])
def test_show_uses_installed_converter_or_names_converters(tmp_path, monkeypatch, ending, start):
    graph = mg.trace(lambda x: np.tanh(x) * 2)(mg.f64[3])
    path = tmp_path / f"a.{ending}"
    if importlib.util.find_spec("cairosvg") or shutil.which("rsvg-convert"):
        assert Path(graph.show(path)).read_bytes().startswith(start)
        path.unlink()
    # Without a converter, an error that names two of them and the way without one; and nothing is written.
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(mg.MinigradError, match=r"test_show.py:\d+: .*pip install cairosvg.*rsvg-convert.*a\.svg"):
        graph.show(path)
    assert not path.exists()


def test_drawings_show_values(tmp_path):
    graph = mg.trace(mg.vmap(lambda x: np.sqrt(x) + 1.0))(np.ones(6))
    x = np.array([0.0, 1.0, 4.0, 9.0, 16.0, -1.0])
    svg = Path(graph.show(str(tmp_path / "values.svg"), values=[x])).read_text(encoding="utf-8")
    assert "f64[B] in -1 … 16" in svg
    assert "f64[B] in 0 … 4, 1 nan" in svg
    ET.fromstring(svg)
    svg = Path(mg.trace(np.exp)(1.0).show(str(tmp_path / "one.svg"), values=[0.0])).read_text(encoding="utf-8")
    assert "f64[] = 1" in svg
    with pytest.raises(mg.TraceError, match=r"show: expected 1 values \(x\), got 2"):
        graph.show(str(tmp_path / "values.svg"), values=[x, x])


def test_graphs_with_values_draw_them_and_keep_no_array():
    graph = mg.trace(mg.vmap(lambda w, x: np.sum(np.tanh(x) * w), in_axes=(None, 0)))(np.ones(3), np.ones((2, 3)))
    x = np.zeros((4, 3))
    valued = graph.with_values(np.arange(3.0), x)
    reference = weakref.ref(x)
    del x
    gc.collect()
    assert reference() is None
    assert "f64[B] = [0 0 0 0]" in valued.to_svg()
    assert "f64[3] = [0 1 2]" in valued._repr_html_()
    assert str(valued) == str(graph)
    assert " = [0 0" not in graph.to_svg()
    assert " = [0 0" not in valued.mean().to_svg()
    with pytest.raises(mg.TraceError, match=r"with_values: expected 2 values \(w, x\), got 1"):
        graph.with_values(np.ones(3))
    with pytest.raises(mg.ShapeError, match=r"test_show.py:\d+: \w+.with_values: argument w: expected shape \[3\], "
                       r"got \[2\]"):
        graph.with_values(np.ones(2), np.ones((4, 3)))


@pytest.mark.parametrize(("array", "want"), [
    (np.array(0.123456), "= 0.1235"), (np.arange(3), "= [0 1 2]"), (np.array([True, False]), "= [1 0]"),
    (np.arange(7.0), "in 0 … 6"), (np.full(5, np.nan), "= nan"), (np.zeros((0, 3)), "= []"),
    (np.array([np.inf, 1, 2, 3, np.nan]), "in 1 … inf, 1 nan")])
def test_arrays_in_words(array, want):
    assert draw.in_words(array) == want


def test_values_of_graphs_with_static_arguments():
    graph = mg.trace(lambda x, mode: np.tanh(x) if mode == "tanh" else x)(1.0, "tanh")
    assert "= 0.4621" in graph.with_values(0.5, "tanh").to_svg()
    assert "= 0.4621" in graph.with_values(0.5).to_svg()
    with pytest.raises(mg.TraceError, match=r"with_values: expected arguments of structure .*'tanh'.*, got .*'sine'"):
        graph.with_values(0.5, "sine")
