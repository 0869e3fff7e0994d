"""Evidence of orthogonal gradients of length one."""

import numpy as np

from minigrad.auditing.evidence import Evidence, Fit, Scheme

ONES = np.ones(6)


def evidence(weights, uncertainty=1e-12, norms=ONES):
    """Return the evidence of orthogonal gradients of length one."""
    weights = np.asarray(weights, float)

    def fit(pattern):
        factor = float(pattern @ weights / (pattern @ pattern))
        return Fit(factor, np.zeros(0), np.linalg.norm(weights - factor * pattern) < 1e-9)

    return Evidence(weights, np.full(len(weights), uncertainty), norms, [Scheme("example", ONES, ONES)], fit,
                    lambda w: float(np.linalg.norm(w * norms)))
