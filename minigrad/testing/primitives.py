"""`check_primitive`: the type, derivatives and batches of a function with custom rules."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import optree

from .. import interpreters
from ..errors import CheckError
from ..graph import Graph, PyTree
from ..tracebacks import boundary
from ..transforms.trace import Call, function_name
from .batching import check_batching
from .common import Checked
from .gradients import check_grads

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@boundary
def check_primitive(f: Callable[..., PyTree], *args: PyTree, order: int = 2, examples: int = 3) -> Checked:
    """Check the type, the derivatives and the batches of a function with custom rules at `args`.

    Parameters
    ----------
    f : callable
        A function made by `primitive`, `custom_vjp` or `custom_jvp`, or any function of arrays.
    *args : arrays
        The point of the check. Finite differences move floating arrays; other examples of a batch are scaled arrays.
    order : {0, 1, 2}
        The highest order of derivatives to check; 0 for a function without derivatives.
    examples : int
        The number of examples of a batch.

    Returns
    -------
    Checked

    Raises
    ------
    CheckError
        If the evaluation returns another type than the type rule, a derivative differs from finite differences (with
        the element and both numbers), or a batch, for some choice of mapped arguments, differs from the loop.

    Examples
    --------
    >>> @mg.custom_vjp(lambda g, out, x: (2 * g * x,))
    ... def square(x):
    ...     return x ** 2
    >>> mg.check_primitive(square, np.array([1.0, -2.0])).largest < 1e-5
    True
    """
    call = Call(f, args)
    staged = call.trace()
    graph = Graph(tuple(staged.inputs), tuple(staged.outputs)).check()
    arrays = [np.asarray(x, n.dtype) for x, n in zip(call.leaves, staged.inputs, strict=True)]
    values = interpreters.evaluate(graph, arrays)
    for node, value in zip(staged.outputs, map(np.asarray, values), strict=True):
        if value.dtype != node.dtype or value.shape != node.shape:
            raise CheckError(f"check_primitive({function_name(f)}): its type rule says {node.type}, and its evaluation "
                             f"returned {value.dtype.name}{list(value.shape)}", node)
    done = [Checked("type", len(values), 0.0)]
    floats = any(t.floating for t in call.types) and any(n.type.floating for n in staged.outputs)
    if order and floats:
        done.append(check_grads(f, args, order=order))
    every = [m for m in itertools.product((0, None), repeat=len(args)) if 0 in m]
    for axes in every if len(args) <= 3 else [(0,) * len(args), *(m for m in every if m.count(0) == 1)]:
        batch = tuple(a if m is None else optree.tree_map(lambda x: _stack(x, examples), a)
                      for a, m in zip(args, axes, strict=True))
        done.append(check_batching(f, batch, in_axes=axes))
    return Checked(f"check_primitive({function_name(f)}): type, order {order} and batches",
                   sum(c.comparisons for c in done), max(c.largest for c in done))


def _stack(x: ArrayLike, n: int) -> np.ndarray:
    """Return `n` different examples: scaled, or rolled if not floating."""
    x = np.asarray(x)
    return np.stack([x * (1 - x.dtype.type(0.05) * k) if x.dtype.kind == "f" else np.roll(x, k) for k in range(n)])
