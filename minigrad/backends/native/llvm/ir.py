"""LLVM IR as text: types, values, functions, and a builder that writes each instruction at once.

Names and arguments follow `llvmlite.ir`, which builds objects first and prints them afterwards: the IR of a program
took more time than its machine code. All pointers are opaque. LLVM checks the types when it reads the text.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

_ORDERS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne", "ord": "ord", "uno": "uno"}


class Type:
    """A type; its text tells it from others.

    Attributes
    ----------
    text : str
    width : int
        The bits of an integer.
    element : Type
        The type of an element of a vector or an array.
    count : int
        Their number.
    """

    width: int
    element: Type
    count: int

    def __init__(self, text: str):
        self.text = text

    def __str__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Type) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __call__(self, number: object) -> Constant:
        return Constant(self, number)


class IntType(Type):
    def __init__(self, width: int):
        super().__init__(f"i{width}")
        self.width = width


class FloatType(Type):
    def __init__(self) -> None:
        super().__init__("float")


class DoubleType(Type):
    def __init__(self) -> None:
        super().__init__("double")


class VoidType(Type):
    def __init__(self) -> None:
        super().__init__("void")


class PointerType(Type):
    """The type of an address; of a function's, it may know the function's type."""

    def __init__(self, function: FunctionType | None = None):
        super().__init__("ptr")
        self.function = function


class VectorType(Type):
    def __init__(self, element: Type, count: int):
        super().__init__(f"<{count} x {element.text}>")
        self.element, self.count = element, count


class ArrayType(Type):
    def __init__(self, element: Type, count: int):
        super().__init__(f"[{count} x {element.text}]")
        self.element, self.count = element, count


class LiteralStructType(Type):
    def __init__(self, elements: Sequence[Type]):
        super().__init__(f"{{{', '.join(t.text for t in elements)}}}")
        self.elements = tuple(elements)


class FunctionType(Type):
    def __init__(self, result: Type, args: Sequence[Type]):
        super().__init__(f"{result.text} ({', '.join(t.text for t in args)})")
        self.result, self.args = result, tuple(args)

    def as_pointer(self) -> PointerType:
        return PointerType(self)


_BIT, _POINTER = IntType(1), PointerType()


def _with_lanes(scalar: Type, of: Type) -> Type:
    return VectorType(scalar, of.count) if isinstance(of, VectorType) else scalar


class Value:
    """A value: its type, and the text that refers to it.

    Attributes
    ----------
    allocated_type : Type
        The type of the memory at the address that ``alloca`` returns.
    """

    __slots__ = ("allocated_type", "text", "type")
    allocated_type: Type

    def __init__(self, type: Type, text: str):
        self.type, self.text = type, text


class _Undefined:
    pass


Undefined = _Undefined()


class Constant(Value):
    """A number, a sequence of numbers, `Undefined`, or None for zeros and null pointers.

    Attributes
    ----------
    number : int
        An integer's.
    """

    __slots__ = ("number",)

    def __init__(self, type: Type, constant: object):
        super().__init__(type, _written(type, constant))
        if isinstance(constant, int):
            self.number = int(constant)


def _written(type: Type, x: object) -> str:
    if x is Undefined:
        return "undef"
    if x is None:
        return "zeroinitializer"
    if isinstance(type, IntType):
        return str(int(x))  # type: ignore[call-overload]
    if isinstance(type, (FloatType, DoubleType)):
        return f"0x{struct.unpack('<Q', struct.pack('<d', x))[0]:016x}"
    kind, numbers = type.element, x
    assert isinstance(numbers, (Sequence, bytearray))
    assert len(numbers) == type.count
    items = ", ".join(f"{kind.text} {_written(kind, n)}" for n in numbers)
    return f"<{items}>" if isinstance(type, VectorType) else f"[{items}]"


class Module:
    """A module.

    Attributes
    ----------
    functions, variables : dict of str to Function or GlobalVariable
        Those that it declares and defines, by name.
    """

    def __init__(self, name: str):
        self.name = name
        self.functions: dict[str, Function] = {}
        self.variables: dict[str, GlobalVariable] = {}
        self._weights: dict[tuple[int, int], int] = {}

    def weights(self, yes: int, no: int) -> str:
        """Return the reference to the weights of a branch."""
        return f"!{self._weights.setdefault((yes, no), len(self._weights))}"

    def __str__(self) -> str:
        weights = [f'!{k} = !{{!"branch_weights", i32 {yes}, i32 {no}}}' for (yes, no), k in self._weights.items()]
        return "\n\n".join([f'; ModuleID = "{self.name}"', *map(str, self.variables.values()),
                            *map(str, self.functions.values()), *weights, ""])


class GlobalVariable(Value):
    """A variable of a module; its value is an address."""

    def __init__(self, module: Module, value_type: Type, name: str, initializer: Constant, *, align: int = 0,
                 constant: bool = False):
        super().__init__(_POINTER, f'@"{name}"')
        kind, aligned = "constant" if constant else "global", f", align {align}" if align else ""
        self.value_type = value_type
        self._definition = f"{self.text} = internal {kind} {value_type.text} {initializer.text}{aligned}"
        module.variables[name] = self

    def __str__(self) -> str:
        return self._definition


class Function(Value):
    """A function, declared as long as it has no block.

    Attributes
    ----------
    args : tuple of Value
    attributes : set of str
        Words for LLVM, such as ``"noinline"``.
    linkage : str
        ``"internal"``, or nothing.
    """

    def __init__(self, module: Module, ftype: FunctionType, name: str):
        super().__init__(ftype.as_pointer(), f'@"{name}"')
        self.module, self.ftype, self.linkage = module, ftype, ""
        self.args = tuple([Value(t, f"%a{k}") for k, t in enumerate(ftype.args)])
        self.attributes: set[str] = set()
        self.blocks: list[Block] = []
        self.names = 0  # names given so far
        module.functions[name] = self

    def append_basic_block(self, name: str = "block") -> Block:
        self.names += 1
        block = Block(self, f"{name}{self.names}")
        self.blocks.append(block)
        return block

    def __str__(self) -> str:
        args = ", ".join(f"{x.type.text} {x.text}" for x in self.args)
        words = (self.linkage, self.ftype.result.text, f"{self.text}({args})", *sorted(self.attributes))
        prototype = " ".join(word for word in words if word)
        if not self.blocks:
            return f"declare {prototype}"
        return "\n".join([f"define {prototype}", "{", *map(str, self.blocks), "}"])


class Block:
    """A basic block.

    Attributes
    ----------
    label : str
    lines : list
        Its instructions: texts, and objects that are printed when they are complete.
    ends : bool
        Whether the last one leaves the block.
    """

    def __init__(self, function: Function, label: str):
        self.function, self.label, self.ends = function, label, False
        self.lines: list[str | Switch] = []

    def __str__(self) -> str:
        return "\n  ".join([f"{self.label}:", *map(str, self.lines)])


class Switch:
    """A branch to one of several blocks, by an integer."""

    def __init__(self, x: Value, default: Block):
        self._start, self._cases = f"switch {x.type.text} {x.text}, label %{default.label}", list[str]()

    def add_case(self, x: Constant, block: Block) -> None:
        self._cases.append(f"{x.type.text} {x.text}, label %{block.label}")

    def __str__(self) -> str:
        return f"{self._start} [{' '.join(self._cases)}]"


def _binary(operation: str) -> Callable[[IRBuilder, Value, Value], Value]:
    def method(self: IRBuilder, x: Value, y: Value) -> Value:
        return self._value(x.type, f"{operation} {x.type.text} {x.text}, {y.text}")

    return method


def _comparison(operation: str, prefix: str) -> Callable[[IRBuilder, str, Value, Value], Value]:
    def method(self: IRBuilder, order: str, x: Value, y: Value) -> Value:
        plain = order in ("ord", "uno") or (operation == "icmp" and order in ("==", "!="))
        word = _ORDERS[order] if plain else prefix + _ORDERS[order]
        return self._value(_with_lanes(_BIT, x.type), f"{operation} {word} {x.type.text} {x.text}, {y.text}")

    return method


def _cast(operation: str) -> Callable[[IRBuilder, Value, Type], Value]:
    def method(self: IRBuilder, x: Value, to: Type) -> Value:
        return x if x.type == to else self._value(to, f"{operation} {x.type.text} {x.text} to {to.text}")

    return method


class IRBuilder:
    """Appends instructions to a block, and to the blocks that follow it."""

    def __init__(self, block: Block):
        self.block, self.function = block, block.function

    @property
    def module(self) -> Module:
        return self.function.module

    def _value(self, type: Type, text: str) -> Value:
        """Return the value of an instruction that is appended."""
        function = self.function
        function.names += 1
        name = f"%v{function.names}"
        self.block.lines.append(f"{name} = {text}")
        return Value(type, name)

    # -- arithmetic ----------------------------------------------------------------------------------------

    add, sub, mul = _binary("add"), _binary("sub"), _binary("mul")
    sdiv, udiv, srem, urem = _binary("sdiv"), _binary("udiv"), _binary("srem"), _binary("urem")
    shl, lshr, ashr = _binary("shl"), _binary("lshr"), _binary("ashr")
    and_, or_, xor = _binary("and"), _binary("or"), _binary("xor")
    fadd, fsub, fmul, fdiv, frem = (_binary(f"f{name}") for name in ("add", "sub", "mul", "div", "rem"))
    icmp_signed, icmp_unsigned = _comparison("icmp", "s"), _comparison("icmp", "u")
    fcmp_ordered, fcmp_unordered = _comparison("fcmp", "o"), _comparison("fcmp", "u")
    trunc, zext, sext, bitcast = _cast("trunc"), _cast("zext"), _cast("sext"), _cast("bitcast")
    fptrunc, fpext = _cast("fptrunc"), _cast("fpext")
    sitofp, uitofp, fptosi, fptoui = _cast("sitofp"), _cast("uitofp"), _cast("fptosi"), _cast("fptoui")
    inttoptr, ptrtoint = _cast("inttoptr"), _cast("ptrtoint")

    def fneg(self, x: Value) -> Value:
        return self._value(x.type, f"fneg {x.type.text} {x.text}")

    def neg(self, x: Value) -> Value:
        return self.sub(Constant(x.type, None), x)

    def not_(self, x: Value) -> Value:
        kind = x.type
        ones = f"splat ({kind.element.text} -1)" if isinstance(kind, VectorType) else "-1"
        return self._value(kind, f"xor {kind.text} {x.text}, {ones}")

    def select(self, condition: Value, x: Value, y: Value) -> Value:
        kind = x.type.text
        return self._value(x.type, f"select {condition.type.text} {condition.text}, {kind} {x.text}, {kind} {y.text}")

    def freeze(self, x: Value) -> Value:
        """Return the value; LLVM joins no operations through it."""
        return self._value(x.type, f"freeze {x.type.text} {x.text}")

    # -- vectors and structures ------------------------------------------------------------------------------

    def extract_element(self, x: Value, i: Value) -> Value:
        return self._value(x.type.element, f"extractelement {x.type.text} {x.text}, {i.type.text} {i.text}")

    def insert_element(self, x: Value, y: Value, i: Value) -> Value:
        return self._value(x.type, f"insertelement {x.type.text} {x.text}, {y.type.text} {y.text}, "
                                   f"{i.type.text} {i.text}")

    def shuffle_vector(self, x: Value, y: Value, mask: Constant) -> Value:
        return self._value(VectorType(x.type.element, mask.type.count),
                           f"shufflevector {x.type.text} {x.text}, {y.type.text} {y.text}, "
                           f"{mask.type.text} {mask.text}")

    def extract_value(self, x: Value, k: int) -> Value:
        assert isinstance(x.type, LiteralStructType)
        return self._value(x.type.elements[k], f"extractvalue {x.type.text} {x.text}, {k}")

    def insert_value(self, x: Value, y: Value, k: int) -> Value:
        return self._value(x.type, f"insertvalue {x.type.text} {x.text}, {y.type.text} {y.text}, {k}")

    # -- memory ----------------------------------------------------------------------------------------------

    def alloca(self, kind: Type, size: Value | None = None, align: int = 0) -> Value:
        count = "" if size is None else f", {size.type.text} {size.text}"
        address = self._value(_POINTER, f"alloca {kind.text}{count}{_aligned(align)}")
        address.allocated_type = kind
        return address

    def load(self, address: Value, typ: Type, align: int = 0) -> Value:
        return self._value(typ, f"load {typ.text}, ptr {address.text}{_aligned(align)}")

    def store(self, x: Value, address: Value, align: int = 0) -> None:
        self.block.lines.append(f"store {x.type.text} {x.text}, ptr {address.text}{_aligned(align)}")

    def load_atomic(self, address: Value, ordering: str, align: int, typ: Type) -> Value:
        return self._value(typ, f"load atomic {typ.text}, ptr {address.text} {ordering}, align {align}")

    def store_atomic(self, x: Value, address: Value, ordering: str, align: int) -> None:
        self.block.lines.append(f"store atomic {x.type.text} {x.text}, ptr {address.text} {ordering}, align {align}")

    def atomic_rmw(self, operation: str, address: Value, x: Value, ordering: str) -> Value:
        return self._value(x.type, f"atomicrmw {operation} ptr {address.text}, {x.type.text} {x.text} {ordering}")

    def cmpxchg(self, address: Value, old: Value, new: Value, ordering: str, failordering: str) -> Value:
        """Return the word that was there, and whether it was `old`."""
        return self._value(LiteralStructType([old.type, _BIT]),
                           f"cmpxchg ptr {address.text}, {old.type.text} {old.text}, {new.type.text} {new.text} "
                           f"{ordering} {failordering}")

    def gep(self, address: Value, indices: Sequence[Value], source_etype: Type, inbounds: bool = False) -> Value:
        """Return an address, or a vector of them for a vector of indices."""
        listed = ", ".join([f"{i.type.text} {i.text}" for i in indices])
        vectors = [i.type for i in indices if isinstance(i.type, VectorType)]
        return self._value(_with_lanes(_POINTER, vectors[0]) if vectors else _POINTER,
                           f"getelementptr {'inbounds ' if inbounds else ''}{source_etype.text}, ptr {address.text}, "
                           f"{listed}")

    # -- control ---------------------------------------------------------------------------------------------

    def call(self, function: Value, args: Sequence[Value]) -> Value:
        assert isinstance(function.type, PointerType)
        assert function.type.function is not None
        result = function.type.function.result
        text = (f"call {result.text} {function.text}("
                f"{', '.join([f'{x.type.text} {x.text}' for x in args])})")
        if isinstance(result, VoidType):
            self.block.lines.append(text)
            return Value(result, "")
        return self._value(result, text)

    def phi(self, type: Type, *incoming: tuple[Value, Block]) -> Value:
        """Return the value that belongs to the block from which control came."""
        return self._value(type, f"phi {type.text} {', '.join([f'[{x.text}, %{b.label}]' for x, b in incoming])}")

    def _leave(self, instruction: str | Switch) -> None:
        assert not self.block.ends
        self.block.lines.append(instruction)
        self.block.ends = True

    def branch(self, to: Block) -> None:
        self._leave(f"br label %{to.label}")

    def cbranch(self, condition: Value, yes: Block, no: Block, likely: bool | None = None) -> None:
        weights = "" if likely is None else f", !prof {self.module.weights(*((99, 1) if likely else (1, 99)))}"
        self._leave(f"br i1 {condition.text}, label %{yes.label}, label %{no.label}{weights}")

    def switch(self, x: Value, default: Block) -> Switch:
        switch = Switch(x, default)
        self._leave(switch)
        return switch

    def ret(self, x: Value) -> None:
        self._leave(f"ret {x.type.text} {x.text}")

    def ret_void(self) -> None:
        self._leave("ret void")

    def append_basic_block(self, name: str = "block") -> Block:
        return self.function.append_basic_block(name)

    def position_at_end(self, block: Block) -> None:
        self.block = block

    @contextmanager
    def goto_block(self, block: Block) -> Iterator[None]:
        """Append to another block: the ``with`` block emits."""
        before, self.block = self.block, block
        yield
        self.block = before

    @contextmanager
    def _part(self, block: Block, end: Block) -> Iterator[None]:
        self.block = block
        yield
        if not self.block.ends:
            self.branch(end)

    @contextmanager
    def if_then(self, condition: Value, likely: bool | None = None) -> Iterator[None]:
        """Write code that runs where a condition holds: the ``with`` block emits it."""
        then, end = (self.append_basic_block(name) for name in ("then", "end"))
        self.cbranch(condition, then, end, likely)
        with self._part(then, end):
            yield
        self.block = end

    @contextmanager
    def if_else(self, condition: Value, likely: bool | None = None
                ) -> Iterator[tuple[AbstractContextManager[None], AbstractContextManager[None]]]:
        """Write two alternatives: two inner ``with`` blocks emit them."""
        then, otherwise, end = (self.append_basic_block(name) for name in ("then", "else", "end"))
        self.cbranch(condition, then, otherwise, likely)
        yield self._part(then, end), self._part(otherwise, end)
        self.block = end


def _aligned(align: int) -> str:
    return f", align {align}" if align else ""
