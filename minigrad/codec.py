"""Graphs as JSON and back, exactly; decoding cannot execute code.

Decoded values have the types of graphs' parts; any other text raises `GraphError`.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import optree

from .budgets import Budget
from .errors import GraphError, Location, Place
from .graph import PRIMITIVES, Graph, Node, PyTree
from .parameters import check_params
from .static import Static, static_parts
from .symbolic import Dim, Symbol, polynomial

FORMAT = "minigrad-graph-1"
Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"


def _loads(text: str) -> dict[str, Any]:
    """Return the object of JSON text, or raise `GraphError`."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError, TypeError) as error:
        raise GraphError(f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise GraphError(f"not the JSON of a graph: a {type(data).__name__} where an object was expected")
    return data


def _is_plain(value: object) -> bool:
    """Return whether a static value is decoded to an equal one of the same type."""
    return type(value) in _STATIC or (isinstance(value, np.dtype) and value.kind in "biuf" and value.isnative)


_STATIC = frozenset({type(None), bool, int, float, str, bytes})


class Encoder:
    """Encoder of parameter values. Symbols are numbered, so that they keep their identity.

    Values without a JSON form go into the list `others`; without the list, they are errors.
    """

    def __init__(self, others: list[object] | None = None):
        self._symbols: dict[Symbol, int] = {}
        self._budgets: dict[Budget, int] = {}
        self._others = others

    def __call__(self, value: object) -> Json:
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, bytes):
            return {"bytes": base64.b64encode(value).decode()}
        if isinstance(value, tuple):
            return {"tuple": [self(v) for v in value]}
        if isinstance(value, np.dtype):
            return {"dtype": value.name}
        if isinstance(value, np.ndarray):
            little = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
            return {"array": base64.b64encode(little.tobytes()).decode(), "dtype": value.dtype.name,
                    "shape": list(value.shape)}
        if isinstance(value, Dim):
            return {"dim": [[[self._symbol(s) for s in monomial], factor] for monomial, factor in value.terms]}
        if isinstance(value, Budget):
            return {"budget": [self._budgets.setdefault(value, len(self._budgets)), value.nbytes]}
        if isinstance(value, Graph):
            return {"graph": _encode(value, self)}
        return self._other(value, f"{value!r}, a parameter of type {type(value).__name__}, has no JSON form: pickle "
                           "the graph")

    def _other(self, value: object, why: str) -> Json:
        if self._others is None:
            raise GraphError(why)
        self._others.append(value)
        return {"other": len(self._others) - 1}

    def _symbol(self, symbol: Symbol) -> list[Json]:
        return [self._symbols.setdefault(symbol, len(self._symbols)), symbol.name, *([True] if symbol.rows else [])]

    def symbols(self) -> Json:
        """Return the symbols so far in order of creation, on which the order of terms depends."""
        return [self._symbol(s) for s in sorted(self._symbols, key=lambda s: s.uid)]

    def tree(self, spec: optree.PyTreeSpec | None) -> Json:
        """Encode a pytree of dicts, lists, tuples and None."""
        if spec is None:
            return None
        if self._others is not None:
            return self._other(spec, "")
        for (_, name, *within), value in static_parts(spec):
            if not _is_plain(value):
                part = "".join(f"[{key!r}]" for key in within)
                raise GraphError(f"argument {name!r}{part} is {value!r}: a static value of type "
                                 f"{type(value).__name__} has no JSON form. "
                                 "Those of bool, int, float, str, bytes and dtypes of numbers, in this "
                                 "machine's byte order, have one; bind any other before the function is "
                                 "traced, with functools.partial")
        return self._branch(optree.tree_unflatten(spec, range(spec.num_leaves)))

    def _branch(self, tree: PyTree) -> Json:
        kind = type(tree)
        if kind is int:
            return "leaf"
        if kind is Static:
            return {"static": self(tree.value)}
        if kind is dict:
            return {"dict": [[self(k), self._branch(v)] for k, v in tree.items()]}
        if kind in (list, tuple):
            return {kind.__name__: [self._branch(v) for v in tree]}
        if tree is None:
            return "none"
        raise GraphError(f"a pytree with a {kind.__name__} in it has no JSON form, which names no classes: pickle the "
                         "graph, or trace a function of dicts, lists and tuples")


class Decoder:
    """Decoder of the output of `Encoder`."""

    def __init__(self, others: Sequence[object] = ()):
        self._symbols: dict[int, Symbol] = {}
        self._budgets: dict[int, Budget] = {}
        self._others = others

    def __call__(self, data: Json) -> Any:
        if not isinstance(data, dict):
            if data is None or isinstance(data, (bool, int, float, str)):
                return data
            raise GraphError(f"a {type(data).__name__} is not a parameter")
        match data:
            case {"float": str(word)} if word in ("nan", "inf", "-inf"):
                return float(word)
            case {"bytes": str(code)}:
                return base64.b64decode(code, validate=True)
            case {"tuple": list(items)}:
                return tuple(map(self, items))
            case {"array": str(code), "dtype": str(name), "shape": list(shape)}:
                flat = np.frombuffer(base64.b64decode(code, validate=True), _dtype(name).newbyteorder("<"))
                array = flat.reshape([integer(n) for n in shape]).astype(_dtype(name))
                if array.dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
                    raise GraphError("an array of bools has a byte that is neither 0 nor 1")
                array.setflags(write=False)
                return array
            case {"dtype": str(name)}:
                return _dtype(name)
            case {"dim": list(terms)}:
                size = polynomial({tuple(self._symbol(*s) for s in m): integer(f, negative=True) for m, f in terms})
                if not isinstance(size, Dim):
                    raise GraphError(f"not a symbolic size: {str(terms)[:60]}")
                return size
            case {"budget": [number, nbytes]}:
                if not integer(nbytes):
                    raise GraphError("a budget of 0 bytes")
                return self._budgets.setdefault(integer(number), Budget(nbytes))
            case {"graph": dict(graph)}:
                return _decode(graph, self)
            case {"other": int(i)} if 0 <= i < len(self._others):
                return self._others[i]
        raise GraphError(f"not a parameter: {str(data)[:60]}")

    def _symbol(self, key: Json, name: Json, rows: Json = False) -> Symbol:
        number, rows = integer(key), rows is True
        known = self._symbols.get(number)
        if known is None:
            known = self._symbols[number] = Symbol(string(name), rows=rows)
        if (known.name, known.rows) != (name, rows):
            raise GraphError(f"symbol {number} is both {known.name!r} and {name!r}")
        return known

    def symbols(self, data: Sequence[Sequence[Json]]) -> None:
        """Create symbols in the order of `Encoder.symbols`."""
        for symbol in data:
            self._symbol(*symbol)

    def tree(self, data: Json, leaves: int) -> optree.PyTreeSpec | None:
        """Decode a pytree with the given number of leaves."""
        if data is None:
            return None
        spec = self(data) if isinstance(data, dict) and "other" in data else optree.tree_structure(self._branch(data))
        if spec.num_leaves != leaves:
            raise GraphError(f"a pytree of {spec.num_leaves} leaves for {leaves} values")
        return spec

    def _branch(self, data: Json) -> PyTree:
        match data:
            case "leaf":
                return 0
            case "none":
                return None
            case {"static": value} if _is_plain(static := self(value)):
                return Static(static)
            case {"dict": list(items)}:
                return {self(k): self._branch(v) for k, v in items}
            case {"list": list(items)}:
                return [self._branch(v) for v in items]
            case {"tuple": list(items)}:
                return tuple(self._branch(v) for v in items)
        raise GraphError(f"not a pytree: {str(data)[:60]}")


def integer(data: Json, negative: bool = False) -> int:
    """Return `data`, or raise `GraphError` unless it is an int64, at least 0 unless `negative`."""
    if type(data) is not int or not (-(2**63) if negative else 0) <= data < 2**63:
        raise GraphError(f"expected an integer, got {str(data)[:60]!r}")
    return data


def string(data: Json) -> str:
    """Return `data`, or raise `GraphError` unless it is a string."""
    if type(data) is not str:
        raise GraphError(f"expected a string, got {str(data)[:60]!r}")
    return data


def _dtype(name: str) -> np.dtype:
    dtype = np.dtype(name) if name.isalnum() else None
    if dtype is None or dtype.kind not in "biuf" or dtype.name != name:
        raise GraphError(f"dtype {name!r} is not one of minigrad's")
    return dtype


# -- graphs ---------------------------------------------------------------------------------------------


def to_json(graph: Graph) -> str:
    """Return a graph as JSON text."""
    return _to_text(graph, Encoder())


def _to_text(graph: Graph, encoder: Encoder) -> str:
    data = _encode(graph, encoder)
    return json.dumps(data | {"symbols": encoder.symbols()}, allow_nan=False, separators=(",", ":"))


def from_json(text: str) -> Graph:
    """Read a graph from JSON text, or raise `GraphError`."""
    return _from_text(text, Decoder())


def to_pickle(graph: Graph) -> tuple[Callable[..., Graph], tuple[str, list[object]]]:
    # Pytrees of the user's classes and functions of callbacks have no JSON form; they have their own pickles.
    others: list[object] = []
    return _from_pickle, (_to_text(graph, Encoder(others)), others)


def _from_pickle(text: str, others: Sequence[object]) -> Graph:
    return _from_text(text, Decoder(others))


def _from_text(text: str, decoder: Decoder) -> Graph:
    data = _loads(text)
    try:
        decoder.symbols(data.get("symbols", ()))
        return _decode(data, decoder).check()
    except GraphError:
        raise
    except Exception as error:
        raise GraphError(f"not the JSON of a graph: {type(error).__name__}: {error}") from error


def _encode(graph: Graph, encoder: Encoder) -> dict[str, Json]:
    index = {n: i for i, n in enumerate(graph.nodes)}
    nodes = []
    for n in graph.nodes:
        row: dict[str, Json] = {"op": n.prim.name, "in": [index[i] for i in n.inputs],
               "params": {k: encoder(v) for k, v in n.params.items()},
               "loc": list(n.loc) if n.loc else None, "rules": list(n.rules)}
        if n.source is not None and n.source in index:
            row["source"] = index[n.source]
        nodes.append(row)
    return {"format": FORMAT, "name": graph.name, "notes": list(graph.notes), "nodes": nodes,
            "inputs": [index[n] for n in graph.inputs], "outputs": [index[n] for n in graph.outputs],
            "names": list(graph.names), "out_names": list(graph.out_names),
            "in_tree": encoder.tree(graph.in_tree), "out_tree": encoder.tree(graph.out_tree)}


def _decode(data: Mapping[str, Any], decoder: Decoder) -> Graph:
    if data.get("format") != FORMAT:
        raise GraphError(f"format {data.get('format')!r}, expected {FORMAT!r}")
    nodes: list[Node] = []

    def nth(i: object) -> Node:
        if type(i) is not int or not 0 <= i < len(nodes):
            raise GraphError(f"node {len(nodes)} refers to node {i!r}, which does not come before it")
        return nodes[i]

    for row in data["nodes"]:
        if row["op"] not in PRIMITIVES:
            raise GraphError(f"node {len(nodes)}: no primitive is called {row['op']!r}. If mg.primitive declares it, "
                             "import the module that does so first")
        prim = PRIMITIVES[row["op"]]
        inputs = tuple(nth(i) for i in row["in"])
        params = {k: decoder(v) for k, v in row["params"].items()}
        check_params(prim, params)
        node = Node(prim, inputs, params, prim.type(*(i.type for i in inputs), **params))
        _check_decoded(node)
        put = object.__setattr__
        put(node, "loc", _location(*row["loc"]) if row["loc"] else None)
        put(node, "rules", tuple(map(string, row["rules"])))
        put(node, "source", nth(row["source"]) if "source" in row else None)
        nodes.append(node)
    ins, outs = (tuple(nth(i) for i in data[k]) for k in ("inputs", "outputs"))
    names, out_names, notes = (tuple(map(string, data[k])) for k in ("names", "out_names", "notes"))
    return Graph(ins, outs, names, out_names, decoder.tree(data["in_tree"], len(ins)),
                 decoder.tree(data["out_tree"], len(outs)), string(data["name"]), notes)


def _location(file: Json, line: Json, *names: Json) -> Location:
    plain = string(file), integer(line)
    return Place(*plain, *map(string, names)) if names else plain


_PYTHON = {"b": bool, "i": int, "u": int, "f": float}


def _check_decoded(node: Node) -> None:
    """Raise `GraphError` for a type with impossible sizes, or a constant outside of its dtype."""
    for t in node.types:
        if not all(isinstance(n, Dim) or (type(n) is int and n >= 0) for n in t.shape):
            raise GraphError(f"{node.prim.name}: {t.shape} is not a shape")
        if math.prod(n for n in t.shape if type(n) is int and n) * t.dtype.itemsize >= 2**63:
            raise GraphError(f"{node.prim.name}: {t} does not fit into any memory")
    if node.is_constant:
        value = node.params["value"]
        fits = type(value) is _PYTHON[node.dtype.kind]
        if not fits or (type(value) is int and not np.iinfo(node.dtype).min <= value <= np.iinfo(node.dtype).max):
            raise GraphError(f"{str(value)[:60]!r} is not a number of dtype {node.dtype.name}")
