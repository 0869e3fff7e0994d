"""The user's loss and data from a Python file: ``FILE:FUNC`` on the command line."""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ..errors import MinigradError
from ..graph import InAxes, PyTree

_MODULE = "__minigrad_target__"


class TargetError(MinigradError):
    """The error of a missing file, function or data."""


@dataclass(frozen=True)
class Target:
    """A per-example loss, its parameters, and its examples."""

    loss: Callable[..., PyTree]
    params: PyTree
    examples: PyTree
    in_axes: InAxes = None

    @property
    def axes(self) -> InAxes:
        """The batch axis of each argument."""
        return (None, *(0 for _ in self.more)) if self.in_axes is None else self.in_axes

    @property
    def more(self) -> tuple[PyTree, ...]:
        """The arguments after the parameters."""
        return self.examples if type(self.examples) is tuple else (self.examples,)


def load(target: str, params: str = "params", examples: str = "examples") -> Target:
    """Import ``FILE``, and return its function ``FUNC`` with the data of the same file.

    The file defines `params` (the first argument of the loss) and `examples` (a tuple with an array for each further
    argument, examples along axis 0; or one pytree, for one further argument), as values or as functions without
    arguments that return them; and optionally ``in_axes``.

    Raises
    ------
    TargetError
        If a definition is missing, or the file fails: with the line of the file.
    """
    return Sources().target(target, params, examples)


class Sources:
    """The user's Python files, each run once."""

    def __init__(self) -> None:
        self._modules: dict[str, ModuleType] = {}

    def function(self, target: str, beside: str | None = None, data: tuple[str, ...] = ()) -> Callable[..., PyTree]:
        """Return the function of ``FILE:FUNC``, or of ``FUNC`` in the file of `beside`."""
        if target.endswith(".py") and os.path.isfile(target) and (own := self._functions(target, data)):
            raise TargetError(f"expected FILE:FUNC, such as {target}:{own[0]}; {target} has {', '.join(own)}")
        path, name = _parts(target, beside)
        module = self._module(path)
        function = getattr(module, name, None)
        if function is None:
            own = self._functions(path, data)
            raise TargetError(f"{path} has no function {name!r}" + (f"; it has {', '.join(own)}" if own else ""))
        if not callable(function):
            raise TargetError(f"{path}: {name} is a {type(function).__name__}, not a function")
        named: Callable[..., PyTree] = function
        return named

    def _functions(self, path: str, data: tuple[str, ...]) -> list[str]:
        """Return the names of a file's own functions, but those of its data."""
        return [k for k, v in vars(self._module(path)).items()
                if callable(v) and getattr(v, "__module__", None) == _MODULE and k not in data]

    def target(self, target: str, params: str, examples: str) -> Target:
        """Return a function with the data of its file, as `load` does."""
        function = self.function(target, data=(params, examples))
        path, name = _parts(target)
        values: dict[str, PyTree] = {}
        for option, attribute in (("params", params), ("examples", examples)):
            if not self.has(target, attribute):
                raise TargetError(f"{path} does not define {attribute!r}, the {option} of {name}: a value, or a "
                                  f"function without arguments (or give its name: --{option} NAME)")
            values[option] = self.value(target, attribute)
        return Target(function, values["params"], values["examples"], getattr(self._module(path), "in_axes", None))

    def has(self, target: str, attribute: str) -> bool:
        """Return whether the file of a target defines a name."""
        return hasattr(self._module(_parts(target)[0]), attribute)

    def value(self, target: str, attribute: str) -> Any:
        """Return the value of a name in the file of a target; a function is called without arguments."""
        value = getattr(self._module(_parts(target)[0]), attribute)
        return value() if callable(value) else value

    def _module(self, path: str) -> ModuleType:
        where = os.path.abspath(path)
        if where not in self._modules:
            self._modules[where] = _import(path)
        return self._modules[where]


def _parts(target: str, beside: str | None = None) -> tuple[str, str]:
    """Return the file and the function of a target."""
    path, colon, name = target.rpartition(":")
    if beside is not None and not path:
        path, colon = _parts(beside)[0], ":"
    if not colon or not path or not name:
        raise TargetError(f"expected FILE:FUNC, such as loss.py:loss; got {target!r}")
    return path, name


def _import(path: str) -> ModuleType:
    if not os.path.isfile(path):
        raise TargetError(f"no file {path}")
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None:
        raise TargetError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    try:
        spec.loader.exec_module(module)
    except SystemExit as error:
        raise TargetError(f"{blame(error, path)}: the file ends the process when it is imported. Put that under "
                          'if __name__ == "__main__":') from None
    finally:
        sys.path.pop(0)
    return module


def blame(error: BaseException, path: str) -> str | None:
    """Return ``file.py:12: ZeroDivisionError: …`` for an error from a line of the file, or None."""
    name = os.path.basename(path)
    if isinstance(error, SyntaxError) and error.filename and os.path.abspath(error.filename) == os.path.abspath(path):
        return f"{name}:{error.lineno}: SyntaxError: {error.msg}"
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__)
             if os.path.abspath(frame.f_code.co_filename) == os.path.abspath(path)]
    if not lines:
        return None
    message = " ".join(str(error).split())
    return f"{name}:{lines[-1]}: {type(error).__name__}" + (f": {message}" if message else "")
