"""Ragged batches as a plug-in of batching: `vmap` over examples of different size.

A `Batch` among the arguments reaches the function as one example, whose ragged axes are symbolic sizes without a
number; what was traced is rewritten by the rules of packed arrays (`minigrad.ragged.rules`).
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree

from ..errors import BatchError, at_user_line
from ..graph import ArrayType, Graph, Node, full
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
from .vmap import batch_of


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
    f, args, kwargs = call.f, call.args, call.kwargs
    inputs = [placeholder(t) for t in call.types]
    example, rows, axes = _example(f, args, kwargs, in_axes, call.leaves, inputs)
    slots, tree = optree.tree_flatten(example)
    staged = stage(f, args, kwargs, ([s.leaf for s in slots], tree, [s.type for s in slots]))
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


Mine = Sequence[tuple[Any, Node]]  # the leaves of one argument, and their inputs of the batched program


def _mapped(what: str, f: Callable[..., Any], args: tuple, kwargs: dict, in_axes: Any, leaves: Sequence[Any],
            inputs: Sequence[Node]) -> tuple[list[tuple[Any, int | None, Mine]], Any, Iterator[int | None], int | Dim]:
    """Return each batch and each array among the arguments, with its axis and its leaves; and their pytree.

    Then follow the axis of each array, the fields of shared batches and the stacked fields of mapped ones included, and
    the number of examples.
    """
    name = f"{what}({function_name(f)})"
    parts, whole = optree.tree_flatten((args, kwargs), is_leaf=is_batch)
    positional = optree.tree_structure(args, is_leaf=is_batch)
    if isinstance(in_axes, list):
        in_axes = tuple(in_axes)
    if isinstance(in_axes, tuple) and len(in_axes) != len(args):
        raise BatchError(at_user_line(f"{name}: in_axes has {len(in_axes)} entries, but there are {len(args)} "
                                      "positional arguments"))
    axes = prefix(in_axes, positional, f"in_axes of {name}")
    axes += [0] * (len(parts) - len(axes))
    # What is stacked, batches' fields included, has one batch size; who else says so is looked at by mapped_axes.
    at, stand_ins, found = 0, [], []
    for part, axis in zip(parts, axes, strict=True):
        n = len(optree.tree_leaves(part))
        mine = list(zip(leaves[at:at + n], inputs[at:at + n], strict=True))
        at += n
        found.append((part, axis, mine))
        if not is_batch(part):
            stand_ins.append(mine[0][1].type)
        elif axis is None:
            stand_ins.append([i.type for _, i in mine])
        elif axis == 0:
            stand_ins.append({name: i.type for name, (_, i) in _stacked(part, mine).items()})
        else:
            raise BatchError(at_user_line(f"{name}: a batch is mapped over its examples: its entry in in_axes is 0, "
                                          f"not {axis!r} (None where all examples share it)"))
    flat_args, flat_kwargs = optree.tree_unflatten(whole, stand_ins)
    stand_in_types = optree.tree_leaves((flat_args, flat_kwargs))
    dense_axes, size = mapped_axes(f, flat_args, flat_kwargs, in_axes, stand_in_types, what)
    return found, whole, iter(dense_axes), size


def _example(f: Callable[..., Any], args: tuple, kwargs: dict, in_axes: Any, leaves: Sequence[Any],
             inputs: Sequence[Node]) -> tuple[Any, Rows, dict[Symbol, Axis]]:
    """Return the arguments for one example, with a `Slot` for each leaf, the batch's rows, and its ragged sizes."""
    parts, whole, dense_axes, size = _mapped("vmap", f, args, kwargs, in_axes, leaves, inputs)
    rows = Rows(size)
    named: dict[Symbol, Axis] = {}
    examples = []
    for part, axis, mine in parts:
        if not is_batch(part) or axis is None:
            slots = []
            for leaf, node in mine:
                a = next(dense_axes)
                t = node.type
                slots.append(Slot(t if a is None else ArrayType(t.shape[:a] + t.shape[a + 1:], t.dtype), leaf, node, a))
            examples.append(optree.tree_unflatten(optree.tree_structure(part), slots))
        else:
            for _ in _stacked(part, mine):
                next(dense_axes)
            example, dims = _one(part, mine, rows)
            examples.append(example)
            named |= {d.symbol: a for a, d in dims.items()}
    return optree.tree_unflatten(whole, examples), rows, named


def _row_axes(b: Batch) -> list[tuple[Axis, ...] | None]:
    """Return the ragged axes of each leaf of a batch, whose rows it has along axis 0; None where it is shared."""
    schema = b.schema
    fields = [schema.fields[n] for n, v in b._fields.items() if v is not None]
    return [*(None if t.shared else tuple(sorted(t.axes, key=schema.axes.index)) for t in fields),
            *(() for _ in schema.axes), *((a,) for a in schema.axes),
            *itertools.combinations_with_replacement(schema.axes, 2)]


def _note_rows(b: Batch, mine: Mine) -> dict[tuple[Axis, ...], int | Dim]:
    """Return the number of rows of a batch, per axis and per pair of axes; note that they may be any numbers."""
    sizes: dict[tuple[Axis, ...], list[int | Dim]] = {}
    for axes, (_, node) in zip(_row_axes(b), mine, strict=True):
        if axes:
            sizes.setdefault(axes, []).append(node.shape[0])
    for axes, equal in sizes.items():
        note_batch(equal, " ".join(a.name for a in axes))
    return {axes: equal[0] for axes, equal in sizes.items()}


# -- microbatch ----------------------------------------------------------------------------------------------


@parts_of.register(is_batch)
def _parts(examples: tuple[tuple, dict], call: Call, in_axes: Any) -> Parts:
    found, _, dense_axes, size = _mapped("microbatch", call.f, *examples, in_axes, call.leaves, call.inputs)
    dim = Dim.new("chunk")
    parts = Parts(Cut(dim, {dim.symbol: size}, {(): dim}), [], [], {}, {}, {dim.symbol: iota(size=size)})
    for part, axis, mine in found:
        if is_batch(part) and axis is not None:
            for _ in _stacked(part, mine):
                next(dense_axes)
            _cut_batch(part, mine, parts)
        else:
            for _, node in mine:
                a = next(dense_axes)
                parts.axes.append(a)
                parts.types.append(node.type if a is None else resized(node.type, a, dim))
    return parts


def _cut_batch(b: Batch, mine: Mine, parts: Parts) -> None:
    """Add the leaves of a batch, cut between its examples, to the arguments of a part."""
    cut, axes = parts.cut, b.schema.axes
    fields = {n: b.schema.fields[n] for n, v in b._fields.items() if v is not None}
    lengths = dict(zip(axes, (node for _, node in mine[len(fields):]), strict=False))
    dims = {a: Dim.new(a.name, rows=True) for a in axes}
    rows: dict[tuple[Axis, ...], Dim] = {}
    for of, total in sorted(_note_rows(b, mine).items(), key=lambda item: len(item[0])):
        rows[of] = own = dims[of[0]] if len(of) == 1 else Dim.new("_".join(a.name for a in of), rows=True)
        cut.totals[own.symbol] = total
        cut.add_rows(own, *(dims[a] for a in of))
        parts.counts[own.symbol] = functools.reduce(operator.mul, (lengths[a] for a in of))
    counts = _inner_counts(b.schema, dims, cut) if isinstance(b.schema, BatchSchema) else {}
    for t in fields.values():
        if t.target is not None:
            parts.starts[dims[t.target].symbol] = cumsum(lengths[t.target], axis=0) - lengths[t.target]
    # What each leaf points into, whether that may be null, and what it counts: the fields, the lengths, and the rest.
    known = [(dims.get(t.target), t.null is not None, counts.get(n)) for n, t in fields.items()]
    known += [(None, False, dims[a]) for a in axes] + [(cut.dim, False, None) for _ in axes]
    for (_, node), of, (target, null, count) in itertools.zip_longest(mine, _row_axes(b), known,
                                                                      fillvalue=(None, False, None)):
        t = node.type if of is None else resized(node.type, 0, rows[of] if of else cut.dim)
        if target is not None or count is not None:
            points = NONE if target is None else frozenset({(0, target)})
            parts.facts[len(parts.axes)] = Facts(cut.straight(t), points, null, count)
        parts.axes.append(None if of is None else 0)
        parts.types.append(t)


def _inner_counts(schema: BatchSchema, dims: Mapping[Axis, Dim], cut: Cut) -> dict[str, Dim]:
    """Return what the lengths of the batches within a batch count; enter the rows that they add up to."""
    inner = schema.inner.axes
    of = {a: Dim.new(a.name) for a in inner}  # the rows of an inner example
    for a in inner:
        example = dims[schema.fields[f"lengths {a}"].axes[0]]
        cut.add_rows(dims[a], example, of[a])
    for a, b in itertools.combinations_with_replacement(inner, 2):
        pairs = dims[schema.fields[f"blocks {a} {b}"].axes[0]]
        cut.add_rows(pairs, example, of[a], of[b])
        cut.add_rows(pairs, dims[a], of[b])
        cut.add_rows(pairs, dims[b], of[a])
    return {f"lengths {a}": of[a] for a in inner}


def _stacked(b: Batch, mine: Sequence[Any]) -> dict[str, Any]:
    """Return the leaves of a batch that have the examples along axis 0."""
    have = [n for n, v in b._fields.items() if v is not None]
    out = {}
    for name, leaf in zip(have, mine, strict=False):
        t = b.schema.fields[name]
        if not t.axes and not t.shared:
            out[name] = leaf
    k = len(have)
    for axis, leaf in zip(b.schema.axes, mine[k:], strict=False):
        out[f"lengths {axis}"] = leaf
    return out


def _one(b: Batch, mine: Sequence[tuple[Any, Node]], rows: Rows) -> tuple[Any, dict[Axis, Dim]]:
    """Return the example that stands for all of a batch; what is known of its rows goes into `rows`."""
    schema = b.schema
    have = [n for n, v in b._fields.items() if v is not None]
    k, n = len(have), len(schema.axes)
    dims = {a: Dim.new(a.name, rows=True) for a in schema.axes}
    symbols = {a: d.symbol for a, d in dims.items()}
    lengths, ids, pairs = mine[k:k + n], mine[k + n:k + 2 * n], mine[k + 2 * n:]
    for a, (_, of), (_, who) in zip(schema.axes, lengths, ids, strict=True):
        rows.lengths[symbols[a]], rows.owners[symbols[a]] = of, who
        rows.totals[(symbols[a],)] = who.shape[0]
    for (a, c), (_, witness) in zip(itertools.combinations_with_replacement(schema.axes, 2), pairs, strict=True):
        rows.totals[tuple(sorted((symbols[a], symbols[c]), key=lambda s: s.uid))] = witness.shape[0]
    slots: dict[str, Any] = dict.fromkeys(schema.fields)
    for name, (leaf, node) in zip(have, mine, strict=False):
        t = schema.fields[name]
        shape = tuple(dims[m] if isinstance(m, Axis) else m for m in t.shape)
        slots[name] = Slot(ArrayType(shape, node.dtype), leaf, node,
                           None if t.axes or t.shared else 0, t, symbols)
    for name, t in schema.fields.items():
        if t.counts:
            slots[name] = shown(dims[t.counts])
    _note_rows(b, mine)
    return schema.make(slots), dims


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
