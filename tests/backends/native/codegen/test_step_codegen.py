"""Argument blocks of steps, and the pieces of their work."""

import ctypes

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from minigrad.backends.native.codegen import step_codegen
from minigrad.backends.native.codegen.step_codegen import HEAD, StepCode, load_all, step, step_code, widths
from minigrad.backends.native.codegen.strides import View
from minigrad.backends.native.runtime import jit

pytestmark = pytest.mark.skipif(jit.available() is not None, reason=str(jit.available()))


def arguments(team, work, counts, shares, *own):
    ((_, block),) = step(StepCode("test", None), team, work, counts, shares, *own)
    return block


def test_arguments_count_the_pieces():
    assert arguments(4, step_codegen.SERIAL, (10, 7), (4, 3), 5, 6) == [9, 4, 10, 4, 7, 3, 5, 6]
    assert arguments(4, step_codegen.SERIAL - 1, (10, 7), (4, 3))[:2] == [9, 1], "too little work for the pool"
    assert arguments(4, step_codegen.SERIAL, (10, 7), (99, 99))[:2] == [1, 1], "one piece has one thread"
    assert arguments(4, step_codegen.SERIAL, (10, 7), (0, 0))[3::2] == [1, 1], "a share is at least 1"


def test_arguments_of_views_are_bases_and_offsets():
    assert arguments(1, 0, (1, 1), (1, 1), View(5, 24, (2, 3), (12, 4)), 9, (6, 16))[6:] == [5, 24, 9, 6, 16]


def test_a_step_without_work_is_left_out():
    assert step(StepCode("test", None), 1, 0, (0, 3), (1, 1)) == []


def test_code_of_equal_arguments_is_one_object():
    def _write(dtype, code, ranges):
        pass

    code = step_code(_write, np.dtype("f4"))
    assert code.name == "write.float32"
    assert code is step_code(_write, np.dtype("f4"))
    assert code is not step_code(_write, np.dtype("f8"))


def test_widths_end_with_single_elements():
    assert widths(np.dtype("f4")) == (32, 8, 2, 1)
    assert widths(np.dtype("f8")) == (16, 4, 1)


@pytest.mark.parametrize("team", [1, 2])
@pytest.mark.parametrize("shares", [(1, 1), (3, 2), (5, 4), (9, 9)])
def test_pieces_cover_both_ranges_once(shares, team):
    def write(code, ranges):
        low, high, left, right = ranges
        columns = code.number(HEAD + 2)
        with code.counting(low, high) as row, code.counting(left, right) as column:
            address = code.element(code.address(HEAD), code.b.add(code.b.mul(row, columns), column), 8)
            number = code.b.add(code.load(np.dtype("i8"), address), row)
            code.store(code.b.add(number, code.b.mul(column, column)), np.dtype("i8"), address)

    code = StepCode("test.pieces", write)
    load_all([code, code])
    out = np.zeros((5, 4), np.int64)
    args = np.array(arguments(team, step_codegen.SERIAL, out.shape, shares, 0, 0, 4))
    bases = np.array([out.ctypes.data])
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(code.address)(args.ctypes.data, bases.ctypes.data)
    np.testing.assert_array_equal(out, np.arange(5)[:, None] + np.arange(4) ** 2)
