"""The names of NumPy in the user's code, exchanged for stand-ins while a function is traced.

The code of the function names the functions, classes and modules that it may run; these name others. The global names,
closures and attributes among them that hold NumPy's modules and functions, or tables, hold stand-ins for as long as
any thread traces NumPy code. A stand-in is NumPy's own object for all other threads.
"""

from __future__ import annotations

import builtins
import dis
import functools
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from ..errors import is_library
from ..locks import Lock
from ..traced_array import Array
from ..tracing import thread
from .mutable_array import MutableArray, holds_traced, plain
from .stand_ins import stand_in

_PYTHON = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_NUMBERS = (float, int, len, max, min)  # of Python's builtins
_IMPORT = dis.opmap["IMPORT_NAME"]
_LONGEST = 64  # elements of a list or a dict that are looked through

Place = tuple[object, object]  # a container and its key: a namespace, a class, a dict, a list, or a cell of a closure


class Table(np.ndarray):
    """An ndarray of the user's that takes traced indices; its memory is the user's."""

    def __getitem__(self, key: object) -> object:  # type: ignore[override]
        if thread.trace.numpy_code and holds_traced(given := plain(key)):
            return MutableArray(self.view(np.ndarray))[given]
        return super().__getitem__(cast("int", key))

    def __array_wrap__(self, array: np.ndarray, context: object = None, return_scalar: bool = False  # type: ignore[override]
                       ) -> object:
        return array[()] if return_scalar else array.view(np.ndarray)

    def __reduce__(self) -> str | tuple[object, ...]:
        return self.view(np.ndarray).__reduce__()


# -- the reach of a function -----------------------------------------------------------------------------------------


@functools.cache
def _is_users(module: str) -> bool:
    """Return whether a module is the user's own, and no library."""
    if module == "__main__":
        return True
    if is_library(module) or module in sys.builtin_module_names or module.partition(".")[0] in sys.stdlib_module_names:
        return False
    path = getattr(sys.modules.get(module), "__file__", None)
    return path is None or not path.startswith(_PYTHON)


@functools.lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> tuple[frozenset[str], bool]:
    """Return the names in a code object and those within it, and whether they import."""
    names, imports = set(code.co_names), _IMPORT in code.co_code[::2]
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            more, also = _names(inner)
            names |= more
            imports |= also
    return frozenset(names), imports


@dataclass
class _Reach:
    """The places that hold NumPy's objects, of all code that a function may run."""

    places: dict[tuple[int, object], tuple[Place, object]] = field(default_factory=dict)  # with the stand-in
    imports: bool = False
    seen: dict[object, object] = field(default_factory=dict)  # by identity
    ahead: list[tuple[object, Place | None]] = field(default_factory=list)

    def run(self, *values: object) -> None:
        """Enter values, and all that they lead to."""
        self.all(*values)
        while self.ahead:
            self._enter_value(*self.ahead.pop())

    def visit(self, x: object, place: Place | None = None) -> None:
        self.ahead.append((x, place))

    def _enter_value(self, x: object, place: Place | None) -> None:
        if place is not None and (held := _exchanged.get((id(place[0]), place[1]))) and held.stand_in is x:
            self.enter(place, x)
            return
        if type(x) is np.ndarray:
            if place is not None and x.ndim and x.dtype.kind in "biuf":
                self.enter(place, x.view(Table))
            return
        if isinstance(x, (int, float, str, bytes, type(None), Array, np.generic)):
            return
        if isinstance(x, np.vectorize):
            self.visit(x.pyfunc)
        if place is not None and (other := stand_in(x)) is not None:
            self.enter(place, other)
            return
        if id(x) in self.seen:
            return
        self.seen[id(x)] = x
        if isinstance(x, types.FunctionType):
            self.function(x)
        elif isinstance(x, types.MethodType):
            self.all(x.__func__, x.__self__)
        elif isinstance(x, functools.partial):
            self.all(x.func, *x.args, *x.keywords.values())
        elif isinstance(x, (staticmethod, classmethod)):
            self.visit(x.__func__)
        elif isinstance(x, property):
            self.all(x.fget, x.fset)
        elif isinstance(x, type):
            self.cls(x)
        elif isinstance(x, types.ModuleType):
            pass  # its attributes are entered by the code that names them
        elif isinstance(x, (dict, list, tuple)):
            self.elements(x)
        else:
            self.instance(x)

    def all(self, *values: object) -> None:
        for x in values:
            self.visit(x)

    def enter(self, place: Place, other: object) -> None:
        self.places.setdefault((id(place[0]), place[1]), (place, other))

    def function(self, f: types.FunctionType) -> None:
        """Enter the globals, closures and defaults of a function of the user's."""
        self.visit(vars(f).get("__wrapped__"))
        is_users = _is_users(f.__globals__.get("__name__") or "")
        for cell in f.__closure__ or ():
            try:
                self.visit(cell.cell_contents, (cell, "cell_contents") if is_users else None)
            except ValueError:  # not assigned yet
                continue
        if not is_users:
            return
        self.all(*(f.__defaults__ or ()), *(f.__kwdefaults__ or {}).values())
        names, imports = _names(f.__code__)
        self.imports |= imports
        self.named(f.__globals__, names)

    def named(self, namespace: dict[str, object], names: frozenset[str]) -> None:
        """Enter names of a namespace; of a module of the user's among them, its own."""
        for name in names:
            if name in namespace:
                x = namespace[name]
                self.visit(x, (namespace, name))
                if isinstance(x, types.ModuleType) and _is_users(x.__name__) and (id(x), names) not in self.seen:
                    self.seen[id(x), names] = x
                    self.named(vars(x), names)
            elif getattr(builtins, name, None) in _NUMBERS:
                self.visit(getattr(builtins, name), (namespace, name))

    def cls(self, c: type) -> None:
        if _is_users(c.__module__):
            for name, x in list(vars(c).items()):
                self.visit(x, (c, name) if type(x) is np.ndarray else None)
            self.all(*c.__bases__)

    def elements(self, x: dict[object, object] | list[object] | tuple[object, ...]) -> None:
        if len(x) <= _LONGEST:
            for key, value in list(x.items()) if isinstance(x, dict) else list(enumerate(x)):
                self.visit(value, None if isinstance(x, tuple) else (x, key))

    def instance(self, x: object) -> None:
        attributes = getattr(x, "__dict__", None)
        if not isinstance(attributes, dict):
            attributes = {}
        self.visit(attributes.get("__wrapped__"))
        if _is_users(type(x).__module__):
            self.all(type(x), attributes)


# -- exchange --------------------------------------------------------------------------------------------------------


@dataclass
class _Exchanged:
    """A place, and the object that it held."""

    place: Place
    before: object  # `_ABSENT`: none
    stand_in: object
    users: int = 0


_ABSENT = object()
_lock = Lock()
_exchanged: dict[tuple[int, object], _Exchanged] = {}


def _read(place: Place) -> object:
    container, key = place
    if isinstance(container, types.CellType):
        return container.cell_contents
    if isinstance(container, list):
        return container[cast(int, key)] if cast(int, key) < len(container) else _ABSENT
    if isinstance(container, type):
        return vars(container).get(cast(str, key), _ABSENT)
    return cast("dict[object, object]", container).get(key, _ABSENT)


def _write(place: Place, x: object) -> None:
    container, key = place
    if isinstance(container, types.CellType):
        container.cell_contents = x
    elif isinstance(container, type):
        setattr(container, cast(str, key), x)
    elif x is _ABSENT:
        del cast("dict[object, object]", container)[key]
    else:
        cast("dict[object, object]", container)[key] = x


@contextmanager
def exchanged(f: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object]) -> Iterator[None]:
    """Run the ``with`` block with stand-ins for NumPy's objects in the code that `f` and its arguments may run."""
    with _lock:
        reach = _Reach()
        reach.run(f, *args, *kwargs.values())
        if reach.imports:
            reach.enter(_IMPORTS, _import)
        entered = []
        for key, (place, other) in reach.places.items():
            held = _exchanged.get(key)
            if held is None:
                held = _exchanged[key] = _Exchanged(place, _read(place), other)
                _write(place, other)
            held.users += 1
            entered.append(key)
    try:
        yield
    finally:
        with _lock:
            for key in entered:
                held = _exchanged[key]
                held.users -= 1
                if not held.users:
                    del _exchanged[key]
                    if _read(held.place) is held.stand_in:  # the user's code may have assigned to it
                        _write(held.place, held.before)


# -- imports inside functions ----------------------------------------------------------------------------------------

_IMPORTS: Place = (vars(builtins), "__import__")
_python_import = builtins.__import__


def _import(name: str, globals: dict[str, object] | None = None, locals: dict[str, object] | None = None,
            fromlist: Sequence[str] = (), level: int = 0) -> types.ModuleType:
    """Import a module as Python does; NumPy's as a stand-in where a function of the user's imports it."""
    held = _exchanged.get((id(_IMPORTS[0]), _IMPORTS[1]))
    own = cast("Callable[..., types.ModuleType]", _python_import if held is None else held.before)
    module = own(name, globals, locals, fromlist, level)
    if globals is None or not thread.trace.numpy_code or not _is_users(str(globals.get("__name__"))) or (
            sys._getframe(1).f_locals is globals):  # a module's own code
        return module
    return cast(types.ModuleType, stand_in(module) or module)
