"""Backends and their programs: what `compile` asks of either, and the registry of backends."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ..errors import GraphError, MinigradError, at_user_line
from ..graph import Graph
from ..passes.record import Stage
from ..symbolic import Symbol

AUTO = "auto"  # the backend that `chosen` finds


class Executable(Protocol):
    """A compiled graph, for any sizes.

    Attributes
    ----------
    source : str
        The program's text, for people.
    stages : sequence of Stage
        The steps that led from the graph to the program.
    """

    @property
    def source(self) -> str: ...

    @property
    def stages(self) -> Sequence[Stage]: ...

    def __call__(self, arrays: Sequence[Any], sizes: Mapping[Symbol, int]) -> list[Any]:
        """Run on one array per input; return one array per output.

        Results are the caller's own: they share no memory with the inputs, the program, or each other.
        """
        ...

    def workspace_bytes(self, sizes: Mapping[Symbol, int]) -> int:
        """Return how much memory a run keeps beside its inputs and outputs."""
        ...


class Backend(Protocol):
    """A way to run graphs. `register` adds one; subclasses inherit the defaults.

    Attributes
    ----------
    name : str
        As people type it: ``compile(f, backend=name)``.
    options : collection of str
        The options of `compile` that it takes.
    automatic : bool
        Whether ``backend="auto"`` may choose it.
    on_device : bool
        Whether its arrays are those of a device. Programs then take a call's arguments as they are, and arguments on
        the device make ``"auto"`` choose the backend; elsewhere arguments are NumPy's arrays.
    """

    name: str
    options: Collection[str] = ()
    automatic: bool = False
    on_device: bool = False

    def check(self) -> None:
        """Raise `MinigradError` unless programs can run here: why, and what to install."""
        return

    def start(self) -> None:
        """Begin slow preparations: a program will be asked for soon."""
        return

    @abstractmethod
    def build(self, graph: Graph, *, given: Collection[int] = (), numbers: Collection[int] = (),
              **options: Any) -> Executable:
        """Return the program of a graph that the passes have been through.

        Parameters
        ----------
        graph : Graph
        given : collection of int
            The inputs that are Python numbers in every call.
        numbers : collection of int
            The outputs that are Python numbers where the function runs on its own; a program on a device may return
            numbers for them.
        """
        ...

    def asarray(self, x: Any, dtype: np.dtype) -> Any:
        """Return an array of NumPy's as one that programs compute on."""
        return np.asarray(x, dtype)


_backends: dict[str, Backend] = {}


def register(backend: Backend) -> None:
    """Add a backend, or replace the one of its name. Of the automatic ones, the latest is preferred."""
    _backends[backend.name] = backend


def names() -> tuple[str, ...]:
    """Return the names of the backends."""
    return tuple(_backends)


def get(name: str) -> Backend:
    """Return the backend called `name`.

    Raises
    ------
    GraphError
        If there is none.
    """
    if name not in _backends:
        raise GraphError(at_user_line(f"no backend {name!r}; there are {', '.join((AUTO, *_backends))}"))
    return _backends[name]


def chosen(name: str) -> str:
    """Return the backend that a user's word for it means here.

    ``auto`` is the value of the environment variable ``MINIGRAD_BACKEND``; without it, the fastest backend that needs
    no device and can run here. (A compiled function whose arguments are on a device takes that one's backend instead.)

    Raises
    ------
    MinigradError
        If there is no such backend, or it cannot run here: why, and what to install.
    """
    wanted = (os.environ.get("MINIGRAD_BACKEND") or AUTO) if name == AUTO else name
    if wanted == AUTO:
        return on_host()
    get(wanted).check()
    return wanted


def on_host() -> str:
    """Return the fastest of the automatic backends that need no device, of those that can run here."""
    return next(b.name for b in reversed(_backends.values()) if b.automatic and not b.on_device and _runs(b))


def _runs(backend: Backend) -> bool:
    try:
        backend.check()
    except MinigradError:
        return False
    return True


def on_device() -> str:
    """Return the automatic backend for arguments on a device."""
    return next(b.name for b in reversed(_backends.values()) if b.automatic and b.on_device)


def options(name: str) -> frozenset[str]:
    """Return the options of a backend; of ``auto``, those of every backend that it may choose."""
    found = [b for b in _backends.values() if b.automatic] if name == AUTO else [get(name)]
    return frozenset(o for b in found for o in b.options)


def build(graph: Graph, backend: str | None = None, *, given: Collection[int] = (), numbers: Collection[int] = (),
          **options: Any) -> Executable:
    """Build the program of a graph that the passes have been through.

    Parameters
    ----------
    graph : Graph
    backend : str, optional
        By default the first one, which needs nothing beside NumPy.
    given, numbers : collection of int
        As in `Backend.build`.
    **options
        Those that the backend has not are left out.

    Raises
    ------
    GraphError
        If there is no such backend.
    """
    own = get(backend or next(iter(_backends)))
    return own.build(graph, given=given, numbers=numbers, **{k: v for k, v in options.items() if k in own.options})
