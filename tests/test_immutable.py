"""Copies of objects that never change are the objects themselves."""

import copy

import numpy as np
import pytest

import minigrad as mg
from minigrad.immutable import Immutable
from minigrad.sizes import shown
from minigrad.tracing import Tagged

GRAPH = mg.trace(np.sin)(mg.f64[mg.dim("n")])
OBJECTS = {"node": GRAPH.outputs[0], "size": mg.dim("n"), "symbol": mg.dim("n").symbol, "shown": shown(mg.dim("n")),
           "tagged": Tagged(3, (0, 1)), "gradient": mg.grad(np.sin), "pullback": mg.vjp(np.sin, 1.0)[1],
           "compiled": mg.compile(np.sin), "traced": mg.traced_array.as_array(1.0)}


@pytest.mark.parametrize("name", OBJECTS)
def test_a_copy_is_the_object(name):
    x = OBJECTS[name]
    assert isinstance(x, Immutable)
    assert copy.copy(x) is x
    assert copy.deepcopy([x, {"key": x}]) == [x, {"key": x}]
    assert copy.deepcopy(x) is x


def test_slots_have_no_dict():
    assert not hasattr(GRAPH.outputs[0], "__dict__")
