"""Each declared view against its own evaluation."""

import itertools

import numpy as np
import pytest

from minigrad.backends.native.codegen.strides import access
from minigrad.graph import PRIMITIVES, Graph
from minigrad.passes.fuse import Roles
from minigrad.symbolic import Dim, value
from minigrad.views import IN_ORDER, added, dense_strides, is_whole, strided, window

from . import checks

CASES = {f"{name}-{i}": (prim, sample) for name, prim in sorted(PRIMITIVES.items()) if prim.view is not None
         for i, sample in enumerate(prim.samples())}


def over(cases):
    return pytest.mark.parametrize("case", list(cases.values()), ids=list(cases))


def viewed(case):
    """Return the node, its operand filled with different numbers, and the view that NumPy makes of that."""
    prim, sample = case
    x = np.arange(1.0, 1 + sample.arrays[0].size).reshape(sample.arrays[0].shape)
    arrays = [x, *sample.arrays[1:]]
    (node,) = checks.program(prim, arrays, sample.params).outputs
    return node, x, np.asarray(prim.eval(np, *arrays, **sample.params))


def node(name, *inputs, **params):
    return PRIMITIVES[name](*inputs, **params)


def input_(*shape):
    return node("input", shape=shape, dtype=np.dtype("f8"))


@over(CASES)
def test_window_maps_each_index_to_the_element_of_the_operand(case):
    out, x, want = viewed(case)
    found = window(out)
    if found is None:
        assert out.prim.view is IN_ORDER
        np.testing.assert_array_equal(want.ravel(), x.ravel())
        return
    for index in itertools.product(*map(range, want.shape)):
        place = tuple(a + s * index[k] for k, a, s in zip(*found, strict=True))
        assert min(place, default=0) >= 0
        assert x[place] == want[index]


@over(CASES)
def test_strides_address_the_elements_of_the_operand(case):
    out, x, want = viewed(case)
    offset, strides = strided(out, 0, dense_strides(x.shape, 8), 8)
    have = np.ndarray(want.shape, x.dtype, np.ascontiguousarray(x).data, offset, strides)
    np.testing.assert_array_equal(have, want)


@over(CASES)
def test_whole_views_have_each_element_once(case):
    out, x, want = viewed(case)
    once = want.size == x.size and set(want.ravel()) == set(x.ravel())
    assert once or not is_whole(out)
    assert (not is_whole(out)) or want.size == x.size
    assert bool(added(out)) == (want.size > x.size)


def test_strides_of_a_symbolic_size():
    n = Dim.new("n")
    x = input_(n, 3)
    chain = node("flip", node("transpose", x, perm=(1, 0)), axes=(1,))
    inner = strided(chain.inputs[0], 0, dense_strides(x.shape))
    offset, strides = strided(chain, *inner)
    assert (value(offset, {n.symbol: 5}), strides) == (12, (1, -3))


def test_axes_link_where_one_step_passes_all_of_the_next():
    x = input_(4, 5, 6)
    cut = node("slice", x, start=(0, 1, 0), stop=(4, 3, 6), step=(1, 1, 1))
    for view, linked in ((x, (True, True, True)), (cut, (False, True, True)),
                         (node("transpose", x, perm=(1, 2, 0)), (True, False, False)),
                         (node("transpose", x, perm=(2, 0, 1)), (False, True, False)),
                         (node("flip", x, axes=(1,)), (False, False, True)),
                         (node("expand", x, shape=(4, 7, 5, 6), axes=(1,)), (True, False, True, True)),
                         (node("reshape", x, shape=(20, 6)), (True, True)),
                         (input_(3, 0), (True, True))):
        assert access(view, Roles.of(Graph((x,), (view,)))).linked == linked, view.prim.name


def test_kinds_of_views_are_the_declared_views():
    assert {n for n, p in PRIMITIVES.items() if p.kind == "view"} == {
        n for n, p in PRIMITIVES.items() if p.view is not None}
