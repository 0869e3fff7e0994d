"""Effects come in the order of the user's code."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.ops.effects import order_effects


def effects(graph):
    return [n for n in graph.nodes if n.prim.effect]


def test_a_graph_without_effects_stays_as_it_is():
    graph = mg.trace(lambda x: np.sin(x).sum())(mg.f64[3])
    assert order_effects(graph) is graph


def test_a_later_effect_waits_for_the_earlier_one():
    def f(x):
        mg.print("first {}", np.exp(np.sin(x).sum()))
        mg.print("second {}", x[0])
        return x.sum()

    graph = order_effects(mg.trace(f)(mg.f64[3]))
    first, second = sorted(effects(graph), key=lambda n: n.params["order"])
    waiting, seen = [second], set()
    while waiting:
        seen.add(node := waiting.pop())
        waiting += [i for i in node.inputs if i not in seen]
    assert first in seen


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_prints_come_in_the_order_of_the_code(backend, capsys):
    def f(x):
        mg.print("a {}", np.exp(np.cumsum(x)).sum())
        mg.print("b {}", x[0])
        y = np.tanh(x)
        mg.print("c {}", y.sum())
        mg.print("d {}", x[1])
        return (y * x).sum()

    x = np.arange(3.0)
    mg.compile(mg.value_and_grad(f), backend=backend)(x)
    assert [line[0] for line in capsys.readouterr().out.splitlines()] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("transform", [lambda f: f, mg.grad, lambda f: mg.grad(mg.checkpoint(f))],
                         ids=["value", "gradient", "checkpoint"])
def test_lines_without_values_come_in_the_order_of_the_code(backend, transform, capsys):
    def step(c, x):
        mg.print("a {}", x)
        mg.print("step")
        return c + x, None

    def f(x):
        mg.print("begin")
        mg.callback(lambda: print("call"), None)
        y = mg.scan(step, 0.0, x)[0]
        mg.print("middle")
        mg.print("y {}", np.exp(y))
        mg.print("end")
        return y

    mg.compile(transform(f), backend=backend)(np.zeros(2))
    assert capsys.readouterr().out.splitlines() == [
        "begin", "call", "a 0.0", "step", "a 0.0", "step", "middle", "y 1.0", "end"]


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_a_loop_that_starts_from_a_constant_waits_for_the_line_before_it(backend, capsys):
    def f(x):
        mg.print("begin {}", x[0])
        return mg.scan(lambda c, x: (mg.print("step {}", x), (c + x, None))[1], 0.0, x)[0]

    compiled = mg.compile(f, backend=backend)
    for x in (np.array([1.0, 2.0]), np.array([3.0])):
        assert compiled(x) == x.sum()
        assert capsys.readouterr().out.splitlines() == [f"begin {x[0]}", *(f"step {v}" for v in x)]
