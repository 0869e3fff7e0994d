"""Dask's arrays, data frames and bags as arguments: one part per chunk, which runs where the chunk lies."""

from .arguments import is_collection
from .calls import Collections

__all__ = ["Collections", "is_collection"]
