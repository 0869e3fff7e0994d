"""A graph as a page of text.

The page is exact: two graphs that differ in a type, a parameter, an input or a location have different
pages (of a large constant array the page holds a checksum). It is also quiet: what a line would only
repeat from the line above, or from its own type, it leaves out.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from .errors import printable
from .graph import TEXTS, Graph, held_graphs
from .symbolic import Dim, Symbol

_INLINE = 4  # constant arrays of at most this many elements are printed in full
_WIDE = 100  # a header or a result longer than this gets one line per argument


def node_names(graph: Any) -> dict[Any, str]:
    """Return the name that each node has on the page: its argument's, its number's, or ``%3``."""
    names = dict(zip(graph.inputs, map(printable, graph.names), strict=True))
    count = 0
    for n in graph.nodes:
        if n in names:
            continue
        if is_literal(n):
            names[n] = literal(n)
        else:
            count += 1
            names[n] = f"%{count}"
    return names


def is_literal(node: Any) -> bool:
    """Tell whether `node` is printed as a number where it is used."""
    return node.is_constant


def literal(node: Any) -> str:
    """Return a constant's number, as short as it can be read back."""
    return _number(node.params["value"], node.dtype)


def _number(value: bool | int | float, dtype: np.dtype) -> str:
    if not isinstance(value, float) or not np.isfinite(value):
        return repr(value)
    form = np.format_float_positional if 1e-4 <= abs(value) < 1e6 or value == 0 else np.format_float_scientific
    return form(dtype.type(value), trim="0")


class Words:
    """How sizes, types, parameters and nodes are spelled on one page.

    Two sizes may have one name (the batches of nested `vmap`); the second to appear is spelled ``B'``.
    """

    def __init__(self):
        self._symbols: dict[Symbol, str] = {}
        self._types: dict[Any, str] = {}

    def _symbol(self, symbol: Symbol) -> str:
        if symbol not in self._symbols:
            word, taken = printable(symbol.name), set(self._symbols.values())
            while word in taken:
                word += "'"
            self._symbols[symbol] = word
        return self._symbols[symbol]

    def type(self, t: Any) -> str:
        """Return ``f32[B, 10]``."""
        if t not in self._types:
            if hasattr(t, "parts"):
                self._types[t] = "(" + ", ".join(map(self.type, t.parts)) + ("," if len(t.parts) == 1 else "") + ")"
            else:
                self._types[t] = str(t).split("[")[0] + "[" + ", ".join(map(self.value, t.shape)) + "]"
        return self._types[t]

    def value(self, value: Any) -> str:
        """Return a static parameter as it is printed."""
        if isinstance(value, Dim):
            return value.format(self._symbol)
        if isinstance(value, np.ndarray):
            return _array(value)
        if isinstance(value, tuple):
            return "(" + ", ".join(map(self.value, value)) + ("," if len(value) == 1 else "") + ")"
        if isinstance(value, np.dtype):
            return value.name
        if isinstance(value, Graph):
            return f"<{printable(value.name)}>"
        return repr(value)

    def params(self, node: Any) -> str:
        """Return the static parameters that the node's type does not tell: ``axes=0``."""
        words = []
        for key, value in node.params.items():
            if key not in node.prim.hidden_params:
                one = isinstance(value, tuple) and len(value) == 1 and key == "axes"
                words.append(f"{key}={self.value(value[0] if one else value)}")
        return ", ".join(words)

    def call(self, node: Any, names: dict[Any, str]) -> str:
        """Return ``mul(x, 2.0)``: what computes the node, from what."""
        name, p = node.prim.name, node.params
        operands = [self._operand(node, i, names) for i in node.inputs]
        if node.prim.printed is not None:
            return node.prim.printed(node, operands, self.value)
        if not operands and len(p) - len(node.prim.hidden_params & p.keys()) == 1:
            return f"{name}({self.params(node).partition('=')[2]})"
        return f"{name}({', '.join(filter(None, (*operands, self.params(node))))})"

    def _operand(self, node: Any, i: Any, names: dict[Any, str]) -> str:
        if not is_literal(i):
            return names[i]
        told = node.prim.kind == "elementwise" and any(
            t == i.type for t in (node.type, *(o.type for o in node.inputs if not is_literal(o))))
        return names[i] if told else f"{names[i]}: {self.type(i.type)}"


def _array(value: np.ndarray) -> str:
    flat = value.ravel()
    if flat.size <= _INLINE:
        return "[" + " ".join(map(str, flat)) + "]"
    little = np.ascontiguousarray(flat, flat.dtype.newbyteorder("<"))
    return "[" + " ".join(map(str, flat[:_INLINE - 1])) + f" … #{zlib.crc32(little):08x}]"


def format_node(node: Any, names: dict[Any, str]) -> str:
    """Return ``mul(x, 2.0)``: what computes the node, from what."""
    return Words().call(node, names)


def format_rules(node: Any) -> str:
    """Return the rules that made the node, in the order in which they were applied: ``vmap, vjp``."""
    return printable(", ".join(reversed(node.rules)))


def format_graph(graph: Any) -> str:
    """Return the page: a header, a line per node with its type and the user's line, the results.

    The comment of a line is that of the line above where it has none. The graphs that a node holds follow
    it, indented.
    """
    return "\n".join(_lines(graph, Words()))


def _lines(graph: Any, words: Words) -> Iterator[str]:
    names, inputs = node_names(graph), set(graph.inputs)
    yield from _header(graph, words)
    yield from (f"  # {printable(line)}" for note in graph.notes for line in note.splitlines())
    rows = [(f"  {names[n]}: {words.type(n.type)}", words.call(n, names), n)
            for n in graph.nodes if n not in inputs and not is_literal(n)]
    left = max((len(r[0]) for r in rows if len(r[0]) <= 34), default=0)  # a rare long line sticks out
    middle = max((len(r[1]) for r in rows if len(r[1]) <= 60), default=0)
    above = None
    for a, b, n in rows:
        rules = format_rules(n)
        comment = f"  # {n.where}  {rules}".rstrip() if n.loc else f"  # {rules or n.where}"
        yield f"{a:<{left}} = {b if comment == above else f'{b:<{middle}}{comment}'}"
        above = comment
        for key, held in held_graphs(n):
            yield f"    {key}:"
            yield from ("      " + line for line in _lines(held, words))
            above = None
    results = [names[n] + (f": {words.type(n.type)}" if is_literal(n) else "") for n in graph.outputs]
    if tuple(graph.out_names) != ("out",):
        results = [f"{printable(label)}={r}" for label, r in zip(graph.out_names, results, strict=True)]
    yield from _listed("  return ", results, "")


def _header(graph: Any, words: Words) -> list[str]:
    inputs = [f"{printable(name)}: {words.type(n.type)}" for n, name in zip(graph.inputs, graph.names, strict=True)]
    results = ", ".join(words.type(n.type) for n in graph.outputs)
    after = f") -> {results}" if len(graph.outputs) == 1 else f") -> ({results})"
    return _listed(f"{printable(graph.name)}(", inputs, after)


def _listed(before: str, items: list[str], after: str) -> list[str]:
    line = f"{before}{', '.join(items)}{after}"
    if len(line) <= _WIDE or len(items) < 2:
        return [line.rstrip()]
    indent = " " * (len(before) - len(before.lstrip()) + 4)
    return [before.rstrip(), *(f"{indent}{i}," for i in items), *([after] if after else [])]


TEXTS["__str__"] = format_graph
