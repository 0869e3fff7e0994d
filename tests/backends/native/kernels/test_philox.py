"""Native random bits against the reference generator."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from tests.passes.programs import input_, node

from .checks import same


@pytest.mark.parametrize("total", [1, 3, 4, 5, 63, 64, 65, 1000, 70_001])
def test_random_bits(total):
    one, many = input_(2, dtype="u4"), input_(2, 5, dtype="u4")
    bits = [node("random_bits", k, shape=(total,), stream=s)
            for k in (one, node("transpose", many, perm=(1, 0))) for s in (0, 2**32 - 1)]
    rng = np.random.default_rng(total)
    same([one, many], bits, [rng.integers(0, 2**32, s, dtype="u4") for s in ((2,), (2, 5))])
