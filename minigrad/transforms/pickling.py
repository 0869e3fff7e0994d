"""Picklable functions: a transform's result pickles as the call that created it."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, overload

from ..errors import MinigradError, at_user_line
from ..immutable import Immutable
from ..tracebacks import boundary, for_user

if TYPE_CHECKING:
    from typing import Concatenate, ParamSpec, Protocol, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R", covariant=True)

    class Maker(Protocol[P, R]):
        """A function of a function and options; of options alone, a decorator."""

        @overload
        def __call__(  # type: ignore[overload-overlap]  # the first argument is the function
            self, f: Callable[..., Any], *args: P.args, **kwargs: P.kwargs) -> R: ...
        @overload
        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Callable[[Callable[..., Any]], R]: ...


def picklable(maker: Callable[Concatenate[Callable[..., Any], P], R]) -> Maker[P, R]:
    """Let `maker` return a picklable function, or a tuple of them.

    A pickle holds the maker's name and arguments, so that these must pickle themselves. A function that a module
    has under the function's own name, such as a decorated one, pickles as that name.

    If the first parameter of `maker` is a function `f`, options without it give a decorator.
    """
    of_function = next(iter(inspect.signature(maker).parameters)) == "f"

    @boundary
    @functools.wraps(maker)
    def make(*args: Any, **kwargs: Any) -> Any:
        if of_function and (f := args[0] if args else kwargs.get("f")) is None:
            return functools.partial(make, **kwargs)
        if of_function and not callable(f):
            raise MinigradError(at_user_line(f"{maker.__name__}: the first argument must be a function, got {f!r:.60}. "
                                             "Options have names"))
        result: Any = maker(*args, **kwargs)
        if isinstance(result, tuple):
            kind: Callable[..., object] = type(result)  # a named tuple, too
            return kind(*(Made(f, make, args, kwargs, i) for i, f in enumerate(result)))
        return Made(result, make, args, kwargs)

    return make


class Made(Immutable):
    """A function, and the call that created it."""

    __qualname__: str

    def __init__(self, function: Callable[..., object], maker: Callable[..., object], args: tuple[object, ...],
                 kwargs: dict[str, object], part: int | None = None):
        functools.update_wrapper(self, function)
        self.__wrapped__ = getattr(function, "__wrapped__", function)
        self._function = function
        self._call = maker, args, kwargs, part

    def __call__(self, *args: object, **kwargs: object) -> Any:
        try:
            return self._function(*args, **kwargs)
        except Exception as error:
            raise for_user(error)  # noqa: B904

    def __get__(self, instance: object, owner: type | None = None) -> Made | types.MethodType:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        maker, args, kwargs, _ = self._call
        words = [*map(repr, args), *(f"{k}={v!r}" for k, v in kwargs.items())]
        return f"<minigrad.{maker.__name__}({', '.join(words)})>"

    def __reduce__(self) -> str | tuple[object, ...]:
        if is_named(self):
            return self.__qualname__
        return (_call, self._call)


def _call(maker: Callable[..., Any], args: tuple[object, ...], kwargs: dict[str, object], part: int | None) -> Any:
    result = maker(*args, **kwargs)
    return result if part is None else result[part]


def is_named(x: Any) -> bool:
    """Return whether a module has an object under the object's own name."""
    try:
        return attrgetter(x.__qualname__)(sys.modules[x.__module__]) is x
    except (AttributeError, KeyError, TypeError):
        return False
