"""Products of blocks, one per example: their types; their numbers are tested in tests/ragged."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.graph import PRIMITIVES, full

F8, I8 = np.dtype(float), np.dtype(int)


@pytest.mark.parametrize(("shapes", "kinds"), [
    (((6,), (6, 2)), ("stacked", "packed")), (((6,), (6, 2)), ("shared", "packed")),  # ragged, and not by rows
    (((6,), (3, 2)), ("packed", "stacked")), (((6, 1), (6, 2)), ("packed", "packed")),
    (((6,), (6, 2)), ("packed", "other"))])
def test_operands_must_fit_their_kinds(shapes, kinds):
    n = full(2, (3,), I8)
    operands = [full(0.0, shape, F8) for shape in shapes]
    with pytest.raises(mg.ShapeError, match=r"block_einsum\[ij,jd->id\].*the subscripts do not fit"):
        PRIMITIVES["block_einsum"](*operands, n, n, subscripts="ij,jd->id", ragged="ij", kinds=kinds, size=6)
