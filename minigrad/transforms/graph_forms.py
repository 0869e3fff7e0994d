"""Graph -> Graph forms of batching and derivatives: methods of `Graph`, and the core of `vmap`, `grad` and `jvp`."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import optree
from optree import PyTreeSpec

from .. import interpreters
from ..errors import BatchError, GradError, MinigradError, at_user_line
from ..graph import FORMS, ArrayType, Graph, InAxes, Node, PyTree, full, zeros_like
from ..primitive import move_axis, placeholder
from ..symbolic import Dim
from ..tracing import made_by
from .trace import kept

Part = int | str  # position or name of an argument, or the path of a part: ``params['W']``, ``params.W``

# -- arguments and results ---------------------------------------------------------------------------------------


def in_tree(graph: Graph) -> PyTreeSpec:
    """Return the pytree of a graph's arguments ``(args, kwargs)``."""
    if graph.in_tree is not None:
        return graph.in_tree
    arguments = optree.treespec_tuple([optree.treespec_leaf()] * len(graph.inputs))
    return optree.treespec_tuple([arguments, optree.treespec_dict()])


def out_tree(graph: Graph) -> PyTreeSpec:
    """Return the pytree of a graph's result."""
    if graph.out_tree is not None:
        return graph.out_tree
    leaves = [optree.treespec_leaf()] * len(graph.outputs)
    return leaves[0] if len(leaves) == 1 else optree.treespec_tuple(leaves)


def select(graph: Graph, wrt: Part | Iterable[Part], operation: str, word: str = "wrt"
           ) -> tuple[list[Node], PyTreeSpec]:
    """Return the floating inputs of the arguments `wrt` (or of parts of them), and their pytree: a tuple for several.

    Raises
    ------
    GradError
        If an argument does not exist, or one of its leaves is not floating.
    """
    label = f"{operation} of {graph.name}"
    if isinstance(wrt, str) or not isinstance(wrt, Iterable):
        positions, tree = _part(graph, wrt, label, GradError, word)
    else:
        selected = [_part(graph, w, label, GradError, word) for w in wrt]
        positions = [p for own, _ in selected for p in own]
        tree = optree.treespec_tuple([own for _, own in selected])
    for p in positions:
        if not graph.inputs[p].type.floating:
            raise GradError(at_user_line(
                f"{label}: argument {graph.names[p]} is {graph.inputs[p].type}, and only floating values have "
                f"derivatives. Cast it with astype(float), or leave it out of {word}."))
    return [graph.inputs[p] for p in positions], tree


def _part(graph: Graph, which: Part, label: str, error: type[MinigradError], word: str) -> tuple[list[int], PyTreeSpec]:
    """Return the positions of the inputs that belong to an argument, or to a part of one, and their pytree."""
    spec = in_tree(graph)
    args = spec.child(0).children()
    if isinstance(which, (int, np.integer)) and not isinstance(which, bool):
        if not -len(args) <= which < len(args):
            raise error(at_user_line(f"{label}: {word} {which}, but the graph has {len(args)} positional arguments"))
        first = sum(a.num_leaves for a in args[:which % len(args)])
        return list(range(first, first + args[which].num_leaves)), args[which]
    if not isinstance(which, str):
        raise error(at_user_line(f"{label}: {word} must hold names and positions (ints), got {which!r}"))
    head, *keys = which.split(".")
    spellings = (which, head + "".join(f"[{k}]" if k.isdecimal() else f"[{k!r}]" for k in keys))
    positions: list[int] = []
    for i, (name, path) in enumerate(zip(graph.names, optree.treespec_paths(spec), strict=True)):
        parts = [f"[{key!r}]" for key in path[2:]]
        prefixes = [*itertools.accumulate([name.removesuffix("".join(parts)), *parts])]
        depth = next((prefixes.index(s) for s in spellings if s in prefixes), None)
        if depth is not None:
            positions.append(i)
            within = path[:2 + depth]
    if not positions:
        raise error(at_user_line(f"{label}: no argument is called {which!r}; there are {', '.join(graph.names)}"))
    for key in within:
        spec = spec.child(spec.entries().index(key))
    return positions, spec


# -- batches -----------------------------------------------------------------------------------------------------


def prefix(axes: InAxes, tree: PyTreeSpec, label: str) -> list[int | None]:
    """Return one axis (or None) per leaf of `tree`; `axes` is a prefix of `tree`."""
    whole: PyTree = optree.tree_unflatten(tree, [0] * tree.num_leaves)
    axes_tree: PyTree = axes
    try:
        flat: list[int | None] = optree.broadcast_prefix(axes_tree, whole, none_is_leaf=True)
        # A None in the tree itself is an empty subtree, which has no axis.
        marks = optree.tree_leaves(whole, none_is_leaf=True)
    except (ValueError, TypeError) as error:
        raise BatchError(at_user_line(f"{label}: {axes} does not fit the structure {tree}: {error}")) from None
    out = [a for a, m in zip(flat, marks, strict=True) if m is not None]
    for a in out:
        if a is not None and (not hasattr(a, "__index__") or isinstance(a, bool)):
            raise BatchError(at_user_line(f"{label}: an axis must be an int or None, got {a!r}"))
    return out


def leaf_axes(in_axes: InAxes, args: PyTreeSpec, keys: Collection[str], count: int, name: str) -> list[int | None]:
    """Return the axis of each of `count` leaves: by `in_axes` for the pytree `args`, then 0 for keyword arguments."""
    if isinstance(in_axes, list):
        in_axes = tuple(in_axes)
    if isinstance(in_axes, tuple) and len(in_axes) != args.num_children:
        more = f" and {len(keys)} by keyword ({', '.join(keys)})" if keys else ""
        raise BatchError(at_user_line(
            f"{name}: in_axes has {len(in_axes)} entries, but there are {args.num_children} positional arguments{more}"
            + (". in_axes describes positional arguments: pass the arguments that it names by position. Keyword "
               "arguments are mapped along axis 0" if keys else "")))
    axes = prefix(in_axes, args, f"in_axes of {name}")
    return axes + [0] * (count - len(axes))


def place(name: str, node: Node, has_axis: bool, axis: int | None, size: int | Dim) -> Node:
    """Return a result of the batch of a function called `name`, with the batch axis at its place in `out_axes`."""
    if axis is None:
        if has_axis:
            raise BatchError(at_user_line(
                f"vmap({name}): out_axes is None for a result of type {node.type} that differs from example to "
                "example. Give it an axis, or average it."))
        return node
    node = interpreters.broadcast_unmapped(node, has_axis, size)
    if not -node.ndim <= axis < node.ndim:
        raise BatchError(at_user_line(f"vmap({name}): out_axes {axis}, but the result has {node.ndim} axes"))
    with made_by("vmap"):
        return move_axis(node, 0, axis % node.ndim)


def batched(graph: Graph, inputs: Sequence[Node], axes: Sequence[int | None], out_axes: InAxes, size: int | Dim
            ) -> Graph:
    """Return the batch of a graph on `inputs`, which have the examples along `axes` (None: a shared input)."""
    places = prefix(out_axes, out_tree(graph), f"out_axes of vmap({graph.name})")
    with made_by("vmap"):
        fronts = [i if a is None else move_axis(i, a, 0) for i, a in zip(inputs, axes, strict=True)]
    pairs = list(zip(graph.inputs, fronts, axes, strict=True))
    outputs = interpreters.batch(graph.outputs, {s: n for s, n, a in pairs if a is None},
                         {s: n for s, n, a in pairs if a is not None}, size)
    return graph.replace(inputs=tuple(inputs), outputs=tuple(
        place(graph.name, o, has, a, size) for (o, has), a in zip(outputs, places, strict=True)))


def inputs_of_batch(graph: Graph, in_axes: InAxes, size: int | Dim, name: str) -> tuple[list[Node], list[int | None]]:
    """Return inputs for a batch of `size` examples of a graph's arguments, and the batch axis of each."""
    axes: list[int | None] = [None] * len(graph.inputs)
    if isinstance(in_axes, dict):
        for which, entry in in_axes.items():
            positions, tree = _part(graph, which, name, BatchError, "in_axes")
            for p, a in zip(positions, prefix(entry, tree, f"in_axes of {name}"), strict=True):
                axes[p] = a
    else:
        args, kwargs = in_tree(graph).children()
        axes = leaf_axes(in_axes, args, kwargs.entries(), len(axes), name)
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


# -- derivatives -------------------------------------------------------------------------------------------------


def loss_and_aux(graph: Graph, operation: str) -> tuple[Node, ...]:
    """Return the results of a graph of ``(loss, aux)``; the loss must be one array."""
    tree = out_tree(graph)
    if not is_pair(tree):
        raise GradError(at_user_line(f"{operation} of {graph.name} with has_aux: it must return (loss, aux)"))
    if tree.child(0).num_leaves != 1:
        raise GradError(at_user_line(f"{operation} of {graph.name}: the loss is not one number"))
    return graph.outputs


def is_pair(tree: PyTreeSpec) -> bool:
    return tree.type is not None and issubclass(tree.type, tuple) and tree.num_children == 2


def _loss(graph: Graph, has_aux: bool) -> Node:
    """Return the result to differentiate, which must be one floating number."""
    if has_aux:
        loss = loss_and_aux(graph, "grad")[0]
    elif len(graph.outputs) == 1:
        (loss,) = graph.outputs
    else:
        raise GradError(at_user_line(
            f"grad of {graph.name}: it returns {len(graph.outputs)} values, and a gradient needs one number. "
            + ("Say has_aux=True for (loss, aux)" if is_pair(out_tree(graph)) else
               "Return (loss, aux) and say has_aux=True") + ", or use mg.vjp."))
    if loss.shape != () or not loss.type.floating:
        raise GradError(at_user_line(
            f"grad of {graph.name}: it returns {loss.type}, and a gradient needs one floating number. "
            + ("Sum or average the result, use mg.vmap(mg.grad(f)) for one gradient per example, or mg.jacobian."
               if loss.type.floating else "Its dtype has no derivative.")))
    return loss


def value_and_grad(graph: Graph, wrt: Part | Iterable[Part], has_aux: bool, word: str = "wrt") -> Graph:
    """Return the graph of ``(value, gradient)``, or of ``((value, aux), gradient)``."""
    loss = _loss(graph, has_aux)
    nodes, tree = select(graph, wrt, "grad", word)
    gradients = interpreters.backward([loss], [full(1, (), loss.dtype)], nodes)
    value = optree.treespec_leaf()
    if has_aux:
        value = optree.treespec_tuple([value, out_tree(graph).child(1)])
    return graph.replace(outputs=(*graph.outputs, *gradients), out_names=(),
                         out_tree=optree.treespec_tuple([value, tree]))


def _grad(graph: Graph, wrt: Part | Iterable[Part], has_aux: bool) -> Graph:
    both = value_and_grad(graph, wrt, has_aux)
    values, gradients = both.outputs[:len(graph.outputs)], both.outputs[len(graph.outputs):]
    tree = out_tree(both).child(1)
    if has_aux:
        tree = optree.treespec_tuple([tree, out_tree(graph).child(1)])
    return both.replace(outputs=tuple(kept((*gradients, *values[1:]), values[:1], graph.inputs)), out_tree=tree)


def jvp(graph: Graph, nodes: Sequence[Node]) -> Graph:
    """Return the graph of the results and their tangents; its further inputs are tangents of `nodes`."""
    moving = [placeholder(n.types[0]) for n in nodes]
    pushed = interpreters.forward(graph.outputs, dict(zip(nodes, moving, strict=True)))
    tangents = [zeros_like(o) if t is None else t for o, t in zip(graph.outputs, pushed, strict=True)]
    tree = out_tree(graph)
    return graph.replace(inputs=(*graph.inputs, *moving), outputs=(*graph.outputs, *tangents), names=(), out_names=(),
                         in_tree=None, out_tree=optree.treespec_tuple([tree, tree]))


def vjp(graph: Graph, nodes: Sequence[Node], tree: PyTreeSpec) -> Graph:
    """Return the graph of the cotangents of `nodes`; its further inputs are cotangents of the results."""
    inflow = [placeholder(n.types[0]) for n in graph.outputs]
    back = interpreters.backward(graph.outputs, inflow, nodes)
    return graph.replace(inputs=(*graph.inputs, *inflow), outputs=tuple(back), names=(), out_names=(), in_tree=None,
                         out_tree=tree)


def _jvp(graph: Graph, wrt: Part | Iterable[Part] | None) -> Graph:
    nodes, tree = select(graph, _all(graph) if wrt is None else wrt, "jvp")
    if len(set(nodes)) != len(nodes):
        raise GradError(at_user_line(f"jvp of {graph.name}: wrt {wrt!r} names an input twice"))
    names = [graph.names[graph.inputs.index(n)] for n in nodes]
    several = wrt is None or not isinstance(wrt, Part)
    return _with_arguments(jvp(graph, nodes), graph, names, tree.children() if several else [tree])


def _vjp(graph: Graph, wrt: Part | Iterable[Part] | None) -> Graph:
    nodes, tree = select(graph, _all(graph) if wrt is None else wrt, "vjp")
    for n in graph.outputs:
        if not n.type.floating:
            raise GradError(at_user_line(f"vjp of {graph.name}: its result {n.type} is not floating"))
    return _with_arguments(vjp(graph, nodes, tree), graph, graph.out_names, [out_tree(graph)])


def _all(graph: Graph) -> range:
    return range(in_tree(graph).child(0).num_children)


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


FORMS.update(vmap=_vmap, grad=_grad, value_and_grad=value_and_grad, jvp=_jvp, vjp=_vjp)
