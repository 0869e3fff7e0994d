"""Functions of the native backend's vector math as calls on arrays, for measuring and testing them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

_READY: list[llvm.TargetMachine] = []


def _machine(features: str | None) -> llvm.TargetMachine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    if features is None:
        return target.create_target_machine(cpu=llvm.get_host_cpu_name(), opt=3,
                                            features=llvm.get_host_cpu_features().flatten())
    return target.create_target_machine(cpu="x86-64", features=features, opt=3)


def _loop(module: ir.Module, emit: Callable[..., ir.Value], arity: int, element: ir.Type, lanes: int | None) -> None:
    """Write ``void f(out, x, ..., n)``: n is a multiple of the lanes."""
    i64 = ir.IntType(64)
    kind = element if lanes is None else ir.VectorType(element, lanes)
    pointer = element.as_pointer()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer] * (arity + 1) + [i64]), "f")
    out, *operands, n = function.args
    entry, body, after = (function.append_basic_block(name) for name in ("entry", "body", "after"))
    builder = ir.IRBuilder(entry)
    builder.cbranch(builder.icmp_signed(">", n, i64(0)), body, after)
    builder.position_at_end(body)
    i = builder.phi(i64)
    i.add_incoming(i64(0), entry)
    align = np.dtype(np.float32 if isinstance(element, ir.FloatType) else np.float64).itemsize

    def at(array: ir.Value) -> ir.Value:
        return builder.bitcast(builder.gep(array, [i]), kind.as_pointer())

    result = emit(builder, *(builder.load(at(x), align=align) for x in operands))
    builder.store(result, at(out), align=align)
    following = builder.add(i, i64(lanes or 1))
    i.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, n), body, after)
    builder.position_at_end(after)
    builder.ret_void()


def compiled(emit: Callable[..., ir.Value], arity: int, dtype: Any, lanes: int | None,
             features: str | None = None) -> Callable[..., np.ndarray]:
    """Return a function of arrays; `features` None means this machine's, else those beside plain x86-64."""
    dtype = np.dtype(dtype)
    module = ir.Module()
    module.triple = llvm.get_default_triple()
    _loop(module, emit, arity, ir.FloatType() if dtype == np.float32 else ir.DoubleType(), lanes)
    machine = _machine(features)
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(parsed, builder)
    engine = llvm.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    address = engine.get_function_address("f")
    native = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (arity + 1), ctypes.c_int64)(address)
    step = lanes or 1

    def call(*arrays: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        n = arrays[0].size
        arrays = tuple(np.ascontiguousarray(a, dtype) for a in arrays)
        if missing := -n % step:
            arrays = tuple(np.append(a, np.ones(missing, dtype)) for a in arrays)
        result = np.empty(n + missing, dtype) if out is None or missing else out
        native(result.ctypes.data, *(a.ctypes.data for a in arrays), n + missing)
        return result[:n]

    call.engine = engine  # lives as long as the code is called
    call.assembly = machine.emit_assembly(parsed)
    return call
