"""`vmap`, `mean_loss` and `microbatch` over batches of examples of different size.

The function is traced for one example of each `Batch`, whose ragged axes are symbolic sizes without a number; the rules
of packed arrays (`minigrad.ragged.rules`) rewrite the trace for the batch.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import optree

from ..errors import BatchError, at_user_line
from ..graph import CALLS, ArrayType, Graph, InAxes, Node, PyTree, full, short_dtype
from ..immutable import cached_property
from ..ops.constants import iota
from ..ops.elementwise import cast_to, eq, where
from ..ops.results import waiting
from ..ops.sort import cumsum
from ..primitive import move_axis, placeholder
from ..ragged.axes import Axis, FieldType
from ..ragged.batch import Batch, is_batch
from ..ragged.nested import BatchSchema
from ..ragged.rows import Rows, require_as_many_rows, spread_rows
from ..ragged.rules import Batching
from ..ragged.schema import BOOL, Schema, schema_of
from ..sizes import shown
from ..symbolic import Dim, Shape, Symbol
from ..tracing import made_by, note_batch
from .arguments_by_name import argument_axes
from .batch_loss import of_batch
from .common_axes import CommonAxes, with_common_axes
from .graph_forms import leaf_axes, out_tree, place, prefix
from .in_axes import CHECKS, Arguments, hint, mapped_axes
from .mean import copies_of, counted_losses, not_per_row
from .microbatch import Parts, parts_of, resized
from .partition import NONE, Cut, Facts
from .trace import Call, Staged, function_name, parameter_names
from .vmap import batch_of, of_one


@CHECKS.append
def _refuse_lists_of_examples(f: Callable[..., PyTree], args: tuple[PyTree, ...], kwargs: dict[str, PyTree],
                              in_axes: InAxes, name: str) -> None:
    """Raise `BatchError` for a mapped list of examples, which have no axis in common."""
    axes, by_keyword = argument_axes(in_axes, len(args), [*kwargs], lambda: parameter_names(f), name)
    for x, axis in zip((*args, *kwargs.values()), (*axes, *by_keyword.values()), strict=True):
        if axis is not None and isinstance(x, (list, tuple)) and x and (schema := schema_of(x[0])) is not None:
            raise BatchError(at_user_line(f"{name}: a list of {len(x)} {schema.name} has no axis to map over"
                                          f"{hint((*args, *kwargs.values()))}"))


@dataclass(eq=False, repr=False)
class Slot:
    """A leaf of the arguments of the function of one example.

    Attributes
    ----------
    type : ArrayType
        Its type for one example.
    leaf : array or number
        The caller's argument.
    node : Node
        Its input of the batched program.
    axis : int or None
        The batch axis; None for a shared or packed leaf.
    field : FieldType or None
        The declaration of a field of a batch.
    symbols : dict of Axis to Symbol
        The axes of its batch.
    """

    type: ArrayType
    leaf: object
    node: Node
    axis: int | None = None
    field: FieldType | None = None
    symbols: Mapping[Axis, Symbol] = dataclasses.field(default_factory=dict)

    @property
    def is_mapped(self) -> bool:
        """Whether the leaf differs between examples."""
        return self.axis is not None or bool(self.field and self.field.axes)


@dataclass(eq=False, repr=False)
class StagedBatch:
    """A function traced for one example, and the rewriting for the batch.

    Attributes
    ----------
    call : Call
    staged : Staged
    batching : Batching
    inputs : list of Node
        The inputs of the batched program.
    axes : dict of Symbol to Axis
    """

    call: Call
    staged: Staged
    batching: Batching
    inputs: list[Node]
    axes: dict[Symbol, Axis]


def stage_batch(call: Call, in_axes: InAxes) -> StagedBatch:
    """Trace a function for one example of the batches among its arguments."""
    return with_common_axes(functools.partial(_staged, call, in_axes))


def _staged(call: Call, in_axes: InAxes, common: CommonAxes) -> StagedBatch:
    inputs = [placeholder(t) for t in call.types]
    example, rows, axes = _example(call, in_axes, inputs, common)
    slots, tree = optree.tree_flatten(example)
    args, kwargs = example  # their leaves belong to the inputs
    flat = call.flat._replace(leaves=[s.leaf for s in slots], tree=tree, types=[s.type for s in slots])
    staged = Call(call.f, args, kwargs, flat).trace(nothing=True)
    with made_by("vmap"):
        batching = _inputs(rows, slots, staged.inputs)
    return StagedBatch(call, staged, batching, inputs, axes)


@batch_of.register(is_batch)
def ragged_vmap(examples: Arguments, call: Call, in_axes: InAxes, out_axes: InAxes) -> Graph:
    """Return the batch of a function over the examples of the batches, and axes of the arrays, among its arguments."""
    name, batch = call.name, stage_batch(call, in_axes)
    staged, batching = batch.staged, batch.batching
    with made_by("vmap"):
        outputs, tree = _results(name, batching, staged.graph, staged.since, out_axes, batch.axes)
    return Graph(tuple(batch.inputs), outputs, out_tree=tree)


def _results(name: str, batching: Batching, graph: Graph, since: int, out_axes: InAxes, axes: Mapping[Symbol, Axis]
             ) -> tuple[tuple[Node, ...], optree.PyTreeSpec]:
    """Return the batch of the outputs of a graph, and its pytree: results with ragged axes are batches."""
    outputs, tree = graph.outputs, out_tree(graph)
    new = batching.run(outputs, since)
    places = prefix(out_axes, tree, f"out_axes of vmap({name})") or [0] * len(outputs)
    out = [_packed_result(name, batching.rows, o.types[0], node, a, axes) if batching.is_ragged(o) else
           place(name, node, has, a, batching.rows.size)
           for o, (node, has), a in zip(outputs, new, places, strict=True)]
    results: PyTree = optree.tree_unflatten(tree, out[:tree.num_leaves])
    nodes: list[Node]
    nodes, new_tree = optree.tree_flatten(results)
    nodes = nodes or [node for node, _ in new]
    nodes[:1] = [waiting(node, [*batching.rows.definitions.values(), *batching.rows.checks]) for node in nodes[:1]]
    return tuple(nodes), new_tree


def _batch_of_selections(graph: Graph, inputs: Sequence[Node], axes: Sequence[int | None], out_axes: InAxes,
                         size: int | Dim) -> Graph:
    """Return the batch of a graph that defines sizes, whose axes of such sizes are ragged."""
    batching = Batching(Rows(size))
    for old, new, axis in zip(graph.inputs, inputs, axes, strict=True):
        batching.batched[old] = new if axis is None else move_axis(new, axis, 0)
        if axis is not None:
            batching.mapped.add(old)
    outputs, tree = _results(graph.name, batching, graph, -1, out_axes, {})
    return graph.replace(inputs=tuple(inputs), outputs=outputs, out_tree=tree, out_names=())


CALLS["selections"] = _batch_of_selections


@copies_of.register(is_batch)
def _copies(examples: Arguments, call: Call, n: int, in_axes: InAxes) -> Graph:
    raise BatchError(at_user_line(f"unroll({call.name}): copies of one graph are for examples of equal "
                                  "size. Look at mg.trace(f)(example), or at mg.vmap(f)"))


@of_batch.register(is_batch)
def _whole(examples: Arguments, call: Call, in_axes: InAxes) -> Staged:
    _example(call, in_axes, [placeholder(t) for t in call.types], CommonAxes())  # its sizes are of one batch
    return call.trace()


@counted_losses.register(is_batch)
def _losses_of_rows(losses: object, f: Callable[..., Any], over: Axis | None) -> object:
    each = losses.schema.fields["value"] if is_batch(losses) else f"a {type(losses).__name__}"
    if over is None and not is_batch(losses):
        return losses
    if over is None:
        raise BatchError(at_user_line(
            f"mean_loss({function_name(f)}): the loss of one example is {each}, and not one number. Sum or average it "
            "within the example, or write mean_loss(f, over=axis)"))
    if not is_batch(losses) or losses.schema.fields["value"].shape != (over,):
        raise not_per_row(f, over, each)
    return losses.values


def _is_example(x: object) -> bool:
    return schema_of(type(x)) is not None


@hint.register(_is_example)
def _batch_first(args: tuple[PyTree, ...]) -> str:
    leaves: list[object] = optree.tree_leaves(cast(PyTree, args), is_leaf=_is_example)
    name = next(type(x).__name__ for x in leaves if _is_example(x))
    return f". Pack examples such as a {name} first, with mg.batch([...])"


def _is_ragged_list(x: object) -> bool:
    """Return whether it is a list of arrays that differ in their first size alone."""
    if not isinstance(x, list) or not all(isinstance(a, np.ndarray) and a.ndim for a in x):
        return False
    return len({len(a) for a in x}) > 1 == len({a.shape[1:] for a in x})


def _hint_of_lists(args: tuple[PyTree, ...]) -> str:
    """Return the way out where an argument is a list of arrays of different length."""
    leaves: list[object] = optree.tree_leaves(cast(PyTree, args), is_leaf=_is_ragged_list)
    first = next((x[0] for x in leaves if isinstance(x, list)), None)
    if first is None:
        return ""
    sizes = ", ".join(["mg.axis('row')", *map(str, first.shape[1:])])
    return (". Arrays of different length are the examples of a batch: mg.batch(list, "
            f"mg.{short_dtype(first.dtype)}[{sizes}])")


CALLS["hint_of_lists"] = _hint_of_lists


@dataclass(eq=False, repr=False)
class Argument:
    """A batch or an array among the arguments of the function.

    Attributes
    ----------
    value : Batch or array
    leaves : list of (leaf, Node)
        Its leaves, and their inputs of the batched program.
    axes : list of (int or None), or None
        The batch axis of each leaf; None for a batch that is mapped over its examples.
    """

    value: object
    leaves: list[tuple[object, Node]]
    axes: list[int | None] | None

    @property
    def batch(self) -> Batch:
        """The mapped batch."""
        assert isinstance(self.value, Batch)
        return self.value

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """The input of each array of a batch, by its name in `Schema.leaf_types`."""
        present = (n for n, v in self.batch.leaves().items() if v is not None)
        return dict(zip(present, (node for _, node in self.leaves), strict=True))

    @cached_property
    def stacked(self) -> dict[str, Node]:
        """The inputs of a batch that have the examples along axis 0."""
        types = self.batch.schema.leaf_types
        return {n: node for n, node in self.nodes.items() if not types[n].axes and not types[n].shared}


def _arguments(transform: str, call: Call, in_axes: InAxes,
               inputs: Sequence[Node]) -> tuple[list[Argument], optree.PyTreeSpec, int | Dim]:
    """Return each batch and each array among the arguments, their pytree, and the number of examples."""
    name = f"{transform}({call.name})"
    whole: PyTree = (call.args, call.kwargs)
    values, tree = optree.tree_flatten(whole, is_leaf=is_batch)
    positional, by_keyword = tree.children()
    axes = leaf_axes(in_axes, positional, by_keyword, lambda: parameter_names(call.f), name)
    # All stacked arrays, fields of batches included, have one batch size, which mapped_axes checks.
    pairs = iter(zip(call.leaves, inputs, strict=True))
    arguments: list[Argument] = []
    stand_ins: list[PyTree] = []
    for value, axis in zip(values, axes, strict=True):
        argument = Argument(value, list(itertools.islice(pairs, len(optree.tree_leaves(value)))), [])
        arguments.append(argument)
        if not is_batch(value):
            stand_ins.append(argument.leaves[0][1].types[0])
        elif axis is None:
            stand_ins.append([node.types[0] for _, node in argument.leaves])
        elif axis == 0:
            argument.axes = None
            stand_ins.append({n: node.types[0] for n, node in argument.stacked.items()})
        else:
            raise BatchError(at_user_line(f"{name}: a batch is mapped over its examples: its entry in in_axes is 0, "
                                          f"not {axis!r} (None where all examples share it)"))
    types: PyTree = optree.tree_unflatten(tree, stand_ins)
    flat_args, flat_kwargs = types
    dense_axes, size = mapped_axes(call.f, flat_args, flat_kwargs, in_axes, optree.tree_leaves(types), transform)
    each_axis = iter(dense_axes)
    for argument in arguments:
        if argument.axes is None:
            list(itertools.islice(each_axis, len(argument.stacked)))
        else:
            argument.axes = list(itertools.islice(each_axis, len(argument.leaves)))
    return arguments, tree, size


def _example(call: Call, in_axes: InAxes, inputs: Sequence[Node], common: CommonAxes
             ) -> tuple[PyTree, Rows, dict[Symbol, Axis]]:
    """Return the arguments for one example, with a `Slot` for each leaf, the batch's rows, and its ragged sizes."""
    arguments, tree, size = _arguments("vmap", call, in_axes, inputs)
    rows = Rows(size)
    named: dict[Symbol, Axis] = {}
    examples: list[PyTree] = []
    for k, argument in enumerate(arguments):
        if argument.axes is None:
            symbols = {a: common.symbol(k, a.name) for a in argument.batch.schema.axes}
            examples.append(_one(argument, symbols, rows))
            named |= {symbol: a for a, symbol in symbols.items()}
        else:
            types = of_one([node.types[0] for _, node in argument.leaves], argument.axes)
            slots = [Slot(t, leaf, node, a)
                     for t, (leaf, node), a in zip(types, argument.leaves, argument.axes, strict=True)]
            examples.append(optree.tree_unflatten(optree.tree_structure(cast(PyTree, argument.value)), slots))
    return optree.tree_unflatten(tree, examples), rows, named


def _note_rows(schema: Schema, nodes: Mapping[str, Node]) -> dict[tuple[Axis, ...], int | Dim]:
    """Return the number of rows per axis and per pair of axes, recorded as sizes that may be any numbers."""
    sizes: dict[tuple[Axis, ...], list[int | Dim]] = {}
    for name, node in nodes.items():
        if axes := schema.row_axes(schema.leaf_types[name]):
            sizes.setdefault(axes, []).append(node.shape[0])
    for axes, equal in sizes.items():
        note_batch(equal, " ".join(a.name for a in axes))
    return {axes: equal[0] for axes, equal in sizes.items()}


# -- microbatch ----------------------------------------------------------------------------------------------


@parts_of.register(is_batch)
def _parts(examples: Arguments, call: Call, in_axes: InAxes, caller: str, common: CommonAxes) -> Parts:
    arguments, _, size = _arguments(caller, call, in_axes, call.inputs)
    symbol = Symbol("chunk")
    dim = Dim.of(symbol)
    parts = Parts(Cut(dim, {symbol: size}, {(): dim}), [], [], {}, {}, {symbol: iota(size=size)})
    for k, argument in enumerate(arguments):
        if argument.axes is None:
            _cut_batch(argument.batch.schema, argument.nodes, parts, functools.partial(common.symbol, k))
            continue
        for (_, node), a in zip(argument.leaves, argument.axes, strict=True):
            parts.axes.append(a)
            parts.types.append(node.types[0] if a is None else resized(node.types[0], a, dim))
    return parts


def _cut_batch(schema: Schema, nodes: Mapping[str, Node], parts: Parts, symbol_of: Callable[..., Symbol]) -> None:
    """Add the arrays of a batch, cut between its examples, to the arguments of a part."""
    cut, axes = parts.cut, schema.axes
    lengths = {a: nodes[schema.leaf_name("lengths", a)] for a in axes}
    symbols = {a: symbol_of(a.name) for a in axes}
    dims = {a: Dim.of(symbol) for a, symbol in symbols.items()}
    rows: dict[tuple[Axis, ...], Dim] = {}
    for product, total in sorted(_note_rows(schema, nodes).items(), key=lambda item: len(item[0])):
        symbol = symbol_of(*(a.name for a in product))
        rows[product] = Dim.of(symbol)
        require_as_many_rows(symbol, cut.totals.setdefault(symbol, total), total)
        cut.add_rows(rows[product], *(dims[a] for a in product))
        parts.counts[symbol] = functools.reduce(operator.mul, (lengths[a] for a in product))
    counts = _inner_counts(schema, dims, cut) if isinstance(schema, BatchSchema) else {}
    counts |= {schema.leaf_name("lengths", a): dims[a] for a in axes}
    targets: dict[str, Dim] = {}
    for name, t in schema.leaf_types.items():
        if t.target is not None and name in nodes:
            targets[name] = dims[t.target]
            parts.starts[symbols[t.target]] = cumsum(lengths[t.target], axis=0) - lengths[t.target]
    owners = {schema.leaf_name("segment_ids", a): symbols[a] for a in axes}
    targets |= dict.fromkeys(owners, cut.dim)
    for name, node in nodes.items():
        t = schema.leaf_types[name]
        part = node.types[0]
        if not t.shared:
            part = resized(part, 0, rows[schema.row_axes(t)] if t.axes else cut.dim)
        if name in targets or name in counts:
            points = frozenset({(0, targets[name])}) if name in targets else NONE
            parts.facts[len(parts.axes)] = Facts(cut.straight(part), points, t.null is not None, counts.get(name))
        if name in owners:
            parts.owners[len(parts.axes)] = owners[name]
        parts.axes.append(None if t.shared else 0)
        parts.types.append(part)


def _inner_counts(schema: BatchSchema, dims: Mapping[Axis, Dim], cut: Cut) -> dict[str, Dim]:
    """Return the sizes that the lengths of the inner batches count; enter the rows that they add up to."""
    inner = schema.inner
    sizes = {a: Dim.new(a.name) for a in inner.axes}  # the rows of an inner example
    for a in inner.axes:
        example = dims[schema.fields[inner.leaf_name("lengths", a)].axes[0]]
        cut.add_rows(dims[a], example, sizes[a])
    for a, b in inner.axis_pairs:
        pairs = dims[schema.fields[inner.leaf_name("blocks", a, b)].axes[0]]
        cut.add_rows(pairs, example, sizes[a], sizes[b])
        cut.add_rows(pairs, dims[a], sizes[b])
        cut.add_rows(pairs, dims[b], sizes[a])
    return {inner.leaf_name("lengths", a): size for a, size in sizes.items()}


def _one(argument: Argument, symbols: Mapping[Axis, Symbol], rows: Rows) -> PyTree:
    """Return the example that stands for all of a batch, and enter its lengths, segment ids and totals in `rows`."""
    schema, nodes = argument.batch.schema, argument.nodes
    dims = {a: Dim.of(symbol) for a, symbol in symbols.items()}
    for a, symbol in symbols.items():
        rows.enter(symbol, nodes[schema.leaf_name("lengths", a)], nodes[schema.leaf_name("segment_ids", a)])
    for pair in schema.axis_pairs:
        key = tuple(sorted((symbols[a] for a in pair), key=lambda s: s.uid))
        rows.totals.setdefault(key, nodes[schema.leaf_name("blocks", *pair)].shape[0])
    slots: dict[str, object] = dict.fromkeys(schema.fields)
    for (name, node), (leaf, _) in zip(nodes.items(), argument.leaves, strict=True):
        if (t := schema.fields.get(name)) is not None:
            shape = tuple(dims[n] if isinstance(n, Axis) else n for n in t.shape)
            slots[name] = Slot(ArrayType(shape, node.dtype), leaf, node, None if t.axes or t.shared else 0, t, symbols)
    for name, t in schema.fields.items():
        if t.counts:
            slots[name] = shown(dims[t.counts])
    _note_rows(schema, nodes)
    return schema.make(slots)


def _inputs(rows: Rows, slots: Sequence[Slot], old: Sequence[Node]) -> Batching:
    """Return the batching in which the inputs of one example are those of the batch."""
    batching = Batching(rows)
    for node, s in zip(old, slots, strict=True):
        new = s.node if s.axis is None else move_axis(s.node, s.axis, 0)
        if s.field is not None and s.field.target is not None:
            symbol = s.symbols[s.field.target]
            batching.targets[node] = symbol
            batching.packed_indices[node] = new
            if s.field.null is not None:
                batching.nullable.add(node)
            new = _local(rows, new, node.shape, symbol, s.field)
        batching.batched[node] = new
        if s.is_mapped:
            batching.mapped.add(node)
    return batching


def _local(rows: Rows, indices: Node, shape: Shape, symbol: Symbol, t: FieldType) -> Node:
    """Return packed indices as indices into each example's rows; `shape` is that of one example."""
    domain = rows.domain(shape)
    offset = rows.offset((Dim.of(symbol),))
    start = rows.of_owner(offset, domain) if domain else offset
    local = indices - spread_rows(cast_to(start, indices.dtype), indices.shape)
    if t.null is None:
        return local
    null = full(t.null, indices.shape, indices.dtype)
    return where(eq(indices, null), null, local)


def _packed_result(name: str, rows: Rows, one: ArrayType, node: Node, axis: object,
                   axes: Mapping[Symbol, Axis]) -> Batch:
    """Return a result with ragged axes as a batch of arrays; `one` is its type for one example."""
    if axis != 0:
        raise BatchError(at_user_line(
            f"vmap({name}): out_axes {axis} for a result of type {one}, which is returned as a batch of arrays: its "
            "out_axes is 0"))
    domain = tuple(dict.fromkeys(rows.domain(one.shape)))
    names: dict[int | Dim, Axis] = {}
    for n in domain:
        symbol = n.symbol if isinstance(n, Dim) else None
        own = axes[symbol] if symbol is not None and symbol in axes else Axis(str(n))
        while own in names.values():  # of another batch
            own = Axis(f"{own.name}'")
        names[n] = own
    shape = tuple([names.get(n) or cast(int, n) for n in one.shape])
    pairs = [full(False, (rows.total(pair),), BOOL) for pair in itertools.combinations_with_replacement(domain, 2)]
    schema = Schema("arrays", {"value": FieldType(one.dtype, shape)})
    return Batch(schema, {"value": node}, tuple(rows.length((n,)) for n in domain),
                 [rows.owner((n,)) for n in domain], pairs)
