"""Functions in pickles of compiled functions: by name where that leads to them, else without a source."""

import pickle

import numpy as np
import pytest

import minigrad as mg


def cube(x):
    return x**3


def test_a_named_function_is_found_again():
    f = mg.compile(mg.grad(cube))
    assert f(2.0) == 12.0
    again = pickle.loads(pickle.dumps(f))
    assert again(3.0) == 27.0
    assert again(np.float32(3)) == 27.0  # another dtype: traced anew, from the function's name


def test_a_local_function_goes_as_its_graph():
    f = mg.compile(lambda x: x * 2.0)
    f(1.0)
    again = pickle.loads(pickle.dumps(f))
    assert again(4.0) == 8.0


def test_a_function_without_a_program_or_a_name_is_refused(monkeypatch):
    monkeypatch.setattr(mg.transforms.lazy_pickle, "_dumps", lambda: pickle.dumps)
    with pytest.raises(mg.MinigradError, match="cannot be pickled"):
        pickle.dumps(mg.compile(lambda x: x))
