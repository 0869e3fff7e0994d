"""`einsum`: operands that are one node, every kind of subscript, and products of many."""

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad import interpreters
from minigrad.errors import DtypeError, ShapeError
from minigrad.graph import PRIMITIVES as P
from minigrad.graph import Graph
from minigrad.ops.einsum import contract
from tests import checks

SIZES = {"a": 2, "b": 3, "c": 1, "d": 2}


@st.composite
def contractions(draw):
    """Draw subscripts in which every letter stands in at least two places."""
    terms = draw(st.lists(st.lists(st.sampled_from("abcd"), unique=True, max_size=3).map("".join), min_size=1,
                          max_size=4))
    letters = sorted(set("".join(terms)))
    alone = [c for c in letters if sum(c in t for t in terms) == 1]
    out = draw(st.permutations([*alone, *draw(st.lists(st.sampled_from(letters), unique=True))] if letters else []))
    return ",".join(terms) + "->" + "".join(dict.fromkeys(out))


@given(contractions())
def test_any_contraction(subscripts):
    terms = subscripts.split("->")[0].split(",")
    arrays = [np.random.default_rng(i).normal(size=[SIZES[c] for c in t]) for i, t in enumerate(terms)]
    graph = checks.program(P["einsum"], arrays, {"subscripts": subscripts})
    checks.close(interpreters.evaluate(graph, arrays)[0], np.einsum(subscripts, *arrays), subscripts, 1e-12)
    checks.check_types(graph, arrays)
    checks.check_duality(graph, arrays)
    checks.check_gradient(graph, arrays)
    checks.check_namespace(graph, arrays, array_api_strict)


def test_one_node_in_several_places():
    x = checks.placeholder((3, 3), "f8")
    graph = Graph((x,), (P["einsum"](x, x, x, subscripts="ij,jk,kl->il"), P["einsum"](x, x, subscripts="ij,ji->")))
    arrays = [np.random.default_rng(0).normal(size=(3, 3))]
    checks.check_gradient(graph, arrays)
    checks.check_duality(graph, arrays)
    checks.check_batch(graph, arrays, depth=2)
    back = checks.reverse(graph)
    seeds = checks.random_like(graph.outputs)
    checks.check_gradient(back, [*arrays, *seeds])
    checks.check_batch(back, [*arrays, *seeds])


@pytest.mark.parametrize("dtype", ["i4", "u1"])
def test_integers(dtype):
    x = np.arange(4, dtype=dtype).reshape(2, 2)
    graph = checks.program(P["einsum"], [x, x], {"subscripts": "ij,jk->ik"})
    np.testing.assert_array_equal(interpreters.evaluate(graph, [x, x])[0], x @ x, strict=True)


def test_contract_sums_subscripts_of_one_operand():
    x, y = checks.placeholder((2, 3), "f8"), checks.placeholder((2,), "f8")
    graph = Graph((x, y), (contract([("ab", x), ("a", y)], "a"),))
    arrays = [np.arange(6.0).reshape(2, 3), np.array([1.0, 2.0])]
    np.testing.assert_array_equal(interpreters.evaluate(graph, arrays)[0], arrays[0].sum(1) * arrays[1])
    assert contract([("ab", x)], "ab") is x


@pytest.mark.parametrize(("subscripts", "shapes", "why"), [
    ("ij,jk->ik", [(2, 3), (4, 2)], "axis 'j' is 3 and 4"), ("ii->i", [(2, 2)], "diagonal"), ("ij->i", [(2, 2)], "own"),
    ("ij,jk->ik", [(2, 3)], "do not fit"), ("ij->ij", [(2,)], "do not fit"), ("i,j->iij", [(2,), (2,)], "result"),
    ("i->ij", [(2,)], "result")])
def test_invalid_subscripts(subscripts, shapes, why):
    with pytest.raises(ShapeError, match=why):
        P["einsum"](*(checks.placeholder(s, "f8") for s in shapes), subscripts=subscripts)


def test_dtypes_do_not_mix():
    with pytest.raises(DtypeError, match="dtypes differ"):
        P["einsum"](checks.placeholder((2,), "f8"), checks.placeholder((2,), "f4"), subscripts="i,i->")
