"""Drawings: well-formed, complete, escaped, without overlaps, the same every time, and never slow."""

import html
import importlib.util
import os
import random
import re
import shutil
import time
import webbrowser
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import draw, text
from minigrad.draw import shelves
from minigrad.draw.layout import arrange, rank
from minigrad.graph import Graph, Node, full
from minigrad.interpreters import backward, batch
from minigrad.ops.constants import constant
from minigrad.ops.control import checkpoint, chunked, parts, placeholder
from minigrad.ops.einsum import contract
from minigrad.ops.elementwise import add, sub, tanh
from minigrad.ops.mean import mean
from minigrad.ops.reduce import sum_
from minigrad.ops.shape import concatenate
from minigrad.primitive import PRIMITIVES
from minigrad.symbolic import Dim

F4 = np.dtype("f4")
NS = "{http://www.w3.org/2000/svg}"


def inp(*shape):
    return PRIMITIVES["input"](shape=shape, dtype=F4)


def model():
    """Return the per-example, the batched and the gradient graph of a small loss with a regulariser."""
    w, x, size = inp(3), inp(3), Dim.new("B")
    xs = inp(size, 3)
    y = tanh(contract([("i", x), ("i", w)], ""))
    loss = y * y + sum_(w * w, axes=(0,)) * 0.5
    ((out, _),) = batch([loss], {w: w}, {x: xs}, size)
    total = mean(out, axes=(0,))
    (grad,) = backward([total], [full(1, (), F4)], [w])
    return [Graph((w, x), (loss,), ("w", "x"), name="loss"), Graph((w, xs), (total,), ("w", "x"), name="mean loss"),
            Graph((w, xs), (total, grad), ("w", "x"), ("loss", "dw"), name="gradient")]


def held():
    """Return graphs whose nodes hold graphs: a checkpoint, and its gradient in chunks."""
    w, x, size = inp(3), inp(3), Dim.new("n")
    a, b = placeholder(w.type), placeholder(x.type)
    layer = checkpoint(w, x, graph=Graph((a, b), (tanh(a * b),), ("w", "x"), name="layer"))
    xs, rows = inp(10, 3), inp(size, 3)
    p = placeholder(w.type)
    body = Graph((p, rows), (sum_(rows, axes=(0,)) * p,), ("p", "rows"), name="piece")
    sliced = chunked(w, xs, graph=body, dim=size, size=4, total=10, in_axes=(None, 0), out_axes=(None,),
                     packed=())
    nested = checkpoint(w, x, graph=Graph((w2 := placeholder(w.type), x2 := placeholder(x.type)), tuple(parts(
        checkpoint(w2, x2, graph=Graph((a, b), (tanh(a * b),), name="inner")))), name="outer"))
    return [Graph((w, x), tuple(parts(layer)), ("w", "x")), Graph((w, xs), tuple(parts(sliced)), ("w", "xs")),
            Graph((w, x), tuple(parts(nested)))]


def randomly(count, seed=0, reach=30):
    rng = random.Random(seed)
    inputs = [inp(3) for _ in range(8)]
    nodes = list(inputs)
    for _ in range(count):
        near = nodes[-reach:]
        nodes.append(add(*rng.sample(near, 2)) if rng.random() < 0.6 else tanh(rng.choice(near)))
    used = {i for n in nodes for i in n.inputs}
    return Graph(tuple(inputs), tuple(n for n in nodes if n not in used))


def chain(count):
    x = inp(3)
    y = x
    for _ in range(count):
        y = y * 1.5
    return Graph((x,), (y,))


GRAPHS = {**{g.name: g for g in model()}, **{f"held{i}": g for i, g in enumerate(held())},
          "random": randomly(120), "input": Graph((x := inp(3),), (x,)), "constant": Graph((), (full(1, (), F4),)),
          "empty": Graph((), ()), "unused": Graph((inp(2), y := inp(3)), (tanh(y),)),
          "wide": Graph(tuple(xs := [inp(3) for _ in range(150)]), tuple(map(tanh, xs)))}


@pytest.fixture(params=GRAPHS, scope="module")
def graph(request):
    return GRAPHS[request.param]


def parse(svg):
    return ET.fromstring(svg)


def boxes(group, x=0.0, y=0.0):
    """Yield the boxes right below `group`: element, left, top, right, bottom."""
    for g in group.findall(f"{NS}g"):
        dx, dy = map(float, re.findall(r"-?[\d.]+", g.get("transform", "0 0")))
        rect = g.find(f"{NS}rect")
        if "mg-node" in g.get("class", ""):
            w, h = float(rect.get("width")), float(rect.get("height"))
            yield g, x + dx, y + dy, x + dx + w, y + dy + h
        elif rect is None:
            yield from boxes(g, x + dx, y + dy)


def texts(element, kind):
    return [t.text for t in element.iter(f"{NS}text") if t.get("class") == f"mg-{kind}"]


def test_every_node_is_shown_once(graph):
    names = text.node_names(graph)
    root = parse(draw.graph_svg(graph))
    top = list(boxes(root))
    shown = [g.findall(f"{NS}text")[2].text for g, *_ in top if "mg-op" in g.get("class")]
    assert sorted(shown) == sorted(names[n] for n in graph.nodes if n.prim.name not in ("input", "full"))
    inputs = [texts(g, "label")[0] for g, *_ in top if "mg-input" in g.get("class")]
    assert sorted(inputs) == sorted(graph.names)
    outputs = [texts(g, "label")[0].split(" = ")[0] for g, *_ in top if "mg-output" in g.get("class")]
    assert sorted(outputs) == sorted(graph.out_names)


def test_every_box_says_its_type_its_line_and_its_rules():
    graph = model()[2]
    names = text.node_names(graph)
    tips = {g.find(f"{NS}title").text.split(" = ")[0]: g for g, *_ in boxes(parse(draw.graph_svg(graph)))
            if "mg-op" in g.get("class")}
    for n in graph.nodes:
        if n.prim.name in ("input", "full"):
            continue
        box = tips[names[n]]
        tip = box.find(f"{NS}title").text
        assert tip.split("\n")[1:3] == [str(n.type), n.where]
        assert all(rule in tip for rule in n.rules)
        assert f"mg-{graph.role(n)}" in box.get("class").split()
        assert str(n.type) in texts(box, "small")
        assert n.where in texts(box, "faint")


def test_every_edge_is_drawn():
    graph = model()[1]
    (heads,) = [p for p in parse(draw.graph_svg(graph)).iter(f"{NS}path") if p.get("class") == "mg-head"]
    operands = sum(i.prim.name != "full" for n in graph.nodes for i in n.inputs)
    assert heads.get("d").count("M") == operands + len(graph.outputs)


def test_boxes_do_not_overlap_and_lie_inside(graph):
    root = parse(draw.graph_svg(graph))
    left, top, width, height = map(float, root.get("viewBox").split())

    def check(group, inside):
        found = list(boxes(group))
        for _, x0, y0, x1, y1 in found:
            assert inside[0] <= x0 < x1 <= inside[2]
            assert inside[1] <= y0 < y1 <= inside[3]
        for i, (_, x0, y0, x1, y1) in enumerate(found):
            for _, u0, v0, u1, v1 in found[:i]:
                assert x1 <= u0 or u1 <= x0 or y1 <= v0 or v1 <= y0
        for g, x0, y0, x1, y1 in found:
            check(g, (0, 0, x1 - x0, y1 - y0))

    check(root, (left, top, left + width, top + height))


def test_drawings_are_the_same_every_time(graph):
    assert draw.graph_svg(graph) == draw.graph_svg(graph)
    assert draw.graph_svg(Graph.from_json(graph.to_json())) == draw.graph_svg(graph)


def test_inputs_stand_at_the_top_and_results_at_the_bottom(graph):
    found = list(boxes(parse(draw.graph_svg(graph))))
    edges = {k: [(y0, y1) for g, _, y0, _, y1 in found if f"mg-{k}" in g.get("class").split()]
             for k in ("input", "op", "output")}
    for y0, _ in edges["input"]:
        assert y0 <= min((y for y, _ in edges["op"] + edges["output"]), default=y0)
    for _, y1 in edges["output"]:
        assert y1 >= max((y for _, y in edges["op"] + edges["input"]), default=y1)


def test_labels():
    x, y = inp(3), inp(3)
    cases = {"× 2.0": x * 2.0, "2.0 − □": 2.0 - x, "− 2.0": x - 2.0, "+": x + y, "÷": x / y, "tanh": tanh(x),
             "sum axis 0": sum_(x, axes=(0,)), "einsum i,j→ij": contract([("i", x), ("j", y)], "ij"),
             "2.0 × 3.0": full(2, (), F4) * 3.0, "const([1.0 2.0])": constant(np.array([1, 2], "f4"))}
    for want, node in cases.items():
        root = parse(draw.graph_svg(Graph((x, y), (node,))))
        (op,) = [g for g, *_ in boxes(root) if "mg-op" in g.get("class")]
        assert texts(op, "label") == [want]


def test_operands_of_a_difference_enter_in_order():
    x, y = inp(3), inp(3)
    a, b = tanh(x), tanh(y)
    for first, second in ((a, b), (b, a)):
        ends = arrange([(80, 40)] * 3, [(0, 2), (1, 2)] if first is a else [(1, 2), (0, 2)], [0, 0, 1]).curves
        starts = {first: ends[0], second: ends[1]}
        assert starts[first][3] < starts[second][3]
        assert texts(parse(draw.graph_svg(Graph((x, y), (sub(first, second),)))), "label").count("−") == 1


def test_the_legend_names_the_roles_that_occur():
    for graph, roles in zip(model(), (["per-example"], ["shared", "batched"], ["shared", "batched", "gradient"]),
                            strict=True):
        root = parse(draw.graph_svg(graph))
        assert [t.text for g in root.findall(f"{NS}g") if g.get("class") for t in g.iter(f"{NS}text")] == roles


def test_held_graphs_are_drawn_inside_their_box():
    for graph in held():
        (owner,) = [g for g, *_ in boxes(parse(draw.graph_svg(graph))) if any(boxes(g))]
        (_, inner), *_ = text.held_graphs(next(n for n in graph.nodes if list(text.held_graphs(n))))
        inside = [g for g, *_ in boxes(owner)]
        assert len(inside) == len([n for n in inner.nodes if n.prim.name != "full"]) + len(inner.outputs)
    assert any("mg-op" in g.get("class") and any(boxes(g)) for g in inside)  # the last one holds one that holds one


def test_user_text_is_escaped():
    evil = "<script>alert(1)</script>&\"'\x00\x1b\ud800]]>-->"
    x = inp(3)
    y = Node(tanh(x).prim, (x,), {}, x.type)
    object.__setattr__(y, "loc", (f"/tmp/{evil}.py", 3))
    object.__setattr__(y, "rules", (evil,))
    g = Graph((x,), (y,), (evil,), (evil,), name=evil, notes=(evil,))
    svg, page = draw.graph_svg(g), draw.graph_html(g)
    root = parse(svg)
    assert not [e for e in root.iter() if "script" in e.tag]
    assert any("<script>" in (t.text or "") for t in root.iter(f"{NS}text"))
    assert "<script" not in svg + page
    svg.encode()
    page.encode()


def test_long_words_are_cut_but_not_the_line_number():
    x = inp(3)
    y = tanh(x)
    object.__setattr__(y, "loc", ("/home/me/a_module_with_a_very_long_name.py", 1234))
    svg = draw.graph_svg(Graph((x,), (y,), ("an argument " * 20,), name="f" * 1000))
    root = parse(svg)
    assert "…_very_long_name.py:1234" in texts(root, "faint")
    assert float(root.get("width")) < 1000
    assert "an argument " * 20 in svg  # in the tooltip it is whole


def test_html_holds_the_drawing_and_the_page():
    graph = model()[0]
    page = draw.graph_html(graph)
    assert draw.graph_svg(graph) in page
    assert str(graph) == html.unescape(re.search(r"<pre[^>]*>(.*)</pre>", page, re.S)[1])
    assert "3,002 more lines" in draw.graph_html(chain(5000))


def test_drawings_share_a_page():
    svg = draw.graph_svg(model()[2])
    assert " id=" not in svg
    style = re.search(r"<style>(.*?)</style>", svg)[1]
    assert {style} == {re.search(r"<style>(.*?)</style>", draw.graph_svg(g))[1] for g in GRAPHS.values()}
    selectors = re.findall(r"[^{}]+(?=\{)", re.sub(r"@media[^{]*\{", "", style))
    assert selectors
    assert all(s.startswith(".mg") for s in selectors)
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")


# -- large graphs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "note"), [
    (lambda: chain(100_000), ""),
    (lambda: randomly(590), ""),
    (lambda: randomly(20_000), "showing the first 600 of "),
    (lambda: Graph(tuple(xs := [inp(3) for _ in range(3000)]), (concatenate(*xs, axis=0),)),
     "showing the first 600 of 3,001 boxes"),
    (lambda: Graph((x := inp(3),), tuple(x for _ in range(2000))), "showing the first 600 of 2,000 results"),
    (lambda: Graph((x := inp(3),), tuple(sum_(x, axes=(0,)) for _ in range(5000))), "showing the first 600 of 5,001"),
], ids=["chain", "590", "20000", "concatenate", "results", "fan"])
def test_large_graphs(make, note):
    graph = make()
    start = time.perf_counter()
    svg = draw.graph_svg(graph)
    assert time.perf_counter() - start < 10  # well under a second on an idle machine
    notes = "".join(texts(parse(svg), "note"))
    assert notes.startswith(note) if note else not notes
    assert len(list(boxes(parse(svg)))) <= 4 * 600


def test_a_folded_chain_says_what_it_holds():
    (op,) = [g for g, *_ in boxes(parse(draw.graph_svg(chain(1000)))) if "mg-op" in g.get("class")]
    assert texts(op, "label") == ["1,000 elementwise: ×"]
    assert op.find(f"{NS}title").text.endswith("%20 = mul(%19, 1.5)\n… and 980 more")


def test_an_edge_past_many_layers_becomes_a_tag():
    x = inp(3)
    y = x
    for _ in range(30):
        y = tanh(y)
    g = Graph((x,), (sub(y, x),), ("x",))
    tags = [texts(b, "small") for b, *_ in boxes(parse(draw.graph_svg(g))) if "mg-tag" in b.get("class")]
    assert tags == [["x"]]


def test_held_graphs_of_a_large_graph_share_its_room():
    x = inp(3)
    a = placeholder(x.type)
    body = a
    for _ in range(500):
        body = tanh(sum_(body, axes=(0,)) * 1.0) if body.ndim else tanh(body)
    inner = Graph((a,), (body,))
    out = [sum_(x, axes=(0,))]
    for _ in range(100):
        out += parts(checkpoint(x, graph=inner))
    svg = draw.graph_svg(Graph((x,), tuple(out)))
    assert svg.count("<title>") < 2000
    parse(svg)


# -- the layout itself -----------------------------------------------------------------------------------


@st.composite
def networks(draw_):
    count = draw_(st.integers(1, 25))
    edges = [(u, v) for v in range(1, count)
             for u in draw_(st.lists(st.integers(0, v - 1), max_size=3))]
    sizes = [(draw_(st.integers(40, 200)), draw_(st.sampled_from([19, 42, 300]))) for _ in range(count)]
    starts = [v for v in range(count) if not any(b == v for _, b in edges)]
    ends = [v for v in range(count) if not any(a == v for a, _ in edges) and v not in starts]
    return sizes, edges, starts if draw_(st.booleans()) else [], ends if draw_(st.booleans()) else []


@given(networks())
def test_layout(network):
    sizes, edges, top, bottom = network
    ranks = rank(len(sizes), edges, top, bottom)
    assert all(ranks[u] < ranks[v] for u, v in edges)
    assert all(ranks[v] == 0 for v in top)
    assert all(ranks[v] == max(ranks) for v in bottom)
    place = arrange(sizes, edges, ranks)
    rects = [(x, y, x + w, y + h) for x, y, (w, h) in zip(place.x, place.y, sizes, strict=True)]
    for i, (x0, y0, x1, y1) in enumerate(rects):
        assert -1e-6 <= x0 <= x1 <= place.width + 1e-6
        assert -1e-6 <= y0 <= y1 <= place.height + 1e-6
        for u0, v0, u1, v1 in rects[:i]:
            assert x1 <= u0 + 1e-6 or u1 <= x0 + 1e-6 or y1 <= v0 + 1e-6 or v1 <= y0 + 1e-6
    assert len(place.heads) == len(edges)
    for x, y in place.heads:
        assert any(abs(y - y0) < 1e-6 and x0 <= x <= x1 for x0, y0, x1, _ in rects)
    for a, y0, low, b, high, y1 in place.curves:
        assert y0 <= low < high <= y1
        # Where an edge runs straight past other layers, it runs through no box.
        for x, top_, end in ((a, y0, low), (b, high, y1)):
            assert not [r for r in rects if r[0] + 1 < x < r[2] - 1 and r[1] + 1 < end and top_ < r[3] - 1]


def test_a_chain_is_straight_whatever_joins_it():
    # 0 → 2 → 4 → 6 …, with a leaf beside each; 0 is itself such a leaf
    edges = [e for k in range(0, 20, 2) for e in ((k, k + 2), (k + 1, k + 2))]
    place = arrange([(100, 40)] * 21, edges, rank(21, edges), unordered=range(21))
    assert len({round(place.x[k], 3) for k in range(2, 22, 2)}) == 1


def test_crossings_that_can_be_avoided_are():
    edges = [(0, 7), (1, 6), (2, 5), (3, 4)]
    place = arrange([(60, 40)] * 8, edges, [0] * 4 + [1] * 4)
    assert sorted(range(4), key=place.x.__getitem__) == sorted(range(4), key=lambda u: place.x[7 - u])


# -- show ------------------------------------------------------------------------------------------------


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


def _wait_for(opened):
    for _ in range(200):
        if opened:
            return opened
        time.sleep(0.01)
    return opened


def test_show_opens_a_browser_where_there_is_a_screen(browser, monkeypatch, tmp_path):
    monkeypatch.setenv("DISPLAY", ":0")
    path = draw.show(model()[1])
    assert os.path.dirname(path) == str(tmp_path)
    assert _wait_for(browser) == ["file://" + path]


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
    time.sleep(0.05)
    assert not browser


def softmax_network(layers):
    def loss(params, x, label):
        for w, b in params[:-1]:
            x = np.tanh(x @ w + b)
        z = x @ params[-1][0] + params[-1][1]
        z = z - z.max()
        return np.log(np.exp(z).sum()) - z[label]

    params = [(np.ones((8, 8)), np.ones(8))] * layers
    return mg.trace(mg.grad(mg.mean_loss(loss, (None, 0, 0))))(params, np.ones((5, 8)), np.arange(5))


@pytest.mark.parametrize(("layers", "width"), [(2, 1300), (6, 3000), (20, 3600)])
def test_components_stand_close_and_detached_boxes_in_rows(layers, width):
    graph = softmax_network(layers)
    root = parse(draw.graph_svg(graph))
    assert float(root.get("width")) < width
    test_boxes_do_not_overlap_and_lie_inside(graph)
    test_every_node_is_shown_once(graph)


def test_detached_columns():
    edges = [(0, 2), (2, 4), (1, 5), (6, 7)]
    assert shelves.detached(edges, [0, 1, 1, 0, 2, 3, 2, 3]) == ([(3,)], [(1, 5), (6, 7)])
    assert shelves.detached([], [0]) == ([], [])


def test_shelves_wrap_at_the_width():
    corners, height = shelves.shelves([(0,), (1, 2), (3,)], [(10, 5), (20, 5), (10, 5), (10, 5)], 35, 3, 2)
    assert corners == {0: (0, 0), 1: (13, 0), 2: (18, 7), 3: (0, 14)}
    assert height == 19


def test_show_writes_the_format_of_its_ending(tmp_path):
    graph = mg.trace(lambda x: np.tanh(x) * 2)(mg.f64[3])
    for name, start in (("a.svg", b"<svg "), ("a", b"<svg "), ("a.SVG", b"<svg "), ("a.html", b"<!doctype html>")):
        assert Path(graph.show(tmp_path / name)).read_bytes().startswith(start)
    with pytest.raises(mg.MinigradError, match=r"test_draw.py:\d+: show\(.*svg, .html, .png or .pdf, not as .jpg"):
        graph.show(tmp_path / "a.jpg")
    assert not (tmp_path / "a.jpg").exists()


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG\r\n"), ("pdf", b"%PDF-")])
def test_show_converts_with_whatever_is_installed(tmp_path, monkeypatch, ending, start):
    graph = mg.trace(lambda x: np.tanh(x) * 2)(mg.f64[3])
    path = tmp_path / f"a.{ending}"
    if importlib.util.find_spec("cairosvg") or shutil.which("rsvg-convert"):
        assert Path(graph.show(path)).read_bytes().startswith(start)
        path.unlink()
    # Without a converter, an error that names two of them and the way without one; and nothing is written.
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(mg.MinigradError, match=r"test_draw.py:\d+: .*pip install cairosvg.*rsvg-convert.*a\.svg"):
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


@pytest.mark.parametrize(("array", "want"), [
    (np.array(0.123456), "= 0.1235"), (np.arange(3), "= [0 1 2]"), (np.array([True, False]), "= [1 0]"),
    (np.arange(7.0), "in 0 … 6"), (np.full(5, np.nan), "= nan"), (np.zeros((0, 3)), "= []"),
    (np.array([np.inf, 1, 2, 3, np.nan]), "in 1 … inf, 1 nan")])
def test_arrays_in_words(array, want):
    assert draw.in_words(array) == want
