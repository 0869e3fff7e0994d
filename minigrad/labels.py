"""Names that authors give: `label` names a value, `scope` names the operations inside a block.

Both are part of the location of a node, which transforms and passes hand on to the nodes that they make of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

from .errors import MinigradError, Place, at_user_line
from .graph import Node
from .traced_array import Array
from .tracing import thread

T = TypeVar("T")


def label(x: T, name: str) -> T:
    """Name a value in printed graphs, drawings, errors and the explorer.

    The name survives every transform and pass, and costs nothing in a compiled program. Arguments keep their own
    names, and constants have none.

    Parameters
    ----------
    x : array
        Any shape and dtype. A plain array or number comes back as it is.
    name : str

    Returns
    -------
    array
        The same value.

    Raises
    ------
    MinigradError
        If the name is empty, or not a string.

    Examples
    --------
    >>> import minigrad as mg, numpy as np
    >>> def loss(w, x):
    ...     score = mg.label(x @ w, "score")
    ...     return score ** 2
    >>> print(mg.trace(loss)(np.ones(2), np.ones(2)).vmap(in_axes=(None, 0)))
    loss(w: f64[2], x: f64[B, 2]) -> f64[B]
      score: f64[B] = einsum[ai,i->a](x, w)...
      %1: f64[B]    = square(score)...
      return %1
    """
    _check("label", name)
    if not isinstance(x, Array):
        return x
    node = x._node
    if node.prim.kind == "leaf" or node.prim.distinct:
        return x
    named = Node(node.prim, node.inputs, node.params, node.type, like=node)
    file, line, *scopes = node.loc or ("?", 0)
    object.__setattr__(named, "loc", Place(file, line, scopes[0] if scopes else "", name))
    return cast(T, Array(named, weak=x._weak))


@contextmanager
def scope(name: str) -> Iterator[None]:
    """Name the operations inside a ``with`` block, or of a decorated function; scopes nest.

    The explorer groups operations by scope, and errors name it.

    Parameters
    ----------
    name : str

    Yields
    ------
    None

    Raises
    ------
    MinigradError
        If the name is empty, or not a string.

    Examples
    --------
    >>> import minigrad as mg, numpy as np
    >>> @mg.scope("layer 1")
    ... def layer(w, x):
    ...     return np.tanh(x @ w)
    >>> print(mg.trace(layer)(np.ones(2), np.ones(2)).outputs[0].where)
    <...>:3 (layer 1)
    """
    _check("scope", name)
    trace = thread.trace
    before, trace.scope = trace.scope, f"{trace.scope}/{name}" if trace.scope else name
    try:
        yield
    finally:
        trace.scope = before


def _check(function: str, name: str) -> None:
    if not isinstance(name, str) or not name:
        raise MinigradError(at_user_line(f"{function}: the name must be a string, and not empty; got {name!r}"))
