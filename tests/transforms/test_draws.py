"""NumPy's random numbers in a traced function: one warning for each line, and none where there are none."""

import warnings

import numpy as np
import pytest

import minigrad as mg
from minigrad.transforms import draws

X = np.ones(3)
RNG, OLD = np.random.default_rng(0), np.random.RandomState(0)
normal = np.random.normal


@pytest.fixture(autouse=True)
def forget():
    draws._told.clear()


def deep(x):
    return x + normal(size=3)


PROGRAMS = {
    "global": lambda x: x + np.random.rand(3), "seeded": lambda x: x + RNG.normal(size=3),
    "old": lambda x: x + OLD.rand(3), "by name": lambda x: x + normal(size=3), "in a function": lambda x: deep(x) * 2}


@pytest.mark.parametrize("name", PROGRAMS)
def test_draws_are_warned_of_with_their_line_and_once(name):
    f = PROGRAMS[name]
    line = (deep if name == "in a function" else f).__code__.co_firstlineno + (name == "in a function")
    with pytest.warns(UserWarning, match=rf"^test_draws\.py:{line}: NumPy draws random .*mg\.random") as told:
        mg.compile(f)(X)
    assert len(told) == 1
    assert (told[0].filename, told[0].lineno) == (__file__, line)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mg.compile(f)(X[:3].copy())
        mg.grad(lambda x: f(x).sum())(X)


def test_a_generator_around_the_function_and_transforms():
    rng = np.random.default_rng(1)
    with pytest.warns(UserWarning, match="draws random") as told:
        mg.grad(mg.mean_loss(lambda w, x: (w * x).sum() * rng.normal(), (None, 0)))(X, np.ones((4, 3)))
    assert len(told) == 1


def test_no_draw_no_warning():
    fixed = np.random.rand(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mg.compile(lambda x: x * fixed + RNG.bit_generator.state["state"]["inc"] % 2)(X)
        mg.compile(lambda x: mg.callback(lambda v: v + np.random.rand(3), mg.f64[3], x))(X)
        mg.compile(lambda x: x * mg.random.normal(mg.random.key(0), (3,)))(X)
