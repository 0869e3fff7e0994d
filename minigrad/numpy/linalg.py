"""The namespace ``minigrad.numpy.linalg``: the table's functions, else NumPy's own."""

import numpy as _numpy

from .dispatch import LINALG as _LINALG
from .dispatch import namespace as _namespace

__getattr__, __dir__ = _namespace(_LINALG, _numpy.linalg)
