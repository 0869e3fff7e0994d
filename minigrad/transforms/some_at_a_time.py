"""`microbatch` over batches of examples of different size: some examples at a time, in a loop over arrays.

What a function returns for a batch is put together from what it returns for parts of it. How, is read off its graph:
a sum over rows adds up; a mean, or whatever has one factor 1/B in it, is weighted by the part's share of B; what has a
row per example is laid end to end. A factor 1/B is followed through the graph as a unit would be; where a value of the
batch as a whole is used in another way than linearly, or flows back into the examples, the node is named. Integers that
add up numbers of rows and other numbers are positions along packed axes: nothing but an index may be made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree

from .. import walk
from ..dims import Dim, Symbol, symbols
from ..errors import BatchError, at_user_line
from ..graph import Graph, Node, TupleType
from ..ops.accumulators import Chains, accumulator
from ..ops.checks import checks_of
from ..ops.results import SEPARABLE, result, with_results
from ..ragged.batch import Batch
from .graph_forms import prefix
from .ragged import is_batch
from .symbolic_trace import trace_symbolic
from .trace import function_name, tracing

Unit = dict[Symbol | str, int]  # how often 1/size is a factor, per size of the batch
_POSITION: Unit = {"position": 1}  # of a number that depends on sizes of the batch, but is no multiple of them
_KEEP = frozenset(("reshape", "transpose", "expand", "sum", "flip", "slice", "pad", "concatenate", "cumsum",
                   "cummax", "cummin", "cumfmax", "cumfmin", "neg", "abs", "cast", "stop_gradient", "barrier", "max",
                   "min", "maximum", "minimum", "add", "sub"))
_INDEXED = frozenset(("gather", "scatter_add", "scatter_max", "scatter_min", "gather_sum", "in_range",
                      "checked_index", "segment_cumsum"))  # their first operand has values, the others are indices
_LINEAR = frozenset(("add", "sub", "neg", "mul", "div", "reshape", "transpose", "expand", "sum", "slice", "pad",
                     "concatenate", "cast", "einsum", "flip", "barrier", "stop_gradient"))
_SUMS = frozenset(("sum", "mean", "einsum", "scatter_add", "block_einsum"))
_COMPARE = frozenset(("eq", "ne", "lt", "le", "gt", "ge", "sign", "argmax", "argmin", "argsort", "segment_argsort"))


@dataclass
class Value:
    """What is known of a node.

    Attributes
    ----------
    where : str
        ``shared`` by all examples, ``inside`` (with a row per example, or several), or ``after`` a sum over them.
    unit : Unit or None
        None where it is zero, which has every unit.
    affine : bool
        Whether something that is no sum has been added to it.
    """

    where: str
    unit: Unit | None
    affine: bool = False


class Reading:
    """How the results of a function of a batch are put together from those of parts of it."""

    def __init__(self, name: str, graph: Graph):
        self.name = name
        self.sizes = set(graph.symbols)
        self.known: dict[Node, Value] = {}
        graph = self._apart(graph)
        for node in graph.nodes:
            self.known[node] = self._value(node)
        self.outputs = [self.known[n] for n in graph.outputs]
        for n, v in zip(graph.outputs, self.outputs, strict=True):
            whole = v.where == "shared" and not v.unit
            if not whole and v.where != "inside" and not self._adds_up(v):
                raise self._refuse(n, "what it returns is neither a sum nor a mean over the batch")
            if v.where == "inside" and v.unit:
                raise self._refuse(n, "each example's part in it depends on how many there are")

    def _apart(self, graph: Graph) -> Graph:
        """Return the graph with a loop of its own for what loops compute beside rows and all examples share."""
        while True:
            alone = {}
            for n in graph.nodes:
                if n.prim.name == "proj" and n.inputs[0].prim.name in SEPARABLE and not self._inside(n):
                    source, index = n.inputs[0], n.params["index"]
                    smaller, places = with_results(source, [index], checks=False)
                    if len(smaller.inputs) < len(source.inputs):
                        alone[n] = result(smaller, places[index], n)
            if not alone:
                return graph
            graph = graph.replace(outputs=tuple(walk.substitute(graph.outputs, alone)))

    @staticmethod
    def _adds_up(v: Value) -> bool:
        if v.where != "after":
            return False
        return not v.affine if not v.unit else v.unit != _POSITION and list(v.unit.values()) == [1]

    def _refuse(self, node: Node, why: str) -> BatchError:
        operands = ", ".join(str(i.type) for i in node.inputs)
        return BatchError(f"{node.where}: microbatch({self.name}): {node.prim.name}({operands}) -> {node.type}: {why}. "
                          "Give the whole batch at once, or compute it within the example")

    def _inside(self, node: Node) -> bool:
        parts = node.type.parts if isinstance(node.type, TupleType) else (node.type,)
        return any(not symbols(t.shape).isdisjoint(self.sizes) for t in parts)

    def _value(self, node: Node) -> Value:
        inputs = [self.known[i] for i in (node.inputs[:1] if node.prim.name == "barrier" else node.inputs)]
        after = [v for v in inputs if v.where == "after"]
        name, inside = node.prim.name, self._inside(node)
        if inside and after:
            raise self._refuse(node, "it uses a value of the whole batch (a batch statistic), which is known only "
                               "after the last example")
        if inside and not node.rules and name not in ("input", "full", "expand", "sum", "mean", "einsum", "reshape",
                                                      "transpose") and node.prim.kind != "elementwise":
            raise self._refuse(node, "it is not known to keep examples apart")
        unit = self._unit(node, inputs)
        if inside:
            return Value("inside", unit)
        if after:
            return self._follow(node, inputs, unit)
        if any(v.where == "inside" for v in inputs):
            if name not in _SUMS:
                raise self._refuse(node, "it brings the examples together by something other than a sum or a mean")
            return Value("after", unit)
        return Value("shared", unit)

    def _follow(self, node: Node, inputs: Sequence[Value], unit: Unit | None) -> Value:
        """Look at what is done with sums."""
        name = node.prim.name
        of_batch = [v for v in inputs if v.where == "after"]
        linear = name in _LINEAR and (name not in ("mul", "einsum") or len(of_batch) == 1) and (
            name != "div" or inputs[1].where != "after")
        if name == "square" or not linear or any(v.where == "inside" for v in inputs):
            raise self._refuse(node, "a sum over the batch is used in another way than linearly")
        added = name in ("add", "sub", "concatenate") and any(v.where == "shared" and v.unit is not None
                                                              for v in inputs)
        return Value("after", unit, added or any(v.affine for v in of_batch))

    def _unit(self, node: Node, inputs: Sequence[Value]) -> Unit | None:
        name, units = node.prim.name, [v.unit for v in inputs]
        if name == "full":
            return None if node.params["value"] == 0 else {}
        if name == "size":
            dims = symbols((node.params["size"],)) & self.sizes
            if not dims:
                return {}
            if node.params["size"].symbol is None:
                if node.dtype.kind in "iu":
                    return _POSITION
                raise self._refuse(node, "it computes with a sum of sizes of the batch")
            return {node.params["size"].symbol: -1}
        if name == "mul" or name in ("einsum", "block_einsum"):
            return None if None in units else _product(units)
        if name == "square":
            return None if units[0] is None else _product([units[0], units[0]])
        if name == "div":
            return None if units[0] is None else _product([units[0], _inverse(units[1] or {})])
        if name == "mean":
            unit = units[0]
            for a in node.params["axes"]:
                n = node.inputs[0].shape[a]
                if isinstance(n, Dim) and not n.symbols.isdisjoint(self.sizes):
                    if n.symbol is None:
                        raise self._refuse(node, "it averages over an axis of several sizes")
                    unit = None if unit is None else _product([unit, {n.symbol: 1}])
            return unit
        if name == "where" and units[0] != _POSITION:
            return self._same(node, units[1:], inputs)
        if name in _COMPARE and _POSITION not in units:
            self._same(node, units[:1] if name == "segment_argsort" else units, inputs)
            return {}
        if name in _INDEXED:
            # An example's own index becomes a position only after it is checked to lie within the example.
            own = [i for i, size in checks_of([node]) if symbols((size,)).isdisjoint(self.sizes)]
            if any(self.known[i].unit for i in (node.inputs[:1] if name == "checked_index" else own)):
                raise self._refuse(node, "its index depends on the number of examples")
            return units[0]
        if name in _KEEP:
            return self._same(node, units, inputs)
        if any(units):
            return self._position(node, inputs, "it is not linear in the number of examples")
        return {}

    def _position(self, node: Node, inputs: Sequence[Value], otherwise: str) -> Unit:
        """Return the unit of an integer that is a position along a packed axis; refuse any other value."""
        if isinstance(node.type, TupleType) or node.dtype.kind not in "iu" or any(v.where == "after" for v in inputs):
            raise self._refuse(node, otherwise)
        return _POSITION

    def _same(self, node: Node, units: Sequence[Unit | None], inputs: Sequence[Value]) -> Unit | None:
        """Return the unit that all operands of a sum have."""
        there = [u for u in units if u is not None]
        if not there:
            return None if units else {}
        if any(u != there[0] for u in there):
            batch = [v.unit for v in inputs if v.where == "after" and v.unit is not None]
            constants = [v.unit for v in inputs if v.where == "shared" and v.unit is not None]
            if batch and all(u == batch[0] for u in batch) and not any(constants):
                return batch[0]  # a constant beside a mean: looked at where the sums are followed
            return self._position(node, inputs, "it adds up a sum and a mean over the batch")
        return there[0]


def _inverse(unit: Unit) -> Unit:
    return unit if unit == _POSITION else {s: -n for s, n in unit.items()}


def _product(units: Sequence[Unit]) -> Unit:
    if _POSITION in units:
        return _POSITION
    total: Unit = {}
    for unit in units:
        for s, n in unit.items():
            total[s] = total.get(s, 0) + n
    return {s: n for s, n in total.items() if n}


def some_at_a_time(f: Callable[..., Any], size: int, in_axes: Any, readings: dict[Any, Any], args: tuple,
                   kwargs: dict) -> Any:
    """Return ``f(*args, **kwargs)``, computed from at most `size` examples at a time."""
    name = function_name(f)
    if tracing():
        raise BatchError(at_user_line(
            f"microbatch({name}): examples of different size are taken some at a time from arrays, not within a traced "
            "function: put grad and compile inside, mg.microbatch(mg.compile(mg.grad(loss)), size)"))
    parts, tree = optree.tree_flatten((args, kwargs), is_leaf=is_batch)
    axes = prefix(in_axes, optree.tree_structure(args, is_leaf=is_batch), f"in_axes of microbatch({name})")
    axes += [0] * (len(parts) - len(axes))
    if any(is_batch(p) and a not in (0, None) for p, a in zip(parts, axes, strict=True)):
        raise BatchError(at_user_line(f"microbatch({name}): a batch is cut between its examples: its entry in in_axes "
                                      "is 0 or None"))
    total = next(len(p) for p, a in zip(parts, axes, strict=True) if is_batch(p) and a == 0)

    def cut(low: int, high: int) -> tuple:
        return optree.tree_unflatten(tree, [
            p if a is None else p[low:high] if is_batch(p) else
            np.asarray(p)[(slice(None),) * (a % np.ndim(p)) + (slice(low, high),)]
            for p, a in zip(parts, axes, strict=True)])

    leaves, structure = optree.tree_flatten((args, kwargs))
    key = (structure, *((np.asarray(x).dtype, np.ndim(x)) for x in leaves))
    if key not in readings:
        graph, _ = trace_symbolic(f, args, kwargs)
        readings[key] = graph, Reading(name, graph)
    graph, reading = readings[key]
    whole = _sizes(graph, leaves)
    results, shares = [], []
    for low in range(0, total, size):
        part_args, part_kwargs = cut(low, min(low + size, total))
        share = _sizes(graph, optree.tree_leaves((part_args, part_kwargs)))
        if low + size < total and all(v.unit and not share[next(iter(v.unit))] for v in reading.outputs):
            continue  # it has no rows to average over
        results.append(f(*part_args, **part_kwargs))
        shares.append(share)
    return _together(reading, results, shares, whole)


def _sizes(graph: Graph, leaves: Sequence[Any]) -> dict[Symbol, int]:
    return {s: m for n, x in zip(graph.inputs, leaves, strict=True) for d, m in zip(n.shape, np.shape(x), strict=True)
            if isinstance(d, Dim) and (s := d.symbol) is not None}


def _together(reading: Reading, results: Sequence[Any], shares: Sequence[dict[Symbol, int]],
              whole: dict[Symbol, int]) -> Any:
    columns, tree = [], None
    for r in results:
        flat, tree = optree.tree_flatten(r, is_leaf=is_batch)
        columns.append(flat)
    out, at = [], 0
    for column in zip(*columns, strict=True):
        v = reading.outputs[at]
        at += len(optree.tree_leaves(column[0]))
        if is_batch(column[0]):
            out.append(_joined(column))
        elif v.where == "inside":
            out.append(np.concatenate(column, axis=0))
        elif v.where == "shared":
            out.append(column[0])
        else:
            (symbol,) = v.unit or (None,)
            weights = [1.0 if symbol is None else share[symbol] / whole[symbol] if whole[symbol] else 0.0
                       for share in shares]
            out.append(_weighted([np.asarray(x) for x in column], weights))
    return optree.tree_unflatten(tree, out)


def _weighted(xs: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Return the weighted sum of the parts' results; NaN, where no part has a weight."""
    dtype, total = xs[0].dtype, Chains(np.add)
    for x, w in zip(xs, weights, strict=True):
        if w:
            total.take(x.astype(accumulator(dtype)) * accumulator(dtype).type(w))
    found = total.total()
    return xs[0] * np.nan if found is None else found.astype(dtype)


def _joined(batches: Sequence[Batch]) -> Batch:
    """Return batches of arrays as one."""
    first = batches[0]
    fields = {n: np.concatenate([b._fields[n] for b in batches]) for n in first._fields}
    lengths = tuple(np.concatenate(n) for n in zip(*(b._lengths for b in batches), strict=True))
    return Batch(first.schema, fields, lengths)

