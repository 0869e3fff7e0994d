"""The cyclic garbage collector, and pauses of it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from .locks import Setting

MOVED = 1_000_000  # objects that may move to the oldest generation between collections of all garbage
_moved = _collections = 0


def _nothing() -> None:
    """The collector was off before."""


_paused = Setting(gc.disable, lambda: gc.enable if gc.isenabled() else _nothing)


@contextmanager
def uncollected(lasting: bool = False) -> Iterator[None]:
    """Pause the cyclic GC: modules and graphs outlive their making, and collection costs a fifth of an import and a
    third of a compilation.

    `lasting` objects, those of modules and programs, move to the oldest generation at the end, so that no collection of
    the young ones walks them. Python does not count them as new there: after `MOVED` such objects, none move before it
    has collected all garbage.
    """
    with _paused.changed():
        try:
            yield
        finally:
            if lasting and not gc.get_freeze_count() and _count_moved() <= MOVED:  # those that the user has frozen stay
                gc.freeze()
                gc.unfreeze()


def _count_moved() -> int:
    """Return the objects that have moved since the last collection of all, if those move that are young now."""
    global _moved, _collections
    collections = gc.get_stats()[-1]["collections"]
    if collections != _collections:
        _moved, _collections = 0, collections
    _moved += gc.get_count()[0]
    return _moved
