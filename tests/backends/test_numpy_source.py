"""The text of NumPy programs: names, long programs, and the lines of the user."""

import keyword
import unicodedata

import numpy as np
import pytest

from minigrad import backends, interpreters
from minigrad.backends.numpy_source import Names
from minigrad.errors import GraphError
from minigrad.graph import Graph

from ..passes.programs import input_, node
from ..passes.test_random import close
from .test_numpy import build, softmax_loss


def test_the_source_names_the_lines_of_the_user():
    graph, _ = softmax_loss()
    text = graph.source("numpy")
    assert text == build(graph).source
    assert "programs.py" in text
    assert max(map(len, text.splitlines())) < 400
    with pytest.raises(GraphError, match="no backend"):
        graph.source("fortran")
    with pytest.raises(GraphError, match="no backend"):
        backends.build(graph, "fortran")


def test_long_chains():
    x = input_(4)
    y = x
    for i in range(20_000):
        y = node("tanh", y) if i % 2 else y * 1.5
    program = build(Graph((x,), (y,)))
    value = np.linspace(-1, 1, 4)
    close(program([value], {}), interpreters.evaluate(Graph((x,), (y,)), [value]))
    w = input_(4, 4)
    y = x
    for _ in range(3_000):
        y = node("einsum", y, w, subscripts="i,ij->j")
    program = build(Graph((x, w), (y,)))
    arrays = [value, np.eye(4)[::-1]]
    close(program(arrays, {}), [value])


def test_names_are_unique_legal_and_not_reserved():
    names = Names()
    wishes = ["x", "x", "x[0].w", "for", "np", "2y", "ﬁ", "fi", "", "é"]
    chosen = [names(wish) for wish in wishes]
    assert chosen[:2] == ["x", "x_2"]
    assert len({unicodedata.normalize("NFKC", name) for name in chosen}) == len(wishes)
    assert all(name.isidentifier() and not keyword.iskeyword(name) and name != "np" for name in chosen)
