"""The tools of checks: precision, and the parts of messages."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.testing import common
from minigrad.transforms.trace import Call


def test_staging_is_in_float64_unless_the_function_refuses():
    x = np.ones(2, np.float32)
    (wide,), staged = common.stage_precisely(np.sin, (x,), lambda args: Call(np.sin, args).trace())
    assert wide.dtype == staged.inputs[0].dtype == np.float64

    def stage(args):
        if args[0].dtype == np.float64:
            raise mg.DtypeError("float32 only")
        return Call(np.sin, args).trace()

    (narrow,), staged = common.stage_precisely(np.sin, (x,), stage)
    assert narrow.dtype == staged.inputs[0].dtype == np.float32


def test_precision_is_that_of_the_coarsest_dtype():
    graph = mg.trace(lambda x: x.astype(np.float32) * 2)(np.ones(2))
    assert common.precision(graph) == np.finfo(np.float32).eps
    assert common.precision(mg.trace(lambda x: x + 1)(np.array(3))) == np.finfo(float).eps


def test_descriptions_name_the_line_and_the_rule():
    graph = mg.trace(mg.grad(lambda x: np.sum(np.sin(x))))(np.ones(2))
    node = next(n for n in graph.nodes if n.prim.name == "cos")
    text = common.describe(node, graph)
    assert ": f64[2] = cos(x), at test_common.py:" in text
    assert text.endswith("made by the vjp rule of sin")


@pytest.mark.parametrize(("have", "want"), [
    (common.element("w", (3, 1)), "w[3, 1]"), (common.element("w", ()), "w"),
    (common.at_element("operand 0", (2,)), "operand 0 at [2]"), (common.at_element("operand 0", ()), "operand 0"),
    (common.number(1 / 3), "0.333333333"), (common.plural(1, "example"), "1 example"),
    (common.plural(1200, "example"), "1,200 examples"), (str(common.type_of(np.ones((2, 3)))), "f64[2, 3]"),
    (common.leaf_names({"W": [1, 2]}), ("['W'][0]", "['W'][1]"))])
def test_parts_of_messages(have, want):
    assert have == want


def test_the_result_of_a_check_prints_its_numbers():
    assert str(common.Checked("check_grads(f)", 1200, 2.5e-9)) == (
        "check_grads(f): 1,200 comparisons, largest relative difference 2.5e-09")
