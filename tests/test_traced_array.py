"""The traced array: operators, methods, iteration, and values known before the program runs."""

import inspect
import operator

import numpy as np
import pytest

import minigrad as mg
from minigrad import Array

from .numpy.conform import assert_same, call, check_call, run_traced

W = np.array([0.53, 2.11, 1.47])
M = np.arange(6.0).reshape(2, 3) - 2.2
V = np.array([1.31, 0.47, 2.3])
N = np.array([3, 1, 2])

BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow,
          divmod,
          operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
BITS = [operator.and_, operator.or_, operator.xor]


@pytest.mark.parametrize("op", BINARY, ids=lambda f: f.__name__)
def test_operators(op):
    """Between traced arrays, arrays, lists and numbers, on either side."""
    for f in (lambda a, b: op(a, b), lambda a, b: op(a, V), lambda a, b: op(V, a), lambda a, b: op(a, 2), lambda a,
              b: op(2, a),
              lambda a, b: op(a, [1, 2, 3]), lambda a, b: op([1, 2, 3], b), lambda a, b: op(np.float64(2), b)):
        check_call(f, call(W, np.array([1.1, 0.7, 3.1])))


@pytest.mark.parametrize("op", BITS, ids=lambda f: f.__name__)
def test_bit_operators(op):
    check_call(lambda a, b: op(a, b), call(N, N[::-1].copy()))
    check_call(lambda a: op(a, 2), call(N))
    check_call(lambda a, b: op(a > 1, b > 1), call(N, W))


@pytest.mark.parametrize("f", [
    lambda x: -x, lambda x: +x, lambda x: abs(x), lambda x: ~(x > 0), lambda x: x.T,
    lambda x: x.mT,
    lambda x: x.real, lambda x: x.sum(), lambda x: x.sum(0), lambda x: x.mean(axis=1, keepdims=True), lambda x: x.max(),
    lambda x: x.min(1), lambda x: x.std(0), lambda x: x.var(ddof=1), lambda x: x.prod(), lambda x: x.cumsum(1),
    lambda x: x.argmax(), lambda x: x.argsort(), lambda x: x.reshape(3, 2), lambda x: x.reshape((6,)),
    lambda x: x.reshape(-1),
    lambda x: x.transpose(), lambda x: x.transpose(1, 0), lambda x: x.transpose((1, 0)), lambda x: x.swapaxes(0, 1),
    lambda x: x.ravel(), lambda x: x.flatten(), lambda x: x[None].squeeze(), lambda x: x.repeat(2),
    lambda x: x.astype("f4"),
    lambda x: x.copy(), lambda x: x.clip(-1, 1), lambda x: x.round(), lambda x: x.take([0, 1], 1),
    lambda x: x.diagonal(),
    lambda x: x.trace(), lambda x: x.dot(W), lambda x: x @ W, lambda x: W @ x.T, lambda x: x.any(),
    lambda x: (x > 0).all(0),
    lambda x: np.stack(list(x)), lambda x: (lambda a, b: a * b)(*x), lambda x: sum(v[0] for v in x),
    lambda x: x.cumprod(0),
    lambda x: np.add.reduce(x), lambda x: np.maximum.reduce(x, axis=1), lambda x: np.multiply.reduce(x, axis=None),
    lambda x: np.add.accumulate(x, 1), lambda x: np.multiply.accumulate(x), lambda x: np.multiply.outer(x, W),
    lambda x: np.add.reduce(x, 1, keepdims=True), lambda x: np.logical_or.reduce(x > 0)], ids=range(53))
def test_methods(f):
    check_call(f, call(M, smooth=False))


def test_attributes():
    seen = []
    mg.trace(lambda x: seen.append((x.shape, x.dtype, x.ndim, x.size, len(x), x.device)) or x)(M)
    assert seen[-1] == ((2, 3), np.dtype("f8"), 2, 6, 2, "cpu")
    text = []
    mg.trace(lambda x: text.append(repr(np.sin(x))) or x)(M)
    assert "traced f64[2, 3]: sin at test_traced_array.py:" in text[-1]


def test_values_without_inputs_are_known():
    """Sizes and constants are numbers while the program is traced, and code may branch on them."""

    def f(x):
        ones = np.ones_like(x)
        if ones.sum() > 3 and float(ones.mean()) == 1.0:
            x = x * int(ones.sum())
        return x * np.asarray(ones)[0, 0] + list(range(9))[ones.sum().astype(int)] + ones.tolist()[0][0] + ones[0,
                                                                                                                0].item()

    assert_same(run_traced(lambda x: [f(x)], M)[0], f(M))


def test_objects_of_sizes():
    f = lambda X: mg.vmap(np.sum)(X) * np.array(X.shape)[0] + np.arange(X.shape[0])  # noqa: E731
    assert_same(mg.compile(f)(M), f(M))
    assert_same(mg.compile(f)(np.ones((4, 3))), f(np.ones((4, 3))))


def test_methods_have_the_names_and_signatures_of_numpys_functions():
    methods = [name for name, f in vars(Array).items() if inspect.isfunction(f) and f.__module__ == "numpy"]
    assert {"sum", "argsort", "astype", "take"} <= set(methods)
    assert {name for name in methods if not hasattr(np.ndarray, name)} == {"ptp", "__round__"}  # NumPy 1 has `ptp`
    assert list(inspect.signature(Array.cumsum).parameters) == ["a", "axis", "dtype", "out"]
    assert Array.sum.__doc__ == np.sum.__doc__
