"""Graphs and matrices of other libraries to examples and back: PyTorch Geometric, networkx, scipy.sparse.

The schema, and not an array's name, declares the axis of its rows and the axis that an index points into.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from ..errors import BatchError, at_user_line
from ..locks import importing
from ..tracebacks import boundary
from .axes import Axis, FieldType
from .schema import Schema, schema_of

T = TypeVar("T")
Step = str | int | tuple[str, ...]  # an attribute, a row, or a type of edges
Path = str | Sequence[Step]


@boundary
def from_pyg(data: object, cls: type[T], paths: Mapping[str, Path] | None = None,
             ends: tuple[str, str] = ("src", "dst")) -> T:
    """Convert PyTorch Geometric's `Data` or `HeteroData` to an example.

    Parameters
    ----------
    data : Data or HeteroData
    cls : type
        A class made by `minigrad.example`.
    paths : mapping of str to path, optional
        The place of each field that is not an attribute of the field's name. A path is a name or a tuple of steps:
        ``"edge_attr"``, ``("edge_index", 0)``, ``("user", "x")``, ``(("user", "rates", "item"), "edge_index", 0)``.
    ends : (str, str)
        The two fields that are the rows of ``edge_index``, unless `paths` places them.

    Returns
    -------
    instance of `cls`
        Its arrays share memory with tensors on the CPU of their dtypes. An absent optional field is None, and another
        absent one has its default. The one row of a value per graph, such as ``y`` of shape [1, 19], is that value.

    Raises
    ------
    BatchError
        If `cls` is not a schema, `paths` has an unknown field, `data` lacks the value of a path, or is a batch.

    Examples
    --------
    An object with the attributes of `Data` is enough:

    >>> from types import SimpleNamespace
    >>> node, edge = mg.axis("node"), mg.axis("edge")
    >>> @mg.example
    ... class Graph:
    ...     x: mg.f64[node]
    ...     src: mg.index(node)[edge]
    ...     dst: mg.index(node)[edge]
    >>> mg.from_pyg(SimpleNamespace(x=np.ones(3), edge_index=np.array([[0, 1], [1, 2]])), Graph).dst
    array([1, 2])
    """
    schema = _schema(cls, "from_pyg")
    places = _paths(schema, paths, ends, "from_pyg")
    if hasattr(data, "to_data_list"):
        raise BatchError(at_user_line("from_pyg: it takes one graph, not a batch of several: mg.batch([mg.from_pyg(g, "
                                      f"{schema.name}) for g in batch.to_data_list()])"))
    values: dict[str, object] = {}
    for name, t in schema.fields.items():
        value = _follow(data, places[name], name in schema.optional | schema.defaults,
                        f"from_pyg: {schema.name}.{name}")
        if value is None:
            continue
        if hasattr(value, "detach"):
            value = value.detach().cpu().numpy()
        shape = np.shape(value)
        if not t.axes and shape != t.shape and shape == (1,) * (len(shape) - len(t.shape)) + t.shape:
            value = np.asarray(value).reshape(t.dense)[()]  # PyG has the values of a graph as one row
        values[name] = value
    return cls(**values)


@boundary
def to_pyg(example: object, paths: Mapping[str, Path] | None = None, ends: tuple[str, str] = ("src", "dst")) -> Any:
    """Convert an example to PyTorch Geometric's `Data`, or to `HeteroData` if a path has a type of nodes or edges.

    Parameters
    ----------
    example : instance of a class made by `minigrad.example`
    paths, ends
        As for `from_pyg`; this function is its inverse.

    Returns
    -------
    Data or HeteroData
        Its tensors share memory with the arrays, but for indices of int32: PyG's are of int64. The number of nodes is
        set, so that nodes without edges are counted. An array per graph becomes one row, as PyG's batches need it.
        PyG's batches shift an index only by its name, which contains ``index`` (as ``edge_index`` does).

    Raises
    ------
    BatchError
        If the rows that `paths` gives to one tensor are not 0, 1, ...

    Examples
    --------
    >>> node, edge = mg.axis("node"), mg.axis("edge")
    >>> @mg.example
    ... class Graph:
    ...     x: mg.f64[node]
    ...     src: mg.index(node)[edge]
    ...     dst: mg.index(node)[edge]
    >>> mg.to_pyg(Graph(np.ones(3), [0, 1], [1, 2])).edge_index  # doctest: +SKIP
    tensor([[0, 1],
            [1, 2]])
    """
    with importing:
        import torch
        from torch_geometric.data import Data, HeteroData

    schema = _schema(type(example), "to_pyg")
    sizes = example_sizes(example)
    places = _paths(schema, paths, ends, "to_pyg")
    data = HeteroData() if any(map(_typed, places.values())) else Data()
    rows: dict[tuple[Step, ...], dict[int, Any]] = {}
    for name, t in schema.fields.items():
        value, path = getattr(example, name), places[name]
        if value is None:
            continue
        kind, last, typed = path[0], path[-1], _typed(path)
        store = data[kind] if typed else data
        if isinstance(last, int):
            rows.setdefault(path[:-1], {})[last] = _tensor(torch, value, t)
        else:
            one_row = t.shape and not t.axes and t.target is None  # PyG's batches put rows of graphs end to end
            tensor = value if t.counts is not None else _tensor(torch, value, t)
            setattr(store, str(last), tensor[None] if one_row else tensor)
        if isinstance(last, int) and path[-2] == "edge_index" and t.target is not None:
            # The number of an edge's nodes: an edge type is (type of one end, relation, type of the other end).
            nodes = data[kind[0 if last == 0 else 2]] if isinstance(kind, tuple) else data
            nodes.num_nodes = sizes[t.target]
        elif typed and isinstance(kind, str) and t.axes:
            store.num_nodes = sizes[t.axes[0]]
    for path, parts in rows.items():
        if sorted(parts) != list(range(len(parts))):
            raise BatchError(at_user_line(f"to_pyg: {path[-1]} has rows {sorted(parts)}; they are 0, 1, ... in PyG"))
        store = data[path[0]] if len(path) > 1 else data
        setattr(store, str(path[-1]), torch.stack([parts[i] for i in range(len(parts))]))
    return data


@boundary
def from_networkx(graph: Any, cls: type[T], ends: tuple[str, str] = ("src", "dst")) -> T:
    """Convert a networkx graph to an example.

    Nodes are numbered in the graph's order. Fields on the axis of the nodes (into which `ends` point) come from the
    attributes of the nodes, fields on the axis of the edges from those of the edges, and others from those of the
    graph, each by the field's name.

    Parameters
    ----------
    graph : networkx.Graph, DiGraph, MultiGraph or MultiDiGraph
        An edge of an undirected graph becomes two, one in each direction; an edge from a node to itself one.
    cls : type
        A class made by `minigrad.example`.
    ends : (str, str)
        The fields with the source and the target of each edge.

    Returns
    -------
    instance of `cls`

    Raises
    ------
    BatchError
        If `cls` is not a schema with these `ends`, or a node, an edge or the graph lacks an attribute.

    Examples
    --------
    >>> import networkx  # doctest: +SKIP
    >>> node, edge = mg.axis("node"), mg.axis("edge")
    >>> @mg.example
    ... class Graph:
    ...     x: mg.f64[node]
    ...     src: mg.index(node)[edge]
    ...     dst: mg.index(node)[edge]
    >>> graph = networkx.Graph([("a", "b")])  # doctest: +SKIP
    >>> networkx.set_node_attributes(graph, {"a": 1.0, "b": 2.0}, "x")  # doctest: +SKIP
    >>> mg.from_networkx(graph, Graph).src  # doctest: +SKIP
    array([0, 1])
    """
    schema = _schema(cls, "from_networkx")
    node, edge = _graph_axes(schema, ends, "from_networkx")
    number = {label: i for i, label in enumerate(graph.nodes)}
    edges = [(number[a], number[b], data) for a, b, data in graph.edges(data=True)]
    if not graph.is_directed():
        edges = [e for a, b, data in edges for e in ([(a, b, data)] if a == b else [(a, b, data), (b, a, data)])]
    rows = {node: list(graph.nodes(data=True)), edge: [((a, b), data) for a, b, data in edges]}
    values: dict[str, object] = {}
    for name, t in schema.fields.items():
        label = f"from_networkx: {schema.name}.{name}"
        if name in ends:
            values[name] = np.array([e[ends.index(name)] for e in edges], t.dtype)
        elif t.counts is not None:
            values[name] = len(rows[t.counts]) if t.counts in rows else graph.graph[name]
        elif t.axes and t.axes[0] in rows:
            column = [_attribute(data, name, f"{label}: {t.axes[0]} {row}") for row, data in rows[t.axes[0]]]
            values[name] = np.array(column, t.dtype).reshape(len(column), *t.dense)
        elif name in graph.graph or name not in schema.optional | schema.defaults:
            values[name] = np.asarray(_attribute(graph.graph, name, f"{label}: the graph"), t.dtype)[()]
    return cls(**values)


@boundary
def to_networkx(example: object, ends: tuple[str, str] = ("src", "dst"), create_using: Any = None) -> Any:
    """Convert an example to a networkx graph, with its fields as attributes of nodes, edges and the graph.

    Parameters
    ----------
    example : instance of a class made by `minigrad.example`
    ends : (str, str)
        The fields with the source and the target of each edge.
    create_using : networkx graph type, optional
        ``networkx.DiGraph`` by default.

    Returns
    -------
    networkx graph

    Raises
    ------
    BatchError
        If two edges have the same ends, and the type of graph holds one edge between two nodes.

    Examples
    --------
    >>> node, edge = mg.axis("node"), mg.axis("edge")
    >>> @mg.example
    ... class Graph:
    ...     x: mg.f64[node]
    ...     src: mg.index(node)[edge]
    ...     dst: mg.index(node)[edge]
    >>> mg.to_networkx(Graph(np.ones(3), [0, 1], [1, 2])).edges  # doctest: +SKIP
    OutEdgeView([(0, 1), (1, 2)])
    """
    with importing:
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


def _tensor(torch: Any, value: object, t: FieldType) -> Any:
    """Return an array as a tensor; PyG's indices are of int64."""
    tensor = torch.as_tensor(value)
    return tensor if t.target is None else tensor.long()


# -- shared by the conversions -------------------------------------------------------------------------------


def example_sizes(example: Any) -> dict[Axis, int]:
    """Return the sizes of an example's ragged axes."""
    return dict(zip(example.__schema__.axes, example._sizes, strict=True))


def _schema(cls: type, function: str) -> Schema:
    schema = schema_of(cls)
    if schema is None:
        raise BatchError(at_user_line(f"{function}: {getattr(cls, '__name__', cls)} is not a schema; declare it with "
                                      "@mg.example"))
    return schema


def _paths(schema: Schema, paths: Mapping[str, Path] | None, ends: tuple[str, str],
           function: str) -> dict[str, tuple[Step, ...]]:
    """Return the path of each field."""
    steps: dict[str, Path] = {name: "num_nodes" if t.counts is not None else name for name, t in schema.fields.items()}
    steps |= {name: ("edge_index", row) for row, name in enumerate(ends) if name in steps}
    if unknown := set(paths or ()) - set(steps):
        raise BatchError(at_user_line(f"{function}: {schema.name} has no field {', '.join(sorted(unknown))}"))
    steps |= paths or {}
    return {name: (path,) if isinstance(path, str) else tuple(path) for name, path in steps.items()}


def _typed(path: tuple[Step, ...]) -> bool:
    """Return whether a path begins with a type of nodes or edges."""
    return len(path) - isinstance(path[-1], int) > 1


def _follow(data: object, path: tuple[Step, ...], optional: bool, label: str) -> Any:
    value: Any = data
    for step in path:
        if isinstance(step, int):
            value = value[step]
            continue
        try:
            by_type = isinstance(step, tuple) or (value is data and _typed(path))
            value = value[step] if by_type else getattr(value, str(step))
        except (AttributeError, KeyError):
            value = None
        if value is None:
            if optional:
                return None
            raise BatchError(at_user_line(f"{label}: nothing at {'.'.join(map(str, path))} in {data}. Give its place: "
                                          "paths={field: path}")) from None
    return value


def _graph_axes(schema: Schema, ends: tuple[str, str], function: str) -> tuple[Axis, Axis]:
    """Return the axes of the nodes and of the edges."""
    fields = []
    for name in ends:
        t = schema.fields.get(name)
        if t is None or t.target is None or len(t.shape) != 1:
            raise BatchError(at_user_line(f"{function}: {schema.name}.{name} is not a field of one index per edge; "
                                          "name the two that are: ends=(source, target)"))
        fields.append((t.target, t.axes))
    if fields[0] != fields[1]:
        first, second = (schema.fields[name] for name in ends)
        raise BatchError(at_user_line(f"{function}: {ends[0]} is {first} and {ends[1]} is {second}; a networkx graph "
                                      "has one kind of nodes"))
    (node, (edge, *_)), _ = fields
    return node, edge


def _attribute(attributes: Mapping[str, object], name: str, label: str) -> object:
    if name not in attributes:
        raise BatchError(at_user_line(f"{label} has no attribute {name!r}; it has {', '.join(map(str, attributes))}"))
    return attributes[name]
