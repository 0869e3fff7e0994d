"""Blocks cut the arguments of a fused function, and combine the results of reductions."""

import numpy as np

from minigrad.backends import block_loop


def test_blocks_cut_each_argument_by_its_mode():
    seen = []

    def f(x, w, s, r):
        seen.append((len(x), w, len(s)))
        r[...] = x.sum()

    parts_ = block_loop.Blocks([(0, 4), (4, 7)], ("rows", "whole", "scratch", "parts"), [(np.add, np.empty(2))])
    out = np.empty(())
    block_loop.in_blocks(parts_, f, np.arange(7.0), "w", np.empty(4), out)
    assert seen == [(4, "w", 4), (3, "w", 3)]
    assert out == 21


def test_without_blocks_a_function_runs_once():
    seen = []
    block_loop.in_blocks(None, lambda *args: seen.append(args), "x", "w")
    assert seen == [("x", "w")]
