"""Loops of Python as scans: which are recognised, and that every derivative and batch keeps its value."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.graph import held_graphs
from minigrad.ops import unrolled_loops
from minigrad.transforms import trace
from minigrad.transforms.trace import Call

rng = np.random.default_rng(0)
T = 20
TABLE = rng.normal(size=(T, 3))
MATRIX = rng.normal(size=(3, 3)) / 3


def garch(p, x):
    h, total = 1.0, 0.0
    for t in range(len(x)):
        total = total + 0.5 * (np.log(h) + x[t, 0] ** 2 / h)
        h = np.exp(p[0]) + 0.1 * x[t, 0] ** 2 + 0.2 * h
        h = h + 0.01 * np.cos(h) + 0.01 * np.sin(h)
    return total


def two_back(p, x):
    a, b = p[0], p[1]
    for t in range(len(x)):
        a, b = b, 0.5 * a - 0.3 * np.sin(b) + np.sin(x[t] @ x[t]) * p[2] + 0.1 * np.tanh(a * b)
    return a + b


def backward_in_time(p, x):
    s = 0.0
    for t in reversed(range(len(x))):
        s = np.tanh(p[0] * s + (x[t] * p).sum()) + 0.1 * np.sin(s) * np.cos(s * p[1])
    return s


def kept_values(p, x):
    h, states = np.zeros(3), []
    for t in range(len(x)):
        h = np.tanh(MATRIX @ h + x[t] * p) + 0.1 * np.sin(h) * np.cos(h)
        states.append(h)
    return (np.stack(states, axis=1) ** 2).sum() + (states[3] * states[-2]).sum()


def sum_of_list(p, x):
    h, losses = p, []
    for t in range(len(x)):
        h = np.tanh(h + x[t]) + 0.1 * np.sin(h) * np.cos(h) - 0.2 * h
        losses.append((h ** 2).sum())
    return sum(losses) / len(losses)


def numbers_and_rows(p, x):
    s = p
    for t in range(T):
        s = np.tanh(s + TABLE[t] / (t + 1)) * 0.9 + t * 0.01 * np.sin(s) + 0.1 * np.cos(s * MATRIX[0])
    return (s * x[0]).sum()


def windows(p, x):
    s = 0.0
    for t in range(T - 2):
        s = 0.5 * s + np.tanh((x[t:t + 3, 1] * p).sum()) + np.sin(s) * 0.1 + np.cos(s) * np.exp(-s * s)
    return s


def two_loops(p, x):
    s = 0.0
    for t in range(T):
        s = 0.3 * s + np.tanh(x[t] * p + 0.1 * s).sum() + 0.1 * np.sin(s) + 0.1 * np.cos(s)
    u = s
    for t in range(T):
        u = np.tanh(u) + 0.1 * u + 0.1 * np.sin(u) * (x[t] * p).sum() + 0.1 * np.cos(u) + s
    return u


def nested(p, x):
    s = p
    for t in range(11):
        for _ in range(9):
            s = s + 0.01 * np.tanh(x[t] - s) + 0.01 * np.sin(s * p) * np.cos(s - x[t]) - 0.01 * np.exp(-s * s)
        s = s * 0.9
    return (s ** 2).sum()


def every_other_step(p, x):
    s = p
    for t in range(2 * T):
        s = np.tanh(s) + (0.1 * x[t // 2] if t % 2 else np.sin(s) * p * 0.5)
        s = s - 0.1 * s * s + 0.01 * np.cos(s)
    return (s ** 2).sum()


def columns(p, x):
    z = x.T * 2.0
    s = p
    for t in range(T):
        s = np.tanh(s * z[:, t]) + 0.1 * np.sin(s) - 0.1 * s * s + 0.2 * np.cos(s) * z[0, t]
    return (s ** 2).sum()


PROGRAMS = [garch, two_back, backward_in_time, kept_values, sum_of_list, numbers_and_rows, windows, two_loops, nested,
            every_other_step, columns]
P, X = rng.normal(size=3), rng.normal(size=(T, 3))


@pytest.fixture(autouse=True)
def _loops_of_few_steps(monkeypatch):
    """Let short programs have long loops."""
    monkeypatch.setattr(unrolled_loops, "STEPS", 8)
    for module in (unrolled_loops, trace):
        monkeypatch.setattr(module, "LOOP_NODES", 48)


def scans(graph):
    return sum(n.prim.name == "scan" for n in graph.nodes)


def traced(f, *args):
    """Return the graph of a function as the transforms see it."""
    return Call(f, args).trace().graph


def written_out(monkeypatch, f, *args):
    with monkeypatch.context() as patch:
        patch.setattr(unrolled_loops, "STEPS", 10**9)
        return f(*args)


@pytest.mark.parametrize("f", PROGRAMS)
def test_loops_are_scans_of_the_same_value(f):
    graph = traced(f, P, X)
    assert scans(graph) >= 1
    assert graph.count() < 70
    np.testing.assert_allclose(graph(P, X), f(P, X), rtol=1e-13)


DERIVATIVES = {
    "gradient": lambda f: mg.grad(f, argnums=(0, 1)),
    "Hessian": mg.hessian,
    "per example": lambda f: lambda p, x: mg.vmap(mg.grad(f), in_axes=(None, 0))(p, np.stack([x, 2 * x])),
    "forward": lambda f: lambda p, x: mg.jvp(f, (p, x), (p, x))[1],
}


@pytest.mark.parametrize("f", PROGRAMS)
@pytest.mark.parametrize("derivative", DERIVATIVES)
def test_derivatives_are_those_of_the_steps_written_out(f, derivative, monkeypatch):
    g = DERIVATIVES[derivative](f)
    have, want = g(P, X), written_out(monkeypatch, g, P, X)
    for a, b in zip(*((r if isinstance(r, tuple) else (r,)) for r in (have, want)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("f", PROGRAMS)
@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_batches_compiled(f, backend, monkeypatch):
    batch = np.stack([X, 2 * X, -X])
    mean = mg.mean_loss(f, in_axes=(None, 0))
    want = written_out(monkeypatch, mg.value_and_grad(mean), P, batch)
    for g in (mg.compile(mg.value_and_grad(mean), backend=backend),
              mg.compile(mg.value_and_grad(mg.microbatch(mean, 2)), backend=backend)):
        for have, right in zip(g(P, batch), want, strict=True):
            np.testing.assert_allclose(have, right, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(want[0], np.mean([f(P, x) for x in batch]), rtol=1e-12)


def test_the_inner_loop_is_a_scan_within_the_scan():
    graph = traced(nested, P, X)
    (outer,) = [n for n in graph.nodes if n.prim.name == "scan"]
    assert outer.params["length"] >= 10
    assert [scans(held) for _, held in held_graphs(outer)] == [1]


def test_trace_shows_loops_as_they_are_written():
    assert not scans(mg.trace(garch)(P, X))
    assert not scans(mg.trace(mg.grad(garch))(P, X))
    assert scans(mg.compile(mg.grad(garch)).build(P, X).graph)
    assert mg.trace(garch)(P, X).count() > 100


def test_joined_values_are_the_results_of_the_scan():
    graph = traced(kept_values, P, X)
    assert "concatenate" not in {n.prim.name for n in graph.nodes if len(n.inputs) >= T - 1}


def test_short_loops_layers_of_their_own_and_effects_stay_written_out():
    def few(x):
        for _ in range(unrolled_loops.STEPS - 2):
            x = np.tanh(x) + np.sin(x) * np.cos(x)
            for _ in range(3):
                x = x * x - x
            x = np.exp(-x) + np.exp(-x * x) + np.sin(np.cos(x)) - x * 0.5 + np.tanh(-x) + np.cos(x * x)
        return x

    def layers(weights, x):
        for w in weights:
            x = np.tanh(w @ x) + np.sin(x) * np.cos(x) + 0.1 * x * x - np.exp(-x * x) + np.tanh(np.sin(x * 0.1))
        return x

    def seen(x):
        for _ in range(40):
            x = mg.callback(np.tanh, x, x) + np.sin(x) * np.cos(x) - 0.1 * x * x + np.exp(-x * x)
        return x

    assert not scans(traced(few, 0.5))
    assert not scans(traced(layers, [rng.normal(size=(3, 3)) for _ in range(30)], P))
    assert not scans(traced(seen, np.ones(2)))


def test_a_nan_in_a_step_names_its_line():
    def f(x):
        for _ in range(40):
            x = np.tanh(x) + np.sin(x) * np.cos(x) + 0.1 * x * x
            x = np.sqrt(x - 1.0) + x
        return x

    line = f.__code__.co_firstlineno + 3
    with mg.debug_nans(), pytest.raises(FloatingPointError, match=f"test_unrolled_loops.py:{line}"):
        mg.grad(f)(0.5)


def test_steps_with_inputs_of_their_own_are_left_at_first_sight(monkeypatch):
    def seldom(*args):
        raise AssertionError("each step was looked at")

    monkeypatch.setattr(unrolled_loops._Loop, "_operand", seldom)
    graph = traced(lambda ws, x: sum(np.sum(np.tanh(x * w) * w) for w in ws), list(rng.normal(size=(40, 3))), P)
    assert graph.count("tanh") == 40


def layers(ws, x):
    for w, b in ws:
        x = np.tanh(x @ w + b)
    return x


WEIGHTS = [(w, rng.normal(size=3)) for w in rng.normal(size=(40, 3, 3))]


def test_layers_with_weights_of_their_own_are_told_from_loops_before_nodes_are_compared(monkeypatch):
    monkeypatch.setattr(unrolled_loops, "_longest", None)
    graph = traced(mg.grad(lambda ws, x: np.sum(layers(ws, x))), WEIGHTS, P)
    assert graph.count("tanh") == 40


def test_a_loop_behind_layers_is_a_scan():
    graph = traced(lambda ws, p, x: garch(layers(ws, p), x), WEIGHTS, P, TABLE)
    assert graph.count("scan") == 1
    assert graph.count("tanh") == 40
