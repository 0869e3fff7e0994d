"""Graphs as JSON and back: exact, and by construction unable to execute anything.

Decoded values have the types of graphs' parts; any other text raises `GraphError`.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optree

from .errors import GraphError, Location, Place
from .graph import CALLS, FORMS, PRIMITIVES, TEXTS, Graph, Node
from .parameters import check_params
from .symbolic import Dim, Symbol, polynomial

FORMAT = "minigrad-graph-1"


def _loads(text: str) -> Any:
    """Read JSON text, or raise `GraphError`."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError, TypeError) as error:
        raise GraphError(f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise GraphError(f"not the JSON of a graph: a {type(data).__name__} where an object was expected")
    return data


class Encoder:
    """Encode parameter values. Symbols are numbered, so that a symbol stays one symbol.

    Values without a JSON form go into the list `others`; without the list, they are errors.
    """

    def __init__(self, others: list[Any] | None = None):
        self._symbols, self._others = {}, others

    def __call__(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": repr(value)}
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
        if isinstance(value, Graph):
            return {"graph": _encode(value, self)}
        return self._other(value, f"a parameter of type {type(value).__name__} has no JSON form")

    def _other(self, value: Any, why: str) -> dict:
        if self._others is None:
            raise GraphError(why)
        self._others.append(value)
        return {"other": len(self._others) - 1}

    def _symbol(self, symbol: Symbol) -> list:
        return [self._symbols.setdefault(symbol, len(self._symbols)), symbol.name, *([True] if symbol.rows else [])]

    def symbols(self) -> list:
        """Return the symbols met so far in the order in which they were made, on which that of terms depends."""
        return [self._symbol(s) for s in sorted(self._symbols, key=lambda s: s.uid)]

    def tree(self, spec: Any) -> Any:
        """Encode a pytree of dicts, lists, tuples and None."""
        if spec is None:
            return None
        if self._others is not None:
            return self._other(spec, "")
        return self._branch(optree.tree_unflatten(spec, range(spec.num_leaves)))

    def _branch(self, tree: Any) -> Any:
        kind = type(tree)
        if kind is int:
            return "leaf"
        if kind is dict:
            return {"dict": [[self(k), self._branch(v)] for k, v in tree.items()]}
        if kind in (list, tuple):
            return {kind.__name__: [self._branch(v) for v in tree]}
        if tree is None:
            return "none"
        raise GraphError(f"a pytree with a {kind.__name__} in it has no JSON form: use dicts, lists and tuples")


class Decoder:
    """Decode what `Encoder` wrote."""

    def __init__(self, others: Sequence[Any] = ()):
        self._symbols, self._others = {}, others

    def __call__(self, data: Any) -> Any:
        if not isinstance(data, dict):
            if data is None or isinstance(data, (bool, int, float, str)):
                return data
            raise GraphError(f"a {type(data).__name__} is not a parameter")
        match data:
            case {"float": str(word)} if word in ("nan", "inf", "-inf"):
                return float(word)
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
            case {"graph": dict(graph)}:
                return _decode(graph, self)
            case {"other": int(i)} if 0 <= i < len(self._others):
                return self._others[i]
        raise GraphError(f"not a parameter: {str(data)[:60]}")

    def _symbol(self, key: Any, name: Any, rows: Any = False) -> Symbol:
        key, rows = integer(key), rows is True
        known = self._symbols.get(key)
        if known is None:
            known = self._symbols[key] = Symbol(string(name), rows=rows)
        if (known.name, known.rows) != (name, rows):
            raise GraphError(f"symbol {key} is both {known.name!r} and {name!r}")
        return known

    def symbols(self, data: Any) -> None:
        """Make symbols in the order of `Encoder.symbols`."""
        for symbol in data:
            self._symbol(*symbol)

    def tree(self, data: Any, leaves: int) -> Any:
        """Decode a pytree, which must have that many leaves."""
        if data is None:
            return None
        spec = self(data) if isinstance(data, dict) and "other" in data else optree.tree_structure(self._branch(data))
        if spec.num_leaves != leaves:
            raise GraphError(f"a pytree of {spec.num_leaves} leaves for {leaves} values")
        return spec

    def _branch(self, data: Any) -> Any:
        match data:
            case "leaf":
                return 0
            case "none":
                return None
            case {"dict": list(items)}:
                return {self(k): self._branch(v) for k, v in items}
            case {"list": list(items)}:
                return [self._branch(v) for v in items]
            case {"tuple": list(items)}:
                return tuple(self._branch(v) for v in items)
        raise GraphError(f"not a pytree: {str(data)[:60]}")


def integer(data: Any, negative: bool = False) -> int:
    """Return `data`, which must be an int that an array can count, and may be negative where that is said."""
    if type(data) is not int or not (-(2**63) if negative else 0) <= data < 2**63:
        raise GraphError(f"expected an integer, got {str(data)[:60]!r}")
    return data


def string(data: Any) -> str:
    """Return `data`, which must be a string."""
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


def _to_pickle(graph: Graph) -> tuple:
    # Pytrees of people's own classes, and functions that callbacks call, have no JSON; they pickle by themselves.
    others: list[Any] = []
    return _from_pickle, (_to_text(graph, Encoder(others)), others)


def _from_pickle(text: str, others: Sequence[Any]) -> Graph:
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


def _encode(graph: Graph, encoder: Encoder) -> dict:
    index = {n: i for i, n in enumerate(graph.nodes)}
    nodes = []
    for n in graph.nodes:
        row = {"op": n.prim.name, "in": [index[i] for i in n.inputs],
               "params": {k: encoder(v) for k, v in n.params.items()},
               "loc": list(n.loc) if n.loc else None, "rules": list(n.rules)}
        if n.source in index:
            row["source"] = index[n.source]
        nodes.append(row)
    return {"format": FORMAT, "name": graph.name, "notes": list(graph.notes), "nodes": nodes,
            "inputs": [index[n] for n in graph.inputs], "outputs": [index[n] for n in graph.outputs],
            "names": list(graph.names), "out_names": list(graph.out_names),
            "in_tree": encoder.tree(graph.in_tree), "out_tree": encoder.tree(graph.out_tree)}


def _decode(data: Mapping, decoder: Decoder) -> Graph:
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
    inputs, outputs = ([nth(i) for i in data[k]] for k in ("inputs", "outputs"))
    names, out_names, notes = (tuple(map(string, data[k])) for k in ("names", "out_names", "notes"))
    return Graph(tuple(inputs), tuple(outputs), names, out_names, decoder.tree(data["in_tree"], len(inputs)),
                 decoder.tree(data["out_tree"], len(outputs)), string(data["name"]), notes)


def _location(file: Any, line: Any, *names: Any) -> Location:
    plain = string(file), integer(line)
    return Place(*plain, *map(string, names)) if names else plain


_PYTHON = {"b": bool, "i": int, "u": int, "f": float}


def _check_decoded(node: Node) -> None:
    """Raise `GraphError` where a type holds no sizes, or more elements than there can be; or a constant no number."""
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


FORMS["from_json"] = from_json
TEXTS["to_json"] = to_json
CALLS["__reduce__"] = _to_pickle
