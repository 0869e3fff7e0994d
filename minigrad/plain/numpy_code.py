"""`numpy_code`: trace a function of NumPy code as it stands."""

from __future__ import annotations

import functools
from collections.abc import Callable

import optree

from ..graph import PyTree
from ..traced_array import Array
from ..tracing import thread, tracing
from ..transforms.pickling import picklable
from .exchange import exchanged
from .mutable_array import MutableArray


@picklable
def numpy_code(f: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """Return a function of NumPy code that transforms and programs trace as it stands.

    Within a trace, the names of NumPy and `math` in the function, and in all functions of the user that it calls, stand
    for functions that take traced values where NumPy's protocols do not hand them over: ``np.array([a, b])``,
    ``np.zeros(n)`` with assignment to its elements, ``table[i]``, ``np.r_``, ``float(x)``, ``math.exp(x)``. Outside of
    traces the function runs on NumPy.

    Parameters
    ----------
    f : callable
        A function of pytrees of arrays that does not name minigrad.

    Returns
    -------
    callable
        A function of the same arguments.

    Examples
    --------
    >>> def rotated(angle, point):
    ...     c, s = np.cos(angle), np.sin(angle)
    ...     return (np.array([[c, -s], [s, c]]) @ point)[0]
    >>> mg.grad(mg.numpy_code(rotated))(0.0, np.array([1.0, 2.0]))
    np.float64(-2.0)
    """

    @functools.wraps(f)
    def run(*args: PyTree, **kwargs: PyTree) -> PyTree:
        if not tracing():
            return f(*args, **kwargs)
        trace = thread.trace
        before, trace.numpy_code = trace.numpy_code, True
        try:
            with exchanged(f, args, kwargs):
                given: PyTree = (args, kwargs)
                writable: PyTree = optree.tree_map(_writable, given)
                result = f(*writable[0], **writable[1])
                return result if before else optree.tree_map(_fixed, result)
        finally:
            trace.numpy_code = before

    return run


def _writable(x: object) -> object:
    return MutableArray(x) if isinstance(x, Array) and not isinstance(x, MutableArray) else x


def _fixed(x: object) -> object:
    """Return a result as code outside sees it: of traced values and ndarrays."""
    return x.current() if isinstance(x, MutableArray) else x
