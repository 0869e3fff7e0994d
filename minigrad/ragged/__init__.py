"""Batches of examples whose sizes differ. Their transforms need all modules that plug into the core."""

from ..graph import Table as _Table

_Table.complete()
