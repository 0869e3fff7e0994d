"""The sizes that arguments give to a graph's symbols, and the arguments that do not fit."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.argument_sizes import argument_sizes
from minigrad.graph import ArrayType, Graph
from minigrad.primitive import placeholder
from minigrad.symbolic import Dim

B = Dim.new("B")


def graph_of(*shapes):
    inputs = tuple(placeholder(ArrayType(shape, np.dtype("f8"))) for shape in shapes)
    return Graph(inputs, inputs, ("x", "y", "z")[:len(shapes)])


def test_sizes_are_those_of_single_symbols():
    assert argument_sizes(graph_of((B, 3), (B + 1,)), [(4, 3), (5,)]) == {B.symbol: 4}


def test_arguments_of_other_shapes_are_refused():
    with pytest.raises(mg.ShapeError, match=r"size B is 4 in x and 5 in z \(axis 0\)"):
        argument_sizes(graph_of((B, 3), (B + 1,), (B,)), [(4, 3), (5,), (5,)])
    with pytest.raises(mg.ShapeError, match=r"argument y: expected shape \[B \+ 1\], got \[6\]"):
        argument_sizes(graph_of((B, 3), (B + 1,)), [(4, 3), (6,)])
    with pytest.raises(mg.ShapeError, match=r"argument x: expected shape \[B, 3\], got \[4\]"):
        argument_sizes(graph_of((B, 3)), [(4,)])
