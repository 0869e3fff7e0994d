"""Products of packed blocks against NumPy, example by example."""

from __future__ import annotations

import numpy as np
import pytest

from minigrad.backends.native.codegen import step_codegen
from minigrad.graph import PRIMITIVES
from minigrad.ops.einsum import parse

from .checks import native, program_of


@pytest.fixture(autouse=True)
def shared_out(monkeypatch):
    monkeypatch.setattr(step_codegen, "SERIAL", 0)

LENGTHS = {"some": [3, 0, 17, 1, 40, 0, 5], "one": [9], "none": [0, 0], "first": [0, 300], "ones": [1] * 50}
PRODUCTS = [("id,jd->ij", "ij"), ("ij,jd->id", "ij"), ("ij,id->jd", "ij"), ("ij,id->dj", "ij"), ("ia,ib->ab", "i"),
            ("ia,ib->ba", "i"), ("ia,ab->ib", "i"), ("ia,ba->ib", "i"), ("ab,ib->ia", "i"), ("ij,j->i", "ij"),
            ("i,j->ij", "ij"), ("ij,ik->jk", "ijk"), ("ij,jk->ik", "ijk"), ("i,ia->a", "i"),
            # Stacks of products, as in attention with several heads, and axes that are one axis.
            ("ihd,jhd->ijh", "ij"), ("ijh,jhd->ihd", "ij"), ("ijh,ihd->jhd", "ij"), ("hdi,hjd->hji", "ij"),
            ("ihgd,jhgd->ijhg", "ij"), ("ihgd,jhgd->ijgh", "ij"), ("ijgh,jhgd->ihgd", "ij"), ("ih,jh->ijh", "ij"),
            ("iha,ihb->hab", "i"), ("iha,hab->ihb", "i"), ("iha,hab->ibh", "i"), ("ijh,jh->ih", "ij"),
            ("iab,jab->ij", "ij"), ("ia,agh->igh", "i"), ("igh,agh->ia", "i"), ("igha,ighb->ghab", "i")]


def operands(subscripts, ragged, lengths, stacked, dtype):
    """Return two operands of a contraction and their kinds: shared or stacked, where they have no ragged axis."""
    rng = np.random.default_rng(3)
    sizes = dict(zip("abcdgh", (5, 7, 33, 16, 2, 3), strict=True))
    arrays, kinds = [], []
    for term in parse(subscripts)[0]:
        own = [c for c in term if c in ragged]
        shape = [sizes[c] for c in term if c not in ragged]
        if own:
            shape.insert(0, sum(int(np.prod([lengths[c][b] for c in own])) for b in range(len(lengths[ragged[0]]))))
            kinds.append("packed")
        elif stacked:
            shape.insert(0, len(next(iter(lengths.values()))))
            kinds.append("stacked")
        else:
            kinds.append("shared")
        arrays.append(rng.normal(size=shape).astype(dtype))
    return arrays, tuple(kinds)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("which", LENGTHS)
@pytest.mark.parametrize(("subscripts", "ragged"), PRODUCTS)
def test_products_of_blocks(subscripts, ragged, which, stacked, dtype):
    n = np.array(LENGTHS[which])
    lengths = {c: np.roll(n, k) for k, c in enumerate(ragged)}
    arrays, kinds = operands(subscripts, ragged, lengths, stacked, dtype)
    out = parse(subscripts)[1]
    own = [c for c in out if c in ragged]
    size = sum(int(np.prod([lengths[c][b] for c in own])) for b in range(len(n))) if own else len(n)
    params = {"subscripts": subscripts, "ragged": ragged, "kinds": kinds, "size": size}
    given = [*arrays, *lengths.values()]
    have = native("block_einsum", given, **params)
    want = PRIMITIVES["block_einsum"].eval(np, *given, **params)
    bound = np.finfo(dtype).eps * 400 * max(1.0, float(np.max(np.abs(want), initial=0)))
    np.testing.assert_allclose(have, want, rtol=0, atol=bound)


@pytest.mark.parametrize("terms", [1, 5, 9, 10, 33, 40, 250])
def test_large_blocks(terms):
    rng = np.random.default_rng(0)
    n = np.array([500, 2, 1300, 0, 129])
    x, y = (rng.normal(size=(n.sum(), terms)) for _ in range(2))
    params = {"subscripts": "id,jd->ij", "ragged": "ij", "kinds": ("packed", "packed"), "size": int((n**2).sum())}
    np.testing.assert_allclose(native("block_einsum", [x, y, n, n], **params),
                               PRIMITIVES["block_einsum"].eval(np, x, y, n, n, **params), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("bad", [[3, 4], [3, 1], [-1, 7], [6, -0], [2**62, 4], [2**31, 4], [2**30, 4]])
@pytest.mark.parametrize("subscripts", ["id,jd->ij", "idh,jdh->ijh"])
def test_lengths_that_do_not_add_up_are_errors(bad, subscripts):
    x, good = np.ones((6, 2, 4)[:len(subscripts) // 4]), np.array([3, 3])
    program = program_of("block_einsum", [x, x, good, good], subscripts=subscripts, ragged="ij",
                         kinds=("packed", "packed"), size=18)
    assert np.all(program([x, x, good, good], {})[0] == 2.0)
    with pytest.raises((IndexError, ValueError)):
        program([x, x, np.array(bad), np.array(bad)], {})
    assert np.all(program([x, x, good, good], {})[0] == 2.0)


def test_empty_operands_and_results():
    """Lengths that want elements where there are none are found, and nothing is read or written there."""
    n = np.array([300, 300])
    for rows, size in ((600, 0), (0, 180_000), (0, 0)):
        x = np.ones((rows, 2))
        program = program_of("block_einsum", [x, x, n, n], subscripts="id,jd->ij", ragged="ij",
                             kinds=("packed", "packed"), size=size)
        with pytest.raises((IndexError, ValueError)):
            program([x, x, n, n], {})

MATRICES = "block_einsum of more than matrices"


@pytest.mark.parametrize(("subscripts", "ragged", "why"), [
    ("iab,jba->ij", "ij", MATRICES), ("iab,icb->ac", "i", MATRICES), ("ijgb,jgb->ig", "ij", MATRICES),
    ("ia,ia->i", "i", "block_einsum of a stack whose size differs"),
    ("iabcd,jabcd->ijabcd", "ij", "block_einsum of a stack whose size differs")])
def test_contractions_that_are_not_steps(subscripts, ragged, why):
    lengths = {c: np.array([4, 2]) for c in ragged}
    arrays, kinds = operands(subscripts, ragged, lengths, False, "f8")
    own = len([c for c in parse(subscripts)[1] if c in ragged])
    given = [*arrays, *lengths.values()]
    size = int(sum(lengths["i"]**own)) if own else 2
    program = program_of("block_einsum", given, subscripts=subscripts, ragged=ragged, kinds=kinds, size=size)
    assert program.why == {0: why}
    assert len(program(given, {})[0]) == size
