"""Functions of the native backend's vector math as calls on arrays, for measuring and testing them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from minigrad.backends.native.llvm import ir
from minigrad.backends.native.llvm.builder import Builder
from minigrad.backends.native.llvm.values import I64, PTR, scalar_type

_READY: list[llvm.TargetMachine] = []


def _machine(features: str | None) -> llvm.TargetMachine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    if features is None:
        return target.create_target_machine(cpu=llvm.get_host_cpu_name(), opt=3,
                                            features=llvm.get_host_cpu_features().flatten())
    return target.create_target_machine(cpu="x86-64", features=features, opt=3)


def _loop(emit: Callable[..., ir.Value], arity: int, element: ir.Type, lanes: int | None) -> str:
    """Return the text of ``void f(out, x, ..., n)``: n is a multiple of the lanes."""
    kind = element if lanes is None else ir.VectorType(element, lanes)
    align = 4 if isinstance(element, ir.FloatType) else 8
    builder = Builder("vector_math")
    with builder.function("f", [*[PTR] * (arity + 1), I64], "") as function:
        b, (out, *operands, n) = builder.b, function.args
        with builder.counting(I64(0), n, I64(lanes or 1)) as i:
            here = [b.gep(x, [i], source_etype=element) for x in (out, *operands)]
            b.store(emit(b, *(b.load(x, typ=kind, align=align) for x in here[1:])), here[0], align=align)
    return str(builder.module)


def compiled(emit: Callable[..., ir.Value], arity: int, dtype: Any, lanes: int | None,
             features: str | None = None) -> Callable[..., np.ndarray]:
    """Return a function of arrays; `features` None means this machine's, else those beside plain x86-64."""
    dtype = np.dtype(dtype)
    machine = _machine(features)
    parsed = llvm.parse_assembly(_loop(emit, arity, scalar_type(dtype), lanes))
    parsed.triple, parsed.data_layout = llvm.get_default_triple(), str(machine.target_data)
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
