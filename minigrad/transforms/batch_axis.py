"""The batch axis in a traced program: which values all examples share, have a row each, or are sums over them.

A node's role follows from the axes of its operands and its result: a result with the axis has a row per example, if
no row depends on another example; a result without it is a sum over the examples, or it mixes them. `microbatch` reads
from the roles what runs chunk by chunk, and how results of chunks are put together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum

import numpy as np

from ..axes import INDEXED, ORDERED, PARALLEL, PERMUTED, REDUCE, Axes, Axis, axis_rule
from ..dims import Dim, divide, symbols
from ..graph import ArrayType, Graph, Node, TupleType
from ..ops.index import counting_indices
from ..ops.results import numbers
from ..ops.spread import expand
from ..primitive import is_linear


class Role(Enum):
    """How a value depends on the examples of the batch."""

    SHARED = "shared"  # on none
    ROWS = "rows"  # row by row: it has the batch axis, and each row depends on its own example
    SUM = "sum"  # on all of them, as a sum over chunks does: sums of chunks add up to it
    WHOLE = "whole"  # on all of them in another way


SHARED, ROWS, SUM, WHOLE = Role
Roles = Role | tuple[Role, ...]  # of an array, or of each result of a node with several


class Mixes(Exception):
    """A node that mixes examples: the node, why it does, and the way out."""

    def __init__(self, node: Node, why: str, instead: str = "Compute it within the example"):
        super().__init__(why)
        self.node, self.why, self.instead = node, why, instead


def has_axis(node: Node, dim: Dim) -> bool:
    """Tell whether the node, or one of its results, has the batch axis."""
    return any(dim.symbol in symbols(t.shape) for t in _types(node))


def counts(node: Node, dim: Dim) -> bool:
    """Tell whether the node counts along the batch: in a chunk, the count would start anew."""
    while node.prim.name == "expand":
        (node,) = node.inputs
    return node.prim.name == "iota" and dim.symbol in symbols((node.params["size"],))


def is_size(node: Node, dim: Dim) -> bool:
    """Tell whether the node is the number of examples, as a value."""
    return node.prim.name == "size" and dim.symbol in symbols((node.params["size"],))


def roles(nodes: Iterable[Node], given: dict[Node, Roles], dim: Dim) -> dict[Node, Roles]:
    """Return the roles of `nodes`, in topological order, and of those in `given`.

    Raises
    ------
    Mixes
        At the first node that mixes examples.
    """
    out = dict(given)
    for node in nodes:
        if node not in out:
            out[node] = _role(node, [out.get(i, SHARED) for i in node.inputs], dim)
    return out


def _types(node: Node) -> tuple[ArrayType, ...]:
    return node.type.parts if isinstance(node.type, TupleType) else (node.type,)


def _role(node: Node, given: Sequence[Roles], dim: Dim) -> Roles:
    if node.prim.name == "proj":
        (whole,) = given
        return whole[node.params["index"]] if isinstance(whole, tuple) else whole
    mine = has_axis(node, dim)
    if not mine and all(r is SHARED for r in given):
        return SHARED  # the number of examples included: it is that of the whole batch
    rows = mine or ROWS in given
    held = _HELD.get(node.prim.name)
    if held is not None and rows:
        return held(node, given, dim)
    late = any(r in (SUM, WHOLE) for r in given)
    if node.prim.name == "barrier" and (not late or given[0] in (SUM, WHOLE)):
        return given[0]  # it waits for the other operand, and does not depend on it
    if rows and late:
        raise _statistic(node)
    if late:
        return SUM if _adds_up(node, given) else WHOLE
    return _by_axes(node, dim)


def _adds_up(node: Node, given: Sequence[Roles]) -> bool:
    """Tell whether the node is linear in sums over chunks, and depends on nothing else of the batch."""
    summed = [r is SUM for r in given]
    if node.prim.linear == "jointly":  # a sum and a constant do not add up, but for 0
        return all(s or _is_zero(i) for s, i in zip(summed, node.inputs, strict=True))
    return WHOLE not in given and is_linear(node, summed)


def _is_zero(node: Node) -> bool:
    while node.prim.name == "expand":
        (node,) = node.inputs
    value = node.params.get("value")
    return node.prim.name in ("full", "const") and not np.any(value)


# -- nodes without a graph of their own ------------------------------------------------------------------------


def axis_of(t: ArrayType, dim: Dim) -> int | None:
    """Return the one axis that counts the examples, or None if there is another number of them.

    Its length is `dim`, or a multiple of it: then it has several rows per example, next to each other.
    """
    places = [a for a, n in enumerate(t.shape) if dim.symbol in symbols((n,))]
    return places[0] if len(places) == 1 and per_example(t.shape[places[0]], dim) is not None else None


def per_example(n: int | Dim, dim: Dim) -> int | Dim | None:
    """Return how many rows an axis of length `n` has per example; None if that depends on how many there are."""
    rows = divide(n, dim)
    return None if rows is None or dim.symbol in symbols((rows,)) else rows


_MIXES = {ORDERED: "it works along the batch axis", PERMUTED: "it works along the batch axis",
          INDEXED: "it picks examples by an index",
          REDUCE: "it reduces the batch axis by something other than a sum or a mean"}


def _by_axes(node: Node, dim: Dim) -> Roles:
    """Return the role of the results by the node's axis rule."""
    aligned = counting_indices(node)
    if any(counts(i, dim) for i in node.inputs if i not in aligned) and node.prim is not expand:
        raise Mixes(node, "it counts the examples")
    axes = axis_rule(node)
    if axes is None:
        raise Mixes(node, "it is not known to keep examples apart")
    batch = {axis[0] for values, i in zip(axes.operands, node.inputs, strict=True)
             if (axis := _batch_axis(node, "an operand", values, i.type, dim))}
    found = [_batch_axis(node, "its result", values, t, dim)
             for values, t in zip(axes.results, _types(node), strict=True)]
    if len(batch) > 1:
        raise Mixes(node, "its operands have the batch axis at different places")
    if not batch:
        if node.inputs and any(axis and axis[0].kind is not PARALLEL for axis in found):
            raise Mixes(node, "its operand is not a row of the batch")
        # The same for all examples, or a counter: its users are checked.
        return _as_many(node, [ROWS if axis else SHARED for axis in found])
    (factor,) = batch
    if factor.kind is REDUCE and factor.by in ("add", "mean") and not any(found):
        return SUM if factor.by == "add" else WHOLE
    if factor.kind is not PARALLEL:
        raise Mixes(node, _MIXES[factor.kind])
    if any(axis is None or axis[0] is not factor for axis in found):
        raise Mixes(node, "it moves elements across the batch axis")
    return _as_many(node, [ROWS for _ in found])


def _batch_axis(node: Node, where: str, axes: Axes, t: ArrayType | TupleType, dim: Dim) -> Axis | None:
    """Return the axis that counts the examples, as factors; None where there is none."""
    if isinstance(t, TupleType) or dim.symbol not in symbols(t.shape):
        return None
    at = axis_of(t, dim)
    if at is None:
        raise Mixes(node, f"{where} has the batch axis twice, or merged with another")
    return axes[at]


def _as_many(node: Node, found: list[Role]) -> Roles:
    return tuple(found) if isinstance(node.type, TupleType) else found[0]


def _of_callback(node: Node, given: Sequence[Roles], dim: Dim) -> Role:
    """Return the role of the result of a Python function: it is called once per example, or with several."""
    if any(counts(i, dim) for i in node.inputs):
        raise Mixes(node, "it counts the examples")
    calls = [mapped for size, mapped in node.params["batches"] if size == dim]
    stated = any(dim.symbol in symbols(shape) for shape, _ in node.params["result"])
    if len(calls) != 1 or stated or calls[0] != tuple(has_axis(i, dim) for i in node.inputs):
        raise Mixes(node, "the function is called once for several examples")
    return ROWS


# -- nodes that hold graphs --------------------------------------------------------------------------------


def _inside(node: Node, graph: Graph, given: Sequence[Roles], dim: Dim) -> list[Role]:
    """Return the roles of a held graph's outputs from those of its inputs."""
    try:
        known = roles(graph.nodes, dict(zip(graph.inputs, given, strict=True)), dim)
    except Mixes as error:
        inner = error.node
        raise Mixes(node, f"in the {node.prim.name}, {inner.prim.name} at {inner.where}: {error.why}",
                    error.instead) from None
    for inner in graph.nodes:
        if is_size(inner, dim):
            raise Mixes(node, f"in the {node.prim.name}, {inner.prim.name} at {inner.where}: it is the number of "
                        "examples, which a chunk does not know", "Pass it in from outside")
    return [known[n] for n in graph.outputs]


def _only_sums(node: Node, out: Sequence[Role]) -> tuple[Role, ...]:
    if WHOLE in out:
        raise Mixes(node, f"in the {node.prim.name}, the batch axis is summed away, and what becomes of the sum is not "
                    "a sum")
    return tuple(out)


def _statistic(node: Node) -> Mixes:
    return Mixes(node, "it uses a value of the whole batch (a batch statistic), which is known only after the last "
                 "chunk", "Take the gradient outside, mg.grad(mg.microbatch(f, size))" if "vjp" in node.rules else
                 "Compute it within the example")


def _check_operands(node: Node, given: Sequence[Roles], dim: Dim) -> None:
    """Refuse operands that no held graph may have beside rows: counters of examples, and values of the whole batch.

    A sum over the chunks may be one, as far as the graph uses it linearly.
    """
    if any(counts(i, dim) for i in node.inputs):
        raise Mixes(node, "it counts the examples")
    if WHOLE in given:
        raise _statistic(node)


def _by_type(nodes: Sequence[Node], dim: Dim) -> list[Role]:
    return [ROWS if has_axis(n, dim) else SHARED for n in nodes]


def _of_graph(node: Node, given: Sequence[Roles], dim: Dim) -> tuple[Role, ...]:
    """Return the roles of the results of a `checkpoint` or a function with rules of its own."""
    _check_operands(node, given, dim)
    if SUM in given and node.prim.name == "custom":
        raise _statistic(node)  # how its rules use a sum is not followed
    out = _only_sums(node, _inside(node, node.params["graph"], given, dim))
    if isinstance(rule := node.params.get("vjp"), Graph):
        # A cotangent is a row where the value is, and for what the examples share it is a sum over them.
        back = _inside(node, rule, _by_type(rule.inputs, dim), dim)
        floats = [r for r, i in zip(given, node.inputs, strict=True) if i.type.floating]
        if any(b is not (ROWS if r is ROWS else SUM) and not _is_zero(o)
               for b, r, o in zip(back, floats, rule.outputs, strict=False)):
            raise Mixes(node, "its derivative rule mixes examples")
    if isinstance(rule := node.params.get("jvp"), Graph):
        forth = _inside(node, rule, _by_type(rule.inputs, dim), dim)
        floats = [r for r, o in zip(out, node.params["graph"].outputs, strict=True) if o.type.floating]
        if any(f is not r and not _is_zero(o) for f, r, o in zip(forth, floats, rule.outputs, strict=True)):
            raise Mixes(node, "its derivative rule mixes examples")
    return out


def _of_scan(node: Node, given: Sequence[Roles], dim: Dim) -> tuple[Role, ...]:
    """Return the roles of a scan's results. A carry that starts at zero may add up sums over the examples."""
    n_shared, n_carry = node.params["counts"]
    first = n_shared + n_carry
    if dim.symbol in symbols((node.params["length"],)):
        raise Mixes(node, "it goes along the batch axis")
    _check_operands(node, given, dim)
    start = list(given)
    while True:
        out = _inside(node, node.params["body"], start, dim)
        carry = list(zip(range(n_shared, first), out[:n_carry], strict=True))
        widened = [i for i, o in carry if start[i] is SHARED and o in (SUM, WHOLE) and _is_zero(node.inputs[i])]
        if not widened:
            break
        for i in widened:
            start[i] = SUM
    if any(o is not start[i] for i, o in carry):
        out[0] = WHOLE
    return _only_sums(node, out)


def _of_chunked(node: Node, given: Sequence[Roles], dim: Dim) -> tuple[Role, ...]:
    """Return the roles of the results of passes over another axis."""
    if dim.symbol in symbols((node.params["total"],)):
        raise Mixes(node, "it is computed in passes already", "Call microbatch once")
    _check_operands(node, given, dim)
    return _only_sums(node, _inside(node, node.params["graph"], given, dim))


def _of_while(node: Node, given: Sequence[Roles], dim: Dim) -> tuple[Role, ...]:
    """Return the roles of a loop's results. A loop until no example goes on must keep those that are done."""
    test, body, count = (node.params[k] for k in ("test", "body", "count"))
    _check_operands(node, given, dim)
    out = _inside(node, body, given, dim)
    if out != list(given[count:]) or SUM in given:
        raise Mixes(node, "in the while, the batch axis is summed away")
    (end,) = test.outputs
    while end.prim.name == "any" and not has_axis(end, dim):
        (end,) = end.inputs
    (ends,) = _inside(node, test.replace(outputs=(end,)), given, dim)
    if ends is not SHARED and (ends is not ROWS or SHARED in out or not _keeps(test, end, body, count)):
        raise Mixes(node, "its test mixes examples")
    return tuple(out)


def _keeps(test: Graph, running: Node, body: Graph, count: int) -> bool:
    """Tell whether the body keeps the state of each example that is not `running` (as `vmap` makes it)."""
    masks = []
    for new, old in zip(body.outputs, body.inputs[count:], strict=True):
        layers = []
        while new.prim.name == "where" and new.inputs[2] is old:
            mask, new, _ = new.inputs
            layers.append(mask.inputs[0] if mask.prim.name == "expand" else mask)
        masks.append(layers)
    ids: dict[object, int] = {}
    (want,) = numbers(test.replace(outputs=(running,)), ids)
    return all(want in numbers(body.replace(outputs=tuple(layers), out_names=()), ids) for layers in masks)


def _of_switch(node: Node, given: Sequence[Roles], dim: Dim) -> tuple[Role, ...]:
    """Return the roles of a choice: each example goes its own way, or all of them go one way."""
    _check_operands(node, given, dim)
    if given[0] is SUM:
        raise _statistic(node)
    if given[0] is not ROWS:
        graphs = node.params["graphs"]
        ways = zip(*(_inside(node, g, given[1:], dim) for g in graphs), strict=True)
        return _only_sums(node, [_either(roles, [g.outputs[k] for g in graphs]) for k, roles in enumerate(ways)])
    if SUM in given:
        raise _statistic(node)
    choices = axis_of(node.inputs[0].type, dim)
    if any(r is ROWS and (axis_of(i.type, dim) != choices or not rows)
           for i, r, rows in zip(node.inputs[1:], given[1:], node.params["rows"], strict=True)):
        raise Mixes(node, "an operand has the batch axis beside that of the choices")
    return tuple(SUM if s else ROWS for s in node.params["sums"])


def _either(ways: Sequence[Role], outputs: Sequence[Node]) -> Role:
    """Return the role of the result of any one of several branches."""
    if set(ways) == {SHARED, SUM}:  # each chunk adds what a branch returns for all examples
        return SUM if all(_is_zero(o) for o, w in zip(outputs, ways, strict=True) if w is SHARED) else WHOLE
    return ways[0] if len(set(ways)) == 1 else WHOLE


_Held = Callable[[Node, Sequence[Roles], Dim], tuple[Role, ...]]
_HELD: dict[str, _Held] = {"checkpoint": _of_graph, "custom": _of_graph, "scan": _of_scan, "while": _of_while,
                           "chunked": _of_chunked, "switch": _of_switch, "callback": _of_callback}
