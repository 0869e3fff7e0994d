"""Lazily unpickled functions: a pickle holds a function's name or bytes, resolved at the first call."""

from __future__ import annotations

import functools
import importlib
import inspect
import pickle
import sys
from collections.abc import Callable, Mapping
from operator import attrgetter

from ..errors import MinigradError, at_user_line
from ..graph import PyTree
from ..immutable import cached_property
from .pickling import is_named


class Remembered:
    """A function that a pickle holds by reference: its first call resolves it.

    Attributes
    ----------
    origin : (str, str, bool), bytes or None
        Module, qualified name, and whether the name is that of a decorated function; or the function's pickle.
    """

    __name__: str

    def __init__(self, words: Mapping[str, str], parameters: list[tuple[str, int]],
                 origin: tuple[str, str, bool] | bytes | None):
        vars(self).update(words)
        self._words, self._parameters, self.origin = words, parameters, origin
        self.__signature__ = inspect.Signature([inspect.Parameter(n, inspect._ParameterKind(k)) for n, k in parameters])

    @staticmethod
    def of(f: Callable[..., PyTree], decorated: object) -> Remembered:
        """Return the reference to the function that `decorated` wraps."""
        if isinstance(f, Remembered):
            return f
        try:
            parameters = [(p.name, int(p.kind)) for p in inspect.signature(f).parameters.values()]
        except (TypeError, ValueError):
            parameters = []
        words: dict[str, str] = {k: v for k in functools.WRAPPER_ASSIGNMENTS
                                 if isinstance(v := getattr(f, k, None), str)}
        words.setdefault("__name__", type(f).__name__)
        if is_named(f) or is_named(decorated):
            return Remembered(words, parameters, (f.__module__, f.__qualname__, not is_named(f)))
        try:
            return Remembered(words, parameters, _dumps()(f))
        except Exception:  # unpicklable objects raise many kinds of errors; the graphs work without the function
            return Remembered(words, parameters, None)

    def __reduce__(self) -> tuple[object, ...]:
        return Remembered, (self._words, self._parameters, self.origin)

    def __call__(self, *args: PyTree, **kwargs: PyTree) -> PyTree:
        return self._function(*args, **kwargs)

    @cached_property
    def _function(self) -> Callable[..., PyTree]:
        function: Callable[..., PyTree]
        why = (f"{self.__name__}: this compiled function comes from a pickle, which holds its programs and not the "
               "function. That is needed for arguments of another structure, dtype or shape, and within a trace. Call "
               "it with such arguments before it is pickled, or compile it here")
        if self.origin is None:
            raise MinigradError(at_user_line(why))
        try:
            if isinstance(self.origin, bytes):
                function = pickle.loads(self.origin)
                return function
            module, name, decorated = self.origin
            function = attrgetter(name)(importlib.import_module(module))
        except Exception as error:
            raise MinigradError(at_user_line(f"{why} ({type(error).__name__}: {error})")) from error
        if decorated:
            function = inspect.getattr_static(function, "__wrapped__")
        return function


def _dumps() -> Callable[[object], bytes]:
    """Return cloudpickle's `dumps`, which takes lambdas too, if it is loaded; else pickle's."""
    loaded = (sys.modules.get(name) for name in ("cloudpickle", "joblib.externals.cloudpickle"))
    return next((module.dumps for module in loaded if module is not None), pickle.dumps)
