"""Marks in a program: where gradients stop, and what is computed again instead of kept."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import optree

from ..ops import control
from ..ops.elementwise import stop_gradient as stop
from ..traced_array import Array, as_array
from ..tracing import tracing
from .picklable import picklable
from .trace import closed, finish, stage


def stop_gradient(x: Any) -> Any:
    """Return `x`, a pytree of arrays, through which no derivative flows."""
    if not tracing():
        return x
    return optree.tree_map(lambda v: Array(stop(as_array(v)._node)), x)


@picklable
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
        staged = stage(f, args, kwargs)
        body, free = closed(staged)
        node = control.checkpoint(*staged.inputs, *free, graph=body)
        return finish(staged.inputs, staged.leaves, control.parts(node), staged.out_tree)

    return marked
