"""Backends print a plan as a program and run it."""

from __future__ import annotations

from typing import Any

from ..errors import GraphError
from ..graph import PRINTERS, Graph
from ..passes import run
from . import cupy
from .numpy import Program

BACKENDS = {"numpy": Program, "cupy": cupy.Program}


def build(graph: Graph, backend: str = "numpy", **options: Any) -> Any:
    """Build the program of a graph that the passes have been through; `options` are the backend's own.

    Raises
    ------
    GraphError
        If there is no such backend.
    """
    if backend not in BACKENDS:
        raise GraphError(f"no backend {backend!r}; there are {sorted(BACKENDS)}")
    return BACKENDS[backend](graph, **options)


PRINTERS["numpy"] = lambda graph: build(run(graph)[0]).source
