"""Errors of matrices that LAPACK refuses: the example in the batch whose matrix it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..graph import CALLS, Graph, Node
from ..interpreters import concrete
from ..primitive import ArrayNamespace
from ..symbolic import Symbol
from . import index_errors
from .subgraph import example_of_part, running


def words(error: Exception, node: Node, operands: Sequence[np.ndarray], graph: Graph, arrays: Sequence[np.ndarray],
          sizes: Mapping[Symbol, int] | None, xp: ArrayNamespace) -> str | None:
    """Return the words about the first index or matrix that a node refuses, or None.

    Parameters
    ----------
    error : Exception
        The error of the node, on `operands`.
    node, operands, graph, arrays, sizes, xp
        The node and its run, as of `index_errors.sentence`.
    """
    if isinstance(error, IndexError):
        return index_errors.sentence(node, operands, graph, arrays, sizes, xp)
    if not isinstance(error, np.linalg.LinAlgError) or node.prim.kind != "matrix" or "vmap" not in node.rules:
        return None
    place = _refused(node, operands, sizes or {}, xp)
    example = None if place is None else example_of_part(place)
    return None if example is None else f"{error}, in example {example}"


def _refused(node: Node, operands: Sequence[np.ndarray], sizes: Mapping[Symbol, int], xp: ArrayNamespace) -> int | None:
    """Return the place of the first refused matrix among the examples of a node, or None."""
    root = node
    while root.source is not None:
        root = root.source
    part = running.parts[-1] if running.parts else None
    if node.inputs[0].ndim == root.inputs[0].ndim:  # one matrix, of an example alone or of all
        return 0 if part is not None and part[1] is not None and len(part[1]) == 1 else None
    if part is not None and part[0] != node.inputs[0].shape[0]:
        return None
    params = concrete(node.params, sizes)

    def refused(begin: int, end: int) -> bool:
        try:
            node.prim.eval(xp, *(x[begin:end] for x in operands), **params)
        except np.linalg.LinAlgError:
            return True
        return False

    begin, end = 0, len(operands[0])
    while end - begin > 1:  # the first refused matrix is among these: halves take the time of one more run, or two
        middle = (begin + end) // 2
        begin, end = (begin, middle) if refused(begin, middle) else (middle, end)
    return begin if refused(begin, end) else None


CALLS["error_words"] = words
