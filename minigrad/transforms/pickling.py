"""Functions that transforms make, as objects: they pickle as the call that made them."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from ..tracebacks import boundary, for_user


def picklable(maker: Callable[..., Any]) -> Callable[..., Any]:
    """Let the function that `maker` returns be pickled, or each function of the tuple that it returns.

    A pickle holds the maker's name and arguments, so that these must pickle themselves. A function that a module
    knows by its name, as one that is decorated, pickles as that name.
    """

    @boundary
    @functools.wraps(maker)
    def make(*args: Any, **kwargs: Any) -> Any:
        made = maker(*args, **kwargs)
        if isinstance(made, tuple):
            return type(made)(*(Made(f, make, args, kwargs, i) for i, f in enumerate(made)))
        return Made(made, make, args, kwargs)

    return make


class Made:
    """A function, and the call that made it; from `pickling`."""

    def __init__(self, function: Callable[..., Any], maker: Callable[..., Any], args: tuple, kwargs: dict,
                 part: int | None = None):
        functools.update_wrapper(self, function)
        self.__wrapped__ = getattr(function, "__wrapped__", function)
        self._function = function
        self._made_by = maker, args, kwargs, part

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._function(*args, **kwargs)
        except Exception as error:
            raise for_user(error)  # noqa: B904

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        maker, args, kwargs, _ = self._made_by
        words = [*map(repr, args), *(f"{k}={v!r}" for k, v in kwargs.items())]
        return f"<minigrad.{maker.__name__}({', '.join(words)})>"

    def __copy__(self) -> Made:
        return self

    def __deepcopy__(self, memo: dict) -> Made:
        return self

    def __reduce__(self) -> Any:
        if is_named(self):
            return self.__qualname__
        return (_made, self._made_by)


def _made(maker: Callable[..., Any], args: tuple, kwargs: dict, part: int | None) -> Any:
    made = maker(*args, **kwargs)
    return made if part is None else made[part]


def is_named(x: Any) -> bool:
    """Tell whether a module knows an object by the object's own name."""
    try:
        return attrgetter(x.__qualname__)(sys.modules[x.__module__]) is x
    except (AttributeError, KeyError, TypeError):
        return False
