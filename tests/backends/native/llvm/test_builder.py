"""Functions, variables and loops in machine code."""

import ctypes

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from minigrad.backends.native.llvm.builder import ONE, Builder
from minigrad.backends.native.llvm.values import I64, PTR
from minigrad.backends.native.runtime import jit
from tests.backends.native.machine_code import compile_ir

pytestmark = pytest.mark.skipif(jit.available() is not None, reason=str(jit.available()))


def results(builder, name, n, length=8):
    """Call ``name(n, out)``, and return the array after it."""
    library = jit.load([compile_ir(str(builder.module))])
    out = np.zeros(length, np.int64)
    ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(library.address(name))(n, out.ctypes.data)
    return out.tolist()


@pytest.mark.parametrize(("n", "squares"), [
    (0, [0] * 8), (5, [0, 0, 4, 0, 0, 0, 0, 0]), (8, [0, 0, 4, 0, 0, 25, 0, 0])])
def test_counting_goes_over_a_range(n, squares):
    w = Builder("squares")
    with w.function("squares", [I64, PTR], "") as f, w.counting(I64(2), f.args[0], I64(3)) as i:
        w.b.store(w.b.mul(i, i), w.element(f.args[1], i, 8))
    assert results(w, "squares", n) == squares


def test_variables_hold_addresses():
    """The text has no ``ptr*``, which LLVM refuses."""
    w = Builder("pointers")
    with w.function("pointers", [I64, PTR], "") as f:
        address, both = w.variable(f.args[1]), w.room(PTR, 2)
        w.b.store(w.get(address), both)
        w.b.store(f.args[0], w.b.load(both, typ=PTR))
    assert results(w, "pointers", 7, 1) == [7]


def test_functions_within_another_and_loops_by_condition():
    """The steps of Collatz's sequence from 27 on are 111."""
    w = Builder("collatz")
    with w.function("collatz", [I64, PTR], "") as f:
        with w.function("next", [PTR]) as step:
            x = w.b.load(step.args[0], typ=I64)
            odd = w.b.icmp_signed("==", w.b.and_(x, ONE), ONE)
            w.b.store(w.b.select(odd, w.b.add(w.b.mul(x, I64(3)), ONE), w.b.ashr(x, ONE)), step.args[0])
        x, count = w.variable(f.args[0]), w.variable(I64(0))
        with w.repeated(lambda: w.b.icmp_signed("!=", w.get(x), ONE)):
            w.b.call(step, [x])
            w.b.store(w.b.add(w.get(count), ONE), count)
        w.b.store(w.get(count), f.args[1])
    assert results(w, "collatz", 27, 1) == [111]
