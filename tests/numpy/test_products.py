"""einsum in all of its forms, and matmul of every combination of ranks."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import minigrad as mg

from .conform import assert_same, call, check_call, run_traced

rng = np.random.default_rng(0)
SIZE = {"i": 2, "j": 3, "k": 4, "l": 2, "b": 2, "c": 3, "A": 2}


def operand(term):
    """Return an array for a term, of which an ellipsis is two axes; ``'`` after a letter makes its size 1."""
    shape = []
    term = term.replace("...", "*")
    for here, after in itertools.zip_longest(term, term[1:]):
        if here == "*":
            shape += [2, 3]
        elif here not in "' ":
            shape.append(1 if after == "'" else SIZE[here])
    return rng.normal(size=shape)


EINSUMS = [
    "ij,jk->ik", "ij,jk", "i,i", "i,i->", "i,j->ij", "i,j->ji", "ij->ji", "ij->j", "ij->", "ij", "ji", "ii", "ii->i",
    "ii->",
    "iij->ij", "iij->j", "ijij->ij", "iii->i", "ijj->i", "bij,bjk->bik", "bij,bjk->ik", "bij,bkj->bik", "bi,bi->b",
    "bi,bj->bij",
    "bi,bj->ij", "ij,ij->", "ij,ij->i", "ij,ij->ji", "ij,kl->ijkl", "ij,kl->", "ij,k->j", "i,ij,j->", "i,ij,j",
    "ij,jk,kl->il",
    "ij,jk,ki->", "ij,kj,kl->li", "i,i,i->i", "i,i,i->", "ij,j,k->ik", "...i->...", "...i", "...ij->...ji",
    "...ij,...jk->...ik",
    "i...,i...->...", "...,...->...", "...,i->...i", "i...j,j->...i", "...i,...i", "i...", "...ij,jk",
    "...ii->...i",
    "...ii", "A...,A->...", "ij , jk -> ik", "ii,i->i", "ii,jj->ij", "ii,jj->", "iij,jk->ik", "ij,jj->ij", ",i->i",
    ",->", "->", ",ij,",
    "i'j,ij->ij", "i'j,ij->j", "i'j,ij->i", "ij',ij->", "i',i->i", "i'j',ij->ij", "i'j,i'j->ij",
    "i'j',i'k->jk",
    "i'j,ij,ij'->ij", "...i',...i->...", "i',j'->ij", "i',i'->"]


@pytest.mark.parametrize("subscripts", EINSUMS)
def test_einsum(subscripts):
    arrays = [operand(t) for t in subscripts.split("->")[0].split(",")]
    check_call(np.einsum, call(subscripts.replace("'", ""), *arrays))


M, N, V = rng.normal(size=(2, 3)), rng.normal(size=(3, 4)), rng.normal(size=3)


@pytest.mark.parametrize("operands", [
    (M, [0, 1], N, [1, 2], [0, 2]), (M, [0, 1], N, [1, 2]), (M, [1, 0]), (M, [0, 1], []), (N[:, :3].copy(), [0, 0]),
    (M, [Ellipsis, 0], V, [0], [Ellipsis]), (M, [5, 7], V, [7], [5]), (M, [0, 1], V, [1], N, [1, 2], [2, 0])])
def test_einsum_of_sublists(operands):
    arrays = [x for x in operands if isinstance(x, np.ndarray)]
    lists = [x for x in operands if isinstance(x, list)]

    def function(*xs):
        parts = [p for x, s in itertools.zip_longest(xs, lists) for p in ((x, s) if x is not None else (s,))]
        return np.einsum(*parts)

    check_call(function, call(*arrays))


@pytest.mark.parametrize("dtypes", list(itertools.product(["f4", "f8", "i4", "u1"], repeat=2)))
def test_einsum_dtypes(dtypes):
    a, b = (np.ones(s, d) for s, d in zip(((2, 3), (3,)), dtypes, strict=True))
    (out,) = run_traced(lambda a, b: [np.einsum("ij,j->i", a, b)], a, b)
    assert_same(out, np.einsum("ij,j->i", a, b))


def test_an_ellipsis_of_no_axes_may_be_left_out_of_the_result():
    check_call(np.einsum, call("i...,i...->i", V, V))


def test_einsum_options_that_change_no_result():
    (out,) = run_traced(lambda a, b: [np.einsum("ij,jk->ik", a, b, optimize=True)], M, N)
    assert_same(out, M @ N)


@pytest.mark.parametrize(("subscripts", "shapes", "match"), [
    ("ij,jk->ik", [(2, 3), (4, 2)], "'j' is 3 and 4"), ("ij->ij", [(2, 3, 4)], "does not fit"),
    ("ij->ik", [(2, 3)], "einsum"), ("ij,jk->ik", [(2, 3)], "einsum"), ("ii->i", [(2, 3)], "'i' is 2 and 3"),
    ("ii->i", [(1, 3)], "'i' is 1 and 3"),
    ("...->", [(2, 3)], "ellipsis"),
    ("i->ii", [(2,)], "einsum"), ("i$->i", [(2, 3)], "einsum"), ("...i->i", [(2, 3)], "einsum"),
    ("i,i->i", [(2,), (2,), (2,)], "einsum")])
def test_bad_einsum(subscripts, shapes, match):
    with pytest.raises(mg.ShapeError, match=match) as info:
        mg.trace(lambda *xs: np.einsum(subscripts, *xs))(*map(np.ones, shapes))
    assert "test_products.py" in str(info.value)


RANKS = [(3,), (2, 3), (5, 2, 3), (1, 2, 3), (4, 5, 2, 3), (4, 1, 2, 3), (1, 1, 2, 3)]
RIGHT = [(3,), (3, 2), (5, 3, 2), (1, 3, 2), (4, 5, 3, 2), (4, 1, 3, 2), (1, 1, 3, 2)]


@pytest.mark.parametrize("shapes", list(itertools.product(RANKS, RIGHT)), ids=str)
def test_matmul(shapes):
    a, b = (rng.normal(size=s) for s in shapes)
    check_call(np.matmul, call(a, b))
    check_call(lambda a, b: a @ b, call(a, b))


@pytest.mark.parametrize("shapes",
                         [((1, 1), (1, 1)), ((1, 3), (3, 1)), ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 1), (1, 3)),
                                    ((2, 0, 3), (3, 1)), ((1,), (1,)), ((1,), (1, 1, 1)), ((5, 1, 1), (1, 5, 1, 1))],
                                    ids=str)
def test_matmul_of_ones_and_zeros(shapes):
    a, b = (rng.normal(size=s) for s in shapes)
    check_call(np.matmul, call(a, b))


@pytest.mark.parametrize(("shapes", "match"), [
    (((3,), (4,)), r"inner sizes differ \(3, 4\)"), (((3,), (4, 3)), "Did you mean w.T?"),
    (((2, 3), (4, 3)), "Did you mean b.T?"), (((3, 2), (3, 4)), "Did you mean a.T?"), (((), (3,)), "use \\*"),
    (((2, 2, 3), (3, 3, 2)), "do not broadcast")])
def test_bad_matmul(shapes, match):
    with pytest.raises(mg.ShapeError, match=match) as info:
        mg.trace(lambda a, b: a @ b)(*map(np.ones, shapes))
    assert "test_products.py" in str(info.value)


@given(st.data())
def test_random_einsum(data):
    """Up to three operands with random subscripts, some of size 1, and a random order of the result."""
    letters = "ijkl"
    size = {c: data.draw(st.integers(1, 3)) for c in letters}
    terms = data.draw(st.lists(st.text(letters, max_size=3), min_size=1, max_size=3))
    arrays = []
    for t in terms:
        ones = data.draw(st.booleans())
        arrays.append(rng.normal(size=[1 if ones and t.count(c) == 1 else size[c] for c in t]))
    used = sorted(set("".join(terms)))
    subscripts = ",".join(terms)
    if data.draw(st.booleans()):
        subscripts += "->" + "".join(data.draw(st.permutations(used)))[:data.draw(st.integers(0, len(used)))]
    try:
        want = np.einsum(subscripts, *arrays)
    except ValueError:
        assume(False)
    assert_same(run_traced(lambda *xs: [np.einsum(subscripts, *xs)], *arrays)[0], want)
    check_call(np.einsum, call(subscripts, *arrays))


@pytest.mark.parametrize("shapes", [((2, 3), (3, 4)), ((2, 2, 3), (4, 3, 2)), ((3,), (3,)), ((3,), (3, 2), (2, 4)),
                                    ((2, 3), (3, 2), (2,))])
def test_multi_dot(shapes):
    xs = [np.random.default_rng(0).normal(size=s) for s in shapes]
    np.testing.assert_allclose(mg.compile(lambda *xs: np.linalg.multi_dot(xs))(*xs), np.linalg.multi_dot(xs))


def test_multi_dot_refuses_vector_between_matrices():
    with pytest.raises(mg.ShapeError, match=r"test_products.py:\d+: np.linalg.multi_dot: operand 1 is f64\[2\]"):
        mg.trace(lambda *xs: np.linalg.multi_dot(xs))(np.ones((2, 2)), np.ones(2), np.ones((2, 2)))
