"""A backend that is registered from outside: it evaluates graphs node by node."""

import copy
import pickle

import numpy as np
import pytest

import minigrad as mg
from minigrad import backends, interpreters
from minigrad.backends import protocol
from minigrad.errors import GraphError, MinigradError
from minigrad.passes.record import Stage


class Interpreted:
    """A graph that is evaluated node by node."""

    def __init__(self, graph, exact):
        self.graph, self.exact, self.calls = graph, exact, 0
        self.source, self.stages = str(graph), [Stage("interpret", graph, graph, "as it is")]

    def __call__(self, arrays, sizes):
        self.calls += 1
        return [np.array(x) for x in interpreters.evaluate(self.graph, arrays, sizes)]

    def workspace_bytes(self, sizes):
        return 0


class Interpreter(backends.Backend):
    name, options = "interpreter", ("exact",)

    def __init__(self, missing=""):
        self.missing, self.started = missing, 0

    def check(self):
        if self.missing:
            raise MinigradError(f"backend 'interpreter': {self.missing}")

    def start(self, **options):
        self.started, self.start_options = self.started + 1, options

    def build(self, graph, *, host_inputs=(), host_outputs=(), exact=True):
        return Interpreted(graph, exact)


@pytest.fixture
def interpreter(monkeypatch):
    monkeypatch.setattr(protocol, "_backends", dict(protocol._backends))
    backend = Interpreter()
    backends.register(backend)
    return backend


def loss(w, x, y):
    return np.sum((np.tanh(x @ w) - y) ** 2)


W = np.linspace(-1, 1, 6).reshape(3, 2)
X, Y = np.linspace(0, 2, 12).reshape(4, 3), np.linspace(1, -1, 8).reshape(4, 2)


def test_a_registered_backend_compiles_batches_and_differentiates(interpreter):
    step = mg.compile(mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0, 0))), backend="interpreter")
    for n in (4, 2):
        value, gradient = step(W, X[:n], Y[:n])
        h = np.tanh(X[:n] @ W)
        np.testing.assert_allclose(value, np.mean(np.sum((h - Y[:n]) ** 2, 1)))
        np.testing.assert_allclose(gradient, X[:n].T @ (2 * (h - Y[:n]) * (1 - h * h)) / n)
    (entry,) = step.entries
    assert (entry.backend, entry.program.calls, interpreter.started) == ("interpreter", 2, 1)
    assert step.stages[-1].name == "interpret"
    assert "tanh" in step.source
    assert step.workspace_bytes(W, X, Y) == 0


def test_per_example_gradients_run_on_a_registered_backend(interpreter):
    rows = mg.compile(mg.per_example_grad(loss, in_axes=(None, 0, 0)), backend="interpreter")(W, X, Y)
    assert rows.shape == (4, 3, 2)
    np.testing.assert_allclose(rows, [mg.grad(loss)(W, x, y) for x, y in zip(X, Y, strict=True)])


def test_options_reach_the_backend_that_has_them(interpreter):
    compiled = mg.compile(np.tanh, backend="interpreter", exact=False)
    compiled(1.0)
    assert not compiled.entries[0].program.exact
    assert interpreter.start_options == {"exact": False}
    with pytest.raises(MinigradError, match=r"backend 'numpy' has no option exact; .*'interpreter' has exact"):
        mg.compile(np.tanh, backend="numpy", exact=False)


def test_pickles_find_the_backend_again(interpreter):
    compiled = mg.compile(lambda x: np.tanh(x) * 2, backend="interpreter")
    compiled(X)
    again = pickle.loads(pickle.dumps(compiled))
    assert [e.backend for e in again.entries] == ["interpreter"]
    np.testing.assert_allclose(again(X), 2 * np.tanh(X))
    assert copy.deepcopy(compiled) is compiled


def test_a_backend_that_cannot_run_says_why(interpreter):
    interpreter.missing = "install an interpreter"
    with pytest.raises(MinigradError, match="install an interpreter"):
        mg.compile(np.tanh, backend="interpreter")


def test_auto_chooses_automatic_backends_alone(interpreter, monkeypatch):
    monkeypatch.delenv("MINIGRAD_BACKEND", raising=False)
    assert backends.chosen("auto") != "interpreter"
    monkeypatch.setenv("MINIGRAD_BACKEND", "interpreter")
    assert backends.chosen("auto") == "interpreter"


def test_an_unknown_backend_is_refused_with_the_names(interpreter):
    with pytest.raises(GraphError, match="no backend 'fortran'; there are auto, numpy, native, cupy, interpreter"):
        mg.compile(np.tanh, backend="fortran")


@pytest.mark.parametrize("name", ["numpy", "native"])
def test_programs_of_the_host_have_the_attributes_of_an_executable(name):
    try:
        backends.get(name).check()
    except MinigradError as why:
        pytest.skip(str(why))
    program = backends.build(mg.trace(np.tanh)(X), name)
    assert program.source
    assert program.stages
    assert program.workspace_bytes({}) >= 0
    np.testing.assert_allclose(program([X], {})[0], np.tanh(X), rtol=1e-14)
