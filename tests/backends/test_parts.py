"""Programs in parts: each begins when the sizes of its arrays are known."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.backends.parts import parts_of

BACKENDS = ["numpy", "native"]


def twice(w, x):
    first = np.tanh(w * x)
    kept = first[mg.select(first > 0)]
    return np.sum(kept[mg.select(kept < 0.5)] * w) + np.sum(first)


def test_a_part_has_the_nodes_that_sizes_depend_on():
    graph = mg.trace(twice)(mg.f64[()], mg.f64[4])
    parts = parts_of(graph)
    assert [len(p.sizes) for p in parts] == [1, 1, 0]
    assert [n.prim.name for n in parts[0].outputs] == ["sum", "tanh", "gt"]
    assert [p.graph("part").check().count("tanh") for p in parts] == [1, 0, 0]  # computed once, and handed on


@pytest.mark.parametrize("backend", BACKENDS)
def test_programs_in_parts_equal_evaluation(backend):
    run = mg.compile(mg.value_and_grad(twice), backend=backend)
    for seed in range(4):
        x = np.random.default_rng(seed).normal(size=4)
        np.testing.assert_allclose(run(1.2, x), mg.value_and_grad(twice)(1.2, x))
    assert len(run.entries) == 1
    assert [s.name for s in run.stages if s.name == "parts"] == ["parts"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_arguments_and_early_values_can_be_results(backend):
    def f(x):
        mask = x > 0
        return x, mask, x[mg.select(mask)], mask

    x = np.array([1.0, -1.0, 3.0])
    have = mg.compile(f, backend=backend)(x)
    assert [h.tolist() for h in have] == [[1, -1, 3], [True, False, True], [1, 3], [True, False, True]]
    assert not any(np.shares_memory(h, x) for h in have)


@pytest.mark.parametrize("backend", BACKENDS)
def test_loops_hold_programs_in_parts(backend):
    def f(x):
        return mg.fori_loop(0, 3, lambda i, c: c + np.sum(x[mg.select(x > c)]), 0.0)

    x = np.array([1.0, 4.0, 7.0])
    want = 0.0
    for _ in range(3):
        want += np.sum(x[x > want])
    assert mg.compile(f, backend=backend)(x) == want


@pytest.mark.parametrize("backend", BACKENDS)
def test_errors_name_the_line(backend):
    def f(x, i):
        kept = x[mg.select(x > 0)]
        return np.sum(kept[i])

    run = mg.compile(f, backend=backend)
    assert run(np.array([1.0, -1.0, 3.0]), np.array([1, 0])) == 4
    with pytest.raises(IndexError, match=r"test_parts.py:\d+"):
        run(np.array([1.0, -1.0, -3.0]), np.array([1, 0]))
