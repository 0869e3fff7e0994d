"""Orders of graphs that define sizes."""

import numpy as np

import minigrad as mg
from minigrad import interpreters
from minigrad.defined_sizes import after_definitions, definitions, symbols_of_node
from minigrad.graph import Graph, full
from minigrad.ops.reduce import sum_
from minigrad.ops.selection import define_size
from minigrad.primitive import placeholder


def test_definitions_come_before_the_nodes_with_their_sizes():
    count = placeholder(mg.i64[()])
    size, definition = define_size(count, "n")
    ones = full(1.0, (size,), np.dtype(float))  # older than the node that defines its size in the graph below
    again = definition.prim(count + 0, size=size)
    graph = Graph((count,), (sum_(ones, axes=(0,)), again))
    order = after_definitions(graph.nodes)
    assert list(definitions(order)) == [size.symbol]
    assert order.index(again) < order.index(ones)
    assert symbols_of_node(ones) == {size.symbol}
    assert interpreters.evaluate(graph, [np.array(3)]) == [3.0, 3]


def test_graphs_without_definitions_keep_their_order():
    nodes = mg.trace(lambda x: np.sum(np.sin(x)))(mg.f64[3]).nodes
    assert after_definitions(nodes) is nodes
