"""Kernels of fused groups: the statements that one can hold, its code and its arguments."""

import re

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from minigrad.backends.native.codegen.kernel import kernel, rows, unable, written
from minigrad.backends.native.codegen.kernel_key import kernel_key
from minigrad.backends.numpy_text import managed
from minigrad.graph import Graph
from minigrad.passes.schedule import schedule
from minigrad.symbolic import Dim
from tests.passes.programs import input_, node


def kernel_of(inputs, *outputs):
    """Return the kernel of a program of one group, and its code."""
    plan = schedule(Graph(tuple(inputs), outputs), managed, rows)
    (step,) = plan.steps
    key = kernel_key(plan, step)
    text, note = written(key)
    return kernel(key, note), text


def test_statements_that_a_kernel_can_hold():
    x, index = input_(6, 4), input_(3, dtype="i8")
    for statement in (node("exp", x), node("sum", x, axes=(1,)), node("gather", x, index)):
        assert unable(statement) is None
    assert unable(node("exp", input_(0, 4))) == "exp of nothing"
    assert unable(node("argsort", x, axis=1)) == "argsort"


def test_rows_of_statements():
    size = Dim.new("n")
    assert rows(node("exp", input_(6, 4))) == 6
    assert rows(node("exp", input_(size, 4))) == size
    assert rows(node("argsort", input_(6, 4), axis=1)) is None


def test_the_name_is_a_digest_of_the_code():
    x, y = input_(6, 4), input_(6, 4)
    one, text = kernel_of([x], node("exp", node("neg", x)))
    other, again = kernel_of([y], node("exp", node("neg", y)))
    third, _ = kernel_of([x], node("neg", node("exp", x)))
    assert re.fullmatch("k[0-9a-f]{20}", one.name)
    assert f'@"{one.name}"' in text
    assert (one.name, text) == (other.name, again)
    assert third.name != one.name


def test_values_between_loops_are_scratch():
    x = input_(6, 4)
    total = node("sum", node("exp", x), axes=(1,))
    code, _ = kernel_of([x], node("tanh", total))
    assert (code.scratch, code.parts) == ((total,), ())
    both, _ = kernel_of([x], total, node("tanh", total))
    assert (both.scratch, both.parts) == ((), ())  # the total leaves the group, and so has memory of its own


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_sums_over_rows_have_a_part_per_block(dtype):
    x = input_(6, 4, dtype=dtype)
    total = node("sum", node("exp", x), axes=(0,))
    code, text = kernel_of([x], total)
    assert (code.scratch, code.parts) == ((), (total,))
    assert f"{code.name}.sum.{np.dtype(dtype).name}" in text, "the function that combines the parts"
