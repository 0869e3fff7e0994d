"""Values of a graph as JSON and back: exact, and by construction unable to execute anything."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import optree

from .dims import Dim, Symbol
from .errors import GraphError

FORMAT = "minigrad-graph-1"


def dumps(data: dict) -> str:
    """Return `data` as JSON text."""
    return json.dumps(data, allow_nan=False, separators=(",", ":"))


def loads(text: str) -> Any:
    """Read JSON text, or raise `GraphError`."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError, TypeError) as error:
        raise GraphError(f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise GraphError(f"not the JSON of a graph: a {type(data).__name__} where an object was expected")
    return data


class Encoder:
    """Encode parameter values. Symbols are numbered, so that a symbol stays one symbol."""

    def __init__(self, graph: Callable[[Any, Encoder], dict]):
        self._graph, self._symbols = graph, {}

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
        if hasattr(value, "nodes"):
            return {"graph": self._graph(value, self)}
        raise GraphError(f"a parameter of type {type(value).__name__} has no JSON form")

    def _symbol(self, symbol: Symbol) -> list:
        return [self._symbols.setdefault(symbol, len(self._symbols)), symbol.name]

    def tree(self, spec: Any) -> Any:
        """Encode a pytree of dicts, lists, tuples and None."""
        if spec is None:
            return None
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

    def __init__(self, graph: Callable[[Any, Decoder], Any]):
        self._graph, self._symbols = graph, {}

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
                array = flat.reshape(shape).astype(_dtype(name))
                array.setflags(write=False)
                return array
            case {"dtype": str(name)}:
                return _dtype(name)
            case {"dim": list(terms)}:
                return Dim(tuple((tuple(self._symbol(*s) for s in m), int(f)) for m, f in terms))
            case {"graph": dict(graph)}:
                return self._graph(graph, self)
        raise GraphError(f"not a parameter: {str(data)[:60]}")

    def _symbol(self, key: int, name: str) -> Symbol:
        if key not in self._symbols:
            self._symbols[key] = Symbol(str(name))
        return self._symbols[key]

    def tree(self, data: Any) -> Any:
        return None if data is None else optree.tree_structure(self._branch(data))

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


def _dtype(name: str) -> np.dtype:
    dtype = np.dtype(name)
    if dtype.kind not in "biuf":
        raise GraphError(f"dtype {name} is not one of minigrad's")
    return dtype
