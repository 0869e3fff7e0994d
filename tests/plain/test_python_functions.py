"""Functions of Python and `math` on traced numbers, each against itself."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad.plain.python_functions import MATH

BINARY = (math.atan2, math.copysign, math.fmod, math.gcd, math.lcm, math.ldexp, math.nextafter, math.pow, math.isclose,
          math.remainder, math.hypot)
OF_LISTS = (math.dist, math.fsum, math.prod)


@pytest.mark.parametrize("own", [f for f in MATH if f not in OF_LISTS], ids=lambda f: f.__name__)
def test_functions_of_math_agree_with_math(own):
    args = (7.0, 4.5) if own in BINARY else (0.5,) if own not in (math.acosh, math.gamma) else (1.5,)
    if own in (math.gcd, math.lcm, math.ldexp):
        args = (6, 4)

    def f(*args):
        return getattr(math, own.__name__)(*args)

    np.testing.assert_allclose(mg.trace(mg.numpy_code(f))(*args)(*args), f(*args))


def test_other_functions_of_math_are_those_of_known_numbers():
    """Each function of `math` on floats is here, or computes on integers alone, or splits a number."""
    floats = {n for n in dir(math) if callable(getattr(math, n)) and not n.startswith("_")}
    assert floats - {f.__name__ for f in MATH} <= {"comb", "factorial", "fma", "frexp", "isqrt", "perm",
                                                       "sumprod", "ulp"}
