"""The mean of a batch on several workers: `distribute` over executors, `all_reduce` over the ranks of MPI.

A microbatch cuts the batch in time; workers cut it in space. Both run one program: nodes with the batch axis run part
by part, sums add up over the parts, and the rest runs once. So the result is that of the whole batch for every cut,
equal or not. `divide` takes the program of a microbatch apart, `worker` runs a part in another process.
"""

from .all_reduce import all_reduce
from .distribute import distribute

__all__ = ["all_reduce", "distribute"]
