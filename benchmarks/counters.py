"""Counters of the system and of the processor, by Linux's ``perf_event_open``: what `perf stat` reads.

A virtual machine may have no counters of the processor; `Counters.absent` says which the system refuses. The counts
are those of the thread that makes the object and of all threads that it starts later, so it is made before the first
call of a program with a pool of threads.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable
from typing import Any

# Type and number of each event, from linux/perf_event.h.
_EVENTS = {"nanoseconds on a core": (1, 1), "page faults": (1, 2), "context switches": (1, 3), "migrations": (1, 4),
           "cycles": (0, 0), "instructions": (0, 1), "cache misses": (0, 3), "TLB misses": (3, 3 | 1 << 16)}
_SYSCALL = {"x86_64": 298, "aarch64": 241}
_INHERIT, _NO_KERNEL, _NO_HYPERVISOR = 1 << 1, 1 << 5, 1 << 6


class _Attributes(ctypes.Structure):
    """The first version of ``struct perf_event_attr``, of 64 bytes."""

    _fields_ = (("type", ctypes.c_uint32), ("size", ctypes.c_uint32), ("config", ctypes.c_uint64),
                ("period", ctypes.c_uint64), ("sample", ctypes.c_uint64), ("read", ctypes.c_uint64),
                ("flags", ctypes.c_uint64), ("wakeup", ctypes.c_uint32), ("breakpoint", ctypes.c_uint32),
                ("address", ctypes.c_uint64))


class Counters:
    """The counters that this machine offers.

    Attributes
    ----------
    absent : dict of str to str
        The counters that the system refuses, with its reason.
    """

    def __init__(self) -> None:
        self._files: dict[str, int] = {}
        self.absent: dict[str, str] = {}
        for name, event in _EVENTS.items():
            try:
                self._files[name] = _opened(*event)
            except OSError as error:
                self.absent[name] = error.strerror or "unknown"

    def read(self) -> dict[str, int]:
        """Return all counts since the object was made."""
        return {name: int.from_bytes(os.read(file, 8), "little") for name, file in self._files.items()}

    def of(self, call: Callable[[], Any], repeats: int = 1) -> dict[str, float]:
        """Return the counts of one call, on average."""
        before = self.read()
        for _ in range(repeats):
            call()
        return {name: (count - before[name]) / repeats for name, count in self.read().items()}

    def close(self) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()


def _opened(kind: int, config: int) -> int:
    """Return the file of a counter of this thread; of the processor's, the kernel's part does not count."""
    if platform.system() != "Linux" or platform.machine() not in _SYSCALL:
        raise OSError(0, f"no perf_event_open on {platform.system()} {platform.machine()}")
    flags = _INHERIT | (0 if kind == 1 else _NO_KERNEL | _NO_HYPERVISOR)
    attributes = _Attributes(type=kind, size=ctypes.sizeof(_Attributes), config=config, flags=flags)
    libc = ctypes.CDLL(None, use_errno=True)
    file = libc.syscall(_SYSCALL[platform.machine()], ctypes.byref(attributes), 0, -1, -1, ctypes.c_ulong(8))
    if file < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(file)
