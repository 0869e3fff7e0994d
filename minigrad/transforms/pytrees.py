"""Dataclasses as pytrees."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import optree

from ..errors import MinigradError, at_user_line
from ..tracebacks import boundary

# optree registers types per namespace; this is the global one, which every lookup includes.
_EVERYWHERE = optree.registry.__GLOBAL_NAMESPACE


@boundary
def register_dataclass(cls: type | None = None, *, static: tuple[str, ...] = ()) -> Any:
    """Make the instances of a dataclass pytrees: arguments and results of traced functions, of several arrays each.

    Parameters
    ----------
    cls : type
        A dataclass whose fields are pytrees of arrays.
    static : tuple of str
        Fields that are no arrays: they stay as they are, must be hashable, and another value is another program.

    Returns
    -------
    type
        `cls`; without it, a decorator.

    Raises
    ------
    MinigradError
        If `cls` is no dataclass, or has no such field.

    Examples
    --------
    >>> import dataclasses
    >>> @mg.register_dataclass
    ... @dataclasses.dataclass
    ... class Params:
    ...     w: np.ndarray
    ...     b: float
    >>> mg.grad(lambda p: np.sum(p.w**2) + 3.0 * p.b)(Params(np.array([1.0, 2.0]), 0.0)).w
    array([2., 4.])
    """
    def register(cls: type) -> type:
        if not dataclasses.is_dataclass(cls):
            raise MinigradError(at_user_line(f"register_dataclass({cls.__name__}): it is no dataclass"))
        fields = [f.name for f in dataclasses.fields(cls)]
        if unknown := set(static) - set(fields):
            raise MinigradError(at_user_line(f"register_dataclass({cls.__name__}): no fields {sorted(unknown)}"))
        moving = tuple(n for n in fields if n not in static)
        cls.__pytree__ = _registered(cls, moving, tuple(static))
        return cls

    return register if cls is None else register(cls)


class _Registration:
    """How a class is a pytree. It is an attribute of the class, so that pickles of the class itself have it."""

    def __init__(self, cls: type, moving: tuple[str, ...], static: tuple[str, ...]):
        self._parts = cls, moving, static

    def __reduce__(self) -> Any:
        return _registered, self._parts


def _registered(cls: type, moving: tuple[str, ...], static: tuple[str, ...]) -> _Registration:
    """Register a class, unless it is; one that a pickle has made anew (as cloudpickle does) is not."""
    if "__pytree__" not in vars(cls):
        optree.register_pytree_node(cls, _flatten(moving, static), _unflatten(cls, moving, static),
                                    namespace=_EVERYWHERE)
    return _Registration(cls, moving, static)


def _flatten(moving: tuple[str, ...], static: tuple[str, ...]) -> Callable[[Any], Any]:
    def flatten(x: Any) -> tuple[Any, Any, Any]:
        return (tuple(getattr(x, n) for n in moving), tuple(getattr(x, n) for n in static), moving)

    return flatten


def _unflatten(cls: type, moving: tuple[str, ...], static: tuple[str, ...]) -> Callable[[Any, Any], Any]:
    def unflatten(kept: Any, children: Any) -> Any:
        # Not by the class itself: what it would check or convert may not hold of traced values.
        x = object.__new__(cls)
        for name, value in zip((*moving, *static), (*children, *kept), strict=True):
            object.__setattr__(x, name, value)
        return x

    return unflatten
