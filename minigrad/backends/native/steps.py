"""Statements that are steps of their own, written for any sizes: which they are, what they need, how they are made."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from ...dims import Dim, Symbol, size_of, value
from ...graph import ArrayType, Node
from . import blocks, copies, expressions, indexed, ordered, philox, segments
from .access import View
from .step_code import Step

Place = tuple[int, int]  # a base, and bytes from there

_SCATTERS = {"scatter_add": "add", "scatter_max": "max", "scatter_min": "min"}
_COPIES = ("concatenate", "pad")
_ALONG = (*ordered.TOTALS, "argmax", "argmin")
_SEGMENTS = ("segment_ids", "nonempty", "checked_index", "in_range", "segment_cumsum")
_WHOLE = frozenset({*_SCATTERS, *_ALONG, *_SEGMENTS, "random_bits", "block_einsum"})
NAMES = frozenset({*_COPIES, *_WHOLE, "gather"})


def unable(node: Node) -> str | None:
    """Return why a statement cannot be a step; None if it can."""
    name = node.prim.name
    if name not in NAMES:
        return name
    types = [*(i.type for i in node.inputs), node.type]
    if not all(isinstance(t, ArrayType) for t in types):
        return f"{name} of a tuple"
    if name in _COPIES:
        return None if node.dtype.itemsize in copies.UNITS else f"{name} of {node.dtype}"
    if name == "gather":
        return "gather of many rows" if node.inputs[1].ndim else None
    if name == "block_einsum":
        return blocks.unable(node)
    if name in _SEGMENTS and any(i.dtype != segments.INT for i in node.inputs[name == "segment_cumsum":]):
        return f"{name} of lengths or indices that are not int64"
    bad = next((t for t in types if t.dtype.name not in expressions.DTYPES), None)
    if bad is not None:
        return f"{name} of {bad}"
    if name in _SCATTERS and node.dtype.kind == "b":
        return f"{name} of {node.dtype}"
    if name == "random_bits" and not 0 <= node.params["stream"] < 2**32:
        return "random_bits of a stream of more than 32 bits"
    return None


def wants_whole(node: Node) -> bool:
    """Tell whether a statement's operands have to lie in one piece."""
    return node.prim.name in _WHOLE and unable(node) is None


def needed(node: Node) -> tuple[int | Dim, ...]:
    """Return the sizes that must not be 0 for there to be a result: nothing has no largest element."""
    return (node.inputs[0].shape[node.params["axis"]],) if node.prim.name in ("argmax", "argmin") else ()


def room(node: Node) -> Any:
    """Return how many bytes a step needs beside operands and result: for positions."""
    if node.prim.name in _SCATTERS:
        return indexed.room(*node.inputs[:2])
    return size_of(node.inputs[1].shape) * indexed.POSITION if node.prim.name == "gather" else 0


def make(node: Node, place: Callable[[Node], View], sizes: Mapping[Symbol, int], room: Place, flag: Place,
         team: int) -> list[Step]:
    """Return the steps that compute a statement.

    Parameters
    ----------
    place : callable
        Where a node's elements are.
    room : Place
        As many bytes as `room` says.
    flag : Place
        A number that becomes 1 if an index is out of range.
    team : int
        How many threads may work on it.
    """
    name, p = node.prim.name, node.params
    to, xs, item = place(node), [place(i) for i in node.inputs], node.dtype.itemsize
    if name == "concatenate":
        return copies.concatenate(to, xs, p["axis"], item, team)
    if name == "pad":
        low, interior = ([value(d, sizes) for d in p[key]] for key in ("low", "interior"))
        return copies.pad(to, xs[0], low, interior, item, team)
    if name == "random_bits":
        return philox.random_bits(to, xs[0], p["stream"], team)
    if name in _ALONG:
        return ordered.along(name, node.inputs[0].dtype, to, xs[0], p["axis"], team)
    if name == "block_einsum":
        return blocks.contraction(node, to, xs[0], xs[1], xs[2:], flag, team)
    if name == "segment_cumsum":
        return segments.cumsum(node.dtype, p["reverse"], to, *xs, team)
    if name == "in_range":
        return segments.in_range(to, xs[0], value(p["size"], sizes), flag, team)
    if name in _SEGMENTS:
        return {"segment_ids": segments.ids, "nonempty": segments.nonempty,
                "checked_index": segments.checked_index}[name](to, *xs, flag, team)
    indices = [indexed.Index(x, i.dtype, how) for x, i, how in zip(
        xs[1:], node.inputs[1:], p.get("read") or itertools.repeat(None), strict=False)]
    if name == "gather":
        return indexed.take(to, xs[0], indices, item, room, flag, team)
    return indexed.scatter(_SCATTERS[name], node.dtype, to, xs[0], indices, room, flag, team)
