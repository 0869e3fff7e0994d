"""Values of a graph as JSON and back: exact, and by construction unable to execute anything.

What is decoded is of the types that graphs are made of, whatever the text says: `GraphError` else.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optree

from .dims import Dim, Symbol, polynomial
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
    """Encode parameter values. Symbols are numbered, so that a symbol stays one symbol.

    What has no JSON is put into the list `others` where there is one, and is an error else.
    """

    def __init__(self, graph: Callable[[Any, Encoder], dict], others: list[Any] | None = None):
        self._graph, self._symbols, self._others = graph, {}, others

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

    def __init__(self, graph: Callable[[Any, Decoder], Any], others: Sequence[Any] = ()):
        self._graph, self._symbols, self._others = graph, {}, others

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
                return self._graph(graph, self)
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
