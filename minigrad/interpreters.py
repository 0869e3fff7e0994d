"""The interpreters of a graph: evaluate, substitute, rewrite, differentiate (both ways), batch.

Each is one loop in topological order over a dict from old nodes to new values, and applies the rules of primitives. The
names of primitives occur where cotangents are added (``add``), masked (``where``), and taken out of tuples (``proj``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .axes import REDUCE, axis_rule, rearranges
from .errors import MinigradError, line_at, of_user
from .graph import CALLS, PRIMITIVES, Graph, Node, Params, TupleType, constant_of, has_effect, reachable, zeros_like
from .primitive import ArrayNamespace, broadcast_axes, broadcast_leading, rule, unbroadcast
from .symbolic import Dim, Symbol, size_of
from .tracing import made_by, thread


class _Settings(threading.local):
    check: Callable[[Node, object, Sequence[object]], None] | None = None  # sees each value, and those of its operands
    runs: list[tuple[Graph, Sequence[np.ndarray], Mapping[Symbol, int]]] | None = None  # those of `evaluate`


settings = _Settings()


def evaluate(graph: Graph, arrays: Sequence[np.ndarray], sizes: Mapping[Symbol, int] | None = None,
             xp: ArrayNamespace = np) -> list[np.ndarray]:
    """Return the values of a graph, computed node by node: the reference of every backend.

    Parameters
    ----------
    graph : Graph
    arrays : sequence of array
        One per input.
    sizes : mapping of Symbol to int, optional
        Numbers for the symbolic sizes.
    xp : namespace
        Any array-API namespace that the arrays belong to.
    """
    values: dict[Node, Any] = dict(zip(graph.inputs, arrays, strict=True))
    nodes = CALLS["in_order"](graph.nodes)
    uses = dict.fromkeys(nodes, 0)
    for n in nodes:
        for i in n.inputs:
            uses[i] += 1
    for n in graph.outputs:
        uses[n] += 1
    check = settings.check
    if settings.runs is not None:
        settings.runs.append((graph, arrays, sizes or {}))
    for node in nodes:
        if node not in values:
            params = concrete(node.params, sizes) if sizes else node.params
            try:
                with np.errstate(all="ignore"):
                    out = node.prim.eval(xp, *(values[i] for i in node.inputs), **params)
            except (IndexError, ValueError) as error:  # errors that depend on values: an index, a singular matrix
                _locate(error, node, [values[i] for i in node.inputs], graph, arrays, sizes, xp)
                raise
            if check is not None:
                check(node, out, [values[i] for i in node.inputs])
            values[node] = out
            if node.prim.defines:
                sizes = {**(sizes or {}), node.params[node.prim.defines].symbol: int(out)}
        for i in node.inputs:
            uses[i] -= 1
            if not uses[i]:
                del values[i]
    return [values[n] for n in graph.outputs]


def _locate(error: Exception, node: Node, *run: object) -> None:
    """Add the user's line, the operation and the types of a node to an error, and the example to one of a batch."""
    located = getattr(error, "__notes__", None) or isinstance(error, MinigradError)
    if node.loc and not located and len(error.args) == 1 and not of_user(error):
        code = line_at(node.loc)
        text = CALLS["error_words"](error, node, *run) or error
        error.args = (f"{node.where}: {f'`{code}`: ' if code else ''}{text}",)
    error.add_note(f"{node.where}: {node.prim.name}({', '.join(str(i.type) for i in node.inputs)})")


def concrete(params: Params, sizes: Mapping[Symbol, int | Dim]) -> dict[str, Any]:
    """Return static parameters with every symbolic size replaced by its number."""

    def one(v: object) -> object:
        if isinstance(v, Dim):
            return v.value(sizes) if v.symbols <= sizes.keys() else v.replace(sizes)
        if isinstance(v, Graph):
            return specialise(v, sizes)
        return tuple(map(one, v)) if isinstance(v, tuple) else v

    return {k: one(v) for k, v in params.items()}


def specialise(graph: Graph, sizes: Mapping[Symbol, int | Dim]) -> Graph:
    """Return the graph with the symbols in `sizes` replaced by their numbers."""
    new: dict[Node, Node] = {}
    for node in graph.nodes:
        inputs = tuple(new[i] for i in node.inputs)
        new[node] = retyped(node, inputs, concrete(node.params, sizes))
    return graph.replace(inputs=tuple(new[n] for n in graph.inputs), outputs=tuple(new[n] for n in graph.outputs))


def substitute(outputs: Sequence[Node], new: Mapping[Node, Node]) -> list[Node]:
    """Return `outputs` with the nodes in `new` replaced; independent nodes stay the same objects."""
    if not new:
        return list(outputs)
    values = dict(new)
    retyped = any(a.type != b.type for a, b in new.items())
    for node in reachable(outputs, min(n.serial for n in new), new):
        inputs = tuple([values.get(i, i) for i in node.inputs])
        if inputs == node.inputs:
            continue
        same = not retyped or all(a.type == b.type for a, b in zip(inputs, node.inputs, strict=True))
        kind = node.type if same else node.prim.type(*(i.type for i in inputs), **node.params)
        values[node] = Node(node.prim, inputs, node.params, kind, like=node)
    return [values.get(n, n) for n in outputs]


def rebuilt(node: Node, inputs: tuple[Node, ...], params: dict[str, object] | None = None) -> Node:
    """Return the node on other operands of the same types; the node itself where nothing changes."""
    if inputs == node.inputs and params is None:
        return node
    return Node(node.prim, inputs, node.params if params is None else params, node.type, like=node)


def retyped(node: Node, inputs: tuple[Node, ...], params: dict[str, object]) -> Node:
    """Return the node on other operands, with other static parameters, and the type that follows."""
    return Node(node.prim, inputs, params, node.prim.type(*(i.type for i in inputs), **params), like=node)


def rewrite(graph: Graph, rule: Callable[[Node, tuple[Any, ...]], Any]) -> Graph:
    """Rewrite a graph node by node, in order.

    Parameters
    ----------
    graph : Graph
    rule : callable
        ``rule(node, inputs)`` returns the new value of a node, given those of its operands; None: the same operation
        on these. A value that only rules read need not be a node.

    Returns
    -------
    Graph
        The graph itself, if its outputs stay the same nodes.
    """
    values: dict[Node, Any] = {}
    for node in graph.nodes:
        inputs = tuple([values[i] for i in node.inputs])
        new = rule(node, inputs)
        values[node] = rebuilt(node, inputs) if new is None else new
    outputs = tuple(values[n] for n in graph.outputs)
    return graph if outputs == graph.outputs else graph.replace(outputs=outputs)


def dependent(outputs: Sequence[Node], on: Sequence[Node], differentiable: bool = False) -> list[Node]:
    """Return the nodes between `on` (included) and `outputs`, in order; only those that a derivative passes, or all."""
    if not on:
        return []
    known = set(on)
    order = []
    for node in reachable(outputs, min(n.serial for n in on)):
        if node in known or (any(i in known for i in node.inputs) and not (
                differentiable and (node.prim.constant or not node.type.floating))):
            known.add(node)
            order.append(node)
    return order


def wanted(node: Node) -> bool:
    """Return whether the running vjp needs the cotangent of `node`."""
    active = thread.trace.needed
    return active is None or node in active


def backward(outputs: Sequence[Node], cotangents: Sequence[Node], wrt: Sequence[Node],
             arriving: dict[Node, Node] | None = None) -> list[Node]:
    """Return the cotangents of `wrt`, given those of `outputs` (reverse mode).

    One pass over the nodes between, in reverse order, with one dict from node to cotangent. A node of `wrt` without a
    cotangent gets zeros. `arriving` records the cotangent of each array in between.
    """
    order = [n for n in dependent(outputs, wrt, differentiable=True) if n.type.floating]
    active, targets = set(order), set(wrt)
    flowing: dict[Node, Any] = {}

    def flow(node: Node, g: Node | Sequence[Node | None] | None) -> None:
        if g is None or node not in active:
            return
        if not isinstance(g, Node):
            have = flowing.setdefault(node, [None] * len(g))
            for i, part in enumerate(g):
                if part is not None:
                    have[i] = part if have[i] is None else _both(have[i], part)
        else:
            flowing[node] = _both(flowing[node], g) if node in flowing else g

    with made_by("vjp", needed=active) as working_on:
        for node, cotangent in zip(outputs, cotangents, strict=True):
            flow(node, cotangent)
        for node in reversed(order):
            if node in targets or node not in flowing:
                continue
            g = flowing.pop(node)
            if isinstance(node.type, TupleType):
                parts = (PRIMITIVES["proj"](node, index=i) for i in range(len(g)))
                g = tuple(zeros_like(p) if part is None and p.type.floating else part
                          for part, p in zip(g, parts, strict=True))
            elif arriving is not None:
                arriving[node] = g
            working_on(node)
            for i, gi in zip(node.inputs, _pull(node, g), strict=True):
                flow(i, gi)
        return [flowing[n] if n in flowing else zeros_like(n) for n in wrt]


# The cotangents of a `where` are zero in the other branch. Rules multiply them by slopes, which may be infinite there.
# So the mask is applied after the product: it goes with the cotangent through operations that keep elements apart.


def _pull(node: Node, g: Any) -> Sequence[Node | None]:
    """Return the cotangents of a node's operands; those of a masked cotangent are masked."""
    vjp = rule(node, "vjp")
    mask, inner = _masked(g)
    if mask is not None:
        mask = _mask_before(node, mask)
    if mask is None:
        return vjp(g, node, *node.inputs, **node.params)
    return [None if r is None else PRIMITIVES["where"](mask, r, zeros_like(r))
            for r in vjp(inner, node, *node.inputs, **node.params)]


def _masked(g: Any) -> tuple[Node | None, Any]:
    """Return the mask of a cotangent and the cotangent without it."""
    mask = None
    while isinstance(g, Node) and g.prim is PRIMITIVES["where"] and constant_of(g.inputs[2]) == 0:
        mask = g.inputs[0] if mask is None else PRIMITIVES["logical_and"](mask, g.inputs[0])
        g = g.inputs[1]
    return mask, g


def _mask_before(node: Node, mask: Node) -> Node | None:
    """Return the mask of the operand that a mask of the node implies, or None where elements mix."""
    if node.prim.kind == "elementwise":
        return mask
    rule_of_axes = axis_rule(node)
    if rule_of_axes is None or len(node.inputs) != 1 or isinstance(node.type, TupleType):
        return None
    (x,), (before,), (after,) = node.inputs, rule_of_axes.operands, rule_of_axes.results
    reduced = tuple(a for a, axis in enumerate(before) if axis not in after)
    new = {a for a, axis in enumerate(after) if axis not in before}
    if rearranges(rule_of_axes) and size_of(x.shape) == size_of(node.shape):  # a mask goes back as a cotangent does
        return rule(node, "vjp")(mask, node, x, **node.params)[0]
    if reduced and not new and all(f.kind is REDUCE and f.by in ("add", "mean") for a in reduced for f in before[a]):
        return PRIMITIVES["expand"](mask, shape=x.shape, axes=reduced)
    if new and not reduced and new <= {*broadcast_axes(mask)}:
        return unbroadcast(mask, new)
    return None


def _both(a: Node, b: Node) -> Node:
    """Return the sum of two cotangents, masked by the union of their masks where both have one."""
    (mask, x), (other, y) = _masked(a), _masked(b)
    if mask is None or other is None:
        return PRIMITIVES["add"](a, b)
    if mask is other:
        return PRIMITIVES["where"](mask, PRIMITIVES["add"](x, y), zeros_like(x))
    return PRIMITIVES["where"](PRIMITIVES["logical_or"](mask, other), PRIMITIVES["add"](a, b), zeros_like(x))


def forward(outputs: Sequence[Node], tangents: Mapping[Node, Node]) -> list[Node | None]:
    """Return the tangents of `outputs`, given those of inputs (forward mode); None is a zero tangent."""
    moving: dict[Node, Node] = dict(tangents)
    with made_by("jvp") as working_on:
        for node in dependent(outputs, list(tangents)):
            if node in moving or not node.type.floating:
                continue
            ts = [moving.get(i) for i in node.inputs]
            if any(t is not None for t in ts):
                working_on(node)
                moving[node] = rule(node, "jvp")(ts, node, *node.inputs, **node.params)
    return [moving.get(n) for n in outputs]


def batch(outputs: Sequence[Node], shared: Mapping[Node, Node], mapped: Mapping[Node, Node],
          size: int | Dim, closed: bool = False) -> list[tuple[Node, bool]]:
    """Batch the program between inputs and `outputs`.

    Parameters
    ----------
    outputs : sequence of Node
        Those of the program for one example.
    shared, mapped : mapping of Node to Node
        The new node of each input: without a batch axis, or with the batch axis in front.
    size : int or Dim
    closed : bool
        Whether the program has no other inputs, so that all its effects are its own, not only those made after these.

    Returns
    -------
    list of (Node, bool)
        The batched outputs, and whether each has the batch axis. Nodes without mapped inputs stay, and run once.
    """
    batched: dict[Node, Node] = {**shared, **mapped}
    has_axis = set(mapped)
    since = -1 if closed else min((n.serial for n in batched), default=-1)
    batch_nodes(reachable(outputs, since, batched), batched, has_axis, size)
    return [(batched.get(n, n), n in has_axis) for n in outputs]


def batch_nodes(nodes: Iterable[Node], batched: dict[Node, Node], mapped: set[Node], size: int | Dim,
                override: Callable[[Node, tuple[Node, ...]], Node | None] | None = None) -> None:
    """Batch nodes, in topological order, but for those in `batched`; an effect runs for each of the `size` examples.

    Their batches enter `batched`, and the nodes that differ between examples `mapped`. ``override(node, inputs)``
    returns the batch of a node whose batch rule does not apply, from those of its operands; otherwise None.
    """
    with made_by("vmap") as working_on:
        for node in nodes:
            if node in batched:
                continue
            working_on(node)
            inputs = tuple([batched.get(i, i) for i in node.inputs])
            new = None if override is None else override(node, inputs)
            if new is None and (any(flags := [i in mapped for i in node.inputs]) or has_effect(node)):
                new = rule(node, "batch")(size, flags, *inputs, **node.params)
            if new is not None:
                batched[node] = new
                mapped.add(node)
            elif inputs != node.inputs:
                batched[node] = rebuilt(node, inputs)


def broadcast_unmapped(node: Node, has_axis: bool, size: int | Dim) -> Node:
    """Return a batched output with its batch axis, broadcast where it depends on no mapped input."""
    if has_axis:
        return node
    with made_by("vmap") as working_on:
        working_on(node)
        return broadcast_leading(node, size)

