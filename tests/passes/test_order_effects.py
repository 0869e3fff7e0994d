"""Effects of compiled programs come in the order of the user's code."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.passes.order_effects import order_effects


def effects(graph):
    return [n for n in graph.nodes if n.prim.kind == "effect"]


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
