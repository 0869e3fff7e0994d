"""The table of steps for any sizes: the primitives, their memory, and the functions that make the steps.

Those functions are imported with the first program that calls one: most programs need few of the modules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ....graph import ArrayType, Node
from ....ops.block_einsum import block_einsum
from ....ops.checks import in_range
from ....ops.determinants import det, slogdet
from ....ops.index import gather, gather_sum, scatter_add
from ....ops.linalg import cholesky, inv, solve, triangular_solve
from ....ops.random import random_at, random_bits
from ....ops.recurrence import recurrence, segment_recurrence, segment_shift
from ....ops.reduce import argmax, argmin
from ....ops.scatter import scatter_max, scatter_min
from ....ops.segments import (
    checked_index,
    nonempty,
    segment_cumfmax,
    segment_cumfmin,
    segment_cummax,
    segment_cummin,
    segment_cumsum,
    segment_ids,
)
from ....ops.selection import flatnonzero
from ....ops.shape import concatenate, pad
from ....ops.sort import cumfmax, cumfmin, cummax, cummin, cumsum
from ....ops.tree_scan import tree_heights
from ....ops.weighted_sum import weighted_sum
from ....primitive import Primitive
from ....symbolic import Dim
from ..codegen import expressions
from ..runtime.on_demand import function

if TYPE_CHECKING:
    from ..codegen.step_codegen import Request, Step


class Kind(NamedTuple):
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
    """Return the sizes that must not be 0: no element of an empty axis is the largest, and no step writes a 1."""
    if node.prim in (det, slogdet):
        return node.inputs[0].shape[-1:]
    by = node.prim.combiner
    return (node.inputs[0].shape[node.params["axis"]],) if by is not None and by.position else ()


# -- statements that are no steps ----------------------------------------------------------------------------


def _dtypes(node: Node) -> str | None:
    bad = next((n for n in (*node.inputs, node) if n.dtype not in expressions.DTYPES), None)
    return None if bad is None else f"{node.prim.name} of {bad.type}"


def _single(node: Node) -> str | None:
    return "gather of many rows" if node.inputs[1].ndim else None


def _sent(node: Node) -> str | None:
    return _dtypes(node) or (f"{node.prim.name} of {node.dtype}" if node.dtype.kind == "b" else None)


def _counted(operands: slice = slice(None)) -> Callable[[Node], str | None]:
    """Return the test of a statement whose `operands` are lengths or indices."""
    def why(node: Node) -> str | None:
        if any(i.dtype != np.int64 for i in node.inputs[operands]):
            return f"{node.prim.name} of lengths or indices that are not int64"
        return _dtypes(node)

    return why


_ids_last = _counted(slice(-1, None))


def _stream(node: Node) -> str | None:
    fits = 0 <= node.params["stream"] < 2**32
    return _dtypes(node) or (None if fits else "random_bits of a stream of more than 32 bits")


def _at(node: Node) -> str | None:
    return _counted()(node) or _stream(node)


# -- steps of each primitive ---------------------------------------------------------------------------------


def _steps(path: str) -> Callable[[Request], list[Step]]:
    """Return a function of a module of this package; a call imports the module."""
    return lambda request: function(f"kernels.{path}")(request)


def _why(module: str) -> Callable[[Node], str | None]:
    return lambda node: function(f"kernels.{module}.unable")(node)


def _room(path: str) -> Callable[[Node], int | Dim]:
    return lambda node: function(f"kernels.{path}")(node)


STEPS: dict[Primitive, Kind] = {
    concatenate: Kind(_steps("copies.concatenate"), _why("copies"), whole=False),
    pad: Kind(_steps("copies.pad"), _why("copies"), whole=False),
    gather: Kind(_steps("gather_scatter.take"), _single, whole=False,
                 room=_room("gather_scatter.positions_room")),
    **dict.fromkeys((scatter_add, scatter_max, scatter_min, gather_sum, weighted_sum),
                    Kind(_steps("gather_scatter.scatter"), _sent, room=_room("gather_scatter.room"))),
    **dict.fromkeys((cumsum, cummax, cummin, cumfmax, cumfmin, argmax, argmin),
                    Kind(_steps("axis_kernels.along"), _dtypes)),
    segment_ids: Kind(_steps("segments.ids"), _counted()), flatnonzero: Kind(_steps("segments.kept"), _dtypes),
    **dict.fromkeys((nonempty, checked_index, in_range), Kind(_steps("segments.checked"), _counted())),
    **dict.fromkeys((segment_cumsum, segment_cummax, segment_cummin, segment_cumfmax, segment_cumfmin),
                    Kind(_steps("segments.totals"), _ids_last)),
    recurrence: Kind(_steps("axis_kernels.recurrence"), _dtypes),
    segment_recurrence: Kind(_steps("axis_kernels.recurrence"), _ids_last),
    segment_shift: Kind(_steps("segments.shift"), _ids_last),
    tree_heights: Kind(_steps("trees.heights"), _counted(), room=_room("trees.room")),
    random_bits: Kind(_steps("philox.random_bits"), _stream),
    random_at: Kind(_steps("philox.random_at"), _at),
    solve: Kind(_steps("matrices.solve"), _why("matrices")),
    inv: Kind(_steps("matrices.inverse"), _why("matrices")),
    det: Kind(_steps("matrices.determinant"), _why("matrices")),
    slogdet: Kind(_steps("matrices.signs_and_logs"), _why("matrices")),
    triangular_solve: Kind(_steps("triangular.solve"), _why("blas_calls")),
    cholesky: Kind(_steps("cholesky.factor"), _why("blas_calls")),
    block_einsum: Kind(_steps("block_einsum.contraction"), _why("block_einsum"))}
