"""Products of blocks, one per example: their types; their numbers are tested in tests/ragged."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.graph import PRIMITIVES, full

F8, I8 = np.dtype(float), np.dtype(int)


@pytest.mark.parametrize(("shapes", "kinds"), [
    (((6,), (6, 2)), ("stacked", "packed")), (((6,), (6, 2)), ("shared", "packed")),  # ragged, and not by rows
    (((6,), (3, 2)), ("packed", "stacked")), (((6, 1), (6, 2)), ("packed", "packed")),
    (((6,), (6, 2)), ("packed", "other"))])
def test_operands_must_fit_their_kinds(shapes, kinds):
    n = full(2, (3,), I8)
    operands = [full(0.0, shape, F8) for shape in shapes]
    with pytest.raises(mg.ShapeError, match=r"block_einsum\[ij,jd->id\].*the subscripts do not fit"):
        PRIMITIVES["block_einsum"](*operands, n, n, subscripts="ij,jd->id", ragged="ij", kinds=kinds, size=6)


@pytest.mark.parametrize(("subscripts", "own"), [
    ("ij,ij->", ""), ("ij,ij->i", "i"), ("ij,j->i", "i"), ("ij,ij->ij", "ij"), ("ij,jk->ik", "ik"),
    ("ij,kj->ki", "ki")])
def test_blocks_are_contracted_one_by_one(subscripts, own):
    """Each example has its own sizes of i, j and k."""
    rng, sizes = np.random.default_rng(0), {"i": (2, 1, 0), "j": (3, 2, 2), "k": (1, 4, 2)}
    terms = subscripts.split("->")[0].split(",")
    ragged = "".join(dict.fromkeys("".join(terms)))
    blocks = [[rng.normal(size=tuple(sizes[c][b] for c in t)) for t in terms] for b in range(3)]
    want = [np.einsum(subscripts, *pair) for pair in blocks]
    operands = [np.concatenate([pair[k].ravel() for pair in blocks]) for k in (0, 1)]
    have = PRIMITIVES["block_einsum"].eval(
        np, *operands, *(np.array(sizes[c]) for c in ragged), subscripts=subscripts, ragged=ragged,
        kinds=("packed", "packed"), size=sum(w.size for w in want) if own else 3)
    np.testing.assert_allclose(have, np.concatenate([w.ravel() for w in want]), rtol=1e-12)
