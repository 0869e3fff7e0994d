"""The table of steps for any sizes: the primitives, their memory, and the functions that make the steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ....graph import ArrayType, Node
from ....ops.block_einsum import block_einsum
from ....ops.checks import in_range
from ....ops.index import gather, scatter_add
from ....ops.random import random_bits
from ....ops.reduce import argmax, argmin
from ....ops.scatter import scatter_max, scatter_min
from ....ops.segments import checked_index, nonempty, segment_cumsum, segment_ids
from ....ops.shape import concatenate, pad
from ....ops.sort import cumfmax, cumfmin, cummax, cummin, cumsum
from ....primitive import Primitive
from ....symbolic import Dim, Symbol, size_of, value
from ..codegen import expressions
from ..codegen.step_codegen import Step
from ..codegen.strides import View
from . import axis_kernels, copies, gather_scatter, philox, segments
from . import block_einsum as block_kernels

Place = tuple[int, int]  # a base, and bytes from there


class Request(NamedTuple):
    """A request for the steps of a statement.

    Attributes
    ----------
    node : Node
    to, xs : View
        The result's elements, and each operand's.
    sizes : mapping of Symbol to int
    room : Place
        Memory of `room` bytes.
    flag : Place
        A number that becomes 1 if an index is out of range.
    team : int
        Threads that may work on it.
    """

    node: Node
    to: View
    xs: Sequence[View]
    sizes: Mapping[Symbol, int]
    room: Place
    flag: Place
    team: int


@dataclass(frozen=True)
class Kind:
    """The steps of one primitive.

    Attributes
    ----------
    make : callable
        Returns the steps of a `Request`.
    unable : callable
        Returns why a statement cannot be a step, or None.
    whole : bool
        Whether operands have to be contiguous.
    room : callable
        Returns the bytes that a step needs beside operands and result: for positions.
    """

    make: Callable[[Request], list[Step]]
    unable: Callable[[Node], str | None]
    whole: bool = True
    room: Callable[[Node], int | Dim] = lambda node: 0


def unable(node: Node) -> str | None:
    """Return why a statement cannot be a step, or None."""
    kind = STEPS.get(node.prim)
    if kind is None:
        return node.prim.name
    if not all(isinstance(t, ArrayType) for t in (*(i.type for i in node.inputs), node.type)):
        return f"{node.prim.name} of a tuple"
    return kind.unable(node)


def needs_contiguous(node: Node) -> bool:
    """Return whether a statement's operands have to be contiguous."""
    kind = STEPS.get(node.prim)
    return kind is not None and kind.whole and unable(node) is None


def needed(node: Node) -> tuple[int | Dim, ...]:
    """Return the sizes that must not be 0: no element of an empty axis is the largest."""
    by = node.prim.combiner
    return (node.inputs[0].shape[node.params["axis"]],) if by is not None and by.position else ()


def room(node: Node) -> int | Dim:
    """Return the bytes that a step needs beside operands and result."""
    return STEPS[node.prim].room(node)


def make(node: Node, view: Callable[[Node], View], sizes: Mapping[Symbol, int], room: Place, flag: Place,
         team: int) -> list[Step]:
    """Return the steps that compute a statement, given the views of nodes; other parameters as in `Request`."""
    return STEPS[node.prim].make(Request(node, view(node), [view(i) for i in node.inputs], sizes, room, flag, team))


# -- statements that are no steps ----------------------------------------------------------------------------


def _dtypes(node: Node) -> str | None:
    bad = next((n for n in (*node.inputs, node) if n.dtype not in expressions.DTYPES), None)
    return None if bad is None else f"{node.prim.name} of {bad.type}"


def _moved(node: Node) -> str | None:
    return None if node.dtype.itemsize in copies.UNITS else f"{node.prim.name} of {node.dtype}"


def _single(node: Node) -> str | None:
    return "gather of many rows" if node.inputs[1].ndim else None


def _sent(node: Node) -> str | None:
    return _dtypes(node) or (f"{node.prim.name} of {node.dtype}" if node.dtype.kind == "b" else None)


def _counted(operands: slice = slice(None)) -> Callable[[Node], str | None]:
    """Return the test of a statement whose `operands` are lengths or indices."""
    def why(node: Node) -> str | None:
        if any(i.dtype != segments.INT for i in node.inputs[operands]):
            return f"{node.prim.name} of lengths or indices that are not int64"
        return _dtypes(node)

    return why


def _stream(node: Node) -> str | None:
    fits = 0 <= node.params["stream"] < 2**32
    return _dtypes(node) or (None if fits else "random_bits of a stream of more than 32 bits")


# -- steps of each primitive ---------------------------------------------------------------------------------


def _concatenate(r: Request) -> list[Step]:
    return copies.concatenate(r.to, r.xs, r.node.params["axis"], r.node.dtype.itemsize, r.team)


def _pad(r: Request) -> list[Step]:
    low, interior = ([value(d, r.sizes) for d in r.node.params[key]] for key in ("low", "interior"))
    return copies.pad(r.to, r.xs[0], low, interior, r.node.dtype.itemsize, r.team)


def _random_bits(r: Request) -> list[Step]:
    return philox.random_bits(r.to, r.xs[0], r.node.params["stream"], r.team)


def _along(r: Request) -> list[Step]:
    return axis_kernels.along(r.node.prim, r.node.inputs[0].dtype, r.to, r.xs[0], r.node.params["axis"], r.team)


def _block_einsum(r: Request) -> list[Step]:
    return block_kernels.contraction(r.node, r.to, r.xs[0], r.xs[1], r.xs[2:], r.flag, r.team)


def _segment_cumsum(r: Request) -> list[Step]:
    return segments.cumsum(r.node.dtype, r.node.params["reverse"], r.to, r.xs[0], r.xs[1], r.team)


def _in_range(r: Request) -> list[Step]:
    return segments.in_range(r.to, r.xs[0], value(r.node.params["size"], r.sizes), r.flag, r.team)


def _checked(make: Callable[..., list[Step]]) -> Callable[[Request], list[Step]]:
    return lambda r: make(r.to, *r.xs, r.flag, r.team)


def _indices(r: Request) -> list[gather_scatter.Index]:
    return [gather_scatter.Index(x, i.dtype, reading) for x, i, reading in zip(
        r.xs[1:], r.node.inputs[1:], r.node.params.get("read") or itertools.repeat(None), strict=False)]


def _gather(r: Request) -> list[Step]:
    return gather_scatter.take(r.to, r.xs[0], _indices(r), r.node.dtype.itemsize, r.room, r.flag, r.team)


def _scatter(r: Request) -> list[Step]:
    return gather_scatter.scatter(
        expressions.combiner_of(r.node.prim), r.node.dtype, r.to, r.xs[0], _indices(r), r.room, r.flag, r.team)


STEPS: dict[Primitive, Kind] = {
    concatenate: Kind(_concatenate, _moved, whole=False),
    pad: Kind(_pad, _moved, whole=False),
    gather: Kind(
        _gather, _single, whole=False, room=lambda node: size_of(node.inputs[1].shape) * gather_scatter.POSITION),
    **dict.fromkeys((scatter_add, scatter_max, scatter_min), Kind(
        _scatter, _sent, room=lambda node: gather_scatter.room(*node.inputs[:2]))),
    **dict.fromkeys((cumsum, cummax, cummin, cumfmax, cumfmin, argmax, argmin), Kind(_along, _dtypes)),
    segment_ids: Kind(_checked(segments.ids), _counted()),
    nonempty: Kind(_checked(segments.nonempty), _counted()),
    checked_index: Kind(_checked(segments.checked_index), _counted()),
    in_range: Kind(_in_range, _counted()),
    segment_cumsum: Kind(_segment_cumsum, _counted(slice(1, None))),
    random_bits: Kind(_random_bits, _stream),
    block_einsum: Kind(_block_einsum, block_kernels.unable)}
