"""NumPy's and Python's random numbers in a traced function: one warning for each line, none where there are none."""

import functools
import random
import sys
import types
import warnings

import numpy as np
import pytest

import minigrad as mg
from minigrad.transforms import host_random

X = np.ones(3)
RNG, OLD, PYTHONS = np.random.default_rng(0), np.random.RandomState(0), random.Random(0)
normal = np.random.normal


@pytest.fixture(autouse=True)
def forget():
    host_random._told.clear()


class Model:
    def __init__(self):
        self.rng, self.parts = np.random.default_rng(3), None

    def noise(self, x):
        return x + self.rng.normal(size=3)

    def loss(self, x):
        return self.noise(x) * 2

    def __call__(self, x):
        return x + self.rng.normal(size=3)


MODEL = Model()


def seeded(x):
    return x + RNG.normal(size=3)


def deep(x):
    return x + normal(size=3)


PROGRAMS = {
    "global": lambda x: x + np.random.rand(3), "seeded": lambda x: x + RNG.normal(size=3),
    "old": lambda x: x + OLD.rand(3), "by name": lambda x: x + normal(size=3), "in a function": lambda x: deep(x) * 2}


@pytest.mark.parametrize("name", PROGRAMS)
def test_draws_are_warned_of_with_their_line_and_once(name):
    f = PROGRAMS[name]
    line = (deep if name == "in a function" else f).__code__.co_firstlineno + (name == "in a function")
    with pytest.warns(UserWarning, match=rf"^test_host_random\.py:{line}: NumPy draws random .*mg\.random") as told:
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


def noisy(v):
    return v + np.random.default_rng().normal()


def test_a_generator_beside_a_callback():
    """The callback may hold a draw without a seed; the generator draws while the function is traced."""
    def f(x):
        return mg.callback(noisy, mg.f64[3], x) + seeded(x)

    with pytest.warns(UserWarning, match="NumPy draws random") as told:
        mg.compile(f)(X)
    assert len(told) == 1


def test_no_draw_no_warning():
    fixed = np.random.rand(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mg.compile(lambda x: x * fixed + RNG.bit_generator.state["state"]["inc"] % 2)(X)
        mg.compile(lambda x: mg.callback(lambda v: v + np.random.rand(3), mg.f64[3], x))(X)
        mg.compile(lambda x: x * mg.random.normal(mg.random.key(0), (3,)))(X)
        mg.compile(lambda x: mg.callback(lambda v: v + np.random.default_rng().normal(), mg.f64[3], x))(X)
        mg.compile(lambda x: x * np.random.default_rng(0).normal() + random.Random(1).random())(X)
        random.seed(3)
        mg.compile(lambda x: x * fixed[random.__name__ == "numpy"])(X)


def line_of(f, more=0):
    return f.__code__.co_firstlineno + more


OTHERS = {  # a function, the line, and whose numbers they are
    "unseeded": (lambda x: x + np.random.default_rng().normal(), 0, "NumPy"),
    "unseeded, old": (lambda x: x + np.random.RandomState().normal(), 0, "NumPy"),
    "unseeded, bits": (lambda x: x + np.random.Generator(np.random.PCG64()).normal(), 0, "NumPy"),
    "Python": (lambda x: x + random.random(), 0, "Python"), "Python's": (lambda x: x + random.gauss(0, 1), 0, "Python"),
    "Python's own": (lambda x: x + PYTHONS.random(), 0, "Python"),
    "Python, unseeded": (lambda x: x + random.Random().random(), 0, "Python"),
    "of a helper": (lambda x: seeded(x), line_of(seeded, 1), "NumPy"),
    "of an object": (lambda x: x + MODEL.rng.normal(), 0, "NumPy"),
    "of a method": (MODEL.loss, line_of(Model.noise, 1), "NumPy"),
    "of an instance": (MODEL, line_of(Model.__call__, 1), "NumPy"),
    "partial": (functools.partial(lambda y, x: x + RNG.normal(), 1), None, "NumPy"),
    "step of a loop": (lambda x: mg.fori_loop(0, 3, lambda i, c: c + RNG.normal(), x), 0, "NumPy")}


@pytest.mark.parametrize("name", OTHERS)
def test_generators_wherever_they_are(name):
    f, line, whose = OTHERS[name]
    line = line or line_of(f.func if line is None else f)
    with pytest.warns(UserWarning, match=rf"^test_host_random\.py:{line}: {whose} draws random") as told:
        mg.vmap(f)(np.ones((2, 3)))
    assert len(told) == 1


def test_python_module_that_another_thread_is_importing(monkeypatch):
    monkeypatch.setitem(sys.modules, "random", types.ModuleType("random"))  # as it is at its first line
    assert mg.trace(lambda x: 2.0 * x)(1.0)(3.0) == 6.0


def test_module_that_another_thread_imports_is_left_alone(monkeypatch):
    """Python has entered it among its modules, and not yet in `numpy`, which would wait for it."""
    monkeypatch.delattr(np, "random")
    monkeypatch.setattr(np, "__getattr__", pytest.fail)
    assert "numpy.random" in sys.modules
    assert not host_random.draws(lambda x: x + RNG.normal())
