"""The real Fourier transform in parts, against NumPy's."""

import numpy as np
import pytest

import minigrad as mg
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


def power(x):
    real, imaginary = mnp.fft.rfft_parts(x)
    return real**2 + imaginary**2


def smoothed(x):
    n = x.shape[0]
    response = 1 / (1 + mnp.fft.rfftfreq(n, 0.5) ** 2)
    return mnp.fft.irfft_parts(*(part * response for part in mnp.fft.rfft_parts(x)), n=n)


def smoothed_by_numpy(x):
    return np.fft.irfft(np.fft.rfft(x) / (1 + np.fft.rfftfreq(len(x), 0.5) ** 2), len(x))


ALONG = {  # of signals of different length: ours, NumPy's
    "power": (power, lambda x: np.abs(np.fft.rfft(x)) ** 2),
    "columns": (lambda x: mnp.fft.rfft_parts(x[:, None] * x[None], axis=0)[1],
                lambda x: np.fft.rfft(x[:, None] * x[None], axis=0).imag),
    "cut": (lambda x: mnp.fft.rfft_parts(x, 3)[0], lambda x: np.fft.rfft(x, 3).real),
    "padded": (lambda x: mnp.fft.rfft_parts(x, 2 * x.shape[0])[1], lambda x: np.fft.rfft(x, 2 * len(x)).imag),
    "filter": (smoothed, smoothed_by_numpy),
    "default length": (lambda x: mnp.fft.irfft_parts(np.append(x, [1.0, 2.0]), np.append(x, [0.0, 0.0])),
                       lambda x: np.fft.irfft(np.append(x, [1, 2]) + 1j * np.append(x, [0, 0]))),
    "frequencies": (lambda x: mnp.fft.fftfreq(x.shape[0], 0.1) + x, lambda x: np.fft.fftfreq(len(x), 0.1) + x),
    "shift": (np.fft.ifftshift, np.fft.ifftshift)}


@pytest.mark.parametrize("name", ALONG)
@pytest.mark.parametrize("how", [lambda f: f, lambda f: mg.compile(f, backend="numpy"), mg.compile])
def test_signals_of_different_length_equal_the_loop(name, how):
    ours, numpys = ALONG[name]
    signals = [rng.normal(size=n) for n in (1, 4, 7, 2, 5, 1)]
    batch, p, v = mg.batch(signals, mg.f64[mg.axis("t")]), np.float64(0.7), np.float64(1.0)
    for have, x in zip(how(mg.vmap(ours))(batch).unbatch() if name != "cut" else how(mg.vmap(ours))(batch), signals,
                       strict=True):
        np.testing.assert_allclose(have, numpys(x), atol=1e-12)

    def loss(p, x):
        return np.sum(np.sin(p * ours(np.exp(p * x))))

    mean, slopes = mg.mean_loss(loss, (None, 0)), [mg.grad(loss)(p, x) for x in signals]
    np.testing.assert_allclose(how(mg.grad(mean))(p, batch), np.mean(slopes))
    np.testing.assert_allclose(how(mg.vmap(mg.grad(loss), (None, 0)))(p, batch), slopes)
    np.testing.assert_allclose(how(mg.grad(mg.microbatch(mean, 2)))(p, batch), np.mean(slopes))
    bends = [mg.hvp(lambda p, x=x: loss(p, x), (p,), (v,)) for x in signals]
    np.testing.assert_allclose(how(lambda b: mg.hvp(lambda p: mean(p, b), (p,), (v,)))(batch), np.mean(bends))


def test_a_signal_without_points_is_refused_by_its_number():
    batch = mg.batch([np.ones(3), np.ones(0)], mg.f64[mg.axis("t")])
    with pytest.raises(ValueError, match="example 1 has no rows"):
        mg.compile(mg.vmap(power))(batch)
