"""`tree_scan`: the value of a tree's node from those of its children."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import optree

from ..errors import DtypeError, ShapeError, at_user_line, format_structure
from ..graph import ArrayType, Graph, PyTree, zeros_like
from ..ops import tree_scan as trees
from ..ops.constants import iota
from ..ops.control import parts
from ..ops.elementwise import cast_to
from ..primitive import placeholder
from ..symbolic import Dim
from ..tracebacks import boundary
from ..traced_array import ArrayLike
from ..tracing import guard_equal, guard_equal_shapes, number
from .closures import closed
from .trace import Call, Flat, function_name, rewritten

_INT = np.dtype(np.int64)


@boundary
def tree_scan(f: Callable[[PyTree, PyTree], PyTree], parent: ArrayLike, xs: PyTree, like: PyTree) -> PyTree:
    """Compute a value for each node of a tree from those of its children: ``value = f(x, values of the children)``.

    A node may have any number of children. All nodes of one height, of all examples of a batch, run at once, from the
    leaves to the roots.

    Parameters
    ----------
    f : callable
        ``f(x, children)`` returns the value of a node. `x` has the node's row of each array in `xs`; `children` has an
        axis in front that counts the children in the order of their rows. A leaf has none: sums over them are 0.
    parent : int array (N,)
        The row of each node's parent; -1 for a root. A forest has several. In a schema: ``mg.index(node,
        null=-1)[node]``.
    xs : pytree of arrays (N, ...)
        The inputs, with a row per node.
    like : pytree of arrays or types
        A value of one node, or its types, such as ``mg.f64[8]``: the structure, shapes and dtypes that `f` returns.

    Returns
    -------
    pytree of arrays (N, ...)
        The values of all nodes.

    Raises
    ------
    ShapeError, DtypeError
        If `parent` is not a vector of integers, an array in `xs` has another number of rows, or `f` returns another
        type than `like`.
    ValueError
        When the program runs: if a node is its own ancestor. The error names the example and the node.

    Examples
    --------
    The sum of a subtree:

    >>> parent = np.array([-1, 0, 0, 2])
    >>> mg.tree_scan(lambda x, children: x + np.sum(children), parent, np.array([1.0, 2.0, 3.0, 4.0]), mg.f64[()])
    array([10.,  2.,  7.,  4.])
    """
    name = function_name(f)

    def rewrite(call: Call) -> Graph:
        (up, *others), count = call.types, len(optree.tree_leaves(xs))
        rows, likes = others[:count], others[count:]
        if up.ndim != 1 or up.dtype.kind not in "iu":
            raise (ShapeError if up.ndim != 1 else DtypeError)(at_user_line(
                f"tree_scan({name}): parent must have one integer per node, got {up}"))
        for t in rows:
            if not t.ndim or not guard_equal(t.shape[0], up.shape[0]):
                raise ShapeError(at_user_line(f"tree_scan({name}): an array of type {t} in xs, where parent is {up}: "
                                              "each has a row per node"))
        child = Dim.new("child", rows=True)
        types = [ArrayType(t.shape[1:], t.dtype) for t in rows]
        types += [ArrayType((child, *t.shape), t.dtype) for t in likes]
        arguments: PyTree = ((xs, like), {})
        flat = Flat(call.leaves[1:], optree.tree_structure(arguments), types)
        staged = Call(f, (xs, like), {}, flat, static=False).trace(types, [False] * len(types))
        like_tree = optree.tree_structure(like)
        if staged.out_tree != like_tree:
            raise ShapeError(at_user_line(f"tree_scan({name}): it returns {format_structure(staged.out_tree)}, where "
                                          f"like is {format_structure(like_tree)}"))
        outputs = [cast_to(o, t.dtype) if weak else o
                   for o, t, weak in zip(staged.outputs, likes, staged.scalars, strict=True)]
        for o, t in zip(outputs, likes, strict=True):
            if o.dtype != t.dtype or not guard_equal_shapes(o.shape, t.shape):
                raise ShapeError(at_user_line(f"tree_scan({name}): it returns {o.type} where like has {t}"))
        staged.outputs[:] = outputs
        graph, outer = closed(staged)
        own, free = graph.inputs[:len(types)], graph.inputs[len(types):]
        graph = graph.replace(inputs=(*free, *own), names=())
        inputs = [placeholder(t) for t in call.types]
        parents = cast_to(inputs[0], _INT)
        zeros = iota(size=up.shape[0]) * 0
        heights = trees.tree_heights(parents, iota(size=up.shape[0]), zeros)
        start = [zeros_like(placeholder(ArrayType((up.shape[0], *t.shape), t.dtype))) for t in likes]
        node = trees.tree_scan(parents, heights, *outer, *inputs[1:1 + count], *start, graph=graph, dim=child,
                               counts=(len(outer), count, 0, len(likes)), outs=(0, 0, 0), reverse=False)
        return Graph(tuple(inputs), tuple(parts(node)), out_tree=like_tree)

    return rewritten(rewrite, f, (parent, xs, _arrays(like)), static=False)


def _arrays(like: PyTree) -> PyTree:
    """Return arrays of the types in `like`, which no program reads."""
    return optree.tree_map(lambda t: np.zeros([number(n) for n in t.shape], t.dtype) if isinstance(t, ArrayType) else t,
                           like)
