"""NumPy code as it stands, traced: `numpy_code` and the parts that it is made of."""

from .numpy_code import numpy_code

__all__ = ["numpy_code"]
