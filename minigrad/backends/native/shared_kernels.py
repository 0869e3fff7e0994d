"""The kernels that programs share: the thread pool, the runner, matrix products, and loops.

They depend on the machine and on versions alone, so that `fill` can compile them ahead of all programs, and measure for
which products BLAS is faster.
"""

from __future__ import annotations

import numpy as np

from .kernels import gemm, gemm_measurement, packed_scan, scan, turns
from .runtime import runner, threads
from .runtime.cache import CodeRequest, object_codes


def requests() -> list[CodeRequest]:
    """Return the requests for their code on this machine."""
    products = [request for name in ("float32", "float64") for request in gemm.code_requests(np.dtype(name))]
    return [*(m.code_request() for m in (threads, runner, scan, packed_scan, turns)), *products]


def fill() -> int:
    """Compile those that the cache lacks, measure unless it has a record, and return the number of kernels."""
    count = len(object_codes(requests()))
    gemm_measurement.fill()
    return count
