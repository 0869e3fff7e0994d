"""Graphs and matrices of other libraries to examples and back: PyTorch Geometric, networkx, scipy.sparse.

What each array means is read off the schema, never guessed from a name: rows run along their axis, and an index points
into the axis that it is declared to point into.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import BatchError, at_user_line
from ..tracebacks import boundary
from .axes import Axis
from .schema import Schema, schema_of

Path = str | Sequence[Hashable]


@boundary
def from_pyg(data: Any, cls: type, paths: Mapping[str, Path] | None = None,
             ends: tuple[str, str] = ("src", "dst")) -> Any:
    """Return an example made of PyTorch Geometric's `Data` or `HeteroData`.

    Parameters
    ----------
    data : Data or HeteroData
    cls : type
        A schema.
    paths : mapping of str to path, optional
        Where each field is found, if it is not an attribute of its own name. A path is a name, or a tuple of steps:
        ``"edge_attr"``, ``("edge_index", 0)``, ``("user", "x")``,
        ``(("user", "rates", "item"), "edge_index", 0)``.
    ends : (str, str)
        The two fields that are the rows of ``edge_index``, where `paths` says nothing of them.

    Returns
    -------
    cls
        Its arrays share memory with the tensors where these are on the CPU.

    Raises
    ------
    BatchError
        If `data` has nothing at a path.
    """
    schema = _schema(cls, "from_pyg")
    paths = _paths(schema, paths, ends, "from_pyg")
    values: dict[str, Any] = {}
    for name, t in schema.fields.items():
        value = _follow(data, paths[name], name in schema.optional, f"from_pyg: {schema.name}.{name}")
        if hasattr(value, "detach"):
            value = value.detach().cpu().numpy()
        if not t.shape and np.size(value) == 1 and value is not None:  # PyG often has one number per graph as one row
            value = np.asarray(value).reshape(())[()]
        values[name] = value
    return cls(**values)


@boundary
def to_pyg(example: Any, paths: Mapping[str, Path] | None = None, ends: tuple[str, str] = ("src", "dst")) -> Any:
    """Return an example as PyTorch Geometric's `Data`, or as `HeteroData` if a path names a type of nodes or edges.

    Parameters
    ----------
    example : instance of a schema
    paths, ends
        As for `from_pyg`, whose inverse this is.

    Returns
    -------
    Data or HeteroData
        Its tensors share memory with the arrays. The number of nodes is set, so that nodes without edges are counted.
        PyG knows an index by its name: what is no ``edge_index`` moves in its batches only if its name says so.
    """
    import torch
    from torch_geometric.data import Data, HeteroData

    schema = _schema(type(example), "to_pyg")
    sizes = example_sizes(example)
    paths = _paths(schema, paths, ends, "to_pyg")
    typed = {name: len(path) - isinstance(path[-1], int) > 1 for name, path in paths.items()}
    data = HeteroData() if any(typed.values()) else Data()
    rows: dict[tuple, dict[int, Any]] = {}
    for name, t in schema.fields.items():
        value, path = getattr(example, name), paths[name]
        if value is None:
            continue
        store = data[path[0]] if typed[name] else data
        if isinstance(path[-1], int):
            rows.setdefault(path[:-1], {})[path[-1]] = value
        elif t.counts is not None:
            setattr(store, path[-1], value)
        else:
            setattr(store, path[-1], torch.as_tensor(value))
        if isinstance(path[-1], int) and path[-2] == "edge_index" and t.target is not None:
            # The number of an edge's nodes: an edge type is (type of one end, relation, type of the other end).
            nodes = data[path[0][0 if path[-1] == 0 else 2]] if typed[name] else data
            nodes.num_nodes = sizes[t.target]
        elif typed[name] and isinstance(path[0], str) and t.axes:
            store.num_nodes = sizes[t.axes[0]]
    for path, parts in rows.items():
        if sorted(parts) != list(range(len(parts))):
            raise BatchError(at_user_line(f"to_pyg: {path[-1]} has rows {sorted(parts)}; they are 0, 1, ... in PyG"))
        store = data[path[0]] if len(path) > 1 else data
        setattr(store, path[-1], torch.from_numpy(np.stack([parts[i] for i in range(len(parts))])))
    return data


@boundary
def from_networkx(graph: Any, cls: type, ends: tuple[str, str] = ("src", "dst")) -> Any:
    """Return an example made of a networkx graph.

    Nodes are numbered in the graph's order. A field with the axis of the nodes (into which `ends` point) is read from
    the node's attributes, one with the axis of the edges from the edges' attributes, and any other from those of the
    graph, all under the field's own name.

    Parameters
    ----------
    graph : networkx.Graph, DiGraph, MultiGraph or MultiDiGraph
        An edge of a graph without directions becomes two, one in each direction; an edge from a node to itself one.
    cls : type
        A schema.
    ends : (str, str)
        The fields that say where each edge begins and ends.

    Raises
    ------
    BatchError
        If a node, an edge or the graph lacks an attribute.
    """
    schema = _schema(cls, "from_networkx")
    node, edge = _graph_axes(schema, ends, "from_networkx")
    number = {label: i for i, label in enumerate(graph.nodes)}
    edges = [(number[a], number[b], data) for a, b, data in graph.edges(data=True)]
    if not graph.is_directed():
        edges = [e for a, b, data in edges for e in ([(a, b, data)] if a == b else [(a, b, data), (b, a, data)])]
    rows = {node: list(graph.nodes(data=True)), edge: [((a, b), data) for a, b, data in edges]}
    values: dict[str, Any] = {}
    for name, t in schema.fields.items():
        label = f"from_networkx: {schema.name}.{name}"
        if name in ends:
            values[name] = np.array([e[ends.index(name)] for e in edges], t.dtype)
        elif t.counts is not None:
            values[name] = len(rows[t.counts]) if t.counts in rows else graph.graph[name]
        elif t.axes and t.axes[0] in rows:
            column = [_attribute(data, name, f"{label}: {t.axes[0]} {who}") for who, data in rows[t.axes[0]]]
            values[name] = np.array(column, t.dtype).reshape(len(column), *t.dense)
        elif name in graph.graph or name not in schema.optional:
            values[name] = np.asarray(_attribute(graph.graph, name, f"{label}: the graph"), t.dtype)[()]
        else:
            values[name] = None
    return cls(**values)


@boundary
def to_networkx(example: Any, ends: tuple[str, str] = ("src", "dst"), create_using: Any = None) -> Any:
    """Return an example as a networkx graph, with its fields as attributes of nodes, edges and the graph.

    Parameters
    ----------
    example : instance of a schema
    ends : (str, str)
        The fields that say where each edge begins and ends.
    create_using : networkx graph type, optional
        ``networkx.DiGraph`` if not given.

    Raises
    ------
    BatchError
        If the type of graph cannot hold two edges between the same nodes, and there are.
    """
    import networkx

    schema = _schema(type(example), "to_networkx")
    node, edge = _graph_axes(schema, ends, "to_networkx")
    sizes = example_sizes(example)
    graph = networkx.empty_graph(0, networkx.DiGraph if create_using is None else create_using)
    columns: dict[Axis | None, dict[str, Any]] = {node: {}, edge: {}, None: {}}
    for name, t in schema.fields.items():
        value = getattr(example, name)
        if value is not None and name not in ends and t.counts is None:
            columns[t.axes[0] if t.axes and t.axes[0] in columns else None][name] = value
    graph.graph.update(columns[None])
    graph.add_nodes_from((i, {n: v[i] for n, v in columns[node].items()}) for i in range(sizes[node]))
    for i, (a, b) in enumerate(zip(*(getattr(example, e).tolist() for e in ends), strict=True)):
        graph.add_edge(a, b, **{n: v[i] for n, v in columns[edge].items()})
    if graph.number_of_edges() != sizes[edge]:
        raise BatchError(at_user_line(
            f"to_networkx: {sizes[edge]} edges, and a {type(graph).__name__} keeps {graph.number_of_edges()} of them: "
            "one between the same two nodes. Give create_using=networkx.MultiDiGraph"))
    return graph


# -- what the conversions have in common ---------------------------------------------------------------------


def example_sizes(example: Any) -> dict[Axis, int]:
    """Return the sizes of an example's ragged axes."""
    return dict(zip(schema_of(example).axes, example._sizes, strict=True))


def _schema(cls: Any, who: str) -> Schema:
    schema = schema_of(cls)
    if schema is None:
        raise BatchError(at_user_line(f"{who}: {getattr(cls, '__name__', cls)} is no schema; declare it with "
                                      "@mg.example"))
    return schema


def _paths(schema: Schema, paths: Mapping[str, Path] | None, ends: tuple[str, str],
           who: str) -> dict[str, tuple[Hashable, ...]]:
    found: dict[str, Path] = {name: "num_nodes" if t.counts is not None else name for name, t in schema.fields.items()}
    found |= {name: ("edge_index", row) for row, name in enumerate(ends) if name in found}
    if unknown := set(paths or ()) - set(found):
        raise BatchError(at_user_line(f"{who}: {schema.name} has no field {', '.join(sorted(unknown))}"))
    found |= paths or {}
    return {name: (path,) if isinstance(path, str) else tuple(path) for name, path in found.items()}


def _follow(data: Any, path: tuple[Hashable, ...], optional: bool, label: str) -> Any:
    value = data
    for step in path:
        if isinstance(step, int):
            value = value[step]
            continue
        typed = isinstance(step, tuple) or (value is data and len(path) - isinstance(path[-1], int) > 1)
        try:
            value = value[step] if typed else getattr(value, step)
        except (AttributeError, KeyError):
            value = None
        if value is None:
            if optional:
                return None
            raise BatchError(at_user_line(f"{label}: nothing at {'.'.join(map(str, path))} in {data}. Say where it is: "
                                          "paths={field: path}")) from None
    return value


def _graph_axes(schema: Schema, ends: tuple[str, str], who: str) -> tuple[Axis, Axis]:
    for name in ends:
        if name not in schema.fields or schema.fields[name].target is None or len(schema.fields[name].shape) != 1:
            raise BatchError(at_user_line(f"{who}: {schema.name}.{name} is no field of one index per edge; name the "
                                          "two that are: ends=(source, target)"))
    first, second = (schema.fields[name] for name in ends)
    if (first.target, first.axes) != (second.target, second.axes):
        raise BatchError(at_user_line(f"{who}: {ends[0]} is {first} and {ends[1]} is {second}; a networkx graph has "
                                      "one kind of nodes"))
    return first.target, first.axes[0]


def _attribute(attributes: Mapping[str, Any], name: str, who: str) -> Any:
    if name not in attributes:
        raise BatchError(at_user_line(f"{who} has no attribute {name!r}; it has {', '.join(map(str, attributes))}"))
    return attributes[name]
