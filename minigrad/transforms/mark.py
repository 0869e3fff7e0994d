"""Marks in a program: where gradients stop, and what is computed again instead of kept."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import optree

from .. import walk
from ..graph import ArrayType, Graph, reachable
from ..numpy.array import Array, as_array
from ..ops import control
from ..ops.elementwise import stop_gradient as stop
from .trace import finish, function_name, stage, tracing


def stop_gradient(x: Any) -> Any:
    """Return `x`, a pytree of arrays, through which no derivative flows."""
    if not tracing():
        return x
    return optree.tree_map(lambda v: Array(stop(as_array(v)._node)), x)


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function whose intermediates are computed again in the backward pass instead of kept.

    The value and every derivative are unchanged; the memory held between forward and backward pass is that
    of f's inputs.

    Parameters
    ----------
    f : callable
        A function of pytrees of arrays.
    """

    @functools.wraps(f)
    def marked(*args: Any, **kwargs: Any) -> Any:
        # Values of an outer trace that f closes over are inputs of the body, too: they are made before this one.
        first = control.placeholder(ArrayType((), np.dtype(bool))).serial
        staged = stage(f, args, kwargs)
        mine = set(staged.inputs)
        free = _boundary(staged.outputs, mine, first) if tracing() else []
        stand_ins = [control.placeholder(n.type) for n in free]
        outputs = walk.substitute(staged.outputs, dict(zip(free, stand_ins, strict=True)))
        body = Graph((*staged.inputs, *stand_ins), tuple(outputs), name=function_name(f))
        node = control.checkpoint(*staged.inputs, *free, graph=body)
        return finish(staged.inputs, staged.leaves, control.parts(node), staged.out_tree)

    return marked


def _boundary(outputs: list, mine: set, since: int) -> list:
    """Return the nodes made before `since` that the nodes made after it use, constants apart."""
    inside = reachable(outputs, since)
    outer = {i: None for n in inside for i in n.inputs if i.serial < since}
    outer |= {o: None for o in outputs if o.serial < since}
    return [n for n in outer if n not in mine and (n.inputs or n.prim.name == "input")]
