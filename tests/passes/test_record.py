"""The log entries of passes."""

import numpy as np

import minigrad as mg
from minigrad.passes.record import Stage


def test_a_stage_prints_its_name_its_note_and_the_graph_after():
    before = mg.trace(lambda x: np.negative(np.negative(x)))(mg.f64[3])
    after = before.optimize()
    text = str(Stage("simplify", before, after, "3 nodes became 0"))
    assert text == f"== simplify: 3 nodes became 0\n{after}"


def test_a_later_stage_is_in_words():
    assert str(Stage("fuse", "graph", "one group", "2 statements")) == "== fuse: 2 statements\none group"
