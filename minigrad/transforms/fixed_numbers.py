"""The numbers among the arguments of a function that a program of it holds for alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple, TypeAlias

import numpy as np
import optree

from ..errors import MinigradError, at_user_line
from ..graph import PyTree
from ..static import Static
from .graph_forms import Part
from .static_arguments import can_be_hashed, is_static
from .symbolic_trace import SymbolicTrace, trace_symbolic
from .trace import Flat, flatten_arguments, function_name, parameters_of

Key: TypeAlias = tuple[object, ...]
_NUMBERS = frozenset({int, float})


class Arguments(NamedTuple):
    """The arguments of a call.

    Attributes
    ----------
    flat : Flat
        Its leaves are the inputs of the program.
    inputs : list of int
        The positions of these among all leaves.
    fixed : tuple of int
        The positions of the fixed numbers among the arrays and numbers.
    integers : list of int
        The positions, among all leaves, of the integers whose numbers the code needs.
    kinds : tuple
        The structure and the kinds of the arguments, without these integers.
    """

    flat: Flat
    inputs: list[int]
    fixed: tuple[int, ...]
    integers: list[int]
    kinds: Key


class FixedNumbers:
    """The numbers among the arguments of a function that its programs hold for alone.

    Those are the arguments declared static, and the integers whose numbers the code needs, as a trace shows.

    Parameters
    ----------
    f : callable
    static_argnums : int, str, or collection of them
        Positions or names of arguments.

    Attributes
    ----------
    declared : frozenset of (int or str)
        The positions and names of the static arguments.
    known : dict
        The positions of the fixed numbers among the arrays and numbers, by the kinds of the arguments.
    """

    def __init__(self, f: Callable[..., PyTree], static_argnums: Part | Collection[Part] = ()):
        self._f = f
        self.declared = _declared(f, static_argnums)
        self.known: dict[Key, tuple[int, ...]] = {}

    def leaves(self, args: tuple[PyTree, ...], kwargs: dict[str, PyTree]) -> frozenset[int]:
        """Return the positions of the leaves of the arguments that are declared static."""
        own: list[int] = []
        if self.declared:
            count = 0
            for name, value in (*enumerate(args), *sorted(kwargs.items())):
                n = len(optree.tree_leaves(value))
                own += range(count, count + n) if name in self.declared else ()
                count += n
        return frozenset(own)

    def flatten(self, args: tuple[PyTree, ...], kwargs: dict[str, PyTree]) -> Arguments:
        """Return the arguments, without the numbers that are fixed as far as is known."""
        whole: PyTree = (args, kwargs)
        leaves: list[object] = optree.tree_leaves(whole)
        moving = [i for i, x in enumerate(leaves) if not is_static(x)]
        own = self.leaves(args, kwargs)
        declared = tuple(k for k, i in enumerate(moving) if i in own)
        flat = flatten_arguments(self._f, args, kwargs, declared)
        kinds = (flat.tree, *map(kind, flat.leaves))
        fixed = self.known.get(kinds, declared)
        if fixed != declared:
            flat = flatten_arguments(self._f, args, kwargs, fixed)
        return Arguments(flat, [i for k, i in enumerate(moving) if k not in fixed], fixed,
                         [moving[k] for k in fixed if k not in declared], kinds)

    def trace(self, args: tuple[PyTree, ...], kwargs: dict[str, PyTree], arguments: Arguments,
              f: Callable[..., PyTree] | None = None) -> tuple[SymbolicTrace, Arguments]:
        """Return the trace of the function, and its arguments without the numbers that are then known to be fixed.

        It traces `f` in place of the function, if given.
        """
        traced = trace_symbolic(f or self._f, args, kwargs, arguments.fixed)
        if traced.fixed == arguments.fixed:
            return traced, arguments
        self.known[arguments.kinds] = traced.fixed
        return traced, self.flatten(args, kwargs)


def _declared(f: Callable[..., PyTree], static_argnums: Part | Collection[Part]) -> frozenset[Part]:
    """Return the positions and the names of the arguments `static_argnums`: both of each, where they are known."""
    several = isinstance(static_argnums, Iterable) and not isinstance(static_argnums, str)
    given: list[PyTree] = [*static_argnums] if several else [static_argnums]  # type: ignore[misc]  # a collection
    if not given:
        return frozenset()
    parameters = parameters_of(f)
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    more_names = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    more = {str: not parameters or any(p.kind is p.VAR_KEYWORD for p in parameters),
            int: not parameters or any(p.kind is p.VAR_POSITIONAL for p in parameters)}
    declared: set[Part] = set()
    for which in given:
        if isinstance(which, bool) or not isinstance(which, (int, str)):
            raise MinigradError(at_user_line(f"static_argnums of {function_name(f)} must be positions (ints) or names "
                                             f"of arguments, got {which!r}"))
        if isinstance(which, int) and -len(names) <= which < len(names):
            declared |= {which % len(names), names[which]}
        elif which in names:
            declared |= {names.index(str(which)), which}
        elif which in more_names or (more[type(which)] and (isinstance(which, str) or which >= 0)):
            declared.add(which)
        else:
            raise MinigradError(at_user_line(f"static_argnums of {function_name(f)}: there is no argument {which!r}, "
                                             f"but {', '.join([*names, *more_names]) or 'none'}"))
    return frozenset(declared)


# -- kinds of arguments --------------------------------------------------------------------------------------


def kind(x: object) -> object:
    """Return the dtype of an array, or the type of a Python number."""
    if type(x) in _NUMBERS or (isinstance(x, (int, float)) and not isinstance(x, np.generic)):
        return type(x)
    return x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype


def kind_of_leaf(x: object) -> object:
    """Return the type of an argument other than NumPy's arrays, with shape and dtype; of a static one, the value."""
    own = type(x)
    if own in _NUMBERS:
        return own
    if not isinstance(x, type):
        try:
            return own, x.shape, x.dtype  # type: ignore[attr-defined]  # an array, maybe
        except AttributeError:
            pass
    if is_static(x):
        return static_key(x)
    array = np.asarray(x)
    return own, array.shape, array.dtype


def static_key(x: object) -> object:
    """Return the key of a static value; one that cannot be hashed is like no other."""
    return Static(x) if can_be_hashed(x) else object()
