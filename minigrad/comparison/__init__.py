"""The loop and the batch, side by side: are they equal, how fast are they, what do they look like?"""

from . import ragged, ragged_batching
from .batching import check_batching
from .gradients import check_grads
from .primitive import check_primitive
from .report import Report
from .run import compare

__all__ = ["Report", "check_batching", "check_grads", "check_primitive", "compare"]
