"""Checks against independent answers: `check_grads`, `check_batching` and `check_primitive`."""

from . import ragged_batching
from .batching import check_batching
from .gradients import check_grads
from .primitives import check_primitive

__all__ = ["check_batching", "check_grads", "check_primitive"]
