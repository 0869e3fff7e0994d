"""Static arguments: bools, strings, functions and other values that are no arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from enum import Enum

import numpy as np
import optree

from ..errors import BatchError, DtypeError, GradError, at_user_line
from ..graph import ArrayType, InAxes, PyTree
from ..sizes import Size
from ..static import Static, static_parts, unmarked
from ..traced_array import Array
from .arguments_by_name import argument_axes
from .array_namespace import is_on_device
from .in_axes import CHECKS
from .trace import STATIC, argument_names, flatten_arguments, leaf_type, parameter_names


def is_static(x: object) -> bool:
    """Return whether a leaf of a function's arguments passes as it is, as part of the program.

    Bools, strings, functions and all other values that are neither arrays nor numbers do.
    """
    if isinstance(x, (bool, str, bytes, Enum, Size)):
        return True
    if isinstance(x, (Array, np.ndarray, np.generic, ArrayType, int, float, complex)):
        return False
    return isinstance(x, type) or not (is_on_device(x) or any(hasattr(x, name) for name in _NO_VALUES))


_NO_VALUES = ("__array__", "__next__", "tocoo")  # of arrays, of iterators, which end, and of SciPy's matrices


def can_be_hashed(x: object) -> bool:
    if isinstance(x, Size):  # its hash would fix the size to a number
        return True
    try:
        hash(x)
    except (TypeError, ValueError):  # the latter of a memoryview that can be written to
        return False
    return True


def _apart(f: Callable[..., PyTree], tree: PyTree, leaves: list[PyTree], spec: optree.PyTreeSpec,
                  fixed: Collection[int]) -> tuple[list[PyTree], optree.PyTreeSpec, bool]:
    """Return the leaves that are not static, the pytree with the static ones as nodes, and whether there are any."""
    flags = [is_static(x) for x in leaves]
    if fixed:
        moving = [i for i, flag in enumerate(flags) if not flag]
        for k in fixed:
            flags[moving[k]] = True
    elif not any(flags):
        return leaves, spec, False
    for i, (x, flag) in enumerate(zip(leaves, flags, strict=True)):
        if flag and not can_be_hashed(x):
            name = argument_names(f, *tree)[i]
            if is_static(x):
                leaf_type(x, lambda name=name: name)  # type: ignore[misc]  # raises
            raise DtypeError(at_user_line(
                f"argument {name} is static, and a {type(x).__name__} cannot be hashed. Pass an array as an ordinary "
                "argument, or a tuple of its numbers"))
    marked: PyTree = [Static(x) if flag else x for x, flag in zip(leaves, flags, strict=True)]
    new: PyTree = optree.tree_unflatten(spec, marked)
    return *optree.tree_flatten(new), True


def bound_static(f: Callable[..., PyTree], args: Sequence[PyTree]) -> tuple[Callable[..., PyTree], tuple[PyTree, ...]]:
    """Return a function and its arguments such that static values are no leaves of these."""
    flat = flatten_arguments(f, tuple(args), {})
    if not flat.has_static:
        return f, tuple(args)

    @functools.wraps(f)
    def bound(*args: PyTree, **kwargs: PyTree) -> PyTree:
        return f(*unmarked(args), **unmarked(kwargs))

    whole: PyTree = optree.tree_unflatten(flat.tree, flat.leaves)
    return bound, whole[0]


def _refuse(tree: optree.PyTreeSpec, which: object, parameters: Sequence[str], label: str) -> None:
    """Raise `GradError` if an argument that is differentiated has static values."""
    for path, value in static_parts(tree):
        name = parameters[which] if isinstance(which, int) and 0 <= which < len(parameters) else which
        raise GradError(at_user_line(
            f"{label}: argument {name}{''.join(f'[{key!r}]' for key in path)} is {value!r}, which is static: only "
            "floating arrays have derivatives. " + (
                "Pass it beside the parameters, as an argument of its own, or name a dataclass's field in "
                "mg.register_dataclass(static=...)." if path else "Leave it out of argnums" + (
                    ": argnums=1 is the first argument after it." if which == 0 else "."))))


@CHECKS.append
def _refuse_lists_of_bools(f: Callable[..., PyTree], args: tuple[PyTree, ...], kwargs: dict[str, PyTree],
                           in_axes: InAxes, name: str) -> None:
    """Raise `BatchError` for a mapped list of bools: they are static, and have no axis."""
    if not any(type(x) is list and any(type(v) is Static and isinstance(v.value, bool) for v in x) for x in args):
        return
    entries, _ = argument_axes(in_axes, len(args), [*kwargs], lambda: parameter_names(f), name)
    names = [*parameter_names(f), *map("argument {}".format, range(len(args)))]
    for x, axis, label in zip(args, entries, names, strict=False):
        if type(x) is list and axis is not None and any(type(v) is Static for v in x):
            raise BatchError(at_user_line(
                f"{name}: {label} is a list of bools, which are static and have no axis to map over. Say None in "
                "in_axes for what all examples share, or pass np.array(a list), where each of its values is an "
                "example."))


STATIC.update(apart=_apart, unmarked=unmarked, refuse=_refuse)
