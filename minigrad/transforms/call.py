"""Graphs as functions of values: `Graph.__call__`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import optree

from .. import interpreters
from ..errors import DtypeError, ShapeError, TraceError, at_user_line
from ..graph import CALLS, ArrayType, Graph, note_read
from ..ops.elementwise import cast_to
from ..symbolic import bind
from ..traced_array import Array
from ..tracing import note_batch, tracing
from .graph_forms import in_tree, out_tree
from .trace import finish, is_weak, leaf_type


def call(graph: Graph, args: tuple, kwargs: dict) -> Any:
    """Return the value of a graph on arguments of the structure and the types that it has."""
    leaves, tree = optree.tree_flatten((args, kwargs))
    if tree != in_tree(graph):
        raise TraceError(at_user_line(f"{graph.name}: expected arguments of structure {in_tree(graph)}, got {tree}"))
    types = [leaf_type(x, lambda i=i: graph.names[i]) for i, x in enumerate(leaves)]
    leaves = [_converted(x, t, i, graph) for i, (x, t) in enumerate(zip(leaves, types, strict=True))]
    concrete = interpreters.specialise(graph, _sizes(graph, types)) if graph.symbols else graph
    for node, t, name in zip(concrete.inputs, types, graph.names, strict=True):
        if node.shape != t.shape:
            raise ShapeError(at_user_line(f"{graph.name}: argument {name}: expected {node.type}, got {t}"))
    note_read()  # by nodes that were made before the trace, if there is one
    return finish(concrete.inputs, leaves, concrete.outputs, out_tree(graph))


def _converted(x: Any, t: ArrayType, i: int, graph: Graph) -> Any:
    """Return a leaf in the dtype of its input: Python's numbers give way, other dtypes are refused."""
    want = graph.inputs[i].dtype
    if t.dtype == want:
        return x
    if not is_weak(x) or (t.floating and want.kind != "f") or want.kind == "b":
        raise DtypeError(at_user_line(f"{graph.name}: argument {graph.names[i]}: expected {graph.inputs[i].type}, got "
                                      f"{t}. Cast it with astype"))
    return Array(cast_to(x._node, want)) if isinstance(x, Array) else np.asarray(x, want)


def _sizes(graph: Graph, types: Sequence[ArrayType]) -> dict[Any, Any]:
    """Return the symbolic sizes for arguments of `types`: numbers, or symbols of the outer trace."""
    try:
        sizes = bind((n.shape, t.shape, name)
                     for n, t, name in zip(graph.inputs, types, graph.names, strict=True))
    except ShapeError as error:
        raise ShapeError(at_user_line(f"{graph.name}: {error}")) from None
    if tracing():
        for symbol in sizes:
            note_batch(t.shape[a] for n, t in zip(graph.inputs, types, strict=True)
                             for a, size in enumerate(n.shape) if getattr(size, "symbol", None) is symbol)
    return sizes


CALLS["call"] = call
