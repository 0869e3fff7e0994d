"""The cyclic garbage collector, and pauses of it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from .locks import Setting


def _nothing() -> None:
    """The collector was off before."""


_paused = Setting(gc.disable, lambda: gc.enable if gc.isenabled() else _nothing)


@contextmanager
def uncollected(lasting: bool = False) -> Iterator[None]:
    """Pause the cyclic GC: modules and graphs outlive their making, and collection costs a fifth of an import and a
    third of a compilation.

    `lasting` objects, those of modules, move to the oldest generation at the end, so that no collection of the young
    ones walks them.
    """
    with _paused:
        try:
            yield
        finally:
            if lasting and not gc.get_freeze_count():  # objects that the user has frozen stay so
                gc.freeze()
                gc.unfreeze()
