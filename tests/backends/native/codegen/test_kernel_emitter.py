"""Argument blocks and memory of a kernel while it is written."""

import ctypes

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from minigrad.backends.native.codegen.kernel import rows
from minigrad.backends.native.codegen.kernel_emitter import HEAD, KernelEmitter, Memory, Param
from minigrad.backends.native.llvm.values import I64
from minigrad.backends.native.runtime import jit, threads
from minigrad.backends.numpy_text import managed
from minigrad.graph import Graph
from minigrad.passes.schedule import schedule
from minigrad.symbolic import Dim
from tests.backends.native.machine_code import compile_ir
from tests.passes.programs import input_, node

pytestmark = pytest.mark.skipif(jit.available() is not None, reason=str(jit.available()))
I8 = np.dtype("i8")
n = Dim.new("n")
x = input_(n, 3, dtype="i8")
VALUE, SCRATCH = Memory("value", x), Memory("scratch", x)


def emitter_of(name):
    return KernelEmitter(name, 4, schedule(Graph((x,), (node("neg", x),)), managed, rows))


def run(emitter, name, numbers, *arrays):
    """Run a step on the numbers of its argument block and on arrays."""
    library = jit.load([compile_ir(str(emitter.module))], threads.symbols())
    args, bases = np.array(numbers), np.array([a.ctypes.data for a in arrays])
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(library.address(name))(args.ctypes.data, bases.ctypes.data)


def test_numbers_follow_the_head_in_order_of_use():
    emitter = emitter_of("numbers")
    with emitter.step("numbers"):
        total = emitter.b.add(emitter.size(n), emitter.head(3))
        total = emitter.b.add(total, emitter.stride(x, 0))
        emitter.store(emitter.b.add(total, emitter.size(1000)), I8, emitter.pointer(VALUE, x))
        emitter.size(n)
    assert list(emitter.params) == [Param("size", size=n), Param("stride", view=x), Param("base", VALUE),
                                    Param("offset", VALUE, x)]
    out = np.zeros(4, np.int64)
    head = [0, 0, 0, 100]
    assert len(head) == HEAD
    run(emitter, "numbers", [*head, 7, 24, 1, 16], np.zeros(1), out)
    assert out.tolist() == [0, 0, 1131, 0]


def test_a_number_is_loaded_once_per_function():
    emitter = emitter_of("outer")
    with emitter.step("outer"):
        outside = emitter.size(n)
        with emitter.step("inner"):
            inside = emitter.size(n)
        assert emitter.size(n) is outside
        emitter.store(outside, I8, emitter.pointer(VALUE, x))
    assert inside is not outside
    assert next(iter(emitter.params)) == Param("size", size=n)
    out = np.zeros(1, np.int64)
    run(emitter, "outer", [0, 0, 0, 0, 7, 0, 0], out)
    assert out.tolist() == [7]


def test_each_thread_has_its_own_scratch_memory():
    emitter = emitter_of("scratch")
    with emitter.step("scratch"):
        emitter.thread = emitter.head(1)
        emitter.store(I64(5), I8, emitter.pointer(SCRATCH, x))
    assert [p.kind for p in emitter.params] == ["base", "offset", "scratch"]
    out = np.zeros(8, np.int64)
    run(emitter, "scratch", [0, 2, 0, 0, 0, 8, 24], out)  # 8 + 2 * 24 bytes
    assert out.tolist() == [0] * 7 + [5]


def test_the_flag_of_bad_indices():
    emitter = emitter_of("flag")
    with emitter.step("flag"):
        emitter.b.store(I64(1), emitter.flag())
        emitter.flag()
    assert list(emitter.params) == [Param("flag")]
    out = np.zeros(1, np.int64)
    run(emitter, "flag", [0, 0, 0, 0, 0], out)
    assert out.tolist() == [1]
