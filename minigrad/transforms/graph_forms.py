"""Batching and gradients, Graph -> Graph: the core of `vmap` and `grad`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import optree
from optree import PyTreeSpec

from .. import interpreters
from ..errors import BatchError, GradError, at_user_line, format_structure
from ..graph import CALLS, Graph, InAxes, Node, PyTree, full
from ..primitive import move_axis
from ..symbolic import Dim
from ..tracing import made_by
from .trace import STATIC, Call

Part = int | str  # position or name of an argument, or the path of a part: ``params['W']``, ``params.W``
Argnums = Part | Sequence[Part]

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


Names = Callable[[], Sequence[str]]  # the names of a function's parameters, on demand


# Functions of `arguments_by_name`: "part" of a graph's arguments, and the "axes" of arguments.
BY_NAME: dict[str, Callable[..., PyTree]] = {}


def select(graph: Graph, argnums: Argnums, operation: str, call: Call | None = None, word: str = "argnums"
           ) -> tuple[list[Node], PyTreeSpec]:
    """Return the inputs of the arguments `argnums`, or of parts of them, and their pytree: a tuple for several.

    With the `call` of the function, an argument that is given by keyword has a position, too.

    Raises
    ------
    GradError
        If an argument does not exist, or one of its leaves is not floating.
    """
    label = f"{operation} of {graph.name}"
    count = in_tree(graph).child(0).num_children
    positions: list[int] = []
    trees = []
    several = isinstance(argnums, Iterable) and not isinstance(argnums, str)
    for which in argnums if several else [argnums]:  # type: ignore[union-attr]  # a sequence
        if type(which) is int and -count <= which < count:
            leaves, tree = argument(graph, which)
        else:
            leaves, tree = BY_NAME["part"](graph, which, label, GradError, word, call.parameters if call else tuple)
        if call is not None and call.has_static:
            STATIC["refuse"](tree, which, call.parameters(), label)
        positions += leaves
        trees.append(tree)
    return floating(graph, positions, operation, word), optree.treespec_tuple(trees) if several else trees[0]


def argument(graph: Graph, position: int) -> tuple[range, PyTreeSpec]:
    """Return the positions of the inputs that belong to a positional argument, and its pytree."""
    args = in_tree(graph).child(0).children()
    first = sum(a.num_leaves for a in args[:position % len(args)])
    return range(first, first + args[position].num_leaves), args[position]


def floating(graph: Graph, positions: Sequence[int], operation: str, parameter: str) -> list[Node]:
    """Return the inputs at `positions`, which the user named by `parameter`; they must be floating."""
    for p in positions:
        if not graph.inputs[p].type.floating:
            raise GradError(at_user_line(
                f"{operation} of {graph.name}: argument {graph.names[p]} is {graph.inputs[p].type}, and only floating "
                f"values have derivatives. Cast it with astype(float), or leave it out of {parameter}."))
    return [graph.inputs[p] for p in positions]


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
        raise BatchError(at_user_line(f"{label}: {axes} does not fit the structure "
                                      f"{format_structure(tree)}: {error}")) from None
    out = [a for a, m in zip(flat, marks, strict=True) if m is not None]
    for a in out:
        if a is not None and (not hasattr(a, "__index__") or isinstance(a, bool)):
            raise BatchError(at_user_line(f"{label}: an axis must be an int or None, got {a!r}"))
    return out


def leaf_axes(in_axes: InAxes, args: PyTreeSpec, kwargs: PyTreeSpec, parameters: Names, name: str) -> list[int | None]:
    """Return the axis of each leaf of the pytrees of the positional arguments, and of those by keyword: 0, or named."""
    label = f"in_axes of {name}"
    if isinstance(in_axes, list):
        in_axes = tuple(in_axes)
    if not (isinstance(in_axes, Mapping) or (isinstance(in_axes, tuple) and len(in_axes) != args.num_children)):
        return prefix(in_axes, args, label) + [0] * kwargs.num_leaves
    keys = kwargs.entries()
    entries, by_keyword = BY_NAME["axes"](in_axes, args.num_children, keys, parameters, name)
    axes = prefix(entries, args, label)
    for key, tree in zip(keys, kwargs.children(), strict=True):
        axes += prefix(by_keyword[key], tree, label)
    return axes


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
    packed: Graph | None = CALLS["packed"](graph, inputs, axes, out_axes, size)
    if packed is not None:
        return packed
    places = prefix(out_axes, out_tree(graph), f"out_axes of vmap({graph.name})") or [0] * len(graph.outputs)
    with made_by("vmap"):
        fronts = [i if a is None else move_axis(i, a, 0) for i, a in zip(inputs, axes, strict=True)]
    pairs = list(zip(graph.inputs, fronts, axes, strict=True))
    outputs = interpreters.batch(graph.outputs, {s: n for s, n, a in pairs if a is None},
                         {s: n for s, n, a in pairs if a is not None}, size)
    return graph.replace(inputs=tuple(inputs), outputs=tuple(
        place(graph.name, o, has, a, size) for (o, has), a in zip(outputs, places, strict=True)))


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
    elif (count := out_tree(graph).num_leaves) == 1:
        (loss,) = graph.outputs
    else:
        raise GradError(at_user_line(
            f"grad of {graph.name}: it returns {count} values, and a gradient needs one number. "
            + ("Say has_aux=True for (loss, aux)" if is_pair(out_tree(graph)) else
               "Return (loss, aux) and say has_aux=True") + ", or use mg.vjp."))
    if loss.shape != () or not loss.type.floating:
        raise GradError(at_user_line(
            f"grad of {graph.name}: it returns {loss.type}, and a gradient needs one floating number. "
            + ("Sum or average the result, use mg.vmap(mg.grad(f)) for one gradient per example, or mg.jacobian."
               if loss.type.floating else "Its dtype has no derivative.")))
    return loss


def value_and_grad(graph: Graph, nodes: Sequence[Node], tree: PyTreeSpec, has_aux: bool) -> Graph:
    """Return the graph of ``(value, gradient)``, or of ``((value, aux), gradient)``; `tree` is that of the gradient."""
    loss = _loss(graph, has_aux)
    gradients = interpreters.backward([loss], [full(1, (), loss.dtype)], nodes)
    value = optree.treespec_leaf()
    if has_aux:
        value = optree.treespec_tuple([value, out_tree(graph).child(1)])
    return graph.replace(outputs=(*graph.outputs, *gradients), out_names=(),
                         out_tree=optree.treespec_tuple([value, tree]))
