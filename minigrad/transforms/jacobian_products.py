"""Products with a Jacobian: `jvp` and `vjp`, and their Graph -> Graph forms."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import optree
from optree import PyTreeSpec

from .. import interpreters
from ..errors import GradError, ShapeError, TraceError, at_user_line, format_structure
from ..graph import ArrayType, Graph, Node, PyTree, full, zeros_like
from ..immutable import Immutable
from ..primitive import placeholder
from ..static import without_static
from ..tracebacks import boundary
from ..traced_array import Array
from ..tracing import guard_equal_shapes, tracing
from .array_namespace import is_on_device
from .derivative_trees import derivative_leaves
from .graph_forms import floating, in_tree, is_pair, out_tree
from .trace import Call, function_name, leaf_type, rewritten, run


def _like(name: str, value: PyTree, tree: optree.PyTreeSpec, nodes: Sequence[Node], inputs_of: Graph | None = None,
          types: Sequence[ArrayType] | None = None) -> list[PyTree]:
    """Return the leaves of a tangent or cotangent for the `nodes` that are floating.

    It must match `nodes` in structure, shape and dtype, or `types` where a run has determined sizes. None stands for
    zeros. Of the inputs of a graph, only floating ones may have another value.
    """
    leaves: list[PyTree] | None
    leaves, own = optree.tree_flatten(value)
    if own != tree:
        like: PyTree = optree.tree_unflatten(tree, [0] * len(nodes))
        leaves = derivative_leaves(value, like)
    if leaves is None:
        raise ShapeError(at_user_line(f"{name} has the structure {format_structure(own)}, expected "
                                      f"{format_structure(tree)}; None stands for zeros"))
    if inputs_of is not None:
        floating(inputs_of, [i for i, x in enumerate(leaves) if x is not None], "jvp", "the tangents, with None")
    out: list[PyTree] = []
    for i, (x, want) in enumerate(zip(leaves, types or [n.types[0] for n in nodes], strict=True)):
        if x is None:
            if want.floating:
                out.append(Array(full(0, want.shape, want.dtype)) if tracing() else np.zeros(want.shape, want.dtype))
            continue
        t = leaf_type(x, functools.partial("{}, leaf {}".format, name, i))
        if not guard_equal_shapes(t.shape, want.shape):
            raise ShapeError(at_user_line(f"{name}, leaf {i}: expected {want}, got {t}"))
        if want.floating:
            out.append(x if isinstance(x, Array) or is_on_device(x) else np.asarray(x, dtype=want.dtype))
    return out


def require_tuples(operation: str, f: Callable[..., PyTree], **values: Sequence[PyTree]) -> None:
    """Raise `TraceError` for values that are one array in place of a tuple with an entry for each argument."""
    for name, entries in values.items():
        if not isinstance(entries, (tuple, list)):
            raise TraceError(at_user_line(f"{operation} of {function_name(f)}: {name} must be a tuple with one entry "
                                          f"for each argument, such as (x,), got {type(entries).__name__}"))


@boundary
def jvp(f: Callable[..., PyTree], primals: Sequence[PyTree], tangents: Sequence[PyTree],
        has_aux: bool = False) -> tuple[PyTree, ...]:
    """Return ``f(*primals)`` and its directional derivative along `tangents` (forward mode).

    Parameters
    ----------
    primals, tangents : sequence
        The arguments, and one direction for each, of the same structure and shapes. None stands for zeros, in the
        place of any part. Integers and static values have no other tangent.
    has_aux : bool
        Say True for a function that returns ``(result, aux)``: `aux` comes back as it is.

    Returns
    -------
    (value, tangent) or (value, tangent, aux)
        The first two in the pytree of f's result.

    Examples
    --------
    >>> mg.jvp(lambda x: x**3, (2.0,), (1.0,))
    (np.float64(8.0), np.float64(12.0))
    """
    require_tuples("jvp", f, primals=primals, tangents=tangents)

    def rewrite(call: Call) -> Graph:
        graph = call.trace().graph
        call.leaves = call.leaves + _like("the tangent", tuple(tangents), in_tree(graph).child(0), graph.inputs, graph)
        return jvp_graph(graph, [n for n in graph.inputs if n.type.floating], has_aux)

    results: tuple[PyTree, ...] = rewritten(rewrite, f, tuple(primals))
    return results


@boundary
def vjp(f: Callable[..., PyTree], *primals: PyTree, has_aux: bool = False) -> tuple[PyTree, ...]:
    """Return ``f(*primals)`` and the function that pulls cotangents back to the arguments (reverse mode).

    Parameters
    ----------
    f : callable
    *primals : pytrees
        The arguments of `f`.
    has_aux : bool
        Say True for a function that returns ``(result, aux)``: `aux` comes back as it is.

    Returns
    -------
    (value, pull) or (value, pull, aux)
        ``pull(cotangent)``, for a cotangent in the pytree of f's result (None for zeros), is a tuple with one pytree
        per argument. It has None in the place of integers, and of values that are no arrays.

    Examples
    --------
    >>> value, pull = mg.vjp(np.dot, np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    >>> pull(1.0)
    (array([3., 4.]), array([1., 2.]))
    """
    call = Call(f, primals)
    graph = call.trace().graph
    tree = result_and_aux(graph, "vjp") if has_aux else out_tree(graph)
    first = graph.replace(outputs=graph.outputs[:tree.num_leaves], out_names=(), out_tree=tree)
    results = run(graph, call.leaves)
    value, *aux = results if has_aux else (results,)
    return value, _Pull(first, call.leaves, [leaf_type(x, lambda: "vjp") for x in optree.tree_leaves(value)]), *aux


@dataclass(frozen=True, eq=False, repr=False)
class _Pull(Immutable):
    """The function from cotangents of a graph's outputs, which have `types`, to those of its inputs at `leaves`."""

    graph: Graph
    leaves: list[PyTree]
    types: list[ArrayType]

    @boundary
    def __call__(self, cotangent: PyTree) -> tuple[PyTree, ...]:
        graph = self.graph
        leaves = _like("the cotangent", cotangent, out_tree(graph), graph.outputs, types=self.types)
        tree = cotangent_tree(in_tree(graph).child(0), graph.inputs)
        back = vjp_graph(graph, [n for n in graph.inputs if n.type.floating], tree)
        cotangents: tuple[PyTree, ...] = run(back, [*self.leaves, *leaves])
        return cotangents

    def __repr__(self) -> str:
        return f"<minigrad pullback of {len(self.graph.outputs)} values to {len(self.graph.inputs)}>"


# -- graphs ------------------------------------------------------------------------------------------------------


def jvp_graph(graph: Graph, nodes: Sequence[Node], has_aux: bool = False) -> Graph:
    """Return the graph of the results and their tangents; its further inputs are tangents of `nodes`.

    With `has_aux`, it is that of the first result, its tangents, and the second result.
    """
    moving = [placeholder(n.types[0]) for n in nodes]
    tree = out_tree(graph)
    count = (result_and_aux(graph, "jvp") if has_aux else tree).num_leaves
    moved, aux = graph.outputs[:count], graph.outputs[count:]
    pushed = interpreters.forward(moved, dict(zip(nodes, moving, strict=True)))
    tangents = [zeros_like(o) if t is None else t for o, t in zip(moved, pushed, strict=True)]
    trees = [tree.child(0), tree.child(0), tree.child(1)] if has_aux else [tree, tree]
    return graph.replace(inputs=(*graph.inputs, *moving), outputs=(*moved, *tangents, *aux), names=(), out_names=(),
                         in_tree=None, out_tree=optree.treespec_tuple(trees))


def result_and_aux(graph: Graph, operation: str) -> PyTreeSpec:
    """Return the pytree of the result of a graph of ``(result, aux)``."""
    tree = out_tree(graph)
    if not is_pair(tree):
        raise GradError(at_user_line(f"{operation} of {graph.name} with has_aux: it must return (result, aux)"))
    return tree.child(0)


def vjp_graph(graph: Graph, nodes: Sequence[Node], tree: PyTreeSpec) -> Graph:
    """Return the graph of the cotangents of `nodes`; its further inputs are cotangents of the results that float."""
    results = [n for n in graph.outputs if n.type.floating]
    inflow = [placeholder(n.types[0]) for n in results]
    back = interpreters.backward(results, inflow, nodes)
    return graph.replace(inputs=(*graph.inputs, *inflow), outputs=tuple(back), names=(), out_names=(), in_tree=None,
                         out_tree=tree)


def cotangent_tree(tree: PyTreeSpec, nodes: Sequence[Node]) -> PyTreeSpec:
    """Return the pytree of derivatives with respect to `nodes`: None stands for the leaves that are not floating."""
    leaves: list[PyTree] = [0 if n.type.floating else None for n in nodes]
    whole: PyTree = without_static(optree.tree_unflatten(tree, leaves))
    return optree.tree_structure(whole)
