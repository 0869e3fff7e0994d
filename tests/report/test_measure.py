"""Rows and curves of variants whose times, results and memory are fixed."""

import numpy as np

from minigrad import trace
from minigrad.report import measure


class Fixed:
    """A variant with known measurements."""

    def __init__(self, size, seconds, gradient):
        self.size, self.seconds, self.gradient = size, seconds, gradient
        self.compiled = type("Program", (), {"graph": trace(lambda x: x * 2 + 1)(1.0)})

    def build(self, n):
        return 0.25

    def call(self, n):
        return 3.0, [np.array(self.gradient, np.float32) * n]

    def timed(self, n):
        return self.seconds * n

    def peak_bytes(self, n):
        return 100 * n

    def operations(self, n):
        return 2 * n


def test_rows_compare_each_variant_with_the_loop_on_the_same_examples():
    variants = {"loop": Fixed(4, 1.0, [1.0, -2.0]), "unrolled": Fixed(2, 0.5, [1.0, -2.0]),
                "vmapped": Fixed(4, 0.25, [1.0, -1.0])}
    steps = []
    (loop, unrolled, vmapped), roundoff = measure.table(variants, 1, lambda v: f"of {v.size}", steps.append)
    assert (loop.speedup, unrolled.speedup, vmapped.speedup) == (1, 2, 4)
    assert (loop.difference, unrolled.difference, vmapped.difference) == (0, 0, 0.5)
    assert (vmapped.peak_bytes, vmapped.nodes, vmapped.operations, vmapped.build_seconds) == (400, 4, 8, 0.25)
    assert unrolled.note == "of 2"
    assert roundoff == np.finfo(np.float32).eps
    assert steps[0] == "loop: build and first run"


def test_growth_has_a_point_for_each_size():
    curves = measure.growth({"vmapped": Fixed(4, 2.0, [1.0])}, [1, 2, 4], lambda step: None)
    assert [(p.examples, p.seconds, p.peak_bytes) for p in curves["vmapped"]] == [
        (1, 2.0, 100), (2, 4.0, 200), (4, 8.0, 400)]
