"""Sections of arrays in files, which cross to other processes as their places."""

from __future__ import annotations

import io
import math
import mmap
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import MinigradError


class InFile(NamedTuple):
    """A section of an array in a file, which the worker opens."""

    path: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)

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


class Reader:
    """Blocks of rows from a file, each read into the memory of the one before.

    Copying costs less than mapping: the kernel maps a file page by page, and unmaps it in all threads.
    """

    def __init__(self, section: InFile):
        self._section, self._dtype = section, np.dtype(section.dtype)
        self._row = self._dtype.itemsize * math.prod(section.shape[1:])
        self._file = io.FileIO(section.path)
        self._buffer = np.empty(0, np.uint8)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Return rows, which the next call overwrites."""
        count, size = rows.stop - rows.start, self._row * (rows.stop - rows.start)
        if len(self._buffer) < size:
            self._buffer = np.empty(size, np.uint8)
        room = self._buffer[:size].data
        self._file.seek(self._section.offset + self._row * rows.start)
        while room:
            read = self._file.readinto(room)
            if not read:
                raise MinigradError(f"{self._section.path} ends before row {rows.stop} of {self._section.shape[0]}")
            room = room[read:]
        return self._buffer[:size].view(self._dtype).reshape(count, *self._section.shape[1:])

    def close(self) -> None:
        self._file.close()
