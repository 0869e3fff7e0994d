"""NumPy's protocols: calls that arrive, and the errors of those that cannot."""

import types

import numpy as np
import pytest

import minigrad as mg
from minigrad.numpy.protocols import known_value

V = np.array([1.0, 2.0, 3.0])


def test_ufunc_methods_arrive():
    f = mg.compile(lambda x: (np.add.reduce(x), np.multiply.accumulate(x), np.subtract.outer(x, x[:1])))
    total, products, differences = f(V)
    assert total == 6
    np.testing.assert_array_equal(products, [1, 2, 6])
    np.testing.assert_array_equal(differences, [[0], [1], [2]])


def test_in_place_operators_on_arrays_outside_are_refused():
    def f(x):
        out = np.zeros(3)
        out += x
        return out

    with pytest.raises(mg.TraceError, match=r"test_protocols.py:\d+: np.add with out=.*x = x \+ y"):
        mg.trace(f)(V)


def test_values_that_depend_on_no_input_are_known():
    seen = []
    mg.trace(lambda x: seen.append(float((x * 0 + 1).shape[0]) + float(np.sum(mg.numpy.ones(2)))) or x)(V)
    assert seen == [5.0]
    (node,) = mg.trace(lambda x: x)(V).outputs
    assert known_value(node) is None


def test_errors_name_the_function_of_numpy_that_needs_a_number():
    with pytest.raises(mg.TraceError, match=r"test_protocols.py:\d+: np.histogram2d of a traced value"):
        mg.trace(lambda x: np.histogram2d(x, x))(V)


def test_a_module_of_the_user_may_be_named_after_numpy():
    """Its functions are the user's code, and no functions of NumPy that need a number."""
    module = types.ModuleType("numpy_helpers")
    exec("def halve(x):\n    return float(x) / 2", vars(module))
    with pytest.raises(mg.TraceError, match=r"float\(\) of a traced value"):
        mg.grad(module.halve)(1.0)
