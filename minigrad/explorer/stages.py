"""The stages of a program from one example to optimised code, and the correspondence of their nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .. import interpreters, passes
from ..errors import Unsupported
from ..graph import Graph, InAxes, Node, constant_of, full

TANGENT = "tangent"
EACH = "The gradient of every example, a row each; the mean over them is the gradient."


@dataclass(eq=False)
class GraphStage:
    """One graph on the way from an example to a program.

    Attributes
    ----------
    title, note : str
        The name of the stage, and one sentence about it.
    graph : Graph
    before : GraphStage or None
        The stage that this one is made from.
    keys : dict of Node to int
        The identity of a node through all stages: equal keys mean the same value of the user's program.
    cotangents : dict of Node to Node
        The cotangent that arrives at each node of the forward computation.
    copies : int
        The number of examples that the graph spells out one by one; 0 otherwise.
    """

    title: str
    note: str
    graph: Graph
    before: GraphStage | None = None
    keys: dict[Node, int] = field(default_factory=dict)
    cotangents: dict[Node, Node] = field(default_factory=dict)
    copies: int = 0

    def copy_of(self) -> dict[Node, int]:
        """Return the copy that each node belongs to, in a graph that spells out its examples."""
        copies: dict[Node, set[int]] = {}
        for node in self.graph.nodes if self.copies else ():
            if "start" in node.params and node.rules[:1] == ("unroll",) and node.inputs[0] in self.graph.inputs:
                copies[node] = {max(node.params["start"])}  # the first copy begins at 0 along all axes
            else:
                copies[node] = set().union(*(copies[i] for i in node.inputs))
        return {node: min(some) for node, some in copies.items() if len(some) == 1}


def of_loss(one: Graph, in_axes: InAxes, copies: int) -> list[GraphStage]:
    """Return the stages of the mean of a loss over a batch: example, copies, batch, mean, gradient, passes."""
    example = GraphStage("one example", "The loss of one example, as traced.", one)
    unrolled = GraphStage(
        "copies",
        f"The literal mini-batch of {copies} examples: one copy of the graph for each, and a mean.",
        one.unroll(copies, in_axes=in_axes),
        example,
        copies=copies,
    )
    batch = GraphStage(
        "batch",
        "The same graph with a batch axis: nodes that depend on an example carry it, others are shared.",
        one.vmap(in_axes=in_axes),
        example,
    )
    mean = GraphStage("mean", "The mean of the losses over the batch axis: one node more.", batch.graph.mean(), batch)
    stages = of_function(mean)
    if len(stages) > 1 and stages[1].cotangents:
        each = GraphStage(
            "each gradient",
            EACH,
            one.grad(0).vmap(in_axes=in_axes),
            batch,
        )
        tangent = GraphStage(
            TANGENT,
            "The derivative of the mean along ones: each node has a tangent, in the order of the computation.",
            mean.graph.jvp(0),
            mean,
        )
        stages[1:1] = [each, tangent]
    return [example, unrolled, batch, *stages]


def of_function(stage: GraphStage) -> list[GraphStage]:
    """Return a stage, its gradient if it has one, and the stages of the passes."""
    stages = [stage]
    graph = stage.graph
    wrt = first_argument(graph)
    scalar = len(graph.outputs) == 1 and graph.outputs[0].type.floating and not graph.outputs[0].ndim
    if scalar and wrt and all(n.type.floating for n in wrt):
        try:
            stages.append(gradient(stage))
        except Unsupported as error:  # a `while` has no reverse mode: the page says so, and shows the rest
            stage.note += f" It has no gradient: {error}"
    _, done = passes.run(stages[-1].graph)
    for each in done:
        if isinstance(each.after, Graph) and each.after.outputs != stages[-1].graph.outputs:
            stages.append(GraphStage(each.name, each.note, each.after, stages[-1]))
    return stages


def first_argument(graph: Graph) -> Sequence[Node]:
    """Return the inputs that belong to the first argument."""
    count = 1 if graph.in_tree is None else graph.in_tree.child(0).child(0).num_leaves if graph.inputs else 0
    return graph.inputs[:count]


def gradient(stage: GraphStage) -> GraphStage:
    """Return the stage of the value and the gradient with respect to the first argument's floating leaves."""
    graph = stage.graph
    nodes = list(first_argument(graph))
    arriving: dict[Node, Node] = {}
    loss = graph.outputs[0]
    slopes = interpreters.backward([loss], [full(1, (), loss.dtype)], nodes, arriving)
    arriving.update(zip(nodes, slopes, strict=True))
    names = tuple(f"d {name}" for name, n in zip(graph.names, graph.inputs, strict=True) if n in set(nodes))
    both = Graph(graph.inputs, (loss, *slopes), graph.names, ("value", *names), name=graph.name)
    return GraphStage(
        "gradient",
        "Value and gradient: each node passes its cotangent on to its operands, in reverse order.",
        both,
        stage,
        cotangents=arriving,
    )


def number(stages: Sequence[GraphStage]) -> None:
    """Give each node of each stage its key: that of the node which it was made from, or a new one."""
    count = 0
    for stage in stages:
        known = {} if stage.before is None else _inherited(stage.before, stage)
        for node in stage.graph.nodes:
            if node not in known:
                known[node] = count
                count += 1
        stage.keys = known


def _inherited(before: GraphStage, stage: GraphStage) -> dict[Node, int]:
    """Return the keys of nodes that are, repeat or come from a node of the stage before."""
    old = before.keys
    slots = dict(zip(before.graph.names, before.graph.inputs, strict=True))
    known = {
        n: old[slots[name]] for name, n in zip(stage.graph.names, stage.graph.inputs, strict=True) if name in slots
    }
    inputs = {*before.graph.inputs, *stage.graph.inputs}  # known by their names alone
    alike: dict[tuple[object, ...], list[int]] = {}
    kin: dict[tuple[object, ...], list[int]] = {}
    for node in (n for n in before.graph.nodes if n not in inputs):
        alike.setdefault(_form(node, old), []).append(old[node])
        kin.setdefault(_kind(node), []).append(old[node])
        kin.setdefault(_call(node), []).append(old[node])
    last = {_origin(n, old): n for n in stage.graph.nodes if n not in old}  # of several nodes that a batch rule makes
    for node in stage.graph.nodes:
        if node in old:
            known[node] = old[node]
        elif node not in known and node not in inputs:
            key = None
            if same := alike.get(_form(node, known)):
                key = same[0]
                same.append(same.pop(0))  # equal calls, such as those of each copy, take turns
            origin = _origin(node, old)
            if key is None and origin is not None and last[origin] is node:
                key = old[origin] if origin in old else _taken(kin, _call(origin))
            if key is None and node.rules[:1] == ("unroll",) and len(node.inputs) == 1:
                key = known.get(node.inputs[0])  # the row of one copy
            if key is None:
                key = _taken(kin, _kind(node))
            if key is not None:
                known[node] = key
    return known


def _origin(node: Node, old: Mapping[Node, int]) -> Node | None:
    """Return the node that a batch rule made `node` of: in the stage before, or in a trace of its own.

    Derivatives have none.
    """
    if {"vjp", "jvp"}.intersection(node.rules):
        return None
    origin: Node | None = node.source
    while origin is not None and origin not in old and origin.source is not None:
        origin = origin.source
    return origin


def _form(node: Node, keys: Mapping[Node, int]) -> tuple[object, ...]:
    """Return the operation on its operands' keys, at its line."""
    return node.prim.name, node.loc, constant_of(node), *(keys.get(i, id(i)) for i in node.inputs)


def _kind(node: Node) -> tuple[object, ...]:
    return node.prim.name, node.rules, node.source, str(node.type)


def _call(node: Node) -> tuple[object, ...]:
    return node.prim.name, node.loc


def _taken(kin: dict[tuple[object, ...], list[int]], form: tuple[object, ...]) -> int | None:
    """Return the first key under a form, and take it from the list."""
    keys = kin.get(form)
    return keys.pop(0) if keys else None

