"""The cyclic garbage collector, and pauses of it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .locks import Setting


def _nothing() -> None:
    """The collector was off before."""


_paused = Setting(gc.disable, lambda: gc.enable if gc.isenabled() else _nothing)


@contextmanager
def uncollected() -> Iterator[None]:
    """Pause the cyclic GC: modules and graphs outlive their making, and collection costs a fifth of an import and a
    third of a compilation.

    If modules were imported meanwhile, all objects are old at the end, so that no collection of the young ones walks
    those of the modules. Nothing else makes them old: garbage of the user's would stay until all objects are collected.
    """
    known = len(sys.modules)
    with _paused.changed():
        try:
            yield
        finally:
            if len(sys.modules) > known and not gc.get_freeze_count():  # objects that the user has frozen stay so
                gc.freeze()
                gc.unfreeze()
