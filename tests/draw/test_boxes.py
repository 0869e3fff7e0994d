"""Boxes of drawings: complete, labelled, folded and cut in large graphs."""

import sys

import numpy as np
import pytest

from minigrad import draw, text
from minigrad.draw.boxes import picture
from minigrad.draw.svg import render
from minigrad.graph import Graph, full
from minigrad.ops.constants import constant
from minigrad.ops.control import checkpoint, parts, placeholder
from minigrad.ops.einsum import contract
from minigrad.ops.elementwise import sub, tanh
from minigrad.ops.reduce import sum_
from minigrad.ops.shape import concatenate
from tests.draw.graphs import NS, boxes, chain, check_every_node_is_shown_once, held, inp, model, parse, randomly, texts


def test_every_node_is_shown_once(graph):
    check_every_node_is_shown_once(graph)


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


def test_labels():
    x, y = inp(3), inp(3)
    cases = {"× 2.0": x * 2.0, "2.0 − □": 2.0 - x, "− 2.0": x - 2.0, "+": x + y, "÷": x / y, "tanh": tanh(x),
             "sum axis 0": sum_(x, axes=(0,)), "einsum i,j→ij": contract([("i", x), ("j", y)], "ij"),
             "2.0 × 3.0": full(2, (), np.dtype("f4")) * 3.0, "const([1.0 2.0])": constant(np.array([1, 2], "f4"))}
    for want, node in cases.items():
        root = parse(draw.graph_svg(Graph((x, y), (node,))))
        (op,) = [g for g, *_ in boxes(root) if "mg-op" in g.get("class")]
        assert texts(op, "label") == [want]


def test_held_graphs_are_drawn_inside_their_box():
    for graph in held():
        (owner,) = [g for g, *_ in boxes(parse(draw.graph_svg(graph))) if any(boxes(g))]
        (_, inner), *_ = text.held_graphs(next(n for n in graph.nodes if list(text.held_graphs(n))))
        inside = [g for g, *_ in boxes(owner)]
        assert len(inside) == len([n for n in inner.nodes if n.prim.name != "full"]) + len(inner.outputs)
    assert any("mg-op" in g.get("class") and any(boxes(g)) for g in inside)  # the last one holds one that holds one


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
    svg = draw.graph_svg(make())
    notes = "".join(texts(parse(svg), "note"))
    assert notes.startswith(note) if note else not notes
    assert len(list(boxes(parse(svg)))) <= 4 * 600


def lines_run(function, *args):
    """Return the number of lines that a call executes, each turn of a loop counted."""
    count, before = 0, sys.gettrace()

    def trace(frame, event, arg):
        nonlocal count
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        function(*args)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("make", [
    chain, randomly, lambda n: Graph(tuple(xs := [inp(3) for _ in range(n)]), (concatenate(*xs, axis=0),)),
    lambda n: Graph((x := inp(3),), tuple(sum_(x, axes=(0,)) for _ in range(n)))],
    ids=["chain", "random", "concatenate", "fan"])
def test_work_grows_with_the_number_of_nodes(make):
    def draw_60_boxes(graph):
        render(picture(graph, room=60), "title")

    draw_60_boxes(make(10))  # fills caches
    small, large = (lines_run(draw_60_boxes, make(n)) for n in (500, 1000))
    assert large <= 2.1 * small


def test_folded_chain_shows_operation_count_and_listing():
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
