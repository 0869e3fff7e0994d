"""The page of a graph: what it looks like, that it tells graphs apart, and that it is linear in its length."""

import re
import time

import numpy as np
import pytest

from minigrad import text
from minigrad.graph import Graph, Node, full
from minigrad.interpreters import backward, batch
from minigrad.ops.broadcast import expand
from minigrad.ops.constants import constant, size_
from minigrad.ops.control import checkpoint, parts, placeholder
from minigrad.ops.einsum import contract
from minigrad.ops.elementwise import add, cast, eq, mul, tanh, where
from minigrad.ops.mean import mean
from minigrad.ops.reduce import sum_
from minigrad.ops.shape import slice_
from minigrad.primitive import PRIMITIVES
from minigrad.symbolic import Dim

F4, F8 = np.dtype("f4"), np.dtype("f8")


def inp(*shape, dtype=F4):
    return PRIMITIVES["input"](shape=shape, dtype=dtype)


def body(graph):
    """The page without its header and without locations."""
    return [re.sub(r" +# \S+\.py:\d+", " #", line).replace(" #  ", " # ").removesuffix(" #")
            for line in str(graph).split("\n")[1:]]


def at(node, file, line):
    """Return the same node, from another line."""
    made = Node(node.prim, node.inputs, node.params, node.type)
    object.__setattr__(made, "loc", (file, line))
    return made


def test_a_page():
    w, x = inp(3), inp(3)
    y = at(tanh(contract([("i", x), ("i", w)], "")), "/home/me/loss.py", 12)
    r = at(sum_(w, axes=(0,)), "/home/me/loss.py", 13)
    s = at(add(y, at(r * 0.5, "/home/me/loss.py", 13)), "/home/me/loss.py", 14)
    g = Graph((w, x), (s,), ("w", "x"), name="loss", notes=("two\nlines",)).check()
    assert str(g).split("\n")[:4] == ["loss(w: f32[3], x: f32[3]) -> f32[]", "  # two", "  # lines",
                                      f"  %1: f32[] = einsum[i,i->](x, w)  # {y.inputs[0].where}"]
    assert str(g).split("\n")[4:] == [
        "  %2: f32[] = tanh(%1)             # loss.py:12",
        "  %3: f32[] = sum(w, axes=0)       # loss.py:13",
        "  %4: f32[] = mul(%3, 0.5)",
        "  %5: f32[] = add(%2, %4)          # loss.py:14",
        "  return %5"]


def test_rules_print_in_order_of_application():
    w, x, big = inp(3), inp(3), Dim.new("B")
    xs = inp(big, 3)
    loss = sum_(tanh(mul(w, x)), axes=(0,))
    ((out, _),) = batch([loss], {w: w}, {x: xs}, big)
    total = mean(out, axes=(0,))
    (grad,) = backward([total], [full(1, (), F4)], [w])
    page = str(Graph((w, xs), (grad,), ("w", "x")).check())
    assert "(w: f32[3], x: f32[B, 3]) -> f32[3]" in page
    assert "  vmap\n" in page
    assert "  vmap, vjp\n" in page
    assert "vjp, vmap" not in page
    assert " = size(B) " in page


def test_a_comment_is_printed_where_it_changes():
    x = inp()
    y = x
    for line in (1, 1, 2, 2, 1):
        y = at(tanh(y), "f.py", line)
    comments = [line.partition("#")[2].strip() for line in str(Graph((x,), (y,))).split("\n")[1:-1]]
    assert comments == ["f.py:1", "", "f.py:2", "", "f.py:1"]


def test_parameters_are_short():
    x = inp(4, 5)
    cases = {
        "sum(x, axes=1)": sum_(x, axes=(1,)),
        "sum(x, axes=(0, 1))": sum_(x, axes=(0, 1)),
        "x[1:3, :]": slice_(x, start=(1, 0), stop=(3, 5), step=(1, 1)),
        "x[::2, 1::3]": slice_(x, start=(0, 1), stop=(4, 5), step=(2, 3)),
        "expand(x, axes=0)": expand(x, shape=(2, 4, 5), axes=(0,)),
        "cast(x, dtype=float64)": cast(x, dtype=F8),
        "einsum[ab->ba](x)": contract([("ab", x)], "ba"),
    }
    for want, node in cases.items():
        assert text.format_node(node, {x: "x"}) == want


def test_constants_are_exact_and_short():
    def say(value, dtype):
        return text.literal(full(value, (), np.dtype(dtype)))

    assert [say(0.1, "f4"), say(0.1, "f8"), say(2, "f4"), say(3, "i8"), say(True, "?")] == [
        "0.1", "0.1", "2.0", "3", "True"]
    assert [say(float("nan"), "f4"), say(float("-inf"), "f4"), say(1e-8, "f4"), say(1e30, "f8")] == [
        "nan", "-inf", "1.0e-08", "1.0e+30"]
    for v in (1 / 3, 1e-5 / 3, -1e9 / 7, 0.0):
        assert np.float32(say(v, "f4")) == np.float32(v)
        assert float(say(v, "f8")) == v
    small, large = constant(np.array([0.1, 2], "f4")), constant(np.arange(100.0))
    assert text.format_node(small, {}) == "const([0.1 2.0])"
    assert re.fullmatch(r"const\(\[0\.0 1\.0 2\.0 … #[0-9a-f]{8}\]\)", text.format_node(large, {}))


def test_a_constant_has_its_type_where_nothing_else_tells_it():
    x, one = inp(3), full(1, (3,), F4)
    names = {x: "x", one: "1.0"}
    assert text.format_node(mul(x, one), names) == "mul(x, 1.0)"
    assert text.format_node(eq(x, one), names) == "eq(x, 1.0)"
    assert text.format_node(sum_(one, axes=(0,)), names) == "sum(1.0: f32[3], axes=0)"
    c = full(True, (3,), np.dtype(bool))
    assert text.format_node(where(c, x, one), names | {c: "True"}) == "where(True: bool[3], x, 1.0)"
    assert str(Graph((), (full(2, (3,), F4),))).endswith("return 2.0: f32[3]")


def _different():
    x, y, d = inp(3), inp(3), inp(3, dtype=F8)

    def g(out, **more):
        return Graph(more.pop("inputs", (x, y, d)), (at(out, "f.py", more.pop("line", 1)),), **more)

    a, b = np.arange(9.0), np.arange(9.0)
    b[8] = -1
    return [
        g(tanh(x)), g(tanh(y)), g(tanh(d)), g(tanh(x), line=2), g(tanh(x), name="other"), g(tanh(x), notes=("n",)),
        g(tanh(x), names=("a", "b", "c")), g(tanh(x), inputs=(x,)), g(tanh(x), out_names=("loss",)),
        g(add(x, y)), g(add(y, x)), g(mul(x, y)), g(x * 2.0), g(x * 2.0000002), g(cast(x, dtype=np.dtype("i4"))),
        g(cast(x, dtype=np.dtype("i8"))), g(sum_(full(1, (3,), F4), axes=(0,))), g(sum_(full(1, (4,), F4), axes=(0,))),
        g(constant(a)), g(constant(b)), g(constant(a.reshape(3, 3))), Graph((), (full(0, (), F4),)),
        Graph((), (full(0, (), F8),)), Graph((x,), (x, x)), Graph((x,), ())]


def test_different_graphs_have_different_pages():
    pages = [str(g) for g in _different()]
    assert len(set(pages)) == len(pages)


@pytest.mark.parametrize("graph", _different())
def test_json_keeps_the_page(graph):
    assert str(Graph.from_json(graph.to_json())) == str(graph)


def test_two_sizes_of_one_name_are_told_apart():
    outer, inner = Dim.new("B"), Dim.new("B")
    x = inp(outer, inner, 3)
    g = Graph((x,), (sum_(x, axes=(0,)), size_(size=inner * 2, dtype=F4)), ("x",))
    assert str(g).startswith("graph(x: f32[B, B', 3]) -> (f32[B', 3], f32[])")
    assert "size(2*B')" in str(g)
    assert str(Graph.from_json(g.to_json())) == str(g)


def test_held_graphs_are_indented_below_their_node():
    w, x = inp(3), inp(3)
    a, b = placeholder(w.type), placeholder(x.type)
    inner = Graph((a, b), (tanh(mul(a, b)), a), ("w", "x"), name="layer")
    node = checkpoint(w, x, graph=inner)
    g = Graph((w, x), tuple(parts(node)), ("w", "x")).check()
    assert body(g) == [
        "  %1: (f32[3], f32[3]) = checkpoint(w, x, graph=<layer>)",
        "    graph:",
        "      layer(w: f32[3], x: f32[3]) -> (f32[3], f32[3])",
        "        %1: f32[3] = mul(w, x)",
        "        %2: f32[3] = tanh(%1)",
        "        return out0=%2, out1=w",
        "  %2: f32[3]           = %1[0]",
        "  %3: f32[3]           = %1[1]",
        "  return out0=%2, out1=%3"]
    assert str(Graph.from_json(g.to_json())) == str(g)


def test_many_arguments_get_a_line_each():
    xs = [inp(784, 512) for _ in range(6)]
    g = Graph(tuple(xs), (xs[0],), tuple(f"params['layer {i}']" for i in range(6)))
    lines = str(g).split("\n")
    assert lines[0] == "graph("
    assert lines[1] == "    params['layer 0']: f32[784, 512],"
    assert lines[7] == ") -> f32[784, 512]"
    labels = tuple(f"gradient['layer {i}']" for i in range(6))
    lines = str(Graph((xs[0],), tuple(xs[:1] * 6), ("x",), labels)).split("\n")
    assert lines[1:3] == ["  return", "      gradient['layer 0']=x,"]


def test_names_map_nodes_to_the_page():
    x = inp(3)
    y = tanh(x * 2.0)
    g = Graph((x,), (y,), ("x",))
    names = text.node_names(g)
    assert set(names) == set(g.nodes)
    assert [names[n] for n in (x, y.inputs[0].inputs[1], y.inputs[0], y)] == ["x", "2.0", "%1", "%2"]


def test_a_hundred_thousand_nodes():
    x = inp(3)
    y = x
    for _ in range(100_000):
        y = y * 1.5
    g = Graph((x,), (y,))
    start = time.perf_counter()
    page = str(g)
    assert time.perf_counter() - start < 15  # about one second; anything quadratic takes minutes
    assert page.count("\n") == 100_001
    assert page.endswith("return %100000")
