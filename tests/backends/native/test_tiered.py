"""Programs of two tiers: NumPy answers while the machine code is built in the background."""

import gc
import pickle
import threading
import warnings

import numpy as np
import pytest

import minigrad as mg
from minigrad import backends
from minigrad.errors import MinigradError

pytest.importorskip("llvmlite")

from minigrad.backends.native.runtime.background import BUILDER
from minigrad.backends.native.tiered import Tiered

RNG = np.random.default_rng(0)
W, X, Y = RNG.standard_normal((5, 3)), RNG.standard_normal((40, 5)), RNG.standard_normal((40, 3))


def loss(w, x, y):
    return np.sum((np.tanh(x @ w) - y) ** 2)


def by_hand(w, x, y):
    h = np.tanh(x @ w)
    return np.mean(np.sum((h - y) ** 2, 1)), x.T @ (2 * (h - y) * (1 - h * h)) / len(x)


def mean():
    return mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0, 0)))


def settle():
    """Wait until the background has nothing left to build."""
    while (thread := BUILDER._thread) is not None and thread.is_alive():
        thread.join()


@pytest.fixture(autouse=True)
def _settled():
    yield
    settle()


class Gate:
    """Builds of machine code that wait for a signal, and are counted."""

    def __init__(self, monkeypatch):
        self.open, self.begun, self.builds, self.error = threading.Event(), threading.Event(), 0, None
        build = type(backends.get("native"))._machine_code

        def waits(backend, graph, quick):
            self.builds += 1
            self.begun.set()
            assert self.open.wait(60)
            if self.error is not None:
                raise self.error
            return build(backend, graph, quick)

        monkeypatch.setattr(type(backends.get("native")), "_machine_code", waits)


@pytest.fixture
def gate(monkeypatch):
    gate = Gate(monkeypatch)
    yield gate
    gate.open.set()
    settle()


def test_numpy_answers_until_the_machine_code_is_there(gate):
    function = mean()
    step = mg.compile(function, backend="native", tier="early")
    numpys = mg.compile(function, backend="numpy")
    for n in (40, 1, 7):  # the build waits all the time
        value, gradient = step(W, X[:n], Y[:n])
        expected = numpys(W, X[:n], Y[:n])
        assert value == expected[0]
        np.testing.assert_array_equal(gradient, expected[1])
        np.testing.assert_allclose(gradient, by_hand(W, X[:n], Y[:n])[1])
    assert gate.begun.wait(60)
    (tier,) = (s for s in step.stages if s.name == "tier")
    assert tier.note.startswith("NumPy answers")
    assert (step.llvm, step.stages[-1].name) == ("", numpys.stages[-1].name)
    assert "np.matmul" in step.source
    gate.open.set()
    settle()
    natives = mg.compile(mean(), backend="native")
    for n in (40, 1, 7):
        value, gradient = step(W, X[:n], Y[:n])
        expected = natives(W, X[:n], Y[:n])
        assert value == expected[0]
        np.testing.assert_array_equal(gradient, expected[1])
    (tier,) = (s for s in step.stages if s.name == "tier")
    assert tier.note == "NumPy answered until the machine code was built"
    assert step.stages[-1].name == "native"
    assert "define" in step.llvm
    assert step.memory(40) == natives.memory(40)


def test_the_build_begins_after_the_first_answer(gate):
    step = mg.compile(mean(), backend="native", tier="early")
    entry = step.build(W, X, Y)
    assert isinstance(entry.program, Tiered)
    assert not gate.builds
    step(W, X, Y)
    assert gate.begun.wait(60)
    step(W, X, Y)
    assert gate.builds == 1


def test_the_default_builds_machine_code_before_the_first_answer(gate):
    gate.open.set()
    step = mg.compile(mean(), backend="native")
    step(W, X, Y)
    assert gate.builds == 1
    assert not isinstance(step.entries[0].program, Tiered)
    assert "tier" not in [s.name for s in step.stages]


def test_a_failed_build_leaves_numpy_with_a_warning_and_a_note(gate):
    gate.error = RuntimeError("LLVM has no such instruction")
    step = mg.compile(mean(), backend="native", tier="early")
    step(W, X, Y)
    gate.open.set()
    settle()
    with pytest.warns(RuntimeWarning, match="build of the machine code in the background failed.*no such") as caught:
        value, gradient = step(W, X, Y)
    assert caught[0].filename == __file__
    np.testing.assert_allclose(value, by_hand(W, X, Y)[0])
    np.testing.assert_allclose(gradient, by_hand(W, X, Y)[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(W, X, Y)
    (tier,) = (s for s in step.stages if s.name == "tier")
    assert tier.note == ("NumPy answers: the build of the machine code failed: RuntimeError: LLVM has no such "
                         "instruction")
    assert gate.builds == 1


def test_threads_get_the_bits_of_one_of_the_programs(gate):
    step = mg.compile(mean(), backend="native", tier="early")
    allowed = [mg.compile(mean(), backend="numpy")(W, X, Y)[1].tobytes()]
    step(W, X, Y)
    results = []

    def work():
        for _ in range(20):
            results.append(step(W, X, Y)[1].tobytes())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    gate.open.set()
    for thread in threads:
        thread.join()
    settle()
    allowed.append(mg.compile(mean(), backend="native")(W, X, Y)[1].tobytes())
    assert set(results) <= set(allowed)
    assert len(results) == 80
    assert step(W, X, Y)[1].tobytes() == allowed[1]


def test_copies_keep_the_tier(gate):
    gate.open.set()
    step = mg.compile(mean(), backend="native", tier="early")
    step(W, X, Y)
    copy = pickle.loads(pickle.dumps(step))
    assert isinstance(copy.entries[0].program, Tiered)
    np.testing.assert_allclose(copy(W, X, Y)[1], by_hand(W, X, Y)[1])


def test_a_dropped_program_is_not_built(gate):
    kept, dropped = (mg.compile(mean(), backend="native", tier="early") for _ in range(2))
    kept(W, X, Y)
    assert gate.begun.wait(60)  # the builder is busy with the first one
    dropped(W, X, Y)
    del dropped
    gc.collect()
    gate.open.set()
    settle()
    assert gate.builds == 1


def test_a_call_begins_the_build_that_no_thread_could_begin(monkeypatch, gate):
    def refuses(thread):
        raise RuntimeError("can't start new thread")

    gate.open.set()
    step = mg.compile(mean(), backend="native", tier="early")
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuses)
        step(W, X, Y)
    assert not gate.builds
    step(W, X, Y)
    settle()
    assert "define" in step.llvm


def test_programs_with_a_budget_have_one_tier():
    step = mg.compile(mg.value_and_grad(mg.microbatch(mg.mean_loss(loss, in_axes=(None, 0, 0)), memory="100 KB")),
                      backend="native", tier="early")
    np.testing.assert_allclose(step(W, X, Y)[1], by_hand(W, X, Y)[1])
    assert not isinstance(step.entries[0].program, Tiered)


def test_programs_that_define_sizes_have_tiers():
    def positive(x):
        return np.sum(x[x > 0] ** 2)

    step = mg.compile(mg.mean_loss(positive), backend="native", tier="early")
    for _ in range(2):
        np.testing.assert_allclose(step(X), np.mean(np.sum(np.maximum(X, 0) ** 2, 1)))
        settle()
    assert {s.note for s in step.stages if s.name == "tier"} == {"NumPy answered until the machine code was built"}


def test_gradients_of_examples_and_products_with_the_hessian():
    rows = mg.compile(mg.per_example_grad(loss, in_axes=(None, 0, 0)), backend="native", tier="early")
    mean_of = mg.mean_loss(loss, in_axes=(None, 0, 0))
    curve = mg.compile(lambda w, x, y, v: mg.hvp(mean_of, (w, x, y), (v,), argnums=0), backend="native", tier="early")
    v, h = np.ones_like(W), 1e-5
    slope = (by_hand(W + h * v, X, Y)[1] - by_hand(W - h * v, X, Y)[1]) / (2 * h)
    for _ in range(2):
        each = rows(W, X, Y)
        np.testing.assert_allclose(each, [by_hand(W, X[i:i + 1], Y[i:i + 1])[1] for i in range(len(X))])
        np.testing.assert_allclose(curve(W, X, Y, v), slope, rtol=1e-6)
        settle()


def test_unknown_tiers_are_refused(monkeypatch):
    with pytest.raises(MinigradError, match=r"test_tiered.*no tier 'soon'; there are final, quick, early"):
        mg.compile(mean(), backend="native", tier="soon")(W, X, Y)
    with pytest.raises(MinigradError, match="backend 'numpy' has no option tier"):
        mg.compile(mean(), backend="numpy", tier="early")
    monkeypatch.setenv("MINIGRAD_TIER", "late")
    with pytest.raises(MinigradError, match="no MINIGRAD_TIER 'late'; there are final, quick, early"):
        mg.compile(mean(), backend="native")(W, X, Y)


def test_the_environment_sets_the_default(monkeypatch):
    monkeypatch.setenv("MINIGRAD_TIER", "early")
    early, final = mg.compile(mean(), backend="native"), mg.compile(mean(), backend="native", tier="final")
    assert isinstance(early.build(W, X, Y).program, Tiered)
    assert not isinstance(final.build(W, X, Y).program, Tiered)
