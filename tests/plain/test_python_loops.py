"""NumPy's loops over elements in Python, on traced values."""

import numpy as np

import minigrad as mg

from .test_mutable_array import agrees

X = np.array([0.5, 1.5, 2.5])


@np.vectorize
def shifted(a, b=1.0):
    return np.array([a, b]).sum() * 2


def test_vectorize():
    def f(x):
        as_floats = np.vectorize(lambda a: 1 if isinstance(a, int) else 2 * a, otypes=[float])
        first, second = np.vectorize(lambda a, b: (a + b, a * b))(x[:, None], np.array([1.0, 2.0]))
        return shifted(x), shifted(x, 2.0), as_floats(x), first, second, np.vectorize(abs)(np.array([-1.0])) * x

    agrees(f, X)
    mg.check_grads(mg.numpy_code(lambda x: np.sum(shifted(x) ** 2)), (X,), order=1)
    assert type(shifted) is np.vectorize


def test_vectorize_decorates_and_keeps_signatures():
    def f(x):
        @np.vectorize
        def square(a):
            return a**2

        @np.vectorize(otypes=[np.float32])
        def half(a):
            return a / 2

        return square(x), half(x), np.vectorize(np.sum, signature="(n)->()")(np.ones((2, 3))) * x[0]

    agrees(f, X)


def test_fromiter():
    agrees(lambda x: (np.fromiter((2 * a for a in x), float), np.fromiter(iter(x), dtype=np.float32, count=2)), X)


def test_ndenumerate():
    def f(x):
        out = np.zeros((3, 2))
        for (i, j), v in np.ndenumerate(np.stack([x, 2 * x])):
            out[j, i] = v
        return out, np.array([v * x[0] for _, v in np.ndenumerate(np.eye(2))])

    agrees(f, X)


def test_fromfunction():
    agrees(lambda x: np.fromfunction(lambda i, j: i * x[0] + j * x[1], (2, 3)), X)
