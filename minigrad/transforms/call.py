"""Graphs as functions of values: `Graph.__call__`."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from .. import interpreters
from ..argument_sizes import argument_sizes
from ..defined_sizes import definitions
from ..errors import DtypeError, ShapeError, TraceError, at_user_line, format_structure
from ..graph import CALLS, ArrayType, Graph, PyTree, note_read
from ..ops.elementwise import cast_to
from ..ops.subgraph import with_new_effects
from ..static import flatten_as
from ..symbolic import Dim, Symbol
from ..traced_array import Array
from ..tracing import note_batch, tracing
from .graph_forms import in_tree, out_tree
from .trace import is_weak, leaf_type, run


def call(graph: Graph, args: tuple[PyTree, ...], kwargs: dict[str, PyTree]) -> PyTree:
    """Return the value of a graph on arguments that match its structure and types."""
    arguments: PyTree = (args, kwargs)
    leaves: list[object]
    leaves, tree = flatten_as(arguments, graph.in_tree)
    if tree != in_tree(graph):
        raise TraceError(at_user_line(f"{graph.name}: expected arguments of structure "
                                      f"{format_structure(in_tree(graph))}, got {format_structure(tree)}"))
    types = [leaf_type(x, functools.partial(graph.names.__getitem__, i)) for i, x in enumerate(leaves)]
    leaves = [_converted(x, t, i, graph) for i, (x, t) in enumerate(zip(leaves, types, strict=True))]
    # Sizes that the graph defines are other ones in each call.
    own = {s: Dim.new(s.name, s.hint, s.rows) for s in definitions(graph.nodes)}
    concrete = interpreters.specialise(graph, {**own, **_sizes(graph, types)}) if own or graph.symbols else graph
    for node, t, name in zip(concrete.inputs, types, graph.names, strict=True):
        if node.shape != t.shape:
            raise ShapeError(at_user_line(f"{graph.name}: argument {name}: expected {node.type}, got {t}"))
    note_read()  # the outputs may depend on nodes older than the trace
    return run(with_new_effects(concrete.replace(out_tree=out_tree(graph))), leaves)


def _converted(x: object, t: ArrayType, i: int, graph: Graph) -> object:
    """Return a leaf in the dtype of its input: Python's numbers give way, other dtypes are refused."""
    dtype = graph.inputs[i].dtype
    if t.dtype == dtype:
        return x
    if not is_weak(x) or (t.floating and dtype.kind != "f") or dtype.kind == "b":
        raise DtypeError(at_user_line(f"{graph.name}: argument {graph.names[i]}: expected {graph.inputs[i].type}, got "
                                      f"{t}. Cast it with astype"))
    return Array(cast_to(x._node, dtype)) if isinstance(x, Array) else np.asarray(x, dtype)


def _sizes(graph: Graph, types: Sequence[ArrayType]) -> Mapping[Symbol, int | Dim]:
    """Return the symbolic sizes for arguments of `types`: numbers, or symbols of the outer trace."""
    try:
        sizes = argument_sizes(graph, [t.shape for t in types])
    except ShapeError as error:
        raise ShapeError(at_user_line(f"{graph.name}: {error}")) from None
    if tracing():
        for symbol in sizes:
            note_batch(t.shape[a] for n, t in zip(graph.inputs, types, strict=True)
                             for a, size in enumerate(n.shape) if getattr(size, "symbol", None) is symbol)
    return sizes


CALLS["call"] = call
