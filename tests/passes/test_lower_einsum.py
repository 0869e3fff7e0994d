"""lower_einsum: contractions become matrix products in canonical form, or products and sums, of equal value."""

import numpy as np
import pytest

from minigrad import interpreters
from minigrad.graph import Graph
from minigrad.passes import run
from minigrad.passes.lower_einsum import canonical, lower_einsum
from minigrad.symbolic import Dim

from .programs import arrays_for, input_, node

SIZES = {"b": 5, "i": 2, "j": 3, "k": 4, "l": 6}


def program(subscripts: str) -> Graph:
    terms = subscripts.split("->")[0].split(",")
    inputs = tuple(input_(*(SIZES[c] for c in term)) for term in terms)
    return Graph(inputs, (node("einsum", *inputs, subscripts=subscripts),)).check()


@pytest.mark.parametrize("subscripts", [
    "ij,jk->ik", "ij,jk->ki", "ji,jk->ik", "ij,kj->ik", "bi,bj->ij", "bij,jk->bik", "bij,jk->bki", "bij,bjk->bik",
    "bij,bkj->bik", "bji,bjk->kbi", "ij,j->i", "i,ij->j", "ij,i->j", "bi,i->b", "i,i->", "ij,ij->", "ij,ji->",
    "bi,bi->b", "bij,bij->b", "bij,bj->bi", "bi,bij->bj", "b,bi->i", "i,j->ij", "i,j->ji", "b,bi->bi", "bi,bj->bij",
    "bijk,jkl->bil", "bijk,lkj->bil", "ijk,k->ij", ",i->i", ",->", "ij->ji", "ij,jk,kl->il", "bi,ij,bj->b",
    "bi,i,j,bj->b", "bij,bik->bjk", "bijk,bljk->bil", "bjik,bljk->jbil",
])
def test_contractions_keep_their_value(subscripts):
    graph = program(subscripts)
    after = lower_einsum(graph).check()
    for n in after.nodes:
        assert n.prim.name != "einsum" or canonical(n.params["subscripts"])
    arrays = arrays_for(graph, {})
    np.testing.assert_allclose(interpreters.evaluate(after, arrays)[0], np.einsum(subscripts, *arrays), rtol=1e-12)


@pytest.mark.parametrize(("subscripts", "views"), [
    ("ij,jk->ik", 0), ("bi,bj->ij", 1), ("ij,kj->ik", 1), ("ij,jk->ki", 2), ("bij,jk->bik", 2), ("bij,bkj->bik", 1),
])
def test_operands_reach_the_product_as_views(subscripts, views):
    after = lower_einsum(program(subscripts))
    assert after.count("einsum") == 1
    assert after.count() == 1 + views


def test_shared_weights_are_one_product_for_the_whole_batch():
    size = Dim.new("B")
    x, w = input_(size, 3, 4), input_(4, 6)
    after = lower_einsum(Graph((x, w), (node("einsum", x, w, subscripts="bij,jk->bik"),))).check()
    (product,) = (n for n in after.nodes if n.prim.name == "einsum")
    assert product.shape == (3 * size, 6)


def test_contractions_with_repeated_values_are_sums():
    size = Dim.new("B")
    x, s = input_(size, 3), input_()
    repeated = node("expand", s, shape=(size,), axes=(0,))
    after, _ = run(Graph((x, s), (node("einsum", repeated, x, subscripts="b,bi->i"),)))
    after.check()
    assert not after.count("einsum")
    value = np.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(
        interpreters.evaluate(after, [value, np.array(2.0)], {size.symbol: 2})[0], 2 * value.sum(0)
    )


@pytest.mark.parametrize(("subscripts", "shapes"), [
    ("bij,bjk->bik", ((5, 3, 1), (5, 1, 3))), ("ij,jk->ik", ((4, 1), (1, 6))), ("ijk,jkl->il", ((2, 1, 4), (1, 4, 3)))])
def test_contracted_axes_of_one_element_are_no_sums(subscripts, shapes):
    inputs = tuple(input_(*shape) for shape in shapes)
    graph = Graph(inputs, (node("einsum", *inputs, subscripts=subscripts),)).check()
    after = lower_einsum(graph).check()
    assert after.count("einsum") == (4 in shapes[0][1:])
    arrays = arrays_for(graph, {})
    np.testing.assert_allclose(interpreters.evaluate(after, arrays)[0], np.einsum(subscripts, *arrays), rtol=1e-12)
