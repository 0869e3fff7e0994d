"""The log entries of passes."""

from html import escape

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


def test_stages_show_in_a_notebook_with_graphs_and_plans():
    step = mg.compile(lambda x: np.negative(np.negative(x)) < 1, backend="numpy")
    step(np.ones(3))
    html = step.stages._repr_html_()
    assert html.count("<li>") == len(step.stages)
    for stage in step.stages:
        assert f"<b>{stage.name}</b>: {escape(stage.note)}" in html
        assert escape(str(stage.after)) in html
    assert isinstance(step.stages, tuple)
