"""The CuPy backend: the same program on the GPU."""

from .driver import missing
from .program import Program
