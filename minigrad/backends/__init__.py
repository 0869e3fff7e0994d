"""Backends print a plan as a program and run it."""

from __future__ import annotations

import os
from typing import Any

from ..errors import GraphError, MinigradError, at_user_line
from ..graph import PRINTERS, Graph
from ..locks import importing
from ..passes import run
from .native import target
from .numpy import Program

BACKENDS = ("numpy", "native", "cupy")


def chosen(backend: str) -> str:
    """Return the backend that a user's word for it means here.

    ``auto`` is what the environment variable ``MINIGRAD_BACKEND`` says; without it, ``native`` where that can run, and
    ``numpy`` elsewhere. (A compiled function whose arguments are on a GPU takes ``cupy`` instead.)

    Raises
    ------
    MinigradError
        If there is no such backend, or it cannot run here: why, and what to install.
    """
    wanted = (os.environ.get("MINIGRAD_BACKEND") or "auto") if backend == "auto" else backend
    if wanted == "auto":
        return on_host()
    if wanted not in BACKENDS:
        raise MinigradError(at_user_line(f"no backend {wanted!r}; there are auto, {', '.join(BACKENDS)}"))
    if wanted == "native" and (reason := target.available()):
        raise MinigradError(at_user_line(f"backend='native': {reason}"))
    if wanted == "cupy":
        with importing:
            from .cupy import driver  # here and below, because what few programs need takes long to import

        driver.current()  # says what is missing
    return wanted


def on_host() -> str:
    """Return the faster of the backends that need no GPU, of those that can run here."""
    return "numpy" if target.available() else "native"


def expect(backend: str) -> None:
    """Tell a backend that it will be asked for a program, so that what takes a while can begin."""
    if backend == "native":
        with importing:
            from .native.start import start

        start()


def build(graph: Graph, backend: str = "numpy", **options: Any) -> Any:
    """Build the program of a graph that the passes have been through; `options` are the backend's own.

    Raises
    ------
    GraphError
        If there is no such backend.
    """
    if backend == "native":
        with importing:
            from .native.program import Program as Native  # here, because LLVM is not always there

        return Native(graph)
    if backend == "cupy":
        with importing:
            from .cupy.program import Program as Cuda

        return Cuda(graph, **options)
    if backend != "numpy":
        raise GraphError(f"no backend {backend!r}; there are {', '.join(BACKENDS)}")
    return Program(graph)


PRINTERS["numpy"] = lambda graph: build(run(graph)[0]).source
