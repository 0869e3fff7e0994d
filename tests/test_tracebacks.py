"""Tracebacks hold the user's frames and one of minigrad's, unless the switch is on."""

import os
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import tracebacks

X = np.ones(3)


def helper(x):
    return x.reshape(2, 2)


def loss(x):
    return np.sum(helper(x))


def wrong_element(x):
    out = np.zeros(3)
    out[0] = x[0]
    return out


def failing(x):
    raise KeyError("mine")


CALLS = {
    "grad": lambda f: mg.grad(f)(X), "value_and_grad": lambda f: mg.value_and_grad(f)(X),
    "compile": lambda f: mg.compile(f)(X),
    "vmap": lambda f: mg.vmap(f)(X[None]), "mean_loss": lambda f: mg.mean_loss(f)(X[None]),
    "nested": lambda f: mg.compile(mg.grad(mg.mean_loss(mg.checkpoint(f))))(X[None]), "trace": lambda f: mg.trace(f)(X),
    "jvp": lambda f: mg.jvp(f, (X,), (X,)), "vjp": lambda f: mg.vjp(f, X), "hvp": lambda f: mg.hvp(f, (X,), (X,)),
    "hessian": lambda f: mg.hessian(f)(X), "microbatch": lambda f: mg.microbatch(mg.mean_loss(f), 1)(X[None]),
    "scan": lambda f: mg.compile(lambda x: mg.scan(lambda c, _: (f(c), None), x, length=2))(X),
    "cond": lambda f: mg.compile(lambda x: mg.cond(x[0] > 0, f, f, x))(X)}


def names(error):
    return [(step.f_globals["__name__"], step.f_code.co_name) for step, _ in traceback.walk_tb(error.__traceback__)]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("f", "kind"), [(loss, mg.ShapeError), (failing, KeyError)])
def test_a_traceback_has_the_users_frames_and_one_of_ours(call, f, kind):
    with pytest.raises(kind) as caught:
        CALLS[call](f)
    found = names(caught.value)
    assert [n for m, n in found if m == __name__ and n in ("loss", "helper", "failing")] == (
        ["loss", "helper"] if f is loss else ["failing"])
    assert len([m for m, _ in found if m.startswith("minigrad")]) == 1
    assert {m.split(".")[0] for m, _ in found} == {"minigrad", "tests"}


def test_the_switch_shows_everything():
    mg.full_tracebacks()
    try:
        with pytest.raises(mg.ShapeError) as caught:
            mg.grad(loss)(X)
    finally:
        mg.full_tracebacks(False)
    assert len([m for m, _ in names(caught.value) if m.startswith("minigrad")]) > 3


def test_the_environment_is_the_same_switch():
    code = "import numpy as np, minigrad as mg\nmg.grad(lambda x: x.reshape(2, 2))(np.ones(3))"
    lines = {}
    for value in ("", "full"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env={
            **os.environ, "MINIGRAD_TRACEBACK": value, "PYTHONPATH": str(Path(mg.__file__).parents[1])})
        lines[value] = [line for line in done.stderr.splitlines() if line.startswith("  File")]
    assert len(lines[""]) == 3
    assert len(lines["full"]) > 6


def test_an_error_that_numpy_turns_into_its_own_comes_back():
    with pytest.raises(mg.TraceError, match="out\\[0\\] = x\\[0\\]") as caught:
        mg.compile(wrong_element)(X)
    assert "setting an array element" not in "".join(traceback.format_exception(caught.value))


def test_a_fault_of_ours_keeps_its_frames(monkeypatch):
    fault = eval("lambda *a: [].nothing", {"__name__": "minigrad.fault"})
    monkeypatch.setattr("minigrad.transforms.trace.Call.trace", fault)
    with pytest.raises(AttributeError) as caught:
        mg.grad(loss)(X)
    assert ("minigrad.fault", "<lambda>") in names(caught.value)


def test_errors_outside_any_traceback_are_kept():
    error = ValueError("no traceback")
    assert tracebacks.for_user(error) is error


class Broken:
    def __len__(self):
        return 3

    def __getitem__(self, indices):
        raise KeyError("mine")


node = mg.axis("node")


@mg.example
class Graph:
    x: mg.f64[node]


OTHERS = {  # calls that fail, and the functions of this module in their tracebacks
    "example": lambda: Graph([1j]), "batch": lambda: mg.batch([]), "batch of numbers": lambda: mg.batch([1, "a"]),
    "loader": lambda: mg.DataLoader([1, 2], batch_size=0), "dataset": lambda: mg.DataLoader([X, "a"], batch_size=2),
    "iteration": lambda: list(mg.DataLoader(Broken(), batch_size=2)),
    "iteration ahead": lambda: list(mg.DataLoader(Broken(), batch_size=2, prefetch=1)),
    "pullback": lambda: mg.vjp(lambda x: x * 2, X)[1](np.ones(4)), "save": lambda: mg.save_dataset("/", [X]),
    "open": lambda: mg.open_dataset("/nowhere", mg.f64[2]), "key": lambda: mg.random.key("a"),
    "normal": lambda: mg.random.normal(3, (2,)), "segment_sum": lambda: mg.segment_sum(X, np.array([0, 1, 9]), 2),
    "segment_max": lambda: mg.segment_max(X, np.array([0, 1, 9]), 2), "gather": lambda: mg.gather(X, np.array([5])),
    "numpy": lambda: mg.numpy.conv(X, X), "special": lambda: mg.special.gammaln("a"),
    "update": lambda: mg.numpy.at(X)[7].set(3.0), "json": lambda: mg.Graph.from_json("{"),
    "source": lambda: mg.trace(lambda x: x)(X).source("none"), "microbatch": lambda: mg.microbatch(loss, 0),
    "compile": lambda: mg.compile(loss, backend="none"), "build": lambda: mg.compile(loss).build(X),
    "compare": lambda: mg.compare(loss, 3, 4), "rate": lambda: mg.optim.sgd(np.sin),
    "arguments": lambda: mg.open_dataset("/")}


@pytest.mark.parametrize("name", OTHERS)
def test_other_calls_show_one_frame_of_ours(name):
    with pytest.raises((mg.MinigradError, KeyError, IndexError, TypeError)) as caught:
        OTHERS[name]()
    found = names(caught.value)
    assert len([m for m, _ in found if m.startswith("minigrad")]) == 1
    assert {m.split(".")[0] for m, _ in found} == {"minigrad", "tests"}
    assert [n for m, n in found if m == __name__ and n in ("__getitem__", "helper")] == (
        ["__getitem__"] if "iteration" in name else ["helper"] if name == "build" else [])


def test_functions_of_other_libraries_leave_a_note_on_traced_values():
    """PyTorch and JAX name the type of a traced value, which users never made."""
    def theirs(x):
        raise TypeError(f"sum(): argument 'input' (position 1) must be Tensor, not {type(x).__name__}")

    with pytest.raises(TypeError, match="must be Tensor") as caught:
        mg.grad(mg.mean_loss(theirs))(X)
    (note,) = caught.value.__notes__
    assert note == "An Array is a traced value: functions of NumPy, minigrad.numpy and minigrad.special take it."


def test_errors_on_classes_of_similar_names_have_no_note():
    with pytest.raises(TypeError, match="ArraySpec") as caught:
        mg.grad(lambda x: x * (mg.f32 + 1))(2.0)
    assert not hasattr(caught.value, "__notes__")
