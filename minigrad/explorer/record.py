"""The data of a page: stages, nodes and values as plain objects for JSON."""

from __future__ import annotations

import base64
import linecache
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import interpreters
from ..defined_sizes import definitions
from ..draw.values import input_sizes, node_values
from ..errors import Place, file_name, printable
from ..graph import ArrayType, Graph, Node, held_graphs
from ..symbolic import Dim, Symbol, value
from ..text import Words, is_literal, node_names
from .stages import GraphStage, number

FULL = 2048  # elements of an array that the page holds in full
WHOLE = 65_536  # elements of an argument that it holds in full, so that it can evaluate the graph anew
CORNER = 24  # rows and columns that it holds of a larger one
LARGE = 1 << 20  # elements of an array beyond which equal arrays are not looked for
TURNS = 12  # runs of a held graph
BUDGET = 2_000_000  # bytes of arrays on one page; beyond them only statistics are kept

Record = dict[str, Any]
Run = tuple[Graph, Sequence[np.ndarray], Mapping[Symbol, int]]  # a graph that was evaluated, its arrays and sizes


class Arrays:
    """The pool of arrays of a page: equal arrays are held once.

    Arrays of more than `FULL` elements are held as their first rows and columns, with statistics of all elements.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._index: dict[tuple[object, ...], int] = {}
        self._bytes = 0
        self._held: list[np.ndarray] = []  # so that an id stands for one array

    def add(self, array: np.ndarray, full: int = FULL) -> int:
        """Return the index of an array in the pool; up to `full` elements are held."""
        array = np.asarray(array)
        content = hash(array.tobytes()) if array.size <= LARGE else id(array)
        key = array.shape, array.dtype.str, content, FULL < array.size <= full
        self._held.append(array)
        if key not in self._index:
            self._index[key] = len(self.records)
            self.records.append(self._record(array, full))
        return self._index[key]

    def _record(self, array: np.ndarray, full: int) -> Record:
        record: Record = {"shape": list(array.shape)}
        part = array
        if array.size > full:
            part = array[tuple(slice(0, CORNER) for _ in array.shape[-2:])] if array.ndim <= 2 else array[
                (*(slice(0, 1),) * (array.ndim - 2), slice(0, CORNER), slice(0, CORNER))]
        if array.size > 64:
            record["stats"] = statistics(array)
        if self._bytes + packed(part).nbytes > BUDGET:
            part = array[tuple(slice(0, 1) for _ in array.shape)]
        if part.size < array.size:
            record["part"] = list(part.shape)
            record["stats"] = statistics(array)
        small = packed(part)
        self._bytes += small.nbytes
        if small.dtype.str[1:] != "f8":
            record["code"] = small.dtype.str[1:]
        record["data"] = base64.b64encode(small.tobytes()).decode()
        return record


def packed(array: np.ndarray) -> np.ndarray:
    """Return the same numbers in the shortest of a few dtypes that holds them exactly, little-endian."""
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            single = np.ascontiguousarray(array, "<f4")
        return single if np.array_equal(single, array, equal_nan=True) else np.ascontiguousarray(array, "<f8")
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    for code in ("<i1", "<i2", "<i4"):
        if np.iinfo(code).min <= low and high <= np.iinfo(code).max:
            return np.ascontiguousarray(array, code)
    return np.ascontiguousarray(array, "<f8")


def statistics(array: np.ndarray) -> Record:
    """Return the numbers that stand for an array: least, largest, mean, and counts of NaN, infinities and zeros."""
    low, high = np.inf, -np.inf
    total, count, nan, zero = 0.0, 0, 0, 0
    for block in _blocks(array):
        finite = block[np.isfinite(block)].astype(np.float64)
        nan += int(np.isnan(block).sum())
        zero += int((block == 0).sum())
        count += finite.size
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
            total += float(finite.sum())
    least, largest, mean = (low, high, total / count) if count else (None, None, None)
    return {"min": least, "max": largest, "mean": mean, "nan": nan, "inf": array.size - count - nan, "zero": zero}


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield all elements, some at a time, so that a large array is not copied."""
    blocks: Any = np.nditer(array, flags=("external_loop", "buffered", "zerosize_ok"), buffersize=1 << 18)
    yield from blocks


@contextmanager
def recorded_runs() -> Iterator[list[Run]]:
    """Record each graph that is evaluated inside the ``with`` block, with its arrays and sizes."""
    runs: list[Run] = []
    before, interpreters.settings.runs = interpreters.settings.runs, runs
    try:
        yield runs
    finally:
        interpreters.settings.runs = before


def stage_record(stage: GraphStage, arrays: Sequence[np.ndarray], sizes: Mapping[Symbol, int], pool: Arrays,
                 bodies: list[Record], words: Words | None = None) -> Record:
    """Return one stage: its nodes in order, with values, lines, keys and cotangents.

    The graphs that nodes hold go into `bodies`, with the values of each of their runs. The text of a call has ⟦0⟧
    in place of its first operand's name.
    """
    graph = stage.graph
    words, names = words or Words(), node_names(graph)
    copies = stage.copy_of()
    values = node_values(graph, arrays, sizes)
    sizes = {**sizes, **{symbol: int(values[n]) for symbol, n in definitions(graph.nodes).items()}}
    index = {n: i for i, n in enumerate(graph.nodes)}
    inputs = set(graph.inputs)
    varying = set(
        interpreters.dependent(graph.nodes, [n for n in graph.inputs if any(isinstance(d, Dim) for d in n.shape)])
    )
    record: Record = {
        "title": stage.title, "note": stage.note, "copies": stage.copies,
        "name": printable(graph.name), "inputs": [index[n] for n in graph.inputs],
        "outputs": [[printable(label), index[n]] for label, n in zip(graph.out_names, graph.outputs, strict=True)],
        "size": max((k for symbol, k in sizes.items() if not symbol.rows), default=0),
        "nodes": []}
    for node in graph.nodes:
        one: Record = {
            "name": names[node], "op": node.prim.name, "call": _call(node, names, words),
            "type": words.type(node.type), "inputs": [index[i] for i in node.inputs], "key": stage.keys[node],
            "role": graph.role(node), **_provenance(node, stage, index)}
        if one["role"] == "batched" and node not in varying:
            one["spread"] = True
        if node in inputs:
            one |= {"call": "", "input": True}
        if is_literal(node):
            one["literal"] = True
        if isinstance(node.type, ArrayType):
            one |= _shape(node, sizes, words)
            one["value"] = pool.add(array := np.asarray(values[node]), WHOLE if node in inputs else FULL)
            if array.dtype.kind in "iu" and np.any(np.abs(array.astype(np.float64)) > 2**53):
                one["wide"] = True  # numbers that the page cannot hold
        if params := _params(node, sizes, words):
            one["params"] = params
        if node in copies:
            one["copy"] = copies[node]
        if held := list(held_graphs(node)):
            one["held"] = _held(stage, node, held, [values[i] for i in node.inputs], sizes, pool, bodies, words)
        record["nodes"].append(one)
    return record


def _shape(node: Node, sizes: Mapping[Symbol, int], words: Words) -> Record:
    """Return the dtype and shape of a node, and its symbolic sizes as words and as polynomials."""
    record: Record = {"dtype": node.dtype.name, "shape": [value(d, sizes) for d in node.shape]}
    if any(isinstance(d, Dim) for d in node.shape):
        record["axes"] = ["" if isinstance(d, int) else words.value(d) for d in node.shape]
        record["dims"] = [0 if isinstance(d, int) else _polynomial(d, words) for d in node.shape]
    return record


def _provenance(node: Node, stage: GraphStage, index: Mapping[Node, int]) -> Record:
    """Return the line, scope, rules and cotangent of a node, and the node whose vjp it belongs to."""
    record: Record = {}
    if node.rules:
        record["rules"] = list(reversed(node.rules))
    if node.loc is not None:
        record["line"] = [file_name(node.loc[0]), node.loc[1], linecache.getline(*node.loc[:2]).strip()]
    if isinstance(node.loc, Place) and node.loc.scope:
        record["scope"] = node.loc.scope
    if stage.cotangents.get(node) in index:
        record["cotangent"] = index[stage.cotangents[node]]
    if node.rules[:1] in (("vjp",), ("jvp",)) and node.source is not None and node.source in index:
        record["of"] = index[node.source]
    return record


def _held(stage: GraphStage, node: Node, held: Sequence[tuple[str, Graph]], operands: Sequence[np.ndarray],
          sizes: Mapping[Symbol, int], pool: Arrays, bodies: list[Record], words: Words) -> list[Record]:
    """Return each graph that a node holds: its name, and its place among the bodies where it ran."""
    params = interpreters.concrete(node.params, sizes)
    with recorded_runs() as runs, np.errstate(all="ignore"):
        node.prim.eval(np, *operands, **params)
    records: list[Record] = []
    concrete = [g for value in params.values() for g in (value if isinstance(value, tuple) else (value,))
                if isinstance(g, Graph)]
    keys = [key for key, _ in held]
    for place, ((key, graph), sized) in enumerate(zip(held, concrete, strict=True)):
        which = f"{key} {keys[:place].count(key)}" if keys.count(key) > 1 else key
        one: Record = {"name": printable(f"{which} of {node.prim.name}")}
        ran, turns = _turns(graph, sized, runs)
        if turns:
            rows = turns[:TURNS]
            inner = GraphStage(one["name"], f"{len(turns)} runs; the page holds the first {len(rows)}.", ran)
            number([inner])
            operands_of = [[np.asarray(x, n.dtype) for x, n in zip(arrays, ran.inputs, strict=True)]
                           for _, arrays, _ in rows]
            sizes_of = [{**sizes, **known, **input_sizes(ran, arguments)}  # turns differ in rows
                        for (_, _, known), arguments in zip(rows, operands_of, strict=True)]
            record = stage_record(inner, operands_of[0], sizes_of[0], pool, bodies, words)
            record["turns"] = []
            for arguments, own in zip(operands_of, sizes_of, strict=True):
                values = node_values(ran, arguments, own)
                record["turns"].append([pool.add(np.asarray(values[n])) if isinstance(n.type, ArrayType) else None
                                        for n in ran.nodes])
            one["body"] = len(bodies)
            bodies.append(record)
        records.append(one)
    return records


def _turns(graph: Graph, sized: Graph, runs: Sequence[Run]) -> tuple[Graph, list[Run]]:
    """Return the graph of a held graph's runs, and these runs: `graph` itself, or its batch of some examples.

    `sized` is the same graph with numbers in place of the sizes.
    """
    if turns := [run for run in runs if run[0] is sized]:
        return graph, turns
    nodes = set(sized.nodes)
    for run in runs:
        if any(n.source in nodes for n in run[0].nodes):
            return run[0], [run]
    return graph, []


def _call(node: Node, names: Mapping[Node, str], words: Words) -> str:
    """Return a node's call, with the positions of operands that have a name."""
    places = {n: names[n] if is_literal(n) else f"⟦{i}⟧" for i, n in enumerate(node.inputs)}
    return printable(words.call(node, places))


def _polynomial(size: Dim, words: Words) -> str | list[list[object]]:
    """Return a symbolic size as the name of its symbol, or as monomials: a factor and names."""
    def name(symbol: Symbol) -> str:
        return words.value(Dim.of(symbol))

    return name(size.symbol) if size.symbol else [[factor, *map(name, symbols)] for symbols, factor in size.terms]


def _params(node: Node, sizes: Mapping[Symbol, int], words: Words) -> Record:
    """Return the static parameters that plain objects can say."""
    plain_params: Record = {}
    for name, param in node.params.items():
        if (plain := _plain(param, sizes, words)) is not None:
            plain_params[name] = plain
    return plain_params


def _plain(param: object, sizes: Mapping[Symbol, int], words: Words) -> object:
    if isinstance(param, (bool, int, str)):
        return param
    if isinstance(param, float):
        return param if np.isfinite(param) else repr(param)
    if isinstance(param, Dim):
        return {"dim": _polynomial(param, words)} if all(s in sizes for s in param.symbols) else None
    if isinstance(param, np.dtype):
        return param.name
    if isinstance(param, np.ndarray) and param.size <= FULL:
        little = np.ascontiguousarray(param, "<f8")
        return {"array": base64.b64encode(little.tobytes()).decode(), "shape": list(param.shape)}
    if isinstance(param, tuple):
        parts = [_plain(p, sizes, words) for p in param]
        return parts if all(p is not None for p in parts) or not any(isinstance(p, Graph) for p in param) else None
    return None
