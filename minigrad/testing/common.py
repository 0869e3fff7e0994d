"""Tools of all checks: staging in double precision, and the parts of their messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, SupportsFloat

import numpy as np
import optree

from ..errors import DtypeError
from ..graph import ArrayType, Graph, Node, PyTree
from ..text import format_node, node_names
from ..transforms.trace import Staged, flatten_arguments

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Checked:
    """The result of a check that passed; ``print`` it.

    Attributes
    ----------
    subject : str
        The check and the function.
    comparisons : int
        The number of compared pairs of numbers.
    largest : float
        The largest difference of a pair, relative to the larger number or to the array's scale.
    """

    subject: str
    comparisons: int
    largest: float

    def __str__(self) -> str:
        return f"{self.subject}: {self.comparisons:,} comparisons, largest relative difference {self.largest:.1e}"


def widen(args: Sequence[PyTree]) -> tuple[PyTree, ...]:
    """Return the arguments with every floating leaf in float64."""

    def wide(x: ArrayLike) -> ArrayLike:
        return np.asarray(x, np.float64) if np.asarray(x).dtype.kind == "f" else x

    return tuple(optree.tree_map(wide, a) for a in args)


def stage_precisely(f: Callable[..., PyTree], args: Sequence[PyTree],
                    stage_at: Callable[[tuple[PyTree, ...]], Staged]) -> tuple[tuple[PyTree, ...], Staged]:
    """Return arguments and the staged `f`: in float64, or in the given dtypes if `f` refuses float64."""
    args = tuple(args)
    flatten_arguments(f, args, {})  # refuses a leaf that is not an array, by its name
    wide = widen(args)
    try:
        return wide, stage_at(wide)
    except DtypeError:
        return args, stage_at(args)


def precision(graph: Graph) -> float:
    """Return the round-off of the coarsest floating dtype in the graph."""
    types = [t for n in graph.nodes for t in n.types]
    return max((float(np.finfo(t.dtype).eps) for t in types if t.floating), default=float(np.finfo(float).eps))


def describe(node: Node, graph: Graph) -> str:
    """Return a node as the printed graph has it: ``%3: f64[4] = mul(%1, w), at loss.py:12``."""
    names = node_names(graph)
    origin = f", made by the {node.rules[0]} rule of {node.source.prim.name}" if node.rules and node.source else ""
    return f"{names[node]}: {node.type} = {format_node(node, names)}, at {node.where}{origin}"


def element(name: str, index: tuple[int, ...]) -> str:
    """Return ``params['W'][3, 1]``."""
    return name + (f"[{', '.join(map(str, index))}]" if index else "")


def at_element(name: str, index: tuple[int, ...]) -> str:
    """Return ``operand 0 at [3, 1]``."""
    return element(f"{name} at ", index) if index else name


def number(x: SupportsFloat) -> str:
    """Return a number with the digits that a comparison needs."""
    return f"{float(x):.9g}"


def plural(n: int, word: str) -> str:
    """Return ``1 example`` or ``3 examples``."""
    return f"{n:,} {word}{'s' * (n != 1)}"


def type_of(x: ArrayLike) -> ArrayType:
    """Return the type of an array."""
    array = np.asarray(x)
    return ArrayType(array.shape, array.dtype)


def leaf_names(tree: PyTree) -> tuple[str, ...]:
    """Return the name of each leaf of `tree`: ``['W'][0]``."""
    return tuple("".join(f"[{p!r}]" for p in path) for path in optree.tree_paths(tree))
