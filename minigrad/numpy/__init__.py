"""NumPy's functions on traced values: ``import minigrad.numpy as np``.

The same table answers ``import numpy as np`` through NumPy's protocols. On arguments without a traced
value every function here is NumPy's own; names that minigrad does not enter in the table (dtypes,
constants, ``newaxis``) are NumPy's too.

Examples
--------
>>> graph = mg.trace(lambda x: mg.numpy.ones(x.shape[0]) + x)(mg.f64[mg.dim("n")])
>>> graph(np.array([1.0, 2.0]))
array([2., 3.])
"""

import sys

import numpy as _numpy

from ..traced_array import Array, hooks
from . import elementwise, foreign_operands, joining, products, protocols, python_numbers, reductions
from .dispatch import NAMES
from .dispatch import namespace as _namespace

hooks.namespace = sys.modules[__name__]
r_, c_ = joining.Brackets(_numpy.r_, False), joining.Brackets(_numpy.c_, True)
concat, permute_dims = NAMES["concatenate"], NAMES["transpose"]
__array_api_version__ = "2024.12"
__array_namespace_info__ = _numpy.__array_namespace_info__
__getattr__, __dir__ = _namespace(NAMES, _numpy, "Array", "fft", "linalg", "special")
