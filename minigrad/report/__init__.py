"""Reports of `compare`: the loop, the literal graph, the batch and microbatches, timed and compared."""

from . import ragged
from .comparison import compare
from .report import Report

__all__ = ["Report", "compare"]
