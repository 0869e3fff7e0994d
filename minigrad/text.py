"""Graphs as pages of text.

Two graphs that differ in a type, a parameter, an input or a location have different pages (a large constant array
prints with a checksum). A line leaves out a comment that repeats the line above, and parameters that its type implies.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

from .errors import Place, printable
from .graph import TEXTS, ArrayType, Graph, Node, Number, TupleType, held_graphs
from .symbolic import Dim, Symbol

_INLINE = 4  # constant arrays of at most this many elements are printed in full
_WIDE = 100  # a header or a result longer than this gets one line per argument


def node_names(graph: Graph) -> dict[Node, str]:
    """Return each node's name on the page: that of its argument, its number, or ``%3``."""
    names = dict(zip(graph.inputs, map(printable, graph.names), strict=True))
    names |= _labels(graph, set(names.values()))
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


def _labels(graph: Graph, taken: set[str]) -> dict[Node, str]:
    """Return the labels of nodes; a label that occurs again has a number.

    A batch rule makes several nodes of a labelled one. The last of them is the value, and each copy of it in the graph.
    """
    labelled = [n for n in graph.nodes if type(n.loc) is Place and n.loc.label and not is_literal(n)
                and not {"vjp", "jvp"}.intersection(n.rules)]
    values = {(n.loc, _traced(n)): n.prim for n in labelled}
    names: dict[Node, str] = {}
    for n in labelled:
        if isinstance(n.loc, Place) and n.prim is values[n.loc, _traced(n)]:
            name, count = printable(n.loc.label), 1
            while name in taken:
                count += 1
                name = f"{printable(n.loc.label)}_{count}"
            taken.add(name)
            names[n] = name
    return names


def _traced(node: Node) -> Node:
    """Return the node of the trace that batch rules made `node` of."""
    while node.source is not None:
        node = node.source
    return node


def is_literal(node: Node) -> bool:
    """Return whether a node prints as a number within its users."""
    return node.is_constant


def literal(node: Node) -> str:
    """Return the shortest spelling of a constant's number that reads back as the same value."""
    return _number(node.params["value"], node.dtype)


def _number(value: Number, dtype: np.dtype) -> str:
    if not isinstance(value, float) or not np.isfinite(value):
        return repr(value)
    form = np.format_float_positional if 1e-4 <= abs(value) < 1e6 or value == 0 else np.format_float_scientific
    return form(dtype.type(value), trim="0")


class Words:
    """The spelling of sizes, types, parameters and nodes on one page.

    Two sizes may have one name (the batches of nested `vmap`); the second to appear is spelled ``B'``.
    """

    def __init__(self) -> None:
        self._symbols: dict[Symbol, str] = {}
        self._types: dict[ArrayType | TupleType, str] = {}

    def _symbol(self, symbol: Symbol) -> str:
        if symbol not in self._symbols:
            word, taken = printable(symbol.name), set(self._symbols.values())
            while word in taken:
                word += "'"
            self._symbols[symbol] = word
        return self._symbols[symbol]

    def type(self, t: ArrayType | TupleType) -> str:
        """Return a type such as ``f32[B, 10]``."""
        if t not in self._types:
            if isinstance(t, TupleType):
                self._types[t] = "(" + ", ".join(map(self.type, t.parts)) + ("," if len(t.parts) == 1 else "") + ")"
            else:
                self._types[t] = str(t).split("[")[0] + "[" + ", ".join(map(self.value, t.shape)) + "]"
        return self._types[t]

    def value(self, value: object) -> str:
        """Return a static parameter as it prints."""
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

    def params(self, node: Node) -> str:
        """Return the static parameters that the node's type does not imply, such as ``axes=0``."""
        words = []
        for key, value in node.params.items():
            if key not in node.prim.hidden_params:
                one = isinstance(value, tuple) and len(value) == 1 and key == "axes"
                words.append(f"{key}={self.value(value[0] if one else value)}")
        return ", ".join(words)

    def call(self, node: Node, names: dict[Node, str]) -> str:
        """Return the node's operation and operands, such as ``mul(x, 2.0)``."""
        name, p = node.prim.name, node.params
        operands = [self._operand(node, i, names) for i in node.inputs]
        if node.prim.printed is not None:
            return node.prim.printed(node, operands, self.value)
        if not operands and len(p) - len(node.prim.hidden_params & p.keys()) == 1:
            return f"{name}({self.params(node).partition('=')[2]})"
        return f"{name}({', '.join(filter(None, (*operands, self.params(node))))})"

    def _operand(self, node: Node, i: Node, names: dict[Node, str]) -> str:
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
    return "[" + " ".join(map(str, flat[:_INLINE - 1])) + f" … #{zlib.crc32(little.data):08x}]"


def format_node(node: Node, names: dict[Node, str]) -> str:
    """Return the node's operation and operands, such as ``mul(x, 2.0)``."""
    return Words().call(node, names)


def format_rules(node: Node) -> str:
    """Return the rules that made a node, in the order of application, such as ``vmap, vjp``."""
    return printable(", ".join(reversed(node.rules)))


def format_graph(graph: Graph) -> str:
    """Return the page of a graph: a header, a line per node with its type and the user's line, the results.

    A line without a comment has that of the line above. The graphs that a node holds follow it, indented.
    """
    return "\n".join(_lines(graph, Words()))


def _lines(graph: Graph, words: Words) -> Iterator[str]:
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


def _header(graph: Graph, words: Words) -> list[str]:
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
