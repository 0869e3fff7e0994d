"""Integer arguments: floats are refused at the user's line, by function and parameter."""

import numpy as np
import pytest

import minigrad as mg
import minigrad.numpy as mnp

X = np.arange(12.0).reshape(3, 4)

CASES = {  # name and parameter: a call
    ("diff", "n"): lambda x: np.diff(x, 0.5),
    ("roll", "shift"): lambda x: np.roll(x, (1, 1.5), (0, 1)),
    ("repeat", "repeats"): lambda x: np.repeat(x, 1.5),
    ("repeat", "repeats", "each"): lambda x: np.repeat(x, [1.5, 1, 1], 0),
    ("split", "indices_or_sections"): lambda x: np.split(x, 2.5),
    ("split", "indices_or_sections", "list"): lambda x: np.array_split(x, [1.5]),
    ("split", "indices_or_sections", "columns"): lambda x: np.hsplit(x, 1.5),
    ("rot90", "k"): lambda x: np.rot90(x, 1.5),
    ("eye", "'float'"): lambda x: mnp.eye(2.0) * x[0, 0],
    ("zeros", "2.0"): lambda x: mnp.zeros(2.0) * x[0, 0],
    ("round", "decimals"): lambda x: np.round(x, 1.5),
    ("scan", "length"): lambda x: mg.scan(lambda c, _: (c, c), x, None, length=2.5)[1],
    ("tril", "k"): lambda x: np.tril(x, 0.5),
    ("diag", "k"): lambda x: np.diag(x[0], 0.5),
    ("tile", "reps"): lambda x: np.tile(x, (1.5, 1)),
    ("pad", "pad_width"): lambda x: np.pad(x, ((1.5, 1), (0, 0))),
    ("partition", "kth"): lambda x: np.partition(x, 1.5),
    ("argpartition", "kth"): lambda x: np.argpartition(x, 1.5),
    ("delete", "obj"): lambda x: np.delete(x, 1.5, 0),
    ("insert", "obj"): lambda x: np.insert(x, 1.5, 0.0, 0),
    ("linspace", "num"): lambda x: np.linspace(x[0, 0], 1, 2.5),
    ("vander", "N"): lambda x: np.vander(x[0], 2.5),
    ("linalg.matrix_power", "n"): lambda x: np.linalg.matrix_power(x[:, :3], 1.5),
    ("tensordot", "axes"): lambda x: np.tensordot(x, x, 1.5),
    ("histogram", "bins"): lambda x: np.histogram(x, 2.5)[0],
    ("fft.rfft", "n"): lambda x: mnp.fft.rfft_parts(x, 2.5)[0],
    ("moveaxis", "an axis is an int, not 0.5"): lambda x: np.moveaxis(x, 0.5, 1)}


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_floats_are_refused_by_function_and_parameter(case):
    function, parameter = case[:2]
    for transformed in (mg.trace, mg.compile):
        with pytest.raises(mg.MinigradError, match=rf"test_arguments.py:\d+: .*{function}: .*{parameter}"):
            transformed(CASES[case])(X)


@pytest.mark.parametrize("f", [
    lambda x, k: np.roll(x, k, 0), lambda x, k: np.repeat(x, k), lambda x, k: np.rot90(x, k),
    lambda x, k: np.diff(x, k),
    lambda x, k: np.split(x, [k])[1], lambda x, k: np.tile(x, (k, 1)), lambda x, k: np.pad(x, k),
    lambda x, k: np.tril(x, k), lambda x, k: np.delete(x, k, 0), lambda x, k: np.roll(x, [k, 1], (0, 1)),
    lambda x, k: np.repeat(x, np.array([k, 0, 1]), 0), lambda x, k: np.tensordot(x, x.T, k)])
def test_integers_of_numpy_are_taken(f):
    for k in (np.int32(1), np.array(1)):
        np.testing.assert_array_equal(mg.compile(lambda x, k=k: f(x, k))(X), f(X, 1))


def test_sizes_of_the_batch_are_taken():
    def f(x):
        n = mg.vmap(lambda row: row)(x).shape[0]
        return np.roll(x, n // 2, 0), np.tile(x, (n, 1)), np.repeat(x, n, 0), mnp.eye(n), np.tril(x, n - 3)

    def plain(x):
        return np.roll(x, 1, 0), np.tile(x, (3, 1)), np.repeat(x, 3, 0), np.eye(3), np.tril(x, 0)

    for have, want in zip(mg.compile(f)(X), plain(X), strict=True):
        np.testing.assert_array_equal(have, want)


NEGATIVE = {  # calls that NumPy refuses, too
    "np.tile: reps": lambda x: np.tile(x, (2, -1)),
    "np.repeat: repeats": lambda x: np.repeat(x, -1),
    "np.repeat: repeats of each": lambda x: np.repeat(x, [1, -1, 2], axis=0),
    "np.diff: n": lambda x: np.diff(x, -1),
    "a size": lambda x: np.broadcast_to(x[:1, :1], (-2, 3)),
    "a size of another": lambda x: np.zeros_like(x, shape=(-2, 3)),
    "a size of two": lambda x: np.reshape(x, (-2, -6)),
    "a size of draws": lambda x: mg.random.normal(mg.random.key(0), (-2,)) + x[0, 0],
    "scan: length": lambda x: mg.scan(lambda c, _: (c, c), x, None, length=-1)[1]}


@pytest.mark.parametrize("case", sorted(NEGATIVE))
def test_negative_counts_and_sizes_are_refused(case):
    words = case.split(" of ")[0]
    with pytest.raises(mg.ShapeError, match=rf"^test_arguments\.py:\d+: .*{words} must not be negative"):
        mg.trace(NEGATIVE[case])(X)
