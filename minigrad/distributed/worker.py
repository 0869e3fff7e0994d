"""One part of a batch, in a process that may know minigrad only."""

from __future__ import annotations

import mmap
import pickle
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import MinigradError
from ..locks import Lock
from .divide import PartProgram, Values

_MOST = 64  # programs that a process keeps
_programs: dict[str, PartProgram] = {}
_lock = Lock()


class InFile(NamedTuple):
    """A section of an array in a file, which the worker opens."""

    path: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    def open(self) -> np.ndarray:
        """Return the array, in memory as far as it is read."""
        return np.memmap(self.path, np.dtype(self.dtype), "r", self.offset, self.shape)


def sent(x: np.ndarray) -> np.ndarray | InFile:
    """Return the recipe of a contiguous section of a file, and other arrays as they are."""
    base: object = x
    while isinstance(base, np.ndarray) and not (isinstance(base, np.memmap) and isinstance(base.base, mmap.mmap)):
        base = base.base
    if not isinstance(base, np.memmap) or not x.flags.c_contiguous or not x.size or base.mode != "r":
        return x
    if base.filename is None or not Path(base.filename).exists():  # a file without a name, or that has lost it
        return x
    offset = x.__array_interface__["data"][0] - base.__array_interface__["data"][0] + base.offset
    return InFile(str(base.filename), x.dtype.str, x.shape, int(offset))


class Part(NamedTuple):
    """The part of a batch that a worker computes.

    Attributes
    ----------
    key : str
        The name of the program.
    program : bytes or None
        The pickled `PartProgram`; None where the worker may know it.
    operands : list of arrays, or of sections of files
    first : int
        The number of the first example in the whole batch.
    """

    key: str
    program: bytes | None
    operands: list[np.ndarray | InFile]
    first: int


def enter(key: str, program: PartProgram) -> None:
    """Make a program known to this process."""
    with _lock:
        while len(_programs) >= _MOST:
            del _programs[next(iter(_programs))]
        _programs[key] = program


def run(task: Part) -> Values | None:
    """Return the results of a part; None if the worker has no such program."""
    program = _programs.get(task.key)
    if program is None:
        if task.program is None:
            return None
        program = pickle.loads(task.program)
        enter(task.key, program)
    arrays = [x.open() if isinstance(x, InFile) else x for x in task.operands]
    try:
        return program.run(arrays, task.first)
    except Exception as error:
        if _travels(error):
            raise
        raise MinigradError(f"{type(error).__name__}: {error}") from error


def _travels(error: Exception) -> bool:
    """Return whether another process can rebuild an error: one that it cannot would break a pool of processes."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # of a constructor that takes other arguments
        return False
    return True
