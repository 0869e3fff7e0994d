"""Legalization: contiguous operands of steps, and one statement per output."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from minigrad import interpreters
from minigrad.backends.native.plan.legalize import is_contiguous, legalize
from minigrad.graph import Graph
from minigrad.passes.fuse import Roles
from tests.passes.programs import input_, node


def test_operands_of_steps_become_contiguous():
    x = input_(3, 4)
    graph = Graph((x,), (node("cumsum", node("transpose", x, perm=(1, 0)), axis=0),))
    legal = legalize(graph)
    (total,) = (n for n in legal.nodes if n.prim.name == "cumsum")
    assert is_contiguous(total.inputs[0], Roles.of(legal))
    assert not is_contiguous(graph.outputs[0].inputs[0], Roles.of(graph))
    value = np.arange(12.0).reshape(3, 4)
    (result,) = interpreters.evaluate(legal, [value], {})
    np.testing.assert_array_equal(result, np.cumsum(value.T, axis=0))


def test_each_output_has_a_statement_of_its_own():
    x = input_(3, 4)
    y = node("exp", x)
    legal = legalize(Graph((x,), (y, y, x, node("transpose", y, perm=(1, 0)))))
    roles = Roles.of(legal)
    roots = [roles.root[n] for n in legal.outputs]
    assert len(set(roots)) == 4
    assert all(map(roles.is_statement, roots))
