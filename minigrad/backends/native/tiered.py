"""A program of two tiers: the NumPy program answers until the machine code is built in the background.

The build begins after the first answer, so that it takes no time from it: both need Python's lock. Programs with a
budget of memory have one tier, since the examples of a pass follow from the memory that the program needs.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ...collector import uncollected
from ...graph import Graph
from ...locks import Lock
from ...passes.record import Stage
from ...symbolic import Symbol
from ..protocol import Executable
from .runtime.background import BUILDER, Job

_WAITS = "NumPy answers; a call that comes after the build of the machine code takes that, with other round-off"
_TAKEN = "NumPy answered until the machine code was built"


class Tiered:
    """A program that `first` answers for until `build`, in the background, has returned another one.

    Attributes
    ----------
    source : str
        The text of the program that answers the next call.
    llvm : str
        Its kernels as LLVM IR; empty while NumPy answers.
    stages : list of Stage
        Its stages, and which program answers, or why the build failed.
    """

    def __init__(self, graph: Graph, first: Executable, build: Callable[[], Executable]):
        self._graph, self._current, self._build = graph, first, build
        self._note = _WAITS
        self._lock = Lock()
        self._entered = self._finished = False
        self._warning: str | None = None  # of a failed build, until a call has told it

    def __call__(self, arrays: Sequence[np.ndarray], sizes: Mapping[Symbol, int]) -> list[np.ndarray]:
        """Run the program that there is, as that of any backend."""
        results = self._current(arrays, sizes)
        if not self._finished:
            self._proceed()
        elif self._warning is not None:
            self._warn()
        return results

    def _proceed(self) -> None:
        """Enter the build, or start its thread again in a forked child."""
        with self._lock:
            new, self._entered = not self._entered, True
        if new:
            BUILDER.add(Job(self))
        else:
            BUILDER.go_on()

    def _warn(self) -> None:
        with self._lock:
            text, self._warning = self._warning, None
        if text is not None:
            warnings.warn(text, RuntimeWarning, stacklevel=4)  # the line that calls the compiled function

    def finish(self) -> None:
        """Build the machine code, and let the next call take it."""
        try:
            with uncollected():
                program = self._build()
        except Exception as error:
            reason = "".join(traceback.format_exception_only(error)).strip()
            self._note = f"NumPy answers: the build of the machine code failed: {reason}"
            self._warning = (f"{self._graph.name}: the build of the machine code in the background failed, and NumPy "
                             f'answers on. Compile with tier="final" to see where: {reason}')
        else:
            self._current, self._note = program, _TAKEN
        self._finished = True

    @property
    def source(self) -> str:
        return self._current.source

    @property
    def llvm(self) -> str:
        return getattr(self._current, "llvm", "")

    @property
    def stages(self) -> list[Stage]:
        return [Stage("tier", self._graph, self._graph, self._note), *self._current.stages]

    def workspace_bytes(self, sizes: Mapping[Symbol, int]) -> int:
        """Return the bytes that the next run keeps beside its inputs and outputs."""
        return self._current.workspace_bytes(sizes)

    def memory(self, sizes: Mapping[Symbol, int]) -> int:
        """Return the bytes that the next run needs at its peak beside its inputs."""
        return self._current.memory(sizes)
