"""Positions of boxes and curves of edges."""

from hypothesis import given
from hypothesis import strategies as st

from minigrad import draw
from minigrad.draw.layout import arrange, rank
from minigrad.graph import Graph
from minigrad.ops.elementwise import sub, tanh
from tests.draw.graphs import inp, parse, texts


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


def test_chain_stays_straight_with_leaves_joining_it():
    # 0 → 2 → 4 → 6 …, with a leaf beside each; 0 is itself such a leaf
    edges = [e for k in range(0, 20, 2) for e in ((k, k + 2), (k + 1, k + 2))]
    place = arrange([(100, 40)] * 21, edges, rank(21, edges), unordered=range(21))
    assert len({round(place.x[k], 3) for k in range(2, 22, 2)}) == 1


def test_operands_of_a_difference_enter_in_order():
    x, y = inp(3), inp(3)
    a, b = tanh(x), tanh(y)
    for first, second in ((a, b), (b, a)):
        ends = arrange([(80, 40)] * 3, [(0, 2), (1, 2)] if first is a else [(1, 2), (0, 2)], [0, 0, 1]).curves
        starts = {first: ends[0], second: ends[1]}
        assert starts[first][3] < starts[second][3]
        assert texts(parse(draw.graph_svg(Graph((x, y), (sub(first, second),)))), "label").count("−") == 1
