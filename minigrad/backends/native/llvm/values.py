"""LLVM types, constants and intrinsics: scalars and vectors that all generators of code share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from . import ir

I1, I8, I32, I64 = (ir.IntType(n) for n in (1, 8, 32, 64))
VOID, PTR = ir.VoidType(), ir.PointerType()


def scalar_type(dtype: np.dtype) -> ir.Type:
    """Return the type of one element in a register: a bool is one bit there, and one byte in memory."""
    if dtype.kind == "f":
        return ir.FloatType() if dtype.itemsize == 4 else ir.DoubleType()
    return ir.IntType(1 if dtype.kind == "b" else 8 * dtype.itemsize)


def vector_type(dtype: np.dtype, count: int) -> ir.Type:
    """Return the type of `count` elements, a scalar's for 1."""
    return lanes_of(scalar_type(dtype), count)


def memory_type(dtype: np.dtype, count: int) -> ir.Type:
    """Return the type of `count` neighbouring elements in memory."""
    return lanes_of(I8 if dtype.kind == "b" else scalar_type(dtype), count)


def lanes_of(scalar: ir.Type, count: int) -> ir.Type:
    """Return the type of `count` scalars, the scalar's own for 1."""
    return ir.VectorType(scalar, count) if count > 1 else scalar


def element(t: ir.Type) -> ir.Type:
    """Return the type of one lane."""
    return t.element if isinstance(t, ir.VectorType) else t


def like(t: ir.Type, scalar: ir.Type) -> ir.Type:
    """Return the type with the lanes of `t`, each a `scalar`."""
    return ir.VectorType(scalar, t.count) if isinstance(t, ir.VectorType) else scalar


def is_float(x: ir.Value) -> bool:
    return isinstance(element(x.type), (ir.FloatType, ir.DoubleType))


def suffix(t: ir.Type) -> str:
    """Return a type as the names of intrinsics spell it: ``v16f32``."""
    e = element(t)
    text = {ir.FloatType: "f32", ir.DoubleType: "f64"}.get(type(e)) or f"i{e.width}"
    return f"v{t.count}{text}" if isinstance(t, ir.VectorType) else text


def constant(t: ir.Type, number: bool | int | float) -> ir.Value:
    """Return a number, converted to the type of a lane, in every lane of `t`; the text has it once."""
    e = element(t)
    number = float(number) if isinstance(e, (ir.FloatType, ir.DoubleType)) else int(number)
    if isinstance(e, ir.FloatType):
        with np.errstate(over="ignore"):
            number = float(np.float32(number))
    one = ir.Constant(e, number)
    return ir.Value(t, f"splat ({e.text} {one.text})") if isinstance(t, ir.VectorType) else one


def lane_numbers(scalar: ir.Type, count: int, first: int = 0) -> ir.Constant:
    """Return the vector ``first, first + 1, ...`` of `count` lanes."""
    return ir.Constant(ir.VectorType(scalar, count), list(range(first, first + count)))


def splat(b: ir.IRBuilder, x: ir.Value, count: int) -> ir.Value:
    """Return a scalar in every lane."""
    if count == 1:
        return x
    one = b.insert_element(ir.Constant(ir.VectorType(x.type, count), ir.Undefined), x, I32(0))
    return b.shuffle_vector(one, one, ir.Constant(ir.VectorType(I32, count), [0] * count))


def declared(module: ir.Module, name: str, result: ir.Type, arguments: Sequence[ir.Type]) -> ir.Function:
    """Return the function `name` of a module, declared there once."""
    return module.functions.get(name) or ir.Function(module, ir.FunctionType(result, arguments), name)


def intrinsic(b: ir.IRBuilder, name: str, *xs: ir.Value) -> ir.Value:
    """Call ``llvm.<name>``, whose operands and result are of one type."""
    t = xs[0].type
    return b.call(declared(b.module, f"llvm.{name}.{suffix(t)}", t, [t] * len(xs)), xs)


def any_lane(b: ir.IRBuilder, bits: ir.Value) -> ir.Value:
    """Return whether one of a vector's bits is set; a single bit is its own answer."""
    t = bits.type
    if not isinstance(t, ir.VectorType):
        return bits
    return b.call(declared(b.module, f"llvm.vector.reduce.or.{suffix(t)}", t.element, [t]), [bits])


def rarely(b: ir.IRBuilder, condition: ir.Value, usual: Sequence[ir.Value], rare: Callable[[], Sequence[ir.Value]]
           ) -> list[ir.Value]:
    """Return the values that `rare` emits; its code is skipped, for `usual`, if no lane has the condition."""
    start = b.block
    with b.if_then(any_lane(b, condition), likely=False):
        changed, end = rare(), b.block
    return [b.phi(x.type, (x, start), (y, end)) for x, y in zip(usual, changed, strict=True)]


def out_of_line(b: ir.IRBuilder, name: str, types: Sequence[ir.Type], emit: Callable[..., Sequence[ir.Value]],
                *xs: ir.Value) -> list[ir.Value]:
    """Return the values of a function that `emit` writes, once per module and operand type, for code that seldom runs.

    `types` are those of the values.
    """
    name, kind = f"{name}.{suffix(xs[0].type)}", ir.LiteralStructType(types)
    f = b.module.functions.get(name)
    if f is None:
        f = ir.Function(b.module, ir.FunctionType(kind, [x.type for x in xs]), name)
        f.linkage = "internal"
        for attribute in ("noinline", "cold"):
            f.attributes.add(attribute)
        body = ir.IRBuilder(f.append_basic_block())
        result: ir.Value = ir.Constant(kind, ir.Undefined)
        for k, x in enumerate(emit(body, *f.args)):
            result = body.insert_value(result, x, k)
        body.ret(result)
    results = b.call(f, xs)
    return [b.extract_value(results, k) for k in range(len(types))]


def vector(b: ir.IRBuilder, xs: Sequence[ir.Value]) -> ir.Value:
    """Return scalars as the lanes of a vector; a single one as it is."""
    if len(xs) == 1:
        return xs[0]
    result: ir.Value = ir.Constant(ir.VectorType(xs[0].type, len(xs)), ir.Undefined)
    for k, x in enumerate(xs):
        result = b.insert_element(result, x, I32(k))
    return result
