"""Faults that steps of machine code find, by the numbers that they write to the program's flag."""

from __future__ import annotations

import numpy as np

OUT_OF_RANGE, SINGULAR, INDEFINITE = 1, 2, 3
ERRORS: dict[int, tuple[type[IndexError | np.linalg.LinAlgError], str]] = {
    OUT_OF_RANGE: (IndexError, "an index is out of range"), SINGULAR: (np.linalg.LinAlgError, "Singular matrix"),
    INDEFINITE: (np.linalg.LinAlgError, "Matrix is not positive definite")}
