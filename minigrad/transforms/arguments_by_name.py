"""Arguments by name: those that are differentiated, and the entries of `in_axes`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import optree
from optree import PyTreeSpec

from ..errors import BatchError, MinigradError, at_user_line
from ..graph import Graph, InAxes
from .graph_forms import BY_NAME, Argnums, Names, Part, argument, in_tree
from .trace import parameter_names


def arguments(argnums: Argnums) -> Sequence[Part]:
    """Return the arguments that `argnums` names: one, or several."""
    return list(argnums) if isinstance(argnums, Iterable) and not isinstance(argnums, str) else [argnums]


def part(graph: Graph, which: Part, label: str, error: type[MinigradError], word: str, parameters: Names = tuple
         ) -> tuple[Sequence[int], PyTreeSpec]:
    """Return the positions of the inputs that belong to an argument, or to a part of one, and their pytree."""
    spec = in_tree(graph)
    args, kwargs = spec.children()
    if isinstance(which, (int, np.integer)) and not isinstance(which, bool):
        count = args.num_children
        if -count <= which < count:
            return argument(graph, which)
        names = parameters() if which >= count else ()
        if not count <= which < len(names) or names[which] not in kwargs.entries():
            raise error(at_user_line(f"{label}: {word} {which}, but there are {count} positional arguments"
                                     + "".join(f", and {k}=" for k in kwargs.entries())))
        which = names[which]
    if not isinstance(which, str):
        raise error(at_user_line(f"{label}: {word} must hold names and positions (ints), got {which!r}"))
    if which in kwargs.entries():
        leaves = {k: child.num_leaves for k, child in zip(kwargs.entries(), kwargs.children(), strict=True)}
        first = args.num_leaves + sum(n for k, n in itertools.takewhile(lambda item: item[0] != which, leaves.items()))
        return range(first, first + leaves[which]), kwargs.child(kwargs.entries().index(which))
    names = parameters()
    if which in names[:args.num_children]:
        return argument(graph, names.index(which))
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


def argument_axes(in_axes: InAxes, count: int, keys: Sequence[str], parameters: Names, name: str
                  ) -> tuple[tuple[InAxes, ...], dict[str, InAxes]]:
    """Return the entry of `in_axes` for each of `count` positional arguments, and for those by keyword, `keys`.

    An argument that a dict does not name is shared. Further entries of a tuple belong to the parameters at their
    positions; other keyword arguments have axis 0.
    """
    if isinstance(in_axes, Mapping):
        names = [*parameters()[:count], *keys]
        if unknown := [k for k in in_axes if k not in names]:
            raise BatchError(at_user_line(f"{name}: in_axes names {', '.join(map(repr, unknown))}; the arguments are "
                                          f"called {', '.join(names) or 'by no name'}"))
        own = [*parameters()[:count]]
        return (tuple(in_axes.get(n) for n in [*own, *[""] * (count - len(own))]),
                {k: in_axes.get(k) for k in keys})
    by_keyword: dict[str, InAxes] = dict.fromkeys(keys, 0)
    if not isinstance(in_axes, (list, tuple)):
        return (in_axes,) * count, by_keyword
    further = parameters()[count:len(in_axes)] if len(in_axes) > count and keys else ()
    if len(in_axes) != count + len(further) or not set(further) <= set(keys):
        more = f" and {len(keys)} by keyword ({', '.join(keys)})" if keys else ""
        raise BatchError(at_user_line(
            f"{name}: in_axes has {len(in_axes)} {'entry' if len(in_axes) == 1 else 'entries'}, but there "
            f"{'is 1 positional argument' if count == 1 else f'are {count} positional arguments'}{more}"
            + (". Name the arguments that are mapped: in_axes={" + f"{keys[0]!r}: 0" + "} shares all others. Without "
               "an entry, keyword arguments are mapped along axis 0" if keys else "")))
    return tuple(in_axes[:count]), by_keyword | dict(zip(further, in_axes[count:], strict=True))


def positional_axes(f: Callable[..., object], in_axes: InAxes, count: int, name: str) -> InAxes:
    """Return `in_axes` without names, for a call with `count` positional arguments."""
    if not isinstance(in_axes, Mapping):
        return in_axes
    return argument_axes(in_axes, count, (), lambda: parameter_names(f), name)[0]


BY_NAME.update(part=part, axes=argument_axes)
