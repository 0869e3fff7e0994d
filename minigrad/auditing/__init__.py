"""The audit of a training step, in any framework: the weight of each example in its gradient.

Let g_i be the gradient of the loss of example i alone, and G the gradient of the step. The least-squares solution of
``G = Σ w_i g_i`` states the weight w_i of each example; a residual beyond round-off states that examples mix.
`gradients` computes the g_i, `least_squares` solves, `readings` explains the weights, `mixing` runs the step on changed
examples if there is a residual, and `verdict` words the finding.
"""

from .audit import audit
from .report import Audit

__all__ = ["Audit", "audit"]
