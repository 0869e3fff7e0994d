"""Ragged batches as a plug-in of batching: `vmap` over examples of different size.

A `Batch` among the arguments reaches the function as one example, whose ragged axes are symbolic sizes without a
number; what was traced is rewritten by the rules of packed arrays (`minigrad.ragged.rules`).
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree

from ..errors import BatchError, at_user_line
from ..graph import ArrayType, Graph, InAxes, Node, PyTree, full
from ..ops.constants import iota
from ..ops.elementwise import eq, where
from ..ops.shape import move_axis
from ..ops.sort import cumsum
from ..primitive import placeholder
from ..ragged.axes import Axis, FieldType
from ..ragged.batch import Batch
from ..ragged.nested import BatchSchema
from ..ragged.rows import Rows, spread_rows
from ..ragged.rules import Batching
from ..ragged.schema import Schema, schema_of
from ..sizes import shown
from ..symbolic import Dim, Symbol
from ..tracing import made_by, note_batch
from .graph_forms import place, prefix
from .in_axes import hint, mapped_axes
from .mean import copies_of, counted_losses, not_per_row
from .microbatch import Parts, parts_of, resized
from .partition import NONE, Cut, Facts
from .trace import Call, Staged, function_name, stage
from .vmap import batch_of, of_one


def is_batch(x: Any) -> bool:
    return isinstance(x, Batch)


@dataclass
class Slot:
    """A leaf of the arguments of the function of one example.

    Attributes
    ----------
    type : ArrayType
        Its type there.
    leaf : Any
        What the caller gave.
    node : Node
        Its input of the batched program.
    axis : int or None
        The batch axis; None where all examples share it, or where it is packed.
    field : FieldType or None
        Its declaration, where it is a field of a batch.
    symbols : dict of Axis to Symbol
        The axes of its batch.
    """

    type: ArrayType
    leaf: Any
    node: Node
    axis: int | None = None
    field: FieldType | None = None
    symbols: dict[Axis, Symbol] | None = None

    @property
    def is_mapped(self) -> bool:
        return self.axis is not None or bool(self.field and self.field.axes)


@dataclass
class StagedBatch:
    """A function traced for one example, and all that is needed to rewrite it for the batch.

    Attributes
    ----------
    call : Call
    staged : Staged
    rewrite : Batching
    inputs : list of Node
        The inputs of the batched program.
    axes : dict of Symbol to Axis
    """

    call: Call
    staged: Staged
    rewrite: Batching
    inputs: list[Node]
    axes: dict[Symbol, Axis]


def stage_batch(call: Call, in_axes: Any) -> StagedBatch:
    """Trace a function for one example of the batches among its arguments."""
    inputs = [placeholder(t) for t in call.types]
    example, rows, axes = _example(call, in_axes, inputs)
    slots, tree = optree.tree_flatten(example)
    staged = stage(call.f, call.args, call.kwargs, ([s.leaf for s in slots], tree, [s.type for s in slots]))
    staged.args, staged.kwargs = example  # whose leaves its inputs are
    with made_by("vmap"):
        rewrite = _inputs(rows, slots, staged.inputs)
    return StagedBatch(call, staged, rewrite, inputs, axes)


@batch_of.register(is_batch)
def ragged_vmap(examples: tuple[tuple, dict], call: Call, in_axes: Any, out_axes: Any) -> Graph:
    """Return the batch of a function over the examples of the batches, and axes of the arrays, among its arguments."""
    f, batch = call.f, stage_batch(call, in_axes)
    staged, rewrite = batch.staged, batch.rewrite
    with made_by("vmap"):
        outputs = rewrite.run(staged.outputs, staged.since)
        places = prefix(out_axes, staged.out_tree, f"out_axes of vmap({function_name(f)})")
        out = [_packed_result(f, rewrite.rows, o.type, node, a, batch.axes) if rewrite.is_ragged(o) else
               place(function_name(f), node, has, a, rewrite.rows.size)
               for o, (node, has), a in zip(staged.outputs, outputs, places, strict=True)]
    nodes, out_tree = optree.tree_flatten(optree.tree_unflatten(staged.out_tree, out))
    return Graph(tuple(batch.inputs), tuple(nodes), out_tree=out_tree)


@copies_of.register(is_batch)
def _copies(examples: tuple[tuple, dict], call: Call, n: int, in_axes: Any) -> Graph:
    raise BatchError(at_user_line(f"unroll({function_name(call.f)}): copies of one graph are for examples of equal "
                                  "size. Look at mg.trace(f)(example), or at mg.vmap(f)"))


@counted_losses.register(is_batch)
def _losses_of_rows(losses: Batch, f: Callable[..., Any], over: Axis | None) -> Any:
    each = losses.schema.fields["value"] if is_batch(losses) else f"a {type(losses).__name__}"
    if over is None and not is_batch(losses):
        return losses
    if over is None:
        raise BatchError(at_user_line(
            f"mean_loss({function_name(f)}): the loss of one example is {each}, and not one number. Sum or average it "
            "within the example, or say mean_loss(f, over=axis)"))
    if not is_batch(losses) or each.shape != (over,):
        raise not_per_row(f, over, each)
    return losses.values


def _is_example(x: Any) -> bool:
    return schema_of(type(x)) is not None


@hint.register(_is_example)
def _batch_first(args: tuple) -> str:
    name = next(type(x).__name__ for x in optree.tree_leaves(args, is_leaf=_is_example) if _is_example(x))
    return f". Lay examples such as a {name} end to end first, with mg.batch([...])"


@dataclass
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

    @property
    def nodes(self) -> dict[str, Node]:
        """The input of each array of a batch, by its name in `Schema.leaf_types`."""
        present = (n for n, v in self.batch.leaves().items() if v is not None)
        return dict(zip(present, (node for _, node in self.leaves), strict=True))

    @property
    def stacked(self) -> dict[str, Node]:
        """The inputs of a batch that have the examples along axis 0."""
        types = self.batch.schema.leaf_types
        return {n: node for n, node in self.nodes.items() if not types[n].axes and not types[n].shared}


def _arguments(transform: str, call: Call, in_axes: InAxes,
               inputs: Sequence[Node]) -> tuple[list[Argument], optree.PyTreeSpec, int | Dim]:
    """Return each batch and each array among the arguments, their pytree, and the number of examples."""
    name = f"{transform}({function_name(call.f)})"
    args, kwargs = call.args, call.kwargs
    values, tree = optree.tree_flatten((args, kwargs), is_leaf=is_batch)
    positional = optree.tree_structure(args, is_leaf=is_batch)
    if isinstance(in_axes, list):
        in_axes = tuple(in_axes)
    if isinstance(in_axes, tuple) and len(in_axes) != len(args):
        raise BatchError(at_user_line(f"{name}: in_axes has {len(in_axes)} entries, but there are {len(args)} "
                                      "positional arguments"))
    axes = prefix(in_axes, positional, f"in_axes of {name}")
    axes += [0] * (len(values) - len(axes))
    # All stacked arrays, fields of batches included, have one batch size, which mapped_axes checks.
    pairs = iter(zip(call.leaves, inputs, strict=True))
    arguments: list[Argument] = []
    stand_ins: list[PyTree] = []
    for value, axis in zip(values, axes, strict=True):
        argument = Argument(value, list(itertools.islice(pairs, len(optree.tree_leaves(value)))), [])
        arguments.append(argument)
        if not is_batch(value):
            stand_ins.append(argument.leaves[0][1].type)
        elif axis is None:
            stand_ins.append([node.type for _, node in argument.leaves])
        elif axis == 0:
            argument.axes = None
            stand_ins.append({n: node.type for n, node in argument.stacked.items()})
        else:
            raise BatchError(at_user_line(f"{name}: a batch is mapped over its examples: its entry in in_axes is 0, "
                                          f"not {axis!r} (None where all examples share it)"))
    flat_args, flat_kwargs = optree.tree_unflatten(tree, stand_ins)
    stand_in_types = optree.tree_leaves((flat_args, flat_kwargs))
    dense_axes, size = mapped_axes(call.f, flat_args, flat_kwargs, in_axes, stand_in_types, transform)
    each_axis = iter(dense_axes)
    for argument in arguments:
        if argument.axes is None:
            list(itertools.islice(each_axis, len(argument.stacked)))
        else:
            argument.axes = list(itertools.islice(each_axis, len(argument.leaves)))
    return arguments, tree, size


def _example(call: Call, in_axes: InAxes, inputs: Sequence[Node]) -> tuple[PyTree, Rows, dict[Symbol, Axis]]:
    """Return the arguments for one example, with a `Slot` for each leaf, the batch's rows, and its ragged sizes."""
    arguments, tree, size = _arguments("vmap", call, in_axes, inputs)
    rows = Rows(size)
    named: dict[Symbol, Axis] = {}
    examples: list[PyTree] = []
    for argument in arguments:
        if argument.axes is None:
            dims = {a: Dim.new(a.name, rows=True) for a in argument.batch.schema.axes}
            examples.append(_one(argument, dims, rows))
            named |= {d.symbol: a for a, d in dims.items()}
        else:
            types = of_one([node.type for _, node in argument.leaves], argument.axes)
            slots = [Slot(t, leaf, node, a)
                     for t, (leaf, node), a in zip(types, argument.leaves, argument.axes, strict=True)]
            examples.append(optree.tree_unflatten(optree.tree_structure(argument.value), slots))
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
def _parts(examples: tuple[tuple, dict], call: Call, in_axes: Any) -> Parts:
    arguments, _, size = _arguments("microbatch", call, in_axes, call.inputs)
    dim = Dim.new("chunk")
    parts = Parts(Cut(dim, {dim.symbol: size}, {(): dim}), [], [], {}, {}, {dim.symbol: iota(size=size)})
    for argument in arguments:
        if argument.axes is None:
            _cut_batch(argument.batch.schema, argument.nodes, parts)
            continue
        for (_, node), a in zip(argument.leaves, argument.axes, strict=True):
            parts.axes.append(a)
            parts.types.append(node.type if a is None else resized(node.type, a, dim))
    return parts


def _cut_batch(schema: Schema, nodes: Mapping[str, Node], parts: Parts) -> None:
    """Add the arrays of a batch, cut between its examples, to the arguments of a part."""
    cut, axes = parts.cut, schema.axes
    lengths = {a: nodes[schema.leaf_name("lengths", a)] for a in axes}
    dims = {a: Dim.new(a.name, rows=True) for a in axes}
    rows: dict[tuple[Axis, ...], Dim] = {}
    for of, total in sorted(_note_rows(schema, nodes).items(), key=lambda item: len(item[0])):
        rows[of] = own = dims[of[0]] if len(of) == 1 else Dim.new("_".join(a.name for a in of), rows=True)
        cut.totals[own.symbol] = total
        cut.add_rows(own, *(dims[a] for a in of))
        parts.counts[own.symbol] = functools.reduce(operator.mul, (lengths[a] for a in of))
    counts = _inner_counts(schema, dims, cut) if isinstance(schema, BatchSchema) else {}
    counts |= {schema.leaf_name("lengths", a): dims[a] for a in axes}
    targets = {name: dims[t.target] for name, t in schema.leaf_types.items() if t.target is not None and name in nodes}
    for target in targets.values():
        axis = next(a for a in axes if dims[a] is target)
        parts.starts[target.symbol] = cumsum(lengths[axis], axis=0) - lengths[axis]
    targets |= {schema.leaf_name("segment_ids", a): cut.dim for a in axes}
    for name, node in nodes.items():
        t = schema.leaf_types[name]
        part = node.type if t.shared else resized(node.type, 0, rows[schema.row_axes(t)] if t.axes else cut.dim)
        if name in targets or name in counts:
            points = frozenset({(0, targets[name])}) if name in targets else NONE
            parts.facts[len(parts.axes)] = Facts(cut.straight(part), points, t.null is not None, counts.get(name))
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


def _one(argument: Argument, dims: Mapping[Axis, Dim], rows: Rows) -> PyTree:
    """Return the example that stands for all of a batch, and enter its lengths, segment ids and totals in `rows`."""
    schema, nodes = argument.batch.schema, argument.nodes
    symbols = {a: d.symbol for a, d in dims.items()}
    for a, symbol in symbols.items():
        rows.lengths[symbol] = nodes[schema.leaf_name("lengths", a)]
        rows.owners[symbol] = nodes[schema.leaf_name("segment_ids", a)]
        rows.totals[(symbol,)] = rows.owners[symbol].shape[0]
    for pair in schema.axis_pairs:
        key = tuple(sorted((symbols[a] for a in pair), key=lambda s: s.uid))
        rows.totals[key] = nodes[schema.leaf_name("blocks", *pair)].shape[0]
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
    """Return the rewriting in which the inputs for one example have become those of the batch."""
    made, mapped, targets, moved, nullable = {}, [], {}, {}, []
    for node, s in zip(old, slots, strict=True):
        new = s.node if s.axis is None else move_axis(s.node, s.axis, 0)
        if s.field is not None and s.field.target is not None:
            symbol = s.symbols[s.field.target]
            targets[node] = symbol
            if s.field.null is None:
                moved[node] = new
            else:
                nullable.append(node)
            new = _local(rows, new, node.type, symbol, s.field)
        made[node] = new
        if s.is_mapped:
            mapped.append(node)
    return Batching(rows, made, mapped, targets, moved, nullable)


def _local(rows: Rows, pointers: Node, one: ArrayType, symbol: Symbol, field: FieldType) -> Node:
    """Return indices into the packed rows as each example knows them: counted from its first row."""
    target = (Dim((((symbol,), 1),)),)
    domain = rows.domain(one.shape)
    start = rows.of_owner(rows.offset(target), domain) if domain else rows.offset(target)
    local = pointers - spread_rows(start, pointers.shape)
    if field.null is None:
        return local
    null = full(field.null, pointers.shape, pointers.dtype)
    return where(eq(pointers, null), null, local)


def _packed_result(f: Callable[..., Any], rows: Rows, one: ArrayType, node: Node, axis: Any,
                   names: dict[Symbol, Axis]) -> Batch:
    """Return a result with ragged axes as a batch of arrays."""
    if axis != 0:
        raise BatchError(at_user_line(
            f"vmap({function_name(f)}): out_axes {axis} for a result of type {one}, which comes back as a batch of "
            "arrays: its out_axes is 0"))
    shape, domain = [], []
    for n in one.shape:
        if not rows.ragged(n):
            shape.append(n)
            continue
        shape.append(names[n.symbol] if n.symbol in names else Axis(n.format()))
        if n not in domain:
            domain.append(n)
    schema = Schema("arrays", {"value": FieldType(one.dtype, tuple(shape))})
    pairs = []
    for a, b in itertools.combinations_with_replacement(domain, 2):
        pairs.append(full(False, (rows.total((a, b)),), np.dtype(bool)))
    return Batch(schema, {"value": node}, tuple(rows.length((n,)) for n in domain),
                 [rows.owner((n,)) for n in domain], pairs)
