"""Arithmetic on Python's integers that a call alone knows, against Python's own."""

import numpy as np
import pytest

import minigrad as mg
import minigrad.numpy as mnp


def _stored(x, k):
    out = x.copy()
    out[0] = k
    return out


EXAMPLES = np.ones(2)


ARITHMETIC = {  # functions of an array and a Python int, and what NumPy computes where they are written otherwise
    "k + 1": (lambda x, k: x * (k + 1), None), "-k": (lambda x, k: x + (-k + 256), None),
    "k // 2": (lambda x, k: x * (k // 2), None), "maximum": (lambda x, k: np.maximum(x, 2 * k), None),
    "shift": (lambda x, k: x >> k, None), "clip": (lambda x, k: np.clip(x, 0, k), None),
    "clip by k + 1": (lambda x, k: np.clip(x, -k, k + 1), None),
    "clip from k": (lambda x, k: np.clip(x, k, None), None),
    "where": (lambda x, k: np.where(x > 100, x, k + 1), None), "equal": (lambda x, k: x == k - 100, None),
    "less": (lambda x, k: x < k * 3, None), "full_like": (lambda x, k: np.full_like(x, k), None),
    "set": (lambda x, k: mnp.at(x)[0].set(k), _stored), "insert": (lambda x, k: np.insert(x, 0, k), None),
    "initial": (lambda x, k: np.sum(x, initial=k, dtype=np.uint8), None),
    "carry": (lambda x, k: mg.fori_loop(0, 2, lambda i, c: (c[0] + k, c[1] * c[0]), (0, x))[1],
              lambda x, k: x * 0 * k),
    "start": (lambda x, k: mg.fori_loop(0, 2, lambda i, c: c + x[0], k), lambda x, k: k + x[0] + x[0]),
    "while": (lambda x, k: mg.while_loop(lambda c: c[0] < k, lambda c: (c[0] + 100, x * c[0]), (0, x))[1],
              lambda x, k: x * ((k - 1) // 100 * 100)),
    "branch": (lambda x, k: mg.cond(x[0] > 0, lambda: x * (k - 1), lambda: x), lambda x, k: x * (k - 1)),
    "2**n": (lambda x, k: 1.5 * 2**k, None), "k**20": (lambda x, k: 1.5 * k**20, None),
    "k * k": (lambda x, k: 1.5 * (k * k * k * k * k * k * k * k * k), None),
    "k << k": (lambda x, k: 1.5 * (k << k), None),
    "doubled": (lambda x, k: mg.fori_loop(0, 70, lambda i, c: c * 2, k - k + 1), lambda x, k: 2**70)}


@pytest.mark.parametrize("name", ARITHMETIC)
@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_arithmetic_of_python_integers(name, backend):
    if backend == "native":
        pytest.importorskip("llvmlite")
    f, plain = ARITHMETIC[name]
    x, compiled = np.array([200, 3], np.uint8), mg.compile(f, backend=backend)
    for k in (300, 3, 255, 1, 127, 128, 254):
        for way in (compiled, lambda x, k: mg.vmap(lambda e, x, k: f(x, k), (0, None, None))(EXAMPLES, x, k)[0]):
            try:
                with np.errstate(all="ignore"):
                    want = (plain or f)(x, k)
                large = name in ("2**n", "k**20", "k * k", "k << k") and way is compiled  # elsewhere Python computes it
                if isinstance(want, int) or (large and want >= 1.5 * 2**63):
                    raise OverflowError  # a number that int64 has not
            except OverflowError:
                with pytest.raises(OverflowError, match=r"test_python_numbers.py:\d+: the integer .* is out of bounds"):
                    way(x, k)
                continue
            have = way(x, k)
            assert np.asarray(have).dtype == np.asarray(want).dtype
            np.testing.assert_array_equal(have, want)
