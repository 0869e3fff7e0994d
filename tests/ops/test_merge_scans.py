"""Scans over the same inputs: one with all results of another one takes its place."""

import numpy as np

import minigrad as mg
from minigrad import interpreters
from minigrad.graph import PRIMITIVES as P
from minigrad.graph import Graph
from minigrad.ops.control import parts
from minigrad.ops.merge_scans import merge_scans, value_numbers
from minigrad.ops.subgraph import placeholders


def test_scan_whose_results_another_one_has_disappears():
    (x,) = placeholders((3,))
    start = P["sum"](x, axes=(0,))

    def over(results):
        c, row = placeholders((), ())
        new = c + row
        body = Graph((c, row), (new, *(P[name](new) for name in results)))
        return P["scan"](start, x, body=body, counts=(0, 1), length=3, reverse=False)

    small, large, other = over(["sin"]), over(["exp", "sin"]), over(["cos"])
    graph = Graph((x,), (parts(small)[1], parts(large)[1], parts(other)[1]))
    merged = merge_scans(graph)
    assert merged.count("scan") == 2
    array = np.array([0.1, 0.2, 0.3])
    for have, want in zip(interpreters.evaluate(merged, [array]), interpreters.evaluate(graph, [array]), strict=True):
        np.testing.assert_array_equal(have, want)


def test_equal_programs_have_equal_numbers():
    ids = {}
    a, b, c = (Graph((x,), (P["sin"](f(x)),)) for f in (lambda x: x * 2.0, lambda x: x * 2.0, lambda x: x * 3.0)
               for x in placeholders(()))
    first, second, third = (value_numbers(g, ids) for g in (a, b, c))
    assert first == second != third


def test_zeros_of_both_signs_are_different_steps():
    def f(x):
        return [mg.scan(lambda c, _, z=z: (c / z, None), x, length=1)[0] for z in np.array([0.0, -0.0])]

    for g in (f, mg.compile(f)):
        with np.errstate(divide="ignore"):
            assert g(1.0) == [np.inf, -np.inf]
