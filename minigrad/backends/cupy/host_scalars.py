"""Scalars that the host computes: functions of sizes, constants and arguments that are Python numbers.

Kernels read them from the table, so that launches need not compute ``1 / n`` or an optimizer's step count.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import numpy as np

from ...graph import Graph, Node, reachable
from ...interpreters import concrete
from ...ops.constants import full, size_
from ...symbolic import Symbol


class HostScalars:
    """The scalars of a graph that depend on no array of the device.

    Parameters
    ----------
    graph : Graph
    numeric : collection of int
        The inputs that are Python numbers.

    Attributes
    ----------
    nodes : dict of Node to None
        The inputs that are given, and the elementwise statements on them, on sizes and on constants, in order.
    """

    def __init__(self, graph: Graph, numeric: Collection[int] = ()):
        self.numeric = {graph.inputs[i]: i for i in sorted(numeric)}
        self.nodes: dict[Node, None] = dict.fromkeys(self.numeric)
        for n in graph.nodes:
            if n.prim.kind == "elementwise" and n.shape == () and all(
                    i in self.nodes or i.prim in (full, size_) for i in n.inputs):
                self.nodes[n] = None


class Scalars:
    """Scalars for some sizes: call it with a program's arguments.

    Attributes
    ----------
    vary : bool
        Whether any of them depends on an argument.
    """

    def __init__(self, host: HostScalars, outputs: Sequence[Node], sizes: Mapping[Symbol, int]):
        self._outputs = outputs
        self._numeric = {n: host.numeric[n] for n in reachable(outputs) if n in host.numeric}
        self._known: dict[Node, np.ndarray] = {}
        self._steps: list[tuple[Node, Callable[..., np.ndarray]]] = []
        for n in reachable(outputs):
            if n not in self._numeric:
                step = n, partial(n.prim.eval, np, **concrete(n.params, sizes))
                if all(i in self._known for i in n.inputs):
                    _evaluate([step], self._known)
                else:
                    self._steps.append(step)
        self.vary = bool(self._numeric)

    def __call__(self, arguments: Sequence[object]) -> list[np.ndarray]:
        """Return the scalars as arrays without axes.

        Raises
        ------
        OverflowError
            If an argument does not fit into its dtype.
        """
        values = {**self._known, **{n: np.asarray(arguments[i], n.dtype) for n, i in self._numeric.items()}}
        _evaluate(self._steps, values)
        return [values[n] for n in self._outputs]


def _evaluate(steps: Sequence[tuple[Node, Callable[..., np.ndarray]]], values: dict[Node, np.ndarray]) -> None:
    """Add the values of statements, given those before them."""
    with np.errstate(all="ignore"):  # a device does not warn
        for n, evaluation in steps:
            values[n] = np.asarray(evaluation(*[values[i] for i in n.inputs]), n.dtype)
