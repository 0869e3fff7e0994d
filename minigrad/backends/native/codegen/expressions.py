"""Kernel expressions as LLVM IR: a small parser reads the text that other backends print.

A kernel such as ``{0} == 0 ? 0 : {0} * log({1})`` is in C's syntax. Operands are vectors (or scalars) of one
of the dtypes; a number in the text takes the type of the other operand. `vector_math` has the functions; those of one
or two instructions are here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from ....graph import Node
from ....ops import elementwise as ew
from ....ops import special
from ....primitive import Combiner, Primitive
from ..llvm import ir
from ..llvm.values import I1, constant, element, intrinsic, is_float, like, rarely, vector_type
from ..runtime.jit import has_fma
from .division import RULES
from .vector_math import FUNCTIONS, functions

DTYPES = frozenset(map(np.dtype, ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"]))
_TOKEN = re.compile(r"\s*(\{\w+\}|\d+\.?\d*(?:[eE][-+]?\d+)?|[A-Za-z_]\w*|\|\||&&|<<|>>|[=!<>]=|[-+*/<>!~&|^?:(),])")
_BINARY = (("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="), ("<", "<=", ">", ">="), ("<<", ">>"), ("+", "-"),
           ("*", "/"))
_SELDOM = "seldom"
_MORE_ACCURATE = {special.expit: "expit({0})", special.log_expit: "log_expit({0})"}


@functools.cache
def unable(prim: Primitive, dtype: np.dtype) -> str | None:
    """Return why an elementwise primitive has no IR for results of `dtype`, or None."""
    name = prim.name
    if prim in RULES:
        return None if dtype.kind != "b" else f"{name} of {dtype}"
    text = _text(prim)
    if not text:
        return name
    called = _called(text)
    missing = sorted(called - FUNCTIONS.keys() - _SIMPLE.keys() - {_SELDOM})
    if missing:
        return f"{name}, whose kernel calls {', '.join(missing)}"
    floats_only = not called.isdisjoint(FUNCTIONS) or "/" in text
    return f"{name} of {dtype}" if floats_only and dtype.kind != "f" else None


def calls_functions(prim: Primitive) -> bool:
    """Return whether the kernel expression of a primitive calls vector math."""
    return not _called(_text(prim)).isdisjoint(FUNCTIONS)


def _called(text: str) -> set[str]:
    """Return the names of the functions that a kernel expression calls."""
    return set(re.findall(r"([A-Za-z_]\w*)\(", text))


def emit(builder: ir.IRBuilder, node: Node, xs: Sequence[ir.Value]) -> ir.Value:
    """Return the value of an elementwise node of the operands `xs`: vectors or scalars of its inputs' dtypes."""
    if node.prim is ew.cast:
        return cast(builder, xs[0], node.inputs[0].dtype, node.dtype)
    unsigned = (node.inputs[-1].dtype if node.inputs else node.dtype).kind == "u"
    if node.prim in RULES:
        x, y = xs
        return RULES[node.prim](builder, x, y, unsigned)
    return formula(builder, _text(node.prim), xs, unsigned)


def _text(prim: Primitive) -> str:
    """Return the kernel expression of a primitive, or a more accurate one."""
    return _MORE_ACCURATE.get(prim, prim.kernel or "")


def formula(builder: ir.IRBuilder, text: str, xs: Sequence[ir.Value], unsigned: bool = False) -> ir.Value:
    """Return the value of a kernel's text of the operands `xs`."""
    return _Parser(builder, text, xs, unsigned).value()


def combined(builder: ir.IRBuilder, by: Combiner, x: ir.Value, y: ir.Value, unsigned: bool = False) -> ir.Value:
    """Return the combination of two values."""
    return formula(builder, by.kernel, (x, y), unsigned)


def identity(by: Combiner, dtype: np.dtype, count: int) -> ir.Value:
    """Return the number that changes no value, in each of `count` lanes."""
    return constant(vector_type(dtype, count), by.identity(dtype))


@functools.cache
def _functions() -> dict[str, Callable[..., ir.Value]]:
    """Return the functions of vector math for this machine."""
    return functions(has_fma())


def cast(b: ir.IRBuilder, x: ir.Value, old: np.dtype, new: np.dtype) -> ir.Value:
    """Convert as NumPy does on x86-64, where a float without an integer is the least one of 32 or 64 bits."""
    if old == new:
        return x
    count = x.type.count if isinstance(x.type, ir.VectorType) else 1
    t = vector_type(new, count)
    if new.kind == "b":
        zero = constant(x.type, 0)
        return b.fcmp_unordered("!=", x, zero) if old.kind == "f" else b.icmp_signed("!=", x, zero)
    if old.kind == "f" and new.kind == "f":
        return b.fpext(x, t) if new.itemsize > old.itemsize else b.fptrunc(x, t)
    if old.kind == "f":
        return _to_integer(b, x, new, count)
    if new.kind == "f":
        return (b.uitofp if old.kind in "bu" else b.sitofp)(x, t)
    if new.itemsize == old.itemsize and old.kind != "b":
        return x
    if old.kind != "b" and new.itemsize < old.itemsize:
        return b.trunc(x, t)
    return (b.zext if old.kind in "bu" else b.sext)(x, t)


def _to_integer(b: ir.IRBuilder, x: ir.Value, new: np.dtype, count: int) -> ir.Value:
    """Convert a float as NumPy's loops do: narrow integers are cut from 32 bits, unsigned ones joined of halves."""
    bits = 64 if new.itemsize == 8 else 32
    t, half, least = vector_type(np.dtype(f"i{bits // 8}"), count), 2.0 ** (bits - 1), -2 ** (bits - 1)

    def signed(y: ir.Value) -> ir.Value:
        low, high = constant(y.type, -half), constant(y.type, half)
        inside = b.and_(b.fcmp_ordered(">=", y, low), b.fcmp_ordered("<", y, high))
        return b.select(inside, b.fptosi(b.select(inside, y, constant(y.type, 0)), t), constant(t, least))

    if new.kind == "u" and new.itemsize >= 4:
        upper = b.fcmp_ordered(">=", x, constant(x.type, half))
        half_value = signed(b.select(upper, b.fsub(x, constant(x.type, half)), x))
        return b.select(upper, b.xor(half_value, constant(t, least)), half_value)
    return signed(x) if 8 * new.itemsize == bits else b.trunc(signed(x), vector_type(new, count))


def extreme(b: ir.IRBuilder, x: ir.Value, y: ir.Value, unsigned: bool = False, op: str = ">") -> ir.Value:
    """Return the larger of two values, or the smaller; a NaN wins, as in NumPy, and `x` of equal ones.

    Of floats, the better one is an instruction of x86. LLVM would join it with the test for NaN, to a longer one.
    """
    if is_float(x):
        better = b.freeze(b.select(b.fcmp_ordered(op, y, x), y, x))
        return b.select(b.fcmp_unordered("uno", y, y), y, better)
    if element(x.type) == I1:
        return b.or_(x, y) if op == ">" else b.and_(x, y)
    return b.select((b.icmp_unsigned if unsigned else b.icmp_signed)(op, x, y), x, y)


def _abs(b: ir.IRBuilder, x: ir.Value, unsigned: bool) -> ir.Value:
    if is_float(x):
        return intrinsic(b, "fabs", x)
    return x if unsigned else b.select(b.icmp_signed("<", x, constant(x.type, 0)), b.neg(x), x)


def _sign(b: ir.IRBuilder, x: ir.Value, unsigned: bool) -> ir.Value:
    zero, one = constant(x.type, 0), constant(x.type, 1)
    if not is_float(x):
        positive = (b.icmp_unsigned if unsigned else b.icmp_signed)(">", x, zero)
        negative = zero if unsigned else b.select(b.icmp_signed("<", x, zero), constant(x.type, -1), zero)
        return b.select(positive, one, negative)
    other = b.select(b.fcmp_ordered("<", x, zero), constant(x.type, -1), b.select(
        b.fcmp_ordered("==", x, zero), zero, x))
    return b.select(b.fcmp_ordered(">", x, zero), one, other)


def _classify(b: ir.IRBuilder, x: ir.Value, kind: str) -> ir.Value:
    if not is_float(x):
        return constant(like(x.type, I1), kind == "finite")
    if kind == "nan":
        return b.fcmp_unordered("uno", x, x)
    size = intrinsic(b, "fabs", x)
    return b.fcmp_ordered("==" if kind == "inf" else "<", size, constant(x.type, float("inf")))


def _rounding(name: str) -> Callable[..., ir.Value]:
    return lambda b, x, unsigned: intrinsic(b, name, x) if is_float(x) else x


_SIMPLE: dict[str, Callable[..., ir.Value]] = {
    "abs": _abs, "sign": _sign, "max": extreme, "min": functools.partial(extreme, op="<"),
    **{f"is{kind}": lambda b, x, unsigned, kind=kind: _classify(b, x, kind) for kind in ("nan", "inf", "finite")},
    **{name: _rounding(name) for name in ("floor", "ceil", "trunc", "rint")}}

_FLOAT = {"+": "fadd", "-": "fsub", "*": "fmul", "/": "fdiv"}
_INT = {"+": "add", "-": "sub", "*": "mul", "|": "or_", "&": "and_", "^": "xor"}
_ON_BITS = {"+": "or_", "*": "and_", "||": "or_", "&&": "and_", "^": "xor", "|": "or_", "&": "and_"}


Operand: TypeAlias = "ir.Value | int | float"  # a number has no type until it meets a value


class _Parser:
    """Parses one expression and emits it; a number stays a Python number until it meets a value."""

    def __init__(self, builder: ir.IRBuilder, text: str, xs: Sequence[ir.Value], unsigned: bool):
        self.b, self.xs, self.unsigned = builder, xs, unsigned
        self.tokens: list[str] = [*_TOKEN.findall(text), ""]
        self.position = 0

    def value(self) -> ir.Value:
        value = self.operand()
        assert self.next() == "", f"cannot read the rest of {''.join(self.tokens)}"
        return value

    def next(self) -> str:
        self.position += 1
        return self.tokens[self.position - 1]

    def take(self, *tokens: str) -> str | None:
        return self.next() if self.tokens[self.position] in tokens else None

    def operand(self) -> ir.Value:
        """Parse a value, which is not a number alone."""
        value = self.choice()
        assert isinstance(value, ir.Value)
        return value

    def choice(self) -> Operand:
        condition = self.binary(0)
        if not self.take("?"):
            return condition
        assert isinstance(condition, ir.Value)
        yes = self.choice()
        self.next()  # the colon
        yes, no = self.same(yes, self.choice())
        return self.b.select(condition, yes, no)

    def binary(self, level: int) -> Operand:
        if level == len(_BINARY):
            return self.unary()
        left = self.binary(level + 1)
        while op := self.take(*_BINARY[level]):
            left = self.operation(op, left, self.binary(level + 1))
        return left

    def unary(self) -> Operand:
        op = self.take("-", "!", "~")
        if not op:
            return self.primary()
        x = self.unary()
        if not isinstance(x, ir.Value):
            return -x
        if op == "-":
            return self.b.fneg(x) if is_float(x) else self.b.neg(x)
        return self.b.not_(x)

    def primary(self) -> Operand:
        token = self.next()
        if token == "(":
            x = self.choice()
            self.next()
            return x
        if token.startswith("{"):
            return self.xs[int(token[1:-1])]
        if token[0].isdigit():
            return float(token) if "." in token or "e" in token else int(token)
        self.next()  # (
        if token == _SELDOM:
            return self.seldom()
        args = [self.choice()]
        while self.take(","):
            args.append(self.choice())
        self.next()  # )
        if len(args) == 2:
            args = list(self.same(*args))
        if token in FUNCTIONS:
            return _functions()[token](self.b, *args)
        return _SIMPLE[token](self.b, *args, self.unsigned)

    def seldom(self) -> ir.Value:
        """Parse ``condition, usual, rare)``: the expensive side is skipped if no lane takes it."""
        condition = self.operand()
        self.next()  # ,
        usual = self.operand()
        self.next()  # ,
        (value,) = rarely(self.b, condition, [usual], lambda: [
            self.b.select(condition, self.same(usual, self.choice())[1], usual)])
        self.next()  # )
        return value

    def same(self, x: Operand, y: Operand) -> tuple[ir.Value, ir.Value]:
        if not isinstance(x, ir.Value):
            x = constant(y.type if isinstance(y, ir.Value) else self.xs[0].type, x)
        return x, y if isinstance(y, ir.Value) else constant(x.type, y)

    def operation(self, op: str, x: Operand, y: Operand) -> ir.Value:
        x, y = self.same(x, y)
        if op in ("==", "!=", "<", "<=", ">", ">="):
            if is_float(x):
                return self.b.fcmp_unordered(op, x, y) if op == "!=" else self.b.fcmp_ordered(op, x, y)
            bits = element(x.type) == I1
            return (self.b.icmp_unsigned if self.unsigned or bits else self.b.icmp_signed)(op, x, y)
        names = _FLOAT if is_float(x) else _ON_BITS if element(x.type) == I1 else _INT
        result: ir.Value = getattr(self.b, names[op])(x, y)
        return result
