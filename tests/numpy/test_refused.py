"""Every public function of NumPy: in the table, refused with a reason, or without array arguments."""

import inspect
import operator
import re

import numpy as np
import pytest

import minigrad as mg
import minigrad.numpy as mnp
from minigrad.numpy.dispatch import REFUSED
from minigrad.numpy.refused import APART
from minigrad.traced_array import TABLE

SPACES = {"": np, "linalg.": np.linalg, "fft.": np.fft}
PUBLIC = sorted({prefix + name for prefix, space in SPACES.items() for name in dir(space) if not name.startswith("_")
                 and callable(getattr(space, name)) and not inspect.isclass(getattr(space, name))})
NO_ARRAYS = {name for names in APART.values() for name in names.split()}


def numpys(name):
    return operator.attrgetter(name)(np)


def is_entered(name):
    try:
        return numpys(name) in TABLE
    except TypeError:
        return False


def test_every_function_is_supported_or_refused():
    left = [n for n in PUBLIC if not is_entered(n) and f"np.{n}" not in REFUSED and n not in NO_ARRAYS
            and n not in ("row_stack",)]  # np.vstack by a name that NumPy is giving up
    assert left == []
    assert len(PUBLIC) > 400


def test_lists_of_functions_are_disjoint():
    assert [n for n in PUBLIC if is_entered(n) and f"np.{n}" in REFUSED and n != "put_along_axis"] == []
    assert [n for n in PUBLIC if n in NO_ARRAYS and (is_entered(n) or f"np.{n}" in REFUSED)] == []


X = np.arange(6.0).reshape(2, 3)
NOT_ARRAYS_FIRST = {  # how these are called, where not f(x)
    "union1d": 2, "intersect1d": 2, "setdiff1d": 2, "setxor1d": 2, "polydiv": 2, "copyto": 2, "histogram2d": 2,
    "may_share_memory": 2, "shares_memory": 2, "busday_count": 2, "busday_offset": 2}
CALLS = {
    "put": lambda f, x: f(X.copy(), [0], x[0, 0]), "place": lambda f, x: f(X.copy(), X > 0, x),
    "putmask": lambda f, x: f(X.copy(), X > 0, x), "fill_diagonal": lambda f, x: f(x, 0.0),
    "put_along_axis": lambda f, x: f(x, np.zeros((2, 1), int), 0.0, 1), "vectorize": lambda f, x: f(lambda a: a + 1)(x),
    "frompyfunc": lambda f, x: f(lambda a: a + 1, 1, 1)(x), "fromfunction": lambda f,
    x: f(lambda i: np.asarray(x)[i], (2,)),
    "einsum_path": lambda f, x: f("ij->i", x), "save": lambda f, x: f("/dev/null", x),
    "savetxt": lambda f, x: f("/dev/null", x), "savez": lambda f, x: f("/dev/null", x),
    "savez_compressed": lambda f, x: f("/dev/null", x), "base_repr": lambda f, x: f(x), "bmat": lambda f,
    x: f([[x, x]])}
REFUSED_OF_NUMPY = [n for n in REFUSED if n.startswith("np.") and n != "np.lib.AxisConcatenator"]


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("name", REFUSED_OF_NUMPY)
def test_refused_functions_raise_their_reason(name):
    """It names the function, says why, and what to write instead; in general words where C code does not say which."""
    short = name.removeprefix("np.")
    if not (hasattr(np, short) or "." in short):
        pytest.skip("not in this version of NumPy")
    function = numpys(short)
    how = CALLS.get(short, lambda f, x: f(*[x] * NOT_ARRAYS_FIRST.get(short, 1)))
    with pytest.raises(mg.TraceError) as caught:
        mg.trace(lambda x: how(function, x))(X)
    message = str(caught.value)
    assert message.startswith("test_refused.py:")
    why, instead = REFUSED[name]
    general = "of a traced value" in message and len(message) > 100
    assert (f"{name} of a traced value: {why}. {instead}" in message) or (short in GENERAL and general), message


# These meet a traced value in C, or through another function: the message is that of what they asked for.
GENERAL = {"frompyfunc", "fromfunction", "isfortran"}


@pytest.mark.parametrize("name", sorted(NO_ARRAYS - {"errstate"}))
def test_functions_without_arrays_are_numpys(name):
    assert operator.attrgetter(name)(mnp) is numpys(name) or name in ("broadcast_shapes",)


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("f", [
    lambda x: np.r_[x, x], lambda x: np.vectorize(abs)(x), lambda x: np.random.default_rng(0).normal(x),
    lambda x: np.matrix(x),
    lambda x: np.lib.stride_tricks.as_strided(x), lambda x: np.ma.masked_array(x), lambda x: np.poly1d(x[0]),
    lambda x: np.float64(x[0, 0]), lambda x: np.ndindex(x[0, 0]), lambda x: np.add(x, x, out=X.copy()),
    lambda x: np.random.permutation(x), lambda x: x.sort(), lambda x: x.fill(0.0), lambda x: x.nonzero()])
def test_unregistered_functions_raise_errors_of_minigrad(f):
    with pytest.raises(mg.MinigradError, match=r"^test_refused\.py:\d+: ") as caught:
        mg.trace(lambda x: (f(x), x)[1])(X)
    assert len(re.findall(r"[A-Z][^.]*\.", str(caught.value))) >= 1, "no way out is named"


def test_every_attribute_of_ndarrays_exists_or_explains():
    seen = []

    def look(x):
        for name in dir(np.ndarray):
            if not name.startswith("_") and not hasattr(x, name):
                with pytest.raises(mg.MinigradError, match=rf"x\.{name} of a traced value"):
                    getattr(x, name)
                seen.append(name)
        assert not hasattr(x, "something_else")
        return x

    mg.trace(look)(X)
    assert {"sort", "flat", "view"} <= set(seen)
    assert {"sum", "searchsorted", "nbytes", "conj", "imag"} & set(seen) == set()


@pytest.mark.parametrize("write", [
    lambda A, x: np.fill_diagonal(A, 0.0), lambda A, x: np.put(A, [0, 1], 2.0), lambda A, x: np.copyto(A, 1.0),
    lambda A, x: np.place(A, A > 1, [5.0]), lambda A, x: np.putmask(A, A > 1, 3.0), lambda A, x: A.sort(),
    lambda A, x: A.put([1], 2.0), lambda A, x: A.fill(2.0), lambda A, x: A.partition(1)])
def test_functions_that_write_name_numpy_code_which_runs_them(write):
    def f(x):
        A = x[:, None] * x
        write(A, x)
        return A * x[0]

    x = np.array([0.5, -1.5, 2.0])
    with pytest.raises((mg.TraceError, AttributeError), match=r"test_refused\.py:\d+: .*mg\.numpy_code\(f\)"):
        mg.trace(f)(x)
    np.testing.assert_allclose(mg.trace(mg.numpy_code(f))(x)(x), f(x))


def test_complex_transforms_name_their_parts_which_do_the_same():
    def low_pass(alpha, signal):
        response = 1 / (1 + (np.fft.rfftfreq(signal.size, d=0.1) * alpha) ** 2)
        return np.sum(np.fft.irfft(np.fft.rfft(signal) * response, n=signal.size) ** 2)

    def in_parts(alpha, signal):
        response = 1 / (1 + (np.fft.rfftfreq(signal.size, d=0.1) * alpha) ** 2)
        real, imaginary = mnp.fft.rfft_parts(signal)
        return np.sum(mnp.fft.irfft_parts(real * response, imaginary * response, n=signal.size) ** 2)

    signal = np.sin(np.arange(16.0) ** 1.3)
    with pytest.raises(mg.TraceError, match=r"np\.fft\.rfft .*minigrad\.numpy\.fft\.rfft_parts\(x\).*irfft_parts"):
        mg.grad(low_pass)(0.8, signal)
    value, slope = mg.value_and_grad(in_parts)(0.8, signal)
    np.testing.assert_allclose(value, low_pass(0.8, signal))
    np.testing.assert_allclose(slope, (low_pass(0.8 + 1e-6, signal) - low_pass(0.8 - 1e-6, signal)) / 2e-6, rtol=1e-6)
