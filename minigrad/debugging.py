"""Faults of programs, traced to a node: the first NaN, the user's line of an error, all frames of a traceback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from . import tracebacks
from .graph import Graph, Node
from .interpreters import evaluate, settings
from .primitive import on_host
from .symbolic import Symbol


@contextmanager
def debug_nans(enabled: bool = True) -> Iterator[None]:
    """Raise an error at the first NaN that a program computes within the ``with`` block.

    Programs run node by node in the block, compiled ones too.

    Parameters
    ----------
    enabled : bool

    Yields
    ------
    None

    Raises
    ------
    FloatingPointError
        From the first node that makes a NaN out of inputs without one: its operation, shape and line.

    Examples
    --------
    >>> with mg.debug_nans():
    ...     mg.grad(lambda x: np.log(np.sin(x) - 2.0))(1.0)
    Traceback (most recent call last):
        ...
    FloatingPointError: ...log(f64[]) made the first NaN
    """
    before, settings.check = settings.check, _refuse_nan if enabled else None
    try:
        yield
    finally:
        settings.check = before


def debugging() -> bool:
    """Return whether `debug_nans` is on for this thread."""
    return settings.check is not None


def full_tracebacks(on: bool = True) -> bool:
    """Show every frame in tracebacks, or only those of the user's code and one of minigrad's.

    ``MINIGRAD_TRACEBACK=full`` in the environment shows them from the start.

    Parameters
    ----------
    on : bool

    Returns
    -------
    bool
        The setting before.

    Examples
    --------
    >>> before = mg.full_tracebacks()
    >>> mg.full_tracebacks(before)
    True
    """
    before, tracebacks.show_all = tracebacks.show_all, bool(on)
    return before


def _refuse_nan(node: Node, out: object, inputs: Sequence[object]) -> None:
    def has_nan(value: object) -> bool:
        if isinstance(value, tuple):
            return any(map(has_nan, value))
        array = on_host(value)
        return array.dtype.kind == "f" and bool(np.isnan(array).any())

    if has_nan(out) and not any(map(has_nan, inputs)):
        types = ", ".join(str(i.type) for i in node.inputs)
        raise FloatingPointError(f"{node.where}: {node.prim.name}({types}) made the first NaN")


def explain(error: Exception, graph: Graph, arrays: Sequence[np.ndarray], sizes: Mapping[Symbol, int]) -> Exception:
    """Return the error that the reference raises in place of a program's: it names the user's line."""
    # A loop's body counts its own examples.
    if isinstance(error, (IndexError, np.linalg.LinAlgError)) or not getattr(error, "__notes__", None):
        try:
            evaluate(graph, arrays, sizes)
        except MemoryError:  # the reference needs more memory than the program
            return error
        except Exception as located:
            return located
    return error
