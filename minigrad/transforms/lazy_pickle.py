"""Functions as memories: a pickle holds a function's name or its own pickle, which is read when it is called."""

from __future__ import annotations

import functools
import importlib
import inspect
import pickle
import sys
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from ..errors import MinigradError, at_user_line
from .pickling import is_named


class Remembered:
    """A function that need not exist where a pickle is read: it is looked up when it is called.

    Attributes
    ----------
    origin : (str, str, bool), bytes or None
        The module and the name by which it is found, and whether that is a decorated one; or its pickle.
    """

    def __init__(self, words: dict[str, str], parameters: list[tuple[str, int]],
                 origin: tuple[str, str, bool] | bytes | None):
        vars(self).update(words)
        self._words, self._parameters, self.origin = words, parameters, origin
        self.__signature__ = inspect.Signature([inspect.Parameter(n, inspect._ParameterKind(k)) for n, k in parameters])

    @staticmethod
    def of(f: Callable[..., Any], decorated: Any) -> Remembered:
        """Return the memory of the function that `decorated` wraps."""
        if isinstance(f, Remembered):
            return f
        try:
            parameters = [(p.name, int(p.kind)) for p in inspect.signature(f).parameters.values()]
        except (TypeError, ValueError):
            parameters = []
        words = {k: v for k in functools.WRAPPER_ASSIGNMENTS if isinstance(v := getattr(f, k, None), str)}
        words.setdefault("__name__", type(f).__name__)
        if is_named(f) or is_named(decorated):
            return Remembered(words, parameters, (f.__module__, f.__qualname__, not is_named(f)))
        try:
            return Remembered(words, parameters, _dumps()(f))
        except Exception:  # objects say in many ways that they have no pickle; the graphs do without it
            return Remembered(words, parameters, None)

    def __reduce__(self) -> Any:
        return Remembered, (self._words, self._parameters, self.origin)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    @functools.cached_property
    def _function(self) -> Callable[..., Any]:
        why = (f"{self.__name__}: this compiled function comes from a pickle, which holds its programs and not the "
               "function. That is needed for arguments of another structure, dtype or shape, and within a trace. Call "
               "it with such arguments before it is pickled, or compile it here")
        if self.origin is None:
            raise MinigradError(at_user_line(why))
        try:
            if isinstance(self.origin, bytes):
                return pickle.loads(self.origin)
            module, name, decorated = self.origin
            found = attrgetter(name)(importlib.import_module(module))
        except Exception as error:
            raise MinigradError(at_user_line(f"{why} ({type(error).__name__}: {error})")) from error
        return found.__wrapped__ if decorated else found


def _dumps() -> Callable[[Any], bytes]:
    """Return what pickles a function: cloudpickle, where that is loaded, has those of a script and lambdas too."""
    loaded = (sys.modules.get(name) for name in ("cloudpickle", "joblib.externals.cloudpickle"))
    return next((module.dumps for module in loaded if module is not None), pickle.dumps)
