"""Loops, vectors in memory, and the parallel-for, in machine code."""

import ctypes

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from minigrad.backends.native.codegen.emit import Emitter
from minigrad.backends.native.llvm.builder import ONE, most
from minigrad.backends.native.llvm.values import I64
from minigrad.backends.native.runtime import jit, threads
from tests.backends.native.machine_code import compile_ir

pytestmark = pytest.mark.skipif(jit.available() is not None, reason=str(jit.available()))
F8 = np.dtype("f8")


def run(emitter, name, numbers, *arrays):
    """Run a step of a module on argument numbers and arrays."""
    library = jit.load([compile_ir(str(emitter.module))], threads.symbols())
    args = np.array([*numbers, 0], np.int64)
    bases = np.array([a.ctypes.data for a in arrays], np.int64)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(library.address(name))(args.ctypes.data, bases.ctypes.data)


def test_counting_and_addresses():
    emitter = Emitter("squares")
    with emitter.step("squares"):
        target = emitter.address(1)
        with emitter.counting(I64(2), emitter.number(0), I64(3)) as i:
            emitter.store(emitter.b.mul(i, i), np.dtype("i8"), emitter.element(target, i, 8))
    out = np.full(12, -1)
    run(emitter, "squares", [10, 0, 8], out)  # from the second element on
    assert out.tolist() == [-1, -1, -1, 4, -1, -1, 25, -1, -1, 64, -1, -1]


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 23])
def test_chunks_cover_a_range_once(n):
    emitter = Emitter("doubled")
    with emitter.step("doubled"):
        source, target = emitter.address(1), emitter.address(3)
        for i, width in emitter.chunks(I64(0), emitter.number(0), (8, 2, 1)):
            x = emitter.load(F8, emitter.element(source, i, 8), width)
            emitter.store(emitter.b.fadd(x, x), F8, emitter.element(target, i, 8))
    x, out = np.arange(24.0), np.zeros(24)
    run(emitter, "doubled", [n, 0, 0, 1, 0], x, out)
    assert out.tolist() == [2.0 * k if k < n else 0.0 for k in range(24)]


@pytest.mark.parametrize("n", [1, 3, 4, 6])
def test_masked_vectors_leave_other_elements_alone(n):
    emitter = Emitter("masked")
    with emitter.step("masked"):
        source, target = emitter.address(1), emitter.address(3)
        with emitter.counting(I64(0), emitter.number(0), I64(4)) as i:
            mask = emitter.mask(emitter.number(0), i, 4)
            x = emitter.load(F8, emitter.element(source, i, 8), 4, mask)
            emitter.store(x, F8, emitter.element(target, i, 8), mask)
    x, out = np.arange(1.0, 9), np.full(8, -1.0)
    run(emitter, "masked", [n, 0, 0, 1, 0], x, out)
    assert out.tolist() == [*range(1, n + 1), *[-1] * (8 - n)]


def test_repeated_evaluates_its_condition_each_time():
    emitter = Emitter("halves")
    b = None
    with emitter.step("halves"):
        b, n, steps = emitter.b, emitter.variable(emitter.number(0)), emitter.variable(I64(0))
        with emitter.repeated(lambda: b.icmp_signed(">", emitter.get(n), ONE)):
            b.store(b.sdiv(emitter.get(n), I64(2)), n)
            b.store(b.add(emitter.get(steps), ONE), steps)
        emitter.store(most(b, emitter.get(steps), I64(3)), np.dtype("i8"), emitter.address(1))
    out = np.zeros(1, np.int64)
    run(emitter, "halves", [1000, 0, 0], out)
    assert out[0] == 9
    run(emitter, "halves", [2, 0, 0], out)
    assert out[0] == 3


@pytest.mark.parametrize("team", [1, 3])
@pytest.mark.parametrize("items", [0, 1, 50])
def test_parallel_for_runs_each_item_once(items, team):
    emitter = Emitter("items")
    with emitter.block("items.block") as block:
        address = emitter.element(emitter.address(2), block.args[1], 8)
        emitter.store(emitter.b.add(emitter.load(np.dtype("i8"), address), ONE), np.dtype("i8"), address)
    with emitter.step("items"):
        emitter.parallel_for(block, emitter.number(0), emitter.number(1))
    out = np.zeros(60, np.int64)
    run(emitter, "items", [items, team, 0, 0], out)
    assert out.tolist() == [1] * items + [0] * (60 - items)
