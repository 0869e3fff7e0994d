"""The interfaces of backends and their programs, and the registry of backends."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from ..errors import GraphError, MinigradError, at_user_line
from ..graph import Graph
from ..passes.record import Stage
from ..symbolic import Symbol
from .parts import in_parts

AUTO = "auto"  # the backend that `chosen` finds


class Executable(Protocol):
    """A compiled graph, for any sizes.

    Attributes
    ----------
    source : str
        The text of the program, for people.
    stages : sequence of Stage
        The steps from the graph to the program.
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
        """Return the bytes that a run keeps beside its inputs and outputs."""
        ...

    def memory(self, sizes: Mapping[Symbol, int]) -> int:
        """Return the bytes that a run needs at its peak beside its inputs."""
        ...


Ready: TypeAlias = Callable[[int, np.ndarray], None]  # takes an output and its number, when it is written


@runtime_checkable
class Announcing(Protocol):
    """A program that tells when an output is written, while it computes others.

    Attributes
    ----------
    ready_order : list of int
        The outputs, in the order in which they are written.
    """

    @property
    def ready_order(self) -> list[int]: ...

    def __call__(self, arrays: Sequence[Any], sizes: Mapping[Symbol, int], ready: Ready | None = None) -> list[Any]:
        """Run, and call `ready`, at least where all outputs are written by the program itself."""
        ...


class Backend(Protocol):
    """A way to run graphs. `register` adds one; subclasses inherit the defaults.

    Attributes
    ----------
    name : str
        As in ``compile(f, backend=name)``.
    options : collection of str
        Its options of `compile`.
    automatic : bool
        Whether ``backend="auto"`` may choose it.
    on_device : bool
        Whether its arrays are on a device. Programs then take the arguments of a call unconverted, and arguments on
        the device make ``"auto"`` choose the backend; otherwise arguments are NumPy arrays.
    """

    name: str
    options: Collection[str] = ()
    automatic: bool = False
    on_device: bool = False

    def check(self) -> None:
        """Raise `MinigradError`, with the way out, unless programs can run here."""
        return

    def start(self, **options: Any) -> None:
        """Begin slow preparations, before the first `build`; options are those of `build` that the user gave."""
        return

    @abstractmethod
    def build(self, graph: Graph, *, host_inputs: Collection[int] = (), host_outputs: Collection[int] = (),
              **options: Any) -> Executable:
        """Return the program of an optimized graph.

        Parameters
        ----------
        graph : Graph
        host_inputs : collection of int
            The inputs that are Python numbers in every call.
        host_outputs : collection of int
            The outputs that are Python numbers without `compile`; a program on a device may return numbers for them.
        """
        ...

    def asarray(self, x: object, dtype: np.dtype) -> Any:
        """Return a NumPy array as an array of the backend."""
        return np.asarray(x, dtype)


_backends: dict[str, Backend] = {}


def register(backend: Backend) -> None:
    """Add a backend, or replace the one of its name. ``"auto"`` prefers the latest."""
    _backends[backend.name] = backend


def names() -> tuple[str, ...]:
    """Return the names of the backends."""
    return tuple(_backends)


def get(name: str) -> Backend:
    """Return the backend called `name`.

    Raises
    ------
    GraphError
        If no backend has this name.
    """
    if name not in _backends:
        raise GraphError(at_user_line(f"no backend {name!r}; there are {', '.join((AUTO, *_backends))}"))
    return _backends[name]


def chosen(name: str) -> str:
    """Return the backend that a name stands for on this machine.

    ``auto`` is the value of the environment variable ``MINIGRAD_BACKEND``; without it, the fastest backend that runs
    here without a device. (Arguments on a device choose the backend of the device instead.)

    Raises
    ------
    MinigradError
        If no backend has this name, or it cannot run here, with the reason and the way out.
    """
    backend = (os.environ.get("MINIGRAD_BACKEND") or AUTO) if name == AUTO else name
    if backend == AUTO:
        return on_host()
    get(backend).check()
    return backend


def on_host() -> str:
    """Return the fastest automatic backend that runs here without a device."""
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
    """Return the options of a backend; for ``auto``, of all automatic ones."""
    backends = [b for b in _backends.values() if b.automatic] if name == AUTO else [get(name)]
    return frozenset(o for b in backends for o in b.options)


def start(name: str, **options: Any) -> None:
    """Begin slow preparations of a backend; options that it does not have are left out."""
    own = get(name)
    own.start(**_own(own, options))


def _own(backend: Backend, options: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in options.items() if k in backend.options}


def build(graph: Graph, backend: str | None = None, *, host_inputs: Collection[int] = (),
          host_outputs: Collection[int] = (), **options: Any) -> Executable:
    """Build the program of an optimized graph.

    Parameters
    ----------
    graph : Graph
    backend : str, optional
        By default the first one, which needs NumPy alone.
    host_inputs, host_outputs : collection of int
        As in `Backend.build`.
    **options
        Options that the backend does not have are left out.

    Raises
    ------
    GraphError
        If no backend has this name.
    """
    own = get(backend or next(iter(_backends)))
    own_options = _own(own, options)
    return in_parts(graph, lambda part, inputs, outputs: own.build(part, host_inputs=inputs, host_outputs=outputs,
                                                                  **own_options), host_inputs, host_outputs)
