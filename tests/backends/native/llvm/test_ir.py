"""Programs written as text, compiled by LLVM and run."""

import ctypes

import pytest

pytest.importorskip("llvmlite")

from minigrad.backends.native.llvm import ir
from minigrad.backends.native.llvm.values import I1, I8, I32, I64, PTR, VOID
from minigrad.backends.native.runtime import jit

F32, F64 = ir.FloatType(), ir.DoubleType()
C = {I64: ctypes.c_int64, F64: ctypes.c_double, PTR: ctypes.c_void_p}


def run(emit, types, args, result=I64):
    """Return the result of a function, given how its body is written."""
    module = ir.Module("test")
    f = ir.Function(module, ir.FunctionType(result, types), "f")
    b = ir.IRBuilder(f.append_basic_block("entry"))
    b.ret(emit(b, *f.args))
    library = jit.load(jit.compile_all([str(module)]))
    return ctypes.CFUNCTYPE(C[result], *(C[t] for t in types))(library.address("f"))(*args)


@pytest.mark.parametrize(("name", "x", "y", "want"), [
    ("add", 7, -2, 5), ("sub", 7, -2, 9), ("mul", 7, -2, -14), ("sdiv", 7, -2, -3), ("srem", 7, -2, 1),
    ("udiv", -1, 2**62, 3), ("urem", -1, 2**62, 2**62 - 1), ("shl", 3, 4, 48), ("lshr", -1, 60, 15),
    ("ashr", -16, 2, -4),
    ("and_", 12, 10, 8), ("or_", 12, 10, 14), ("xor", 12, 10, 6)])
def test_integers(name, x, y, want):
    assert run(lambda b, x, y: getattr(b, name)(x, y), (I64, I64), (x, y)) == want


@pytest.mark.parametrize(("name", "want"), [
    ("fadd", 9.5), ("fsub", 5.5), ("fmul", 15.0), ("fdiv", 3.75), ("frem", 1.5)])
def test_floats(name, want):
    assert run(lambda b, x, y: getattr(b, name)(x, y), (F64, F64), (7.5, 2.0), F64) == want


@pytest.mark.parametrize(("order", "signed", "unsigned"), [
    ("<", 1, 0), ("<=", 1, 0), (">", 0, 1), (">=", 0, 1), ("==", 0, 0), ("!=", 1, 1)])
def test_comparisons_of_integers(order, signed, unsigned):
    for name, want in (("icmp_signed", signed), ("icmp_unsigned", unsigned)):
        assert run(lambda b, x, y, f=name: b.zext(getattr(b, f)(order, x, y), I64), (I64, I64), (-1, 1)) == want


@pytest.mark.parametrize(("name", "order", "want"), [
    ("fcmp_ordered", "==", 0), ("fcmp_ordered", "ord", 0), ("fcmp_unordered", "!=", 1), ("fcmp_unordered", "<", 1),
    ("fcmp_unordered", "uno", 1)])
def test_comparisons_with_nan(name, order, want):
    assert run(lambda b, x, y: b.zext(getattr(b, name)(order, x, y), I64), (F64, F64), (float("nan"), 1.0)) == want


def test_unary_operations_and_conversions():
    assert run(lambda b, x: b.neg(b.not_(x)), (I64,), (5,)) == 6
    assert run(lambda b, x: b.fneg(x), (F64,), (2.5,), F64) == -2.5
    assert run(lambda b, x: b.sext(b.trunc(x, I8), I64), (I64,), (255,)) == -1
    assert run(lambda b, x: b.fpext(b.fptrunc(x, F32), F64), (F64,), (1 / 3,), F64) == 0.3333333432674408
    assert run(lambda b, x: b.fptosi(b.uitofp(x, F64), I64), (I64,), (77,)) == 77
    assert run(lambda b, x: b.bitcast(x, I64), (F64,), (1.0,)) == 0x3FF0000000000000
    assert run(lambda b, x: b.trunc(x, I64), (I64,), (3,)) == 3


def test_constants():
    numbers = ir.Constant(ir.VectorType(I64, 4), [3, 1, 4, 1])
    assert run(lambda b: b.extract_element(numbers, I32(2)), (), ()) == 4
    assert run(lambda b: ir.Constant(F64, 0.1), (), (), F64) == 0.1
    assert run(lambda b: b.select(I1(True), I64(1), ir.Constant(I64, None)), (), ()) == 1
    assert ir.Constant(ir.VectorType(I64, 2), ir.Undefined).text == "undef"


def test_vectors():
    def emit(b, x):
        nothing = ir.Constant(ir.VectorType(I64, 4), ir.Undefined)
        one = b.insert_element(nothing, x, I32(0))
        spread = b.shuffle_vector(one, one, ir.Constant(ir.VectorType(I32, 4), [0] * 4))
        total = b.not_(b.add(spread, ir.Constant(spread.type, [0, 10, 20, 30])))
        return b.extract_element(total, I32(3))

    assert run(emit, (I64,), (5,)) == -36


def test_branches_and_phis():
    def emit(b, x):
        start = b.block
        with b.if_then(b.icmp_signed("<", x, I64(0)), likely=False):
            y, end = b.neg(x), b.block
        size = b.phi(I64, (x, start), (y, end))
        place = b.alloca(I64)
        with b.if_else(b.icmp_signed(">", size, I64(9)), likely=True) as (large, small):
            with small:
                b.store(size, place)
            with large:
                b.store(I64(9), place)
        return b.load(place, typ=I64)

    assert [run(emit, (I64,), (x,)) for x in (-4, 4, -40, 40)] == [4, 4, 9, 9]


def test_switches():
    def emit(b, x):
        place, end = b.alloca(I64, align=64), b.append_basic_block("done")
        b.store(I64(-1), place)
        switch = b.switch(x, end)
        for k in range(3):
            block = b.append_basic_block("case")
            with b.goto_block(block):
                b.store(I64(10 * k), place)
                b.branch(end)
            switch.add_case(I64(k), block)
        b.position_at_end(end)
        return b.load(place, typ=I64)

    assert [run(emit, (I64,), (x,)) for x in (0, 1, 2, 3)] == [0, 10, 20, -1]


def test_memory_and_atomics():
    def emit(b, p):
        second = b.gep(p, [I64(1)], source_etype=I64)
        b.atomic_rmw("add", second, I64(5), "seq_cst")
        swapped = b.cmpxchg(p, I64(1), b.load_atomic(second, "acquire", 8, typ=I64), "acquire", "monotonic")
        b.store_atomic(b.extract_value(swapped, 0), second, "release", 8)
        return b.zext(b.extract_value(swapped, 1), I64)

    words = (ctypes.c_int64 * 2)(1, 2)
    assert run(emit, (PTR,), (ctypes.addressof(words),)) == 1
    assert list(words) == [7, 1]


def test_structures_functions_and_variables():
    def emit(b, x):
        pair = ir.LiteralStructType([I64, F64])
        g = ir.Function(b.module, ir.FunctionType(pair, [I64]), "g")
        g.linkage = "internal"
        g.attributes.add("noinline")
        inner = ir.IRBuilder(g.append_basic_block())
        both = inner.insert_value(ir.Constant(pair, ir.Undefined), inner.add(g.args[0], I64(1)), 0)
        inner.ret(inner.insert_value(both, ir.Constant(F64, 2.0), 1))
        bytes_ = ir.ArrayType(I8, 3)
        table = ir.GlobalVariable(b.module, bytes_, "table", ir.Constant(bytes_, b"\x05\x06\x07"), constant=True)
        entry = b.load(b.gep(table, [I64(2)], source_etype=I8, inbounds=True), typ=I8)
        results = b.call(g, [x])
        return b.add(b.add(b.extract_value(results, 0), b.fptosi(b.extract_value(results, 1), I64)), b.zext(entry, I64))

    assert run(emit, (I64,), (40,)) == 50


def test_calls_by_address():
    def emit(b, f, x):
        b.call(ir.Value(ir.FunctionType(VOID, [PTR]).as_pointer(), f.text), [x])
        return b.load(x, typ=I64)

    word = ctypes.c_int64(3)

    @ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_int64))
    def double(x):
        x[0] *= 2

    address = ctypes.cast(double, ctypes.c_void_p).value
    assert run(emit, (PTR, PTR), (address, ctypes.addressof(word))) == 6


def test_blocks_end_once():
    module = ir.Module("test")
    b = ir.IRBuilder(ir.Function(module, ir.FunctionType(VOID, []), "f").append_basic_block())
    b.ret_void()
    with pytest.raises(AssertionError):
        b.ret_void()
