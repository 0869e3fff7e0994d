"""Graphs to draw, and the parts of their drawings."""

import random
import re
import xml.etree.ElementTree as ET

import numpy as np

from minigrad import draw, text
from minigrad.graph import Graph, full
from minigrad.interpreters import backward, batch
from minigrad.ops.control import checkpoint, chunked, parts, placeholder
from minigrad.ops.einsum import contract
from minigrad.ops.elementwise import add, tanh
from minigrad.ops.mean import mean
from minigrad.ops.reduce import sum_
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


def check_every_node_is_shown_once(graph):
    names = text.node_names(graph)
    root = parse(draw.graph_svg(graph))
    top = list(boxes(root))
    shown = [g.findall(f"{NS}text")[2].text for g, *_ in top if "mg-op" in g.get("class")]
    assert sorted(shown) == sorted(names[n] for n in graph.nodes if n.prim.name not in ("input", "full"))
    inputs = [texts(g, "label")[0] for g, *_ in top if "mg-input" in g.get("class")]
    assert sorted(inputs) == sorted(graph.names)
    outputs = [texts(g, "label")[0].split(" = ")[0] for g, *_ in top if "mg-output" in g.get("class")]
    assert sorted(outputs) == sorted(graph.out_names)
