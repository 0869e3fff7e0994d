"""Checks of decoded static parameters against the types that their primitive declares."""

from __future__ import annotations

import functools
import inspect
import typing
from types import UnionType
from typing import Any

from .errors import GraphError
from .graph import Params
from .primitive import Primitive


def check_params(prim: Primitive, params: Params) -> None:
    """Raise `GraphError` unless `params` are the static parameters that the primitive declares."""
    declared = _declared(prim)
    if declared is None:
        return
    if strange := params.keys() - declared.keys():
        raise GraphError(f"{prim.name} has no parameter {min(strange)!r}")
    if missing := declared.keys() - params.keys():
        raise GraphError(f"{prim.name} lacks its parameter {min(missing)!r}")
    for name, kind in declared.items():
        if not is_of(params[name], kind):
            raise GraphError(f"{prim.name}: {name}={str(params[name])[:60]!r} is not a value of type "
                             f"{getattr(kind, '__name__', kind)}")


@functools.cache
def _declared(prim: Primitive) -> Params | None:
    """Return the types of a primitive's static parameters; None where they are unknown."""
    if prim.params != "annotated":
        return prim.params
    kinds = typing.get_type_hints(prim.type)
    return {p.name: kinds[p.name] for p in inspect.signature(prim.type).parameters.values() if p.kind is p.KEYWORD_ONLY}


def is_of(value: object, kind: Any) -> bool:
    """Return whether a static parameter has a type; an int is a count or a position, and so at least 0."""
    if kind is Any:
        return True
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, UnionType):
        return any(is_of(value, k) for k in args)
    if origin is tuple:
        if type(value) is not tuple:
            return False
        kinds = args[:1] * len(value) if args[1:] == (...,) else args
        return len(kinds) == len(value) and all(map(is_of, value, kinds))
    if kind is int:
        return type(value) is int and 0 <= value < 2**63
    if kind is float:
        return type(value) in (float, int)
    if kind is str:
        return type(value) is str and value.isprintable()
    return type(value) is bool if kind is bool else isinstance(value, kind)
