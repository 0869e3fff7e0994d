"""Mathematical functions as LLVM IR: branch-free code on floats, doubles and vectors of them, right to 2 ulp.

``FUNCTIONS[name](builder, *values)`` emits the function's code and returns its value; the values are floats or doubles,
or vectors of any number of lanes, all of one type. The names are those of kernel expressions (``Primitive.kernel``).
``functions(fused=False)`` is the same for a target that cannot multiply and add in one instruction.

Accuracy is measured by ``benchmarks/accuracy.py``, for one-operand functions over all float32; of logaddexp it is that
of its terms, which may cancel, as may those of lgamma and digamma of negative numbers. Subnormal numbers, infinities,
NaN and signed zeros are handled as in C. sin, cos and tan of large arguments are computed lane by lane, by functions
that they define once in the builder's module.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ...llvm import ir
from . import error_function, exponential, gamma_function, inverse_trigonometric, logarithm, power, trigonometric
from .lanes import Formula, Lanes

Emit = Callable[..., ir.Value]

_FORMULAS: dict[str, Formula] = {f.__name__: f for f in (
    exponential.exp, exponential.exp2, exponential.expm1, exponential.expit, exponential.tanh, exponential.sinh,
    exponential.cosh,
    logarithm.log, logarithm.log1p, logarithm.log2, logarithm.log10, logarithm.log_expit, logarithm.logaddexp,
    logarithm.asinh, logarithm.acosh, logarithm.atanh,
    trigonometric.sin, trigonometric.cos, trigonometric.tan,
    inverse_trigonometric.asin, inverse_trigonometric.acos, inverse_trigonometric.atan, inverse_trigonometric.atan2,
    error_function.erf, error_function.erfc, error_function.erfcx,
    gamma_function.lgamma, gamma_function.digamma, gamma_function.trigamma,
    power.sqrt, power.cbrt, power.pow, power.hypot,
)}


def functions(fused: bool = True) -> dict[str, Emit]:
    """Return the functions by name; `fused` tells whether the target has fused multiply-add instructions.

    Without them sums of products are rounded twice, and sinh, log2, logaddexp, erfcx and trigamma of float64 may be up
    to 3 last places off instead of 2; products' rounding errors are found by splitting the factors.
    """
    return {name: partial(_emit, formula, fused) for name, formula in _FORMULAS.items()}


def _emit(formula: Formula, fused: bool, builder: ir.IRBuilder, *values: ir.Value) -> ir.Value:
    return formula(*(Lanes(builder, value, fused) for value in values)).value


FUNCTIONS = functions()
