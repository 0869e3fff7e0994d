"""What both checks share: functions staged in double precision, tolerances, and how a disagreement is worded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree

from ..errors import DtypeError
from ..graph import ArrayType, Graph, Node
from ..text import format_node, node_names
from ..transforms.trace import Staged, flatten_arguments, function_name, stage


@dataclass(frozen=True)
class Checked:
    """What a check that passed has looked at; ``print`` it.

    Attributes
    ----------
    what : str
    comparisons : int
        How many pairs of numbers were compared.
    largest : float
        The largest difference among them, relative to the larger number or to the array's scale.
    """

    what: str
    comparisons: int
    largest: float

    def __str__(self) -> str:
        return f"{self.what}: {self.comparisons:,} comparisons, largest relative difference {self.largest:.1e}"


def widen(args: Sequence[Any]) -> tuple[Any, ...]:
    """Return the arguments with every floating leaf in float64."""

    def wide(x: Any) -> Any:
        return np.asarray(x, np.float64) if np.asarray(x).dtype.kind == "f" else x

    return tuple(optree.tree_map(wide, a) for a in args)


def stage_precisely(f: Callable[..., Any], args: Sequence[Any], stage_it: Callable[[tuple], Staged]) -> tuple[
        tuple[Any, ...], Staged]:
    """Stage `f` in float64, or in the dtypes given where it refuses float64; return the arguments used, too."""
    args = tuple(args)
    flatten_arguments(f, args, {})  # refuses what is no array, with the leaf's name
    wide = widen(args)
    try:
        return wide, stage_it(wide)
    except DtypeError:
        return args, stage_it(args)


def stage_call(f: Callable[..., Any]) -> Callable[[tuple], Staged]:
    """Return the function that stages ``f(*args)``."""
    return lambda args: stage(f, args, {})


def precision(graph: Graph) -> float:
    """Return the round-off of the coarsest floating dtype in the graph."""
    types = [t for n in graph.nodes for t in n.types]
    return max((float(np.finfo(t.dtype).eps) for t in types if t.floating), default=float(np.finfo(float).eps))


def describe(node: Node, graph: Graph) -> str:
    """Return ``%3: f64[4] = mul(%1, w), at loss.py:12``, as the node stands on the graph's page."""
    names = node_names(graph)
    made = f", made by the {node.rules[0]} rule of {node.source.prim.name}" if node.rules and node.source else ""
    return f"{names[node]}: {node.type} = {format_node(node, names)}, at {node.where}{made}"


def element(name: str, index: tuple[int, ...]) -> str:
    """Return ``params['W'][3, 1]``."""
    return name + (f"[{', '.join(map(str, index))}]" if index else "")


def at_element(what: str, index: tuple[int, ...]) -> str:
    """Return ``operand 0 at [3, 1]``."""
    return element(f"{what} at ", index) if index else what


def number(x: Any) -> str:
    """Return a number with the digits that a comparison needs."""
    return f"{float(x):.9g}"


def plural(n: int, word: str) -> str:
    """Return ``1 example`` or ``3 examples``."""
    return f"{n:,} {word}{'s' * (n != 1)}"


def name_of(f: Callable[..., Any]) -> str:
    """Return the name that messages call `f` by."""
    return function_name(f)


def type_of(x: Any) -> ArrayType:
    """Return the type of an array."""
    x = np.asarray(x)
    return ArrayType(x.shape, x.dtype)


def leaf_names(tree: Any) -> tuple[str, ...]:
    """Return the name of each leaf of `tree`: ``['W'][0]``."""
    return tuple("".join(f"[{p!r}]" for p in path) for path in optree.tree_paths(tree))
