"""Batching: `vmap`, and what is one line on top of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import optree

from .. import walk
from ..dims import Dim, number, same, watch
from ..errors import BatchError, at_user_line
from ..graph import ArrayType, Node, full, made_by
from ..numpy.array import Array
from ..ops.control import placeholder
from ..ops.layout import move_axis, reshape, slice_
from ..ops.spread import mean, split_mean
from .grad import Argnums, grad
from .ragged import has_batch, ragged_vmap
from .trace import argument_names, finish, flatten_arguments, function_name, stage


def vmap(f: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """Turn a function of one example into a function of a batch.

    `f` is traced once, for one example, and every node is rewritten to carry a batch axis; what does not
    depend on the example stays as it is and is computed once.

    Parameters
    ----------
    f : callable
        A function of pytrees of arrays.
    in_axes : int, None, or a pytree of them
        The axis of each argument that counts the examples; None where all examples share the argument. A
        tuple has one entry per positional argument, and an entry may be a pytree prefix of its argument.
        Keyword arguments are mapped over axis 0.
    out_axes : int, None, or a pytree of them
        Where the batch axis of each result goes. None asks for a result that no example has a part in.

    Returns
    -------
    callable

    Raises
    ------
    BatchError
        If `in_axes` does not fit the arguments, the batch sizes differ, or there is no example at all.
    """

    @functools.wraps(f)
    def batched(*args: Any, **kwargs: Any) -> Any:
        if has_batch((args, kwargs)):
            return ragged_vmap(f, in_axes, args, kwargs, mapped_axes, _prefix, _place, out_axes)
        leaves, tree, types = flatten_arguments(f, args, kwargs)
        axes, size = mapped_axes(f, args, kwargs, in_axes, types, "vmap")
        example = [t if a is None else ArrayType(t.shape[:a] + t.shape[a + 1:], t.dtype)
                   for t, a in zip(types, axes, strict=True)]
        staged = stage(f, args, kwargs, (leaves, tree, example))
        inputs = [placeholder(t) for t in types]
        with made_by("vmap"):
            fronts = [i if a is None else move_axis(i, a, 0) for i, a in zip(inputs, axes, strict=True)]
        pairs = list(zip(staged.inputs, fronts, axes, strict=True))
        outputs = walk.batch(staged.outputs, {s: n for s, n, a in pairs if a is None},
                             {s: n for s, n, a in pairs if a is not None}, size)
        places = _prefix(out_axes, staged.out_tree, f"out_axes of vmap({function_name(f)})")
        return finish(inputs, leaves, [_place(f, o, has, a, size) for (o, has), a in zip(outputs, places, strict=True)],
                      staged.out_tree)

    batched.in_axes = in_axes
    return batched


def _place(f: Callable[..., Any], node: Node, has_axis: bool, axis: int | None, size: int | Dim) -> Node:
    if axis is None:
        if has_axis:
            raise BatchError(at_user_line(
                f"vmap({function_name(f)}): out_axes is None for a result of type {node.type} that differs from "
                "example to example. Give it an axis, or average it."))
        return node
    node = walk.with_axis(node, has_axis, size)
    if not -node.ndim <= axis < node.ndim:
        raise BatchError(at_user_line(
            f"vmap({function_name(f)}): out_axes {axis}, but the result has {node.ndim} axes"))
    with made_by("vmap"):
        return move_axis(node, 0, axis % node.ndim)


def _prefix(axes: Any, tree: Any, what: str) -> list[int | None]:
    """Return one axis (or None) per leaf of `tree`, of which `axes` is a prefix."""
    whole = optree.tree_unflatten(tree, [0] * tree.num_leaves)
    try:
        flat = optree.broadcast_prefix(axes, whole, none_is_leaf=True)
        # Where the tree itself holds None there is no leaf, and so no axis.
        marks = optree.tree_leaves(whole, none_is_leaf=True)
    except (ValueError, TypeError) as error:
        raise BatchError(at_user_line(f"{what}: {axes} does not fit the structure {tree}: {error}")) from None
    out = [a for a, m in zip(flat, marks, strict=True) if m is not None]
    for a in out:
        if a is not None and (not hasattr(a, "__index__") or isinstance(a, bool)):
            raise BatchError(at_user_line(f"{what}: an axis is an int or None, got {a!r}"))
    return out


def mapped_axes(f: Callable[..., Any], args: tuple, kwargs: dict, in_axes: Any, types: Sequence[ArrayType],
                what: str, symbolic: bool = True) -> tuple[list[int | None], int | Dim]:
    """Return the batch axis of each leaf (None: shared) and the batch size, which may become symbolic.

    Raises
    ------
    BatchError
        Naming both leaves where two sizes differ.
    """
    name = f"{what}({function_name(f)})"
    if isinstance(in_axes, list):
        in_axes = tuple(in_axes)
    if isinstance(in_axes, tuple) and len(in_axes) != len(args):
        raise BatchError(at_user_line(
            f"{name}: in_axes has {len(in_axes)} entries, but there are {len(args)} positional arguments"))
    axes = _prefix(in_axes, optree.tree_structure(args), f"in_axes of {name}")
    axes += [0] * (len(types) - len(axes))
    out: list[int | None] = []
    found: list[tuple[int, int, int | Dim]] = []

    def label(i: int) -> str:
        return f"{argument_names(f, args, kwargs)[i]}: {types[i]}"

    for i, (t, a) in enumerate(zip(types, axes, strict=True)):
        if a is None:
            out.append(None)
            continue
        if not -t.ndim <= a < t.ndim:
            raise BatchError(at_user_line(
                f"{name}: {label(i)} has no axis {a} to map over"
                + (". Say None in in_axes for what all examples share." if not t.ndim else "")))
        a = a % t.ndim
        out.append(a)
        if found and not same(found[0][2], t.shape[a]):
            j, b, n = found[0]
            raise BatchError(at_user_line(
                f"{name}: batch sizes differ: {n} (axis {b} of {label(j)}) and {t.shape[a]} (axis {a} of {label(i)})"))
        found.append((i, a, t.shape[a]))
    if not found:
        raise BatchError(at_user_line(f"{name}: nothing is mapped: every entry of in_axes is None"))
    size = found[0][2]
    if isinstance(size, int) and size == 0:
        raise BatchError(at_user_line(f"{name}: an empty batch: {label(found[0][0])} has no example"))
    if symbolic:
        watch.note_batch(n for _, _, n in found)
    return out, size


def per_example_grad(f: Callable[..., Any], argnums: Argnums = 0, in_axes: Any = 0,
                     has_aux: bool = False) -> Callable[..., Any]:
    """Return the function that computes one gradient per example: ``vmap(grad(f))``.

    Every leaf of the result is a leaf of argument `argnums` with the examples along a new axis 0.
    """
    return vmap(grad(f, argnums, has_aux), in_axes)


def mean_loss(f: Callable[..., Any], in_axes: Any = 0, has_aux: bool = False) -> Callable[..., Any]:
    """Return the mean over a batch of a per-example loss: `vmap`, then one visible ``mean`` node.

    A term of the loss that does not depend on the example, such as a regulariser, is moved out of the
    mean by a rewrite: it is computed once, and added once.

    Parameters
    ----------
    f : callable
        The loss of one example: a floating scalar, or ``(scalar, aux)`` with `has_aux`.
    in_axes : int, None, or a pytree of them
        As in `vmap`.
    has_aux : bool
        The aux of every example comes back stacked.

    Returns
    -------
    callable
        A function of the batch, with a scalar result.
    """
    losses_of = vmap(f, in_axes)

    @functools.wraps(f)
    def mean_over_batch(*args: Any, **kwargs: Any) -> Any:
        def average(*args: Any, **kwargs: Any) -> Any:
            out = losses_of(*args, **kwargs)
            losses, aux = out if has_aux else (out, None)
            if not isinstance(losses, Array) or losses.ndim != 1 or losses.dtype.kind != "f":
                got = losses._node.type if isinstance(losses, Array) else f"a {type(losses).__name__}"
                raise BatchError(at_user_line(
                    f"mean_loss({function_name(f)}): the loss of one example must be one floating number; over the "
                    f"batch it came out as {got}. Sum or average it within the example."))
            node = mean(losses._node, axes=(0,))
            better = split_mean(node)
            total = Array(node if better is None else better)
            return (total, aux) if has_aux else total

        staged = stage(average, args, kwargs)
        return staged.finish(staged.outputs, staged.out_tree)

    mean_over_batch.in_axes = in_axes
    return mean_over_batch


def unroll(f: Callable[..., Any], n: int, in_axes: Any = 0) -> Callable[..., Any]:
    """Return the literal mini-batch graph: `n` copies of f's graph, and nodes that add and average.

    It computes what ``mean_loss(f, in_axes)`` computes on a batch of `n` examples, and is there to be
    looked at and compared. What no example has a part in occurs once in it, too.

    Parameters
    ----------
    f : callable
        The loss of one example.
    n : int
        The number of examples, which the batch must have.
    in_axes : int, None, or a pytree of them
        As in `vmap`.
    """
    if n < 1:
        raise BatchError(at_user_line(f"unroll({function_name(f)}): {n} copies; a batch has at least one example"))

    @functools.wraps(f)
    def unrolled(*args: Any, **kwargs: Any) -> Any:
        leaves, tree, types = flatten_arguments(f, args, kwargs)
        axes, size = mapped_axes(f, args, kwargs, in_axes, types, "unroll", symbolic=False)
        if number(size) != n:
            raise BatchError(at_user_line(f"unroll({function_name(f)}, {n}): the batch has {size} examples"))
        example = [t if a is None else ArrayType(t.shape[:a] + t.shape[a + 1:], t.dtype)
                   for t, a in zip(types, axes, strict=True)]
        staged = stage(f, args, kwargs, (leaves, tree, example))
        inputs = [placeholder(t) for t in types]
        with made_by("unroll"):
            shared = {s: i for s, i, a in zip(staged.inputs, inputs, axes, strict=True) if a is None}
            # First what is shared, so that the copies find it made already.
            outputs = walk.substitute(staged.outputs, shared)
            totals: list[Node] = []
            for k in range(n):
                mapped = {s: _example(i, a, k) for s, i, a in zip(staged.inputs, inputs, axes, strict=True)
                          if a is not None}
                copies = walk.substitute(outputs, mapped)
                totals = copies if not k else [t + c for t, c in zip(totals, copies, strict=True)]
            means = [t / full(n, t.shape, t.dtype) for t in totals]
        return finish(inputs, leaves, means, staged.out_tree)

    unrolled.in_axes = in_axes
    return unrolled


def _example(batch: Node, axis: int, k: int) -> Node:
    """Return example `k` of a batch."""
    at = {axis: k}
    row = slice_(batch, start=tuple(at.get(a, 0) for a in range(batch.ndim)),
                 stop=tuple(at[a] + 1 if a in at else n for a, n in enumerate(batch.shape)), step=(1,) * batch.ndim)
    return reshape(row, shape=batch.shape[:axis] + batch.shape[axis + 1:])

