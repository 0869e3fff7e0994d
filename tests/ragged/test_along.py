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


SMOOTH = [e for kind, entries in WORKS.items() for e in entries if kind[:2] != "of" and kind != "sizes"
          and not any(word in e for word in ("freq", "arg", "any", "count", "searchsorted", "digitize"))]


@pytest.mark.parametrize("entry", SMOOTH)
def test_second_derivatives_equal_the_loop(entry):
    """The products with the Hessian of a mean of losses, and of each loss."""
    def loss(p, x):
        return np.sum(np.sin(evaluate(entry, p * x) * 1.0))

    p, v, batch = np.array([1.0, 0.9, 1.1]), np.array([0.3, -1.0, 0.5]), mg.batch(EXAMPLES, mg.f64[node, 3])
    each = [mg.hvp(lambda p, x=x: loss(p, x), (p,), (v,)) for x in EXAMPLES]
    for how in (lambda f: f, mg.compile, lambda f: mg.compile(f, backend="numpy")):
        mean = how(lambda p, v, b: mg.hvp(lambda p: mg.mean_loss(loss, (None, 0))(p, b), (p,), (v,)))
        close(mean(p, v, batch), np.mean(each, axis=0))
        per = how(mg.vmap(lambda p, v, x: mg.hvp(lambda p: loss(p, x), (p,), (v,)), in_axes=(None, None, 0)))
        close(per(p, v, batch), each)


def test_functions_of_a_size_alone_in_numpy_code():
    """NumPy asks no array for its protocol there, so the code is traced as it stands."""
    def pairs(x):
        n = x.shape[0]
        i, j = np.tril_indices(n, -1)
        a, b = np.triu_indices(n)
        return np.sum((x[i] - x[j]) ** 2) + np.sum((x @ x.T)[a, b] ** 2) + np.sum(np.eye(n) @ x) + np.sum(np.zeros(n))

    examples = [np.random.default_rng(n).normal(size=(n, 3)) for n in (0, 4, 1, 5, 0)]
    for how in (lambda f: f, mg.compile):
        have = how(mg.vmap(mg.numpy_code(pairs)))(mg.batch(examples, mg.f64[node, 3]))
        close(have, [pairs(x) for x in examples])
    with pytest.raises(mg.ShapeError, match=r"minigrad.numpy.tril_indices\(n\).*mg.numpy_code\(f\)"):
        mg.vmap(pairs)(mg.batch(examples, mg.f64[node, 3]))
