"""SVG text: well-formed, escaped, without overlaps, the same every time."""

import re

import numpy as np
import pytest

import minigrad as mg
from minigrad import draw
from minigrad.graph import Graph, Node
from minigrad.ops.elementwise import tanh
from tests.draw.graphs import GRAPHS, NS, boxes, check_every_node_is_shown_once, inp, model, parse, texts


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
    check_every_node_is_shown_once(graph)


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


def test_the_legend_names_the_roles_that_occur():
    roles_of = (["per-example"], ["shared", "batched", "combined"], ["shared", "batched", "combined", "gradient"])
    for graph, roles in zip(model(), roles_of, strict=True):
        root = parse(draw.graph_svg(graph))
        assert [t.text for g in root.findall(f"{NS}g") if g.get("class") for t in g.iter(f"{NS}text")] == roles


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


def test_drawings_share_a_page():
    svg = draw.graph_svg(model()[2])
    assert " id=" not in svg
    style = re.search(r"<style>(.*?)</style>", svg)[1]
    assert {style} == {re.search(r"<style>(.*?)</style>", draw.graph_svg(g))[1] for g in GRAPHS.values()}
    selectors = re.findall(r"[^{}]+(?=\{)", re.sub(r"@media[^{]*\{", "", style))
    assert selectors
    assert all(s.startswith(".mg") for s in selectors)
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")
