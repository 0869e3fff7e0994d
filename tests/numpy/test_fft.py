"""The real Fourier transform in parts, against NumPy's."""

import numpy as np
import pytest

import minigrad.numpy as mnp

from .conform import call, check_call

rng = np.random.default_rng(5)


@pytest.mark.parametrize("n", [None, 4, 7, 9])
def test_real_fourier_transforms_in_parts(n):
    x = rng.normal(size=(3, 7))

    def numpys(x):
        z = np.fft.rfft(x, n, axis=1)
        return z.real.copy(), z.imag.copy()

    check_call(numpys, call(x), traced=lambda x: mnp.fft.rfft_parts(x, n, axis=1))
    re, im = numpys(x)
    length = 7 if n is None else n
    check_call(lambda re, im: np.fft.irfft(re + 1j * im, length, axis=1), call(re, im),
               traced=lambda re, im: mnp.fft.irfft_parts(re, im, length, axis=1))
    for dtype in ("f2", "f4", "i1"):
        check_call(lambda x: np.fft.rfft(x, axis=0).real.copy(), call(x.astype(dtype), smooth=False),
                   traced=lambda x: mnp.fft.rfft_parts(x, axis=0)[0])
    check_call(lambda re, im: np.fft.irfft(re + 1j * im), call(re.astype("f2"), im.astype("f2"), smooth=False),
               traced=mnp.fft.irfft_parts)
