"""Mapped axes: `in_axes` and `out_axes` against the arguments and the results; kinds of batches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

import optree

from ..errors import BatchError, at_user_line
from ..graph import CALLS, ArrayType, InAxes, PyTree
from ..symbolic import Dim
from ..tracing import guard_equal, note_batch
from .graph_forms import leaf_axes
from .trace import argument_names, function_name, parameter_names

R = TypeVar("R")

Arguments: TypeAlias = tuple[tuple[PyTree, ...], dict[str, PyTree]]  # positional, and by keyword

_SHARED = ". Say None in in_axes for what all examples share"  # the way out of errors
# Functions that raise an error for arguments that `in_axes` cannot map.
CHECKS: list[Callable[[Callable[..., PyTree], tuple[PyTree, ...], dict[str, PyTree], InAxes, str], None]] = []


class by_kind(Generic[R]):
    """A function of examples, with one implementation for arrays and others for further kinds of batches.

    The decorated function takes the examples, a pytree, as its first argument. It serves arrays; `register` adds the
    implementation for examples that have a leaf of another kind.
    """

    def __init__(self, of_arrays: Callable[..., R]):
        functools.update_wrapper(self, of_arrays)
        self._of_arrays = of_arrays
        self._others: list[tuple[Callable[[Any], bool], Callable[..., R]]] = []

    def register(self, is_kind: Callable[[Any], bool]) -> Callable[[Callable[..., R]], Callable[..., R]]:
        """Enter the decorated function for examples among which `is_kind` holds of a leaf."""

        def enter(function: Callable[..., R]) -> Callable[..., R]:
            self._others.append((is_kind, function))
            return function

        return enter

    def __call__(self, examples: PyTree, *args: Any) -> R:
        for is_kind, function in self._others:
            if any(map(is_kind, optree.tree_leaves(examples, is_leaf=is_kind))):
                return function(examples, *args)
        return self._of_arrays(examples, *args)


def mapped_axes(f: Callable[..., Any], args: tuple[PyTree, ...], kwargs: dict[str, PyTree], in_axes: InAxes,
                types: Sequence[ArrayType], caller: str, symbolic: bool = True) -> tuple[list[int | None], int | Dim]:
    """Return the batch axis of each leaf (None: shared) and the batch size, which may become symbolic.

    Raises
    ------
    BatchError
        Naming both leaves where two sizes differ.
    """
    name = f"{caller}({function_name(f)})"
    tree: PyTree = (args, kwargs)
    structure, by_keyword = optree.tree_structure(tree).children()
    axes = leaf_axes(in_axes, structure, by_keyword, lambda: parameter_names(f), name)
    for check in CHECKS:
        check(f, args, kwargs, in_axes, name)
    out: list[int | None] = []
    mapped: list[tuple[int, int, int | Dim]] = []

    def label(i: int) -> str:
        return f"{argument_names(f, args, kwargs)[i]}: {types[i]}"

    for i, (t, a) in enumerate(zip(types, axes, strict=True)):
        if a is None:
            out.append(None)
            continue
        if not -t.ndim <= a < t.ndim:
            raise BatchError(at_user_line(
                f"{name}: {label(i)} has no axis {a} to map over{hint(args)}" + ("" if t.ndim else _SHARED + (
                    ", or pass np.array(a list), where each of its numbers is an example."
                    if any(isinstance(arg, list) for arg in args) else "."))))
        a = a % t.ndim
        out.append(a)
        if mapped and not guard_equal(mapped[0][2], t.shape[a]):
            j, b, n = mapped[0]
            way = _SHARED if str(n) != str(t.shape[a]) else f". Make one symbol for both, {n} = mg.dim({str(n)!r})"
            raise BatchError(at_user_line(f"{name}: batch sizes differ: {n} (axis {b} of {label(j)}) and {t.shape[a]} "
                                          f"(axis {a} of {label(i)}){hint(args)}{way}"))
        mapped.append((i, a, t.shape[a]))
    if not mapped:
        every = "every argument is static" if not types else "every entry of in_axes is None"
        raise BatchError(at_user_line(f"{name}: nothing is mapped: {every}"))
    size = mapped[0][2]
    if isinstance(size, int) and size == 0:
        raise BatchError(at_user_line(f"{name}: an empty batch: {label(mapped[0][0])} has no example"))
    if symbolic:
        note_batch(n for _, _, n in mapped)
    return out, size


@by_kind
def hint(args: tuple[PyTree, ...]) -> str:
    """Return the way out where the arguments are no batch of arrays."""
    return str(CALLS["hint_of_lists"](args))
