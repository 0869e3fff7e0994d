"""The loop and the batch, side by side: are they equal, how fast are they, what do they look like?"""

from .batching import check_batching
from .gradients import check_grads

__all__ = ["check_batching", "check_grads"]
