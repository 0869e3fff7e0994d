"""Plans: the order of groups, lifetimes, buffers that values share, and scratch slots."""

import itertools

import numpy as np
import pytest

import minigrad as mg
from minigrad import backends
from minigrad.graph import Graph
from minigrad.ops.subgraph import symbols_of
from minigrad.passes import run
from minigrad.passes.schedule import nbytes, row_bytes, schedule
from minigrad.symbolic import Dim

from .programs import input_, node, random_graph

X = np.ones((40, 3))


@pytest.mark.parametrize("seed", range(6))
def test_values_that_share_a_buffer_follow_each_other(seed):
    graph, _ = random_graph(200 + seed, steps=60, gradient=True)
    plan = schedule(run(graph)[0])
    made = {n: k for k, step in enumerate(plan.steps) for n in step.group.nodes}
    users: dict[int, list] = {}
    for n, place in plan.place.items():
        users.setdefault(place, []).append(n)
    for nodes in users.values():
        nodes.sort(key=lambda n: made[n])
        for a, b in itertools.pairwise(nodes):
            assert plan.last_use[a] <= made[b]
            assert plan.takes[b] is a


def test_where_takes_the_memory_of_its_last_operand():
    """Beside the result there is room for the condition alone."""
    (step,) = schedule(mg.trace(lambda x: np.where(x > 0, x, np.exp(x)) * 2)(X)).steps
    assert [n.prim.name for n in step.scratch] == ["gt"]


def test_a_value_overwrites_an_operand_whose_last_reader_it_is():
    """The sums over the rows end groups, so that y and z leave theirs."""
    x = input_(40, 3)
    y = node("sin", x)
    z = y - node("expand", node("sum", y, axes=(0,)), shape=(40, 3), axes=(0,))
    w = node("cos", z) * node("expand", node("sum", z, axes=(0,)), shape=(40, 3), axes=(0,))
    plan = schedule(Graph((x,), (node("sum", w, axes=(0, 1)),)))
    assert plan.takes == {z: y}
    assert plan.place[z] == plan.place[y]
    assert z not in schedule(Graph((x,), (node("sum", w, axes=(0, 1)), y))).takes


def test_a_value_inside_a_group_uses_the_memory_of_the_result():
    x = input_(40, 3)
    (step,) = schedule(Graph((x,), (node("sin", x * 2.0),))).steps
    assert [n.prim.name for n in step.heads] == ["mul"]


def test_slots_are_used_again_after_their_last_reader():
    x = input_(40, 3)
    y = x
    for _ in range(10):
        y = node("sin", y) * node("cos", y)
    (step,) = schedule(Graph((x,), (node("sum", y, axes=(0,)),))).steps
    assert len(step.scratch) == 30
    assert len(step.slots) <= 3


def test_steps_follow_their_operands():
    graph, _ = random_graph(7, steps=60, gradient=True)
    plan = schedule(run(graph)[0])
    order = {n: k for k, step in enumerate(plan.steps) for n in step.group.nodes}
    for n, k in order.items():
        assert all(order[i] <= k for i in n.inputs if i in order)
        assert plan.last_use[n] >= k


def test_bytes_of_arrays_and_rows():
    size = Dim.new("B")
    x = input_(size, 3)
    assert nbytes(x) == size * 24
    assert row_bytes(x) == 24


def test_sizes_of_unused_arguments_do_not_count():
    a, b = Dim.new("a"), Dim.new("b")
    x, unused = input_(a), input_(b)
    assert symbols_of(Graph((x, unused), (x * 2.0,))) == {a.symbol}
    assert symbols_of(Graph((x, unused), (unused,))) == {b.symbol}


def test_sizes_in_the_branches_of_a_switch_count():
    """The sum of B ones, times 2 or 3: no operand has B elements."""
    size = Dim.new("B")
    x, index, s, c = input_(size), input_(dtype="i8"), input_(), input_()
    ones = node("sum", node("full", value=1.0, shape=(size,), dtype=np.dtype("f8")), axes=(0,))
    branches = tuple(Graph((c,), (c * k * ones,)) for k in (2.0, 3.0))
    chosen = node("switch", index, s, graphs=branches, rows=(False,), sums=(False,))
    graph = Graph((x, index, s), (node("proj", chosen, index=0),)).check()
    assert symbols_of(graph) == {size.symbol}
    program = backends.build(graph)
    assert [program([np.ones(n), np.array(1), np.array(5.0)], {size.symbol: n})[0] for n in (3, 7)] == [45.0, 105.0]
