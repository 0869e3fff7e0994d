"""The runner: addresses of arrays, and steps called in order."""

import ctypes

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from minigrad.backends.native.runtime import jit, runner
from tests.backends.native.machine_code import compile_ir

pytestmark = pytest.mark.skipif(jit.available() is not None, reason=str(jit.available()))

ADD = """
define void @add(ptr %args, ptr %bases) {
  %amount = load i64, ptr %args
  %field = getelementptr ptr, ptr %bases, i64 1
  %target = load ptr, ptr %field
  %old = load i64, ptr %target
  %scaled = mul i64 %old, 10
  %new = add i64 %scaled, %amount
  store i64 %new, ptr %target
  ret void
}
"""


def test_steps_run_in_order_on_the_given_arrays():
    library = jit.load([compile_ir(ADD)])
    arguments = np.array([1, 2, 3])
    table = np.array([(library.address("add"), arguments[k:].ctypes.data) for k in range(3)], np.int64)
    bases, target = np.zeros(2, np.int64), np.array([7])
    runner.runner()(table.ctypes.data, 3, bases.ctypes.data, (target,), 1, 1)
    assert bases.tolist() == [0, target.ctypes.data]
    assert target.tolist() == [7123]


def test_symbols_call_the_same_steps():
    library = jit.load([compile_ir(ADD)])
    target = np.array([0])
    arguments, bases = np.array([5]), np.array([0, target.ctypes.data])
    table = np.array([library.address("add"), arguments.ctypes.data])
    steps = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)(runner.symbols()["mg_steps"])
    steps(table.ctypes.data, 1, bases.ctypes.data)
    assert target.tolist() == [5]
