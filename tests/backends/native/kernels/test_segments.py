"""Steps on examples that lie end to end, against NumPy's evaluation of the same statements, example by example."""

from __future__ import annotations

import numpy as np
import pytest

from minigrad import backends
from minigrad.backends.native.codegen import step_codegen
from minigrad.backends.native.runtime import threads
from minigrad.graph import PRIMITIVES, Graph
from minigrad.ops.einsum import parse


@pytest.fixture(autouse=True)
def shared_out(monkeypatch):
    monkeypatch.setattr(step_codegen, "SERIAL", 0)


def program_of(name, arrays, **params):
    inputs = [PRIMITIVES["input"](shape=a.shape, dtype=a.dtype) for a in arrays]
    return backends.build(Graph(tuple(inputs), (PRIMITIVES[name](*inputs, **params),)), "native")


def native(name, arrays, **params):
    program = program_of(name, arrays, **params)
    assert "python" not in program.ways, program.why
    before, found = threads.get_num_threads(), []
    try:
        for n in (1, 2, 5):
            threads.set_num_threads(n)
            (out,) = program(arrays, {})
            found.append(out)
    finally:
        threads.set_num_threads(before)
    assert all(f.tobytes() == found[0].tobytes() for f in found), "the same bits for any number of threads"
    return found[0]


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
def test_lengths_that_do_not_fit_are_found(bad, subscripts):
    x, good = np.ones((6, 2, 4)[:len(subscripts) // 4]), np.array([3, 3])
    program = program_of("block_einsum", [x, x, good, good], subscripts=subscripts, ragged="ij",
                         kinds=("packed", "packed"), size=18)
    assert np.all(program([x, x, good, good], {})[0] == 2.0)
    with pytest.raises((IndexError, ValueError)):
        program([x, x, np.array(bad), np.array(bad)], {})
    assert np.all(program([x, x, good, good], {})[0] == 2.0)


def test_operands_and_results_without_elements_are_not_shared_ones():
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
def test_what_stays_with_numpy(subscripts, ragged, why):
    lengths = {c: np.array([4, 2]) for c in ragged}
    arrays, kinds = operands(subscripts, ragged, lengths, False, "f8")
    own = len([c for c in parse(subscripts)[1] if c in ragged])
    given = [*arrays, *lengths.values()]
    size = int(sum(lengths["i"]**own)) if own else 2
    program = program_of("block_einsum", given, subscripts=subscripts, ragged=ragged, kinds=kinds, size=size)
    assert program.why == {0: why}
    assert len(program(given, {})[0]) == size


@pytest.mark.parametrize("lengths", [[2, 0, 3], [0, 0], [1], [0, 700, 1, 0]])
def test_whose_a_row_is(lengths):
    n = np.array(lengths)
    have = native("segment_ids", [n], size=int(n.sum()))
    np.testing.assert_array_equal(have, np.repeat(np.arange(len(n)), n))


@pytest.mark.parametrize("bad", [[2, 0, 4], [2, 0, 2], [-1, 3, 3], [2**62, 0, 3]])
def test_rows_that_are_not_there(bad):
    program = program_of("segment_ids", [np.array([2, 0, 3])], size=5)
    with pytest.raises((IndexError, ValueError, MemoryError)):
        program([np.array(bad)], {})
    np.testing.assert_array_equal(program([np.array([2, 0, 3])], {})[0], [0, 0, 2, 2, 2])


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u1"])
@pytest.mark.parametrize("columns", [(), (1,), (7,), (130, 3)])
@pytest.mark.parametrize("reverse", [False, True])
def test_sums_along_examples_are_numpys(dtype, columns, reverse):
    rng = np.random.default_rng(1)
    ids = np.repeat([0, 2, 3, 9, 4], [5, 1, 60, 2, 3])
    x = (rng.normal(size=(len(ids), *columns)) * 9).astype(dtype)
    have = native("segment_cumsum", [x, ids], reverse=reverse)
    assert have.tobytes() == PRIMITIVES["segment_cumsum"].eval(np, x, ids, reverse=reverse).tobytes()


def test_a_nan_stays_in_its_example():
    x = np.array([1.0, np.nan, 2, 3, np.inf, 1])
    have = native("segment_cumsum", [x, np.array([0, 0, 1, 1, 2, 3])], reverse=False)
    np.testing.assert_array_equal(have, [1, np.nan, 2, 5, np.inf, 1])


def test_what_is_checked_when_the_program_runs():
    n = np.arange(1, 100_000)
    np.testing.assert_array_equal(native("nonempty", [n], what="{}"), n)
    index = np.where(n % 2, n - 1, -n)
    np.testing.assert_array_equal(native("checked_index", [index, n]), np.where(n % 2, n - 1, 0))
    for bad in (n[-1], -n[-1] - 1):
        with pytest.raises(IndexError, match=f"index {bad} is out of range for an example with {n[-1]} rows"):
            program_of("checked_index", [n, n])([np.append(index[:-1], bad), n], {})
    with pytest.raises(ValueError, match=r"max of nothing: example 2 has no rows"):
        program_of("nonempty", [n[:3]], what="max of nothing: example {} has no rows")([np.array([1, 5, 0])], {})


def test_small_integers_stay_with_numpy():
    program = program_of("segment_ids", [np.array([2, 1], np.int32)], size=3)
    assert program.why == {0: "segment_ids of lengths or indices that are not int64"}
    np.testing.assert_array_equal(program([np.array([2, 1], np.int32)], {})[0], [0, 0, 1])
