"""The registered backends: NumPy, machine code, and CUDA."""

from __future__ import annotations

import os
from collections.abc import Collection
from functools import partial
from typing import Any

import numpy as np

from ..collector import uncollected
from ..errors import MinigradError, at_user_line
from ..graph import Graph
from ..locks import importing
from ..passes import run
from .native.runtime import jit
from .protocol import (
    AUTO,
    Announcing,
    Backend,
    Executable,
    Ready,
    build,
    chosen,
    get,
    names,
    on_device,
    on_host,
    options,
    register,
    start,
)
from .subgraph import budgets_in

__all__ = ["AUTO", "Announcing", "Backend", "Executable", "Ready", "build", "chosen", "get", "names", "on_device",
           "on_host", "options", "register", "start"]


class NumPy(Backend):
    """Calls of NumPy, block by block where values then stay in the cache."""

    name, automatic = "numpy", True

    def build(self, graph: Graph, **host_values: Collection[int]) -> Executable:
        return _of_numpy(graph)


TIERS = ("final", "quick", "early")


class Native(Backend):
    """Machine code, compiled by LLVM."""

    name, automatic, options = "native", True, ("tier",)

    def check(self) -> None:
        if reason := jit.available():
            raise MinigradError(at_user_line(f"backend={self.name!r}: {reason}"))

    def start(self, *, tier: str | None = None, **options: Any) -> None:
        if _tier(tier) == "early":  # LLVM would take Python's lock from the first answer
            return
        with importing, uncollected():  # here and below: few programs need modules that import slowly
            from .native.runtime.warmup import start

        start()

    def build(self, graph: Graph, *, tier: str | None = None, **host_values: Collection[int]) -> Executable:
        chosen = _tier(tier)
        if chosen != "early" or budgets_in(graph):
            return self._machine_code(graph, chosen == "quick")
        with importing:
            from .native.tiered import Tiered

        return Tiered(graph, _of_numpy(graph), partial(self._machine_code, graph, False))

    def _machine_code(self, graph: Graph, quick: bool) -> Executable:
        with importing, uncollected():
            from .native.program import Program as Native

        return Native(graph, quick=quick)


def _of_numpy(graph: Graph) -> Executable:
    with importing, uncollected():
        from .numpy import Program

    return Program(graph)


def _tier(tier: str | None) -> str:
    """Return the code that answers first; without an option, ``MINIGRAD_TIER`` names it."""
    own = tier if tier is not None else os.environ.get("MINIGRAD_TIER") or TIERS[0]
    if own not in TIERS:
        name = "MINIGRAD_TIER" if tier is None else "tier"
        raise MinigradError(at_user_line(f"no {name} {own!r}; there are {', '.join(TIERS)}"))
    return own


class Cuda(Backend):
    """Kernels for NVIDIA GPUs, on arrays of CuPy."""

    name, automatic, on_device, options = "cupy", True, True, ("precision",)

    def check(self) -> None:
        with importing:
            from .cupy import driver

        driver.current()

    def build(self, graph: Graph, *, host_inputs: Collection[int] = (), host_outputs: Collection[int] = (),
              **options: Any) -> Executable:
        with importing:
            from .cupy.program import Program as Cuda

        return Cuda(graph, host_inputs=host_inputs, host_outputs=host_outputs, **options)

    def asarray(self, x: object, dtype: np.dtype) -> Any:
        with importing:
            from .cupy import driver

        return driver.current().asarray(x, dtype)


for _backend in (NumPy(), Native(), Cuda()):
    register(_backend)


def numpy_program_source(graph: Graph) -> str:
    """Return the program of a graph as calls of NumPy."""
    return build(run(graph)[0]).source
