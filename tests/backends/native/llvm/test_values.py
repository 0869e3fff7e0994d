"""Types and constants as LLVM spells them."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from minigrad.backends.native.llvm.values import (
    I1,
    I64,
    constant,
    element,
    lanes_of,
    like,
    memory_type,
    suffix,
    vector_type,
)


@pytest.mark.parametrize(("dtype", "lanes", "register", "memory"), [
    ("f4", 1, "float", "float"), ("f8", 8, "<8 x double>", "<8 x double>"), ("?", 4, "<4 x i1>", "<4 x i8>"),
    ("u2", 1, "i16", "i16")])
def test_types_in_registers_and_in_memory(dtype, lanes, register, memory):
    assert str(vector_type(np.dtype(dtype), lanes)) == register
    assert str(memory_type(np.dtype(dtype), lanes)) == memory


def test_types_of_lanes():
    vector = lanes_of(I64, 4)
    assert element(vector) == I64
    assert like(vector, I1) == lanes_of(I1, 4)
    assert like(I64, I1) == I1
    assert [suffix(t) for t in (vector, I64, vector_type(np.dtype("f4"), 16))] == ["v4i64", "i64", "v16f32"]


def test_constants_have_the_type_of_a_lane():
    assert constant(vector_type(np.dtype("f4"), 1), 0.1).text == "0x3fb99999a0000000"
    assert constant(vector_type(np.dtype("f4"), 1), 1e300).text == "0x7ff0000000000000"
    assert constant(I64, 3.0).text == "3"
    assert constant(lanes_of(I64, 4), 7).text == "splat (i64 7)"
