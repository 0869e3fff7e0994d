"""The table of what runs along ragged axes is true, entry by entry."""

import pathlib

import numpy as np
import pytest

import minigrad as mg

from .along import REFUSED, WORKS, evaluate, node, table
from .cases import close, unbatched

EXAMPLES = [np.random.default_rng(n).normal(size=(n, 3)) for n in (4, 7, 3, 5)]


@pytest.mark.parametrize("entry", [e for entries in WORKS.values() for e in entries])
def test_entries_equal_numpy(entry):
    batch = mg.batch(EXAMPLES, mg.f64[node, 3])
    for run in (mg.vmap(lambda x: evaluate(entry, x)), mg.compile(mg.vmap(lambda x: evaluate(entry, x)))):
        for h, x in zip(unbatched(run(batch)), EXAMPLES, strict=True):
            close(h, evaluate(entry, x))


@pytest.mark.parametrize("entry", [e for entries, _ in REFUSED.values() for e in entries])
def test_refusals_are_errors(entry):
    with pytest.raises((mg.ShapeError, mg.TraceError, mg.Unsupported)):
        mg.vmap(lambda x: evaluate(entry, x))(mg.batch(EXAMPLES, mg.f64[node, 3]))


def test_page_has_the_table():
    page = pathlib.Path(__file__).parents[2] / "docs" / "howto" / "ragged.md"
    assert table() in page.read_text(), "python -c 'from tests.ragged.along import table; print(table())' has the table"
