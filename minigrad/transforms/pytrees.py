"""Dataclasses as pytrees."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, overload

import optree

from ..errors import MinigradError, at_user_line
from ..graph import PyTree
from ..tracebacks import boundary

# optree registers types per namespace; this is the global one, which every lookup includes.
_EVERYWHERE = optree.registry.__GLOBAL_NAMESPACE

_MARK = "__pytree__"  # the attribute of a registered class

T = TypeVar("T")


@overload
def register_dataclass(cls: type[T], *, static: tuple[str, ...] = ()) -> type[T]: ...


@overload
def register_dataclass(cls: None = None, *, static: tuple[str, ...] = ()) -> Callable[[type[T]], type[T]]: ...


@boundary
def register_dataclass(cls: type[T] | None = None, *, static: tuple[str, ...] = ()
                       ) -> type[T] | Callable[[type[T]], type[T]]:
    """Make the instances of a dataclass pytrees, which traced functions take and return.

    Parameters
    ----------
    cls : type
        A dataclass whose fields are pytrees of arrays.
    static : tuple of str
        Fields that are not arrays: they must be hashable, and each value gets a program of its own.

    Returns
    -------
    type
        `cls`; without it, a decorator.

    Raises
    ------
    MinigradError
        If `cls` is not a dataclass, or lacks a field in `static`.

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
    def register(cls: type[T]) -> type[T]:
        if not dataclasses.is_dataclass(cls):
            raise MinigradError(at_user_line(f"register_dataclass({cls.__name__}): it is not a dataclass"))
        fields = [f.name for f in dataclasses.fields(cls)]
        if unknown := set(static) - set(fields):
            raise MinigradError(at_user_line(f"register_dataclass({cls.__name__}): no fields {sorted(unknown)}"))
        moving = tuple(n for n in fields if n not in static)
        setattr(cls, _MARK, _registered(cls, moving, tuple(static)))
        return cls

    return register if cls is None else register(cls)


class _Registration:
    """The registration of a class: an attribute of the class, so that a pickle of the class registers it again."""

    def __init__(self, cls: type[Any], moving: tuple[str, ...], static: tuple[str, ...]):
        self._parts = cls, moving, static

    def __reduce__(self) -> tuple[object, ...]:
        return _registered, self._parts


def _registered(cls: type[Any], moving: tuple[str, ...], static: tuple[str, ...]) -> _Registration:
    """Register a class once; cloudpickle rebuilds classes, which are then new."""
    if _MARK not in vars(cls):
        optree.register_pytree_node(cls, _flatten(moving, static), _unflatten(cls, moving, static),
                                    namespace=_EVERYWHERE)
    return _Registration(cls, moving, static)


# the children of a pytree, its static fields, and the children's names
Flattened = tuple[tuple[PyTree, ...], tuple[object, ...], tuple[str, ...]]


def _flatten(moving: tuple[str, ...], static: tuple[str, ...]) -> Callable[[Any], Flattened]:
    def flatten(x: object) -> Flattened:
        return (tuple(getattr(x, n) for n in moving), tuple(getattr(x, n) for n in static), moving)

    return flatten


def _unflatten(cls: type[T], moving: tuple[str, ...], static: tuple[str, ...]) -> Callable[[Any, Any], T]:
    def unflatten(kept: tuple[object, ...], children: tuple[PyTree, ...]) -> T:
        # The class's own checks and conversions may fail on traced values, so its __init__ does not run.
        x: T = object.__new__(cls)
        for name, value in zip((*moving, *static), (*children, *kept), strict=True):
            object.__setattr__(x, name, value)
        return x

    return unflatten
