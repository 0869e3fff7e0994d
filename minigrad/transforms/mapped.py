"""Mapped axes: `in_axes` and `out_axes` against the arguments and the results; kinds of batches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import optree

from .. import walk
from ..dims import Dim
from ..errors import BatchError, at_user_line
from ..graph import ArrayType, Node
from ..ops.layout import move_axis
from ..tracing import guard_equal, made_by, note_batch
from .trace import argument_names, function_name


class by_kind:
    """A function of examples, with one implementation for arrays and others for further kinds of batches.

    The decorated function takes the examples, a pytree, as its first argument. It serves arrays; `register` adds the
    implementation for examples that have a leaf of another kind.
    """

    def __init__(self, of_arrays: Callable[..., Any]):
        functools.update_wrapper(self, of_arrays)
        self._of_arrays = of_arrays
        self._others: list[tuple[Callable[[Any], bool], Callable[..., Any]]] = []

    def register(self, is_kind: Callable[[Any], bool]) -> Callable[..., Any]:
        """Enter the decorated function for examples among which `is_kind` holds of a leaf."""

        def enter(function: Callable[..., Any]) -> Callable[..., Any]:
            self._others.append((is_kind, function))
            return function

        return enter

    def __call__(self, examples: Any, *args: Any) -> Any:
        for is_kind, function in self._others:
            if any(map(is_kind, optree.tree_leaves(examples, is_leaf=is_kind))):
                return function(examples, *args)
        return self._of_arrays(examples, *args)


def place(f: Callable[..., Any], node: Node, has_axis: bool, axis: int | None, size: int | Dim) -> Node:
    """Return a result of a batch with the batch axis where `out_axes` wants it."""
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


def prefix(axes: Any, tree: Any, what: str) -> list[int | None]:
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
        more = f" and {len(kwargs)} by keyword ({', '.join(kwargs)})" if kwargs else ""
        raise BatchError(at_user_line(
            f"{name}: in_axes has {len(in_axes)} entries, but there are {len(args)} positional arguments{more}"
            + (". It is about positional arguments: pass those that it names by position. What is passed by keyword is "
               "mapped along axis 0" if kwargs else "")))
    axes = prefix(in_axes, optree.tree_structure(args), f"in_axes of {name}")
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
                + hint(args) + (". Say None in in_axes for what all examples share." if not t.ndim else "")))
        a = a % t.ndim
        out.append(a)
        if found and not guard_equal(found[0][2], t.shape[a]):
            j, b, n = found[0]
            raise BatchError(at_user_line(
                f"{name}: batch sizes differ: {n} (axis {b} of {label(j)}) and {t.shape[a]} (axis {a} of "
                f"{label(i)}){hint(args)}"))
        found.append((i, a, t.shape[a]))
    if not found:
        raise BatchError(at_user_line(f"{name}: nothing is mapped: every entry of in_axes is None"))
    size = found[0][2]
    if isinstance(size, int) and size == 0:
        raise BatchError(at_user_line(f"{name}: an empty batch: {label(found[0][0])} has no example"))
    if symbolic:
        note_batch(n for _, _, n in found)
    return out, size


@by_kind
def hint(args: tuple) -> str:
    """Return the way out where the arguments are no batch of arrays."""
    return ""
