"""The builder of a module: functions, variables and loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from llvmlite import ir

from .values import I8, I64, PTR, VOID

ONE = I64(1)
STEP = ir.FunctionType(VOID, [PTR, PTR])  # ``void step(i64 *args, ptr *bases)``
BLOCK = ir.FunctionType(VOID, [PTR, I64, I64])  # ``void block(ptr context, i64 item, i64 thread)``


class Builder:
    """Writes the functions of a module, one at a time or one within another.

    Attributes
    ----------
    module : ir.Module
    name : str
        Prefix of the module's internal functions.
    b, e : ir.IRBuilder
        Builders of the current function: of its body, and of its entry block, which runs once before the body.
    """

    b: ir.IRBuilder
    e: ir.IRBuilder

    def __init__(self, name: str):
        self.module, self.name = ir.Module(name), name
        self.b = self.e = None

    @contextmanager
    def function(self, name: str, arguments: Sequence[ir.Type], linkage: str = "internal") -> Iterator[ir.Function]:
        """Write a function without a result: the ``with`` block emits its body."""
        f = ir.Function(self.module, ir.FunctionType(VOID, arguments), name)
        f.linkage = linkage
        outer = self.b, self.e
        self.e, self.b = ir.IRBuilder(f.append_basic_block("entry")), ir.IRBuilder(f.append_basic_block("body"))
        yield f
        self.b.ret_void()
        self.e.branch(f.basic_blocks[1])
        self.b, self.e = outer

    def variable(self, start: ir.Value) -> ir.Value:
        """Return the address of a variable that begins with `start`."""
        address = self.e.alloca(start.type)
        self.b.store(start, address)
        return address

    def get(self, variable: ir.Value) -> ir.Value:
        return self.b.load(variable, typ=variable.allocated_type)

    @contextmanager
    def repeated(self, condition: Callable[[], ir.Value]) -> Iterator[None]:
        """Write a loop that goes on while a condition holds: the ``with`` block emits its body."""
        b = self.b
        test, body, end = (b.append_basic_block(name) for name in ("test", "loop", "end"))
        b.branch(test)
        b.position_at_end(test)
        b.cbranch(condition(), body, end)
        b.position_at_end(body)
        yield
        b.branch(test)
        b.position_at_end(end)

    def counting(self, start: ir.Value, end: ir.Value, by: ir.Value = ONE) -> AbstractContextManager[ir.Value]:
        """Write a loop over ``range(start, end, by)``: the ``with`` block emits its body."""
        return self._counting(self.variable(start), end, by)

    @contextmanager
    def _counting(self, variable: ir.Value, stop: ir.Value, by: ir.Value) -> Iterator[ir.Value]:
        """Write a loop while a variable is less than `stop`; each turn adds `by` to it."""
        i: ir.Value = None

        def goes_on() -> ir.Value:
            nonlocal i
            i = self.get(variable)
            return self.b.icmp_signed("<", i, stop)

        with self.repeated(goes_on):
            yield i
            self.b.store(self.b.add(i, by), variable)

    def element(self, pointer: ir.Value, i: ir.Value, itemsize: int) -> ir.Value:
        """Return the address of element `i`."""
        return at(self.b, pointer, self.b.mul(i, I64(itemsize)))


def at(b: ir.IRBuilder, pointer: ir.Value, offset: int | ir.Value) -> ir.Value:
    """Return an address `offset` bytes further."""
    if isinstance(offset, int):
        if not offset:
            return pointer
        offset = I64(offset)
    return b.gep(pointer, [offset], source_etype=I8)
