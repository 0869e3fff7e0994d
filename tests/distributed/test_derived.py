"""Operands that workers derive, against those of the whole batch."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.distributed.derived import Derivation, Derived, Kind
from minigrad.distributed.divide import Dividing

from .losses import FUNCTIONS

node, edge = mg.axis("node"), mg.axis("edge")


@mg.example
class Graph:
    x: mg.f64[node, 2]
    src: mg.index(node)[edge]
    first: mg.index(node, null=-1)[()]
    pairs: mg.f64[node, edge]


rng = np.random.default_rng(3)
SIZES = [(0, 0), (3, 4), (1, 0), (2, 5), (0, 0), (4, 1), (0, 0)]
GRAPHS = mg.batch([Graph(x=rng.normal(size=(n, 2)), src=rng.integers(0, max(n, 1), e), first=n - 1,
                         pairs=rng.normal(size=(n, e))) for n, e in SIZES])


def of_graph(w, g):
    messages = np.tanh(g.x @ w)[g.src]
    return np.sum(messages ** 2) + np.sum(g.pairs @ messages)


CASES = {name: FUNCTIONS[name] for name in ("mean", "ragged", "mean over rows", "ragged results")}
CASES["graphs"] = mg.value_and_grad(mg.mean_loss(of_graph, in_axes=(None, 0))), (np.ones(2), GRAPHS)
DERIVED = {"mean": 0, "ragged": 3, "mean over rows": 2, "ragged results": 4, "graphs": 5}


@pytest.mark.parametrize("name", CASES)
def test_workers_derive_the_sections_of_the_whole_batch(name):
    f, args = CASES[name]
    divided, leaves, sizes = Dividing(f, (None, *(0 for _ in args[1:])), "distribute")(args, {})
    assert len(divided.derived) == DERIVED[name]
    operands = divided.operands(leaves, sizes)
    for span in divided.spans(operands, 3):
        sections = divided.sections(operands, span)
        sent = [divided.derived[i].of_part(divided.examples(span), x) if i in divided.derived else x
                for i, x in enumerate(sections)]
        for x, section in zip(sent, sections, strict=True):
            found = x.array(sent) if isinstance(x, Derived) else x
            assert found.dtype == section.dtype
            np.testing.assert_array_equal(found, section)


def test_numbers_by_hand():
    counts, examples = np.array([2, 0, 3]), range(4, 7)

    def derived(kind, places, section, which=examples, by=counts):
        return Derivation(kind, places).of_part(which, np.array(section, int)).array([by]).tolist()

    assert derived(Kind.STARTS, (), [4, 5, 6]) == [4, 5, 6]
    assert derived(Kind.STARTS, (0,), [9, 11, 11]) == [9, 11, 11]
    assert derived(Kind.OWNERS, (0,), [4, 4, 6, 6, 6]) == [4, 4, 6, 6, 6]
    assert derived(Kind.ROWS, (0, 0), [4, 0, 9]) == [4, 0, 9]
    assert derived(Kind.OWNERS, (0,), [], range(4, 5), np.array([0])) == []
