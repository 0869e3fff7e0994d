"""Methods of `Graph` that transform it: arguments by name or position, on top of the core's Graph -> Graph forms."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import optree
from optree import PyTreeSpec

from ..collector import uncollected
from ..errors import BatchError, GradError, at_user_line
from ..graph import FORMS, ArrayType, Graph, InAxes, Node
from ..ops.reduce import sum_
from ..primitive import placeholder
from ..symbolic import Dim
from ..tracing import made_by
from .arguments_by_name import part
from .graph_forms import Part, batched, in_tree, leaf_axes, loss_and_aux, out_tree, prefix, select, value_and_grad
from .jacobian_products import jvp_graph, vjp_graph
from .mean import average, unrolled
from .trace import kept


def _select(graph: Graph, wrt: Part | Iterable[Part] | None, operation: str) -> tuple[list[Node], PyTreeSpec]:
    """Return the inputs of the arguments `wrt` (or of parts; None: of all), and their pytree: a tuple for several."""
    if wrt is None:
        wrt = range(in_tree(graph).child(0).num_children)
    return select(graph, wrt if isinstance(wrt, str) or not isinstance(wrt, Iterable) else [*wrt], operation,
                  word="wrt")


def inputs_of_batch(graph: Graph, in_axes: InAxes, size: int | Dim, name: str) -> tuple[list[Node], list[int | None]]:
    """Return inputs for a batch of `size` examples of a graph's arguments, and the batch axis of each."""
    axes: list[int | None] = [None] * len(graph.inputs)
    if isinstance(in_axes, dict):
        for which, entry in in_axes.items():
            positions, tree = part(graph, which, name, BatchError, "in_axes")
            for p, a in zip(positions, prefix(entry, tree, f"in_axes of {name}"), strict=True):
                axes[p] = a
    else:
        args, kwargs = in_tree(graph).children()
        axes = leaf_axes(in_axes, args, kwargs, tuple, name)
    inputs = []
    for i, (node, a) in enumerate(zip(graph.inputs, axes, strict=True)):
        t, ndim = node.types[0], node.ndim + 1
        if a is not None:
            if not -ndim <= a < ndim:
                raise BatchError(at_user_line(f"{name}: in_axes {a} for {graph.names[i]}: {t}, which has {ndim} axes "
                                              "with that of the batch"))
            axes[i] = a = a % ndim
            t = ArrayType((*t.shape[:a], size, *t.shape[a:]), t.dtype)
        inputs.append(placeholder(t))
    if all(a is None for a in axes):
        raise BatchError(at_user_line(f"{name}: nothing is mapped: every entry of in_axes is None"))
    return inputs, axes


def _vmap(graph: Graph, in_axes: InAxes, out_axes: InAxes, size: int | Dim | None) -> Graph:
    name = f"vmap({graph.name})"
    if size is None:
        taken = {s.name for s in graph.symbols}
        size = Dim.new(next(b for k in itertools.count(1) if (b := f"B{k}" if k > 1 else "B") not in taken))
    elif not isinstance(size, Dim):
        size = count(size, name, "size")
    return batched(graph, *inputs_of_batch(graph, in_axes, size, name), out_axes, size)


def count(n: int, name: str, word: str) -> int:
    if isinstance(n, bool) or not hasattr(n, "__index__") or n < 1:
        raise BatchError(at_user_line(f"{name}: {word} must be a positive int, got {n!r}"))
    return int(n)


def _value_and_grad(graph: Graph, wrt: Part | Iterable[Part], has_aux: bool) -> Graph:
    if not isinstance(has_aux, bool):
        raise GradError(at_user_line(f"grad of {graph.name}: has_aux is True or False, got {has_aux!r}. Names of "
                                     "several arguments are a list: grad(['w', 'x'])"))
    return value_and_grad(graph, *_select(graph, wrt, "grad"), has_aux)


def _grad(graph: Graph, wrt: Part | Iterable[Part], has_aux: bool) -> Graph:
    both = _value_and_grad(graph, wrt, has_aux)
    values, gradients = both.outputs[:len(graph.outputs)], both.outputs[len(graph.outputs):]
    tree = out_tree(both).child(1)
    if has_aux:
        tree = optree.treespec_tuple([tree, out_tree(graph).child(1)])
    return both.replace(outputs=tuple(kept((*gradients, *values[1:]), values[:1], graph.inputs)), out_tree=tree)


def _jvp(graph: Graph, wrt: Part | Iterable[Part] | None) -> Graph:
    nodes, tree = _select(graph, wrt, "jvp")
    if len(set(nodes)) != len(nodes):
        raise GradError(at_user_line(f"jvp of {graph.name}: wrt {wrt!r} names an input twice"))
    names = [graph.names[graph.inputs.index(n)] for n in nodes]
    several = wrt is None or not isinstance(wrt, Part)
    return _with_arguments(jvp_graph(graph, nodes), graph, names, tree.children() if several else [tree])


def _vjp(graph: Graph, wrt: Part | Iterable[Part] | None) -> Graph:
    nodes, tree = _select(graph, wrt, "vjp")
    for n in graph.outputs:
        if not n.type.floating:
            raise GradError(at_user_line(f"vjp of {graph.name}: its result {n.type} is not floating"))
    return _with_arguments(vjp_graph(graph, nodes, tree), graph, graph.out_names, [out_tree(graph)])


def _with_arguments(transformed: Graph, graph: Graph, names: Sequence[str], trees: Sequence[PyTreeSpec]) -> Graph:
    """Return a transform of a graph with its further inputs as arguments: of `trees`, called ``d...`` after `names`."""
    args, kwargs = in_tree(graph).children()
    first = args.num_leaves
    taken = set(graph.names)
    marks = ("d" * k for k in itertools.count(1))
    mark = next(d for d in marks if taken.isdisjoint([d + n for n in names]))
    order = [*range(first), *range(len(graph.inputs), len(transformed.inputs)), *range(first, len(graph.inputs))]
    every = (*graph.names, *(mark + n for n in names))
    return transformed.replace(
        inputs=tuple(transformed.inputs[i] for i in order), names=tuple(every[i] for i in order),
        in_tree=optree.treespec_tuple([optree.treespec_tuple([*args.children(), *trees]), kwargs]))


def _unroll(graph: Graph, n: int, in_axes: InAxes) -> Graph:
    name = f"unroll({graph.name})"
    n = count(n, name, "n")
    return unrolled(graph, *inputs_of_batch(graph, in_axes, n, name), n)


def _mean(graph: Graph, has_aux: bool) -> Graph:
    for node in _over_rows(graph, has_aux, "mean"):
        if not node.type.floating:
            raise BatchError(at_user_line(f"mean of {graph.name}: its result is {node.type}, and only floating numbers "
                                          "have a mean. Cast it with astype(float)"))
    means = (average(n, "mean") for n in _over_rows(graph, has_aux, "mean"))
    return graph.replace(outputs=(*means, *(graph.outputs[1:] if has_aux else ())))


def _sum(graph: Graph, has_aux: bool) -> Graph:
    rows = _over_rows(graph, has_aux, "sum")
    with made_by("sum"):
        totals = [sum_(n, axes=(0,)) for n in rows]
    return graph.replace(outputs=(*totals, *(graph.outputs[1:] if has_aux else ())))


def _over_rows(graph: Graph, has_aux: bool, operation: str) -> Sequence[Node]:
    """Return the operands of a mean or a sum: all results, or the first of ``(result, aux)``."""
    rows = loss_and_aux(graph, operation)[:1] if has_aux else graph.outputs
    for node in rows:
        if not node.ndim:
            raise BatchError(at_user_line(f"{operation} of {graph.name}: its result is {node.type}, which has no axis "
                                          "of examples. Call vmap(...) first"))
    return rows


FORMS.update({name: uncollected()(form) for name, form in (
    ("vmap", _vmap), ("grad", _grad), ("value_and_grad", _value_and_grad), ("jvp", _jvp), ("vjp", _vjp))})
FORMS.update(unroll=_unroll, mean=_mean, sum=_sum)
