"""Scans stack each value once, and no value that exists outside."""

import numpy as np

import minigrad as mg

from .scan_programs import PROGRAMS, XS, P, T, compiled_graph, loops


def test_stacks_that_exist_outside_leave_the_loop():
    """A stacked slice is the operand, a stacked invariant repeats, and an equal stack is the same array."""
    def f(p, xs):
        def step(h, x):
            h = np.tanh(h + x[0])
            return h, (x, p[2], h * 2.0, h * 2.0)

        return mg.scan(step, p[2], xs)[1]

    graph, notes = compiled_graph(f, (P, XS))
    (loop,) = loops(graph)
    assert len(loop.type.parts) - loop.params["counts"][1] == 1
    assert "3 stacks that were there already" in notes["shrink_scan"]
    slices, invariants, one, other = mg.compile(f, backend="numpy")(P, XS)
    np.testing.assert_array_equal(slices, XS)
    np.testing.assert_array_equal(invariants, np.tile(P[2], (T, 1)))
    h = P[2]
    for x, a, b in zip(XS, one, other, strict=True):
        h = np.tanh(h + x[0])
        np.testing.assert_allclose([a, b], [h * 2.0] * 2, rtol=1e-12)


def test_shifted_stacks_of_short_and_reversed_loops():
    """The carry before each step: the start, then the carries after all steps but the last."""
    for reverse in (False, True):
        for length in (1, 3):
            ys, before = mg.compile(lambda h, xs, r=reverse: mg.scan(
                lambda h, x: ((k := np.sin(h + x)), (k, h)), h, xs, reverse=r)[1], backend="numpy")(0.5, XS[:length, 0])
            order = range(length)[::-1] if reverse else range(length)
            h = 0.5
            for t in order:
                np.testing.assert_allclose(before[t], h, rtol=1e-12)
                h = np.sin(h + XS[t, 0])
                np.testing.assert_allclose(ys[t], h, rtol=1e-12)


def test_carries_before_a_step_are_the_carries_after_the_last_one():
    graph, _ = compiled_graph(*PROGRAMS["under vmap"])
    ahead, _ = loops(graph)
    body = ahead.params["body"]
    assert not set(body.inputs) & set(body.outputs)
    assert len(body.outputs) == len(set(body.outputs)) + 1  # the state, carried and stacked
