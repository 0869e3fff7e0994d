"""The loops of fused groups."""

import pytest

pytest.importorskip("llvmlite")

from minigrad.backends.native.codegen.kernel import rows
from minigrad.backends.native.codegen.loop_groups import by_index, loops, space_of
from minigrad.backends.numpy_text import managed
from minigrad.graph import Graph
from minigrad.passes.schedule import schedule
from tests.passes.programs import input_, node


def names(inputs, *outputs):
    """Return the names of the statements of each loop of a program of one group."""
    plan = schedule(Graph(tuple(inputs), outputs), managed, rows)
    (step,) = plan.steps
    return [[n.prim.name for n in loop.nodes] for loop in loops(plan, step)]


def test_elementwise_chains_share_a_loop():
    x = input_(6, 4)
    assert names([x], node("exp", node("neg", x))) == [["neg", "exp"]]


def test_readers_of_a_reduction_need_a_later_loop():
    x = input_(6, 4)
    y = node("exp", x)
    total = node("sum", y, axes=(1,))
    assert names([x], node("tanh", total)) == [["exp", "sum"], ["tanh"]]


def test_spaces():
    x = input_(6, 4)
    total = node("sum", x, axes=(1,))
    assert (space_of(total), total.shape) == ((6, 4), (6,))
    assert not by_index(total)
    assert by_index(node("gather", x, input_(3, dtype="i8")))
