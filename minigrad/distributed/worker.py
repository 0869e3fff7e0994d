"""One part of a batch, in a process that may know minigrad only."""

from __future__ import annotations

import pickle
from collections import deque
from typing import NamedTuple

import numpy as np

from ..errors import MinigradError
from ..locks import Lock
from .blocks import run_in_blocks
from .derived import Derived
from .divide import PartProgram, Values
from .files import InFile

_MOST = 64  # programs that a process keeps, each with its shared operands


class Kept(NamedTuple):
    """An operand that all parts share, which workers keep for the parts to come.

    Attributes
    ----------
    place : int
        The operand's place; a worker keeps one value per place of a program.
    version : str
        The name of its value.
    value : array or None
        None where the worker may have it.
    """

    place: int
    version: str
    value: np.ndarray | None


class Part(NamedTuple):
    """The part of a batch that a worker computes.

    Attributes
    ----------
    key : str
        The name of the program.
    program : bytes or None
        The pickled `PartProgram`; None where the worker may know it.
    operands : list of arrays, sections of files, recipes, or values that the worker keeps
    first : int
        The number of the first example in the whole batch.
    block : int, optional
        The most examples of a block.
    call : str
        The name of the call that the part belongs to.
    """

    key: str
    program: bytes | None
    operands: list[np.ndarray | InFile | Derived | Kept]
    first: int
    block: int | None = None
    call: str = ""


class _Known:
    """A program with the shared operands of its last part."""

    def __init__(self, program: PartProgram):
        self.program = program
        self._kept: dict[int, tuple[str, np.ndarray]] = {}

    def operand(self, x: np.ndarray | InFile | Derived | Kept) -> np.ndarray | InFile | Derived | None:
        """Return an operand; None if it is a value that this process lacks."""
        if not isinstance(x, Kept):
            return x
        if x.value is not None:
            self._kept[x.place] = x.version, x.value
            return x.value
        version, value = self._kept.get(x.place, (None, None))
        return value if version == x.version else None


_programs: dict[str, _Known] = {}
_stopped: deque[str] = deque(maxlen=_MOST)  # calls that Ctrl-C has ended
_lock = Lock()


def _known(key: str, program: bytes | None) -> _Known | None:
    """Return a program that this process has, or has got just now."""
    known = _programs.get(key)
    if known is None and program is not None:
        known = _Known(_loaded(program))
        with _lock:
            while len(_programs) >= _MOST:
                del _programs[next(iter(_programs))]
            _programs[key] = known
    return known


def _loaded(program: bytes) -> PartProgram:
    """Return a program from its pickle, which names the functions that it calls."""
    try:
        loaded: PartProgram = pickle.loads(program)
    except (AttributeError, ImportError) as error:
        raise ImportError(f"a worker cannot import a function of the program: {error}. Workers may not have run the "
                          "script that starts them: define the functions of callbacks in a module that they import"
                          ) from error
    return loaded


def run(task: Part) -> Values | None:
    """Return the results of a part; None if the worker lacks its program, or an operand that it was to keep."""
    if task.call in _stopped:
        raise KeyboardInterrupt
    try:
        return _results(task)
    except KeyboardInterrupt:  # which a pool's process takes for the result of this part, and goes on with the next
        _stopped.append(task.call)
        raise


def _results(task: Part) -> Values | None:
    """Return the results of a part, or None, as `run` does."""
    known = _known(task.key, task.program)
    if known is None:
        return None
    received = [operand for x in task.operands if (operand := known.operand(x)) is not None]
    if len(received) < len(task.operands):
        return None
    try:
        operands = [x.array(received) if isinstance(x, Derived) else x for x in received]
        return run_in_blocks(known.program, operands, task.first, task.block)
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
