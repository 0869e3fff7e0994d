"""Gathers and scatters against the reference, to the last bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

from minigrad import backends, interpreters
from minigrad.graph import Graph, full
from minigrad.symbolic import Dim
from tests.passes.programs import input_, node

from .checks import NUMBERS, any_view, native, random_array, same


@given(st.integers(0, 2**31), st.sampled_from(NUMBERS), st.sampled_from(["i1", "i4", "i8", "u1", "u8"]))
def test_scatters(seed, dtype, index_dtype):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 4))
    shape = tuple(rng.integers(1, 8, count).tolist())
    trailing = tuple(rng.integers(1, 45, rng.integers(0, 3)).tolist())
    several = tuple(rng.integers(0, 9, rng.integers(0, 3)).tolist())
    u = input_(*several, *trailing, dtype=dtype)
    indices = [input_(*several, dtype=index_dtype) for _ in shape]
    low = 0 if index_dtype[0] == "u" else -1
    arrays = [random_array(rng, u.shape, dtype),
              *(rng.integers(low * n, n, several).astype(index_dtype) for n in shape)]
    if rng.random() < 0.5:
        arrays[1:] = [np.sort(a, axis=None).reshape(several) for a in arrays[1:]]
    outputs = [node(name, u, *indices, shape=(*shape, *trailing))
               for name in ("scatter_add", "scatter_max", "scatter_min")]
    same([u, *indices], outputs, arrays)


@given(st.integers(0, 2**31), st.sampled_from(NUMBERS), st.sampled_from(["i1", "i4", "u1"]))
def test_sums_of_gathered_rows(seed, dtype, index_dtype):
    rng = np.random.default_rng(seed)
    rows, places, edges = rng.integers(1, 9, 3).tolist()
    trailing = tuple(rng.integers(1, 45, rng.integers(0, 3)).tolist())
    x, source, to = input_(rows, *trailing, dtype=dtype), *(input_(edges, dtype=index_dtype) for _ in range(2))
    low = 0 if index_dtype[0] == "u" else -1
    arrays = [rng.integers(0, 9, x.shape).astype(dtype),  # any order has the same sums
              *(rng.integers(low * n, n, edges).astype(index_dtype) for n in (rows, places))]
    if rng.random() < 0.5:
        arrays[2] = np.sort(arrays[2] % places).astype(index_dtype)
    sums = node("gather_sum", x, source, to, size=places)
    program = same([x, source, to], [sums], arrays)
    assert "step" in program.ways
    want = np.zeros((places, *trailing), dtype)
    np.add.at(want, arrays[2], arrays[0][arrays[1]])
    np.testing.assert_array_equal(program(arrays, {})[0], want)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("places", [3, 400])
def test_many_sums_of_gathered_rows_for_any_number_of_threads(places, dtype, ordered):
    rng = np.random.default_rng(1)
    x, source, to = rng.normal(size=(300, 80)).astype(dtype), rng.integers(0, 300, 9000), rng.integers(0, places, 9000)
    to = np.sort(to) if ordered else to
    found = native("gather_sum", [x, source, to], size=places)
    want = np.zeros((places, 80))
    np.add.at(want, to, x[source].astype("f8"))
    tolerance = 1e-4 if dtype == "f4" else 1e-10
    np.testing.assert_allclose(found, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("bad", [4, -5])
@pytest.mark.parametrize("position", [1, 2])
def test_both_indices_of_sums_of_gathered_rows_are_checked(position, bad):
    x, source, to = input_(4, 2), input_(3, dtype="i8"), input_(3, dtype="i8")
    program = backends.build(Graph((x, source, to), (node("gather_sum", x, source, to, size=4),)), "native")
    arrays = [np.ones((4, 2)), np.array([0, 1, 3]), np.array([-1, 2, 3])]
    np.testing.assert_array_equal(program(arrays, {})[0], [[0, 0], [0, 0], [1, 1], [2, 2]])
    arrays[position] = np.array([0, bad, 1])
    with pytest.raises(IndexError):
        program(arrays, {})


def test_scatter_of_views():
    rng = np.random.default_rng(0)
    u, i = input_(6, 9), input_(6, 9, dtype="i4")
    arrays = [rng.normal(size=(6, 9)), rng.integers(-4, 4, (6, 9)).astype("i4")]
    columns = node("transpose", u, perm=(1, 0))
    one = node("reshape", node("slice", i, start=(0, 2), stop=(6, 3), step=(1, 1)), shape=(6,))
    nine = node("reshape", node("slice", i, start=(1, 0), stop=(2, 9), step=(1, 1)), shape=(9,))
    outputs = [node("scatter_add", u, one, shape=(4, 9)), node("scatter_max", columns, nine, shape=(4, 6)),
               node("scatter_add", full(1.0, (6, 9), u.dtype), one, one, shape=(4, 4, 9)),
               node("scatter_add", columns, node("transpose", i, perm=(1, 0)), shape=(4,)),
               node("scatter_min", node("flip", u, axes=(0,)), node("flip", one, axes=(0,)), shape=(4, 9)),
               node("scatter_add", u, full(2, (6,), i.dtype), shape=(4, 9))]
    same([u, i], outputs, arrays)


def test_extremes_keep_nan():
    u, i = input_(5), input_(5, dtype="i8")
    outputs = [node(f"scatter_{k}", u, i, shape=(3,)) for k in ("max", "min")]
    same([u, i], outputs, [np.array([1.0, np.nan, 2.0, 0.5, -np.inf]), np.array([0, 0, 0, 1, 1])])


@pytest.mark.parametrize("name", ["scatter_add", "scatter_max", "gather"])
@pytest.mark.parametrize("bad", [4, -5, 2**62, -2**63])
def test_indices_out_of_range_are_errors(name, bad):
    i, j = input_(dtype="i8"), input_(dtype="i8")
    if name == "gather":
        x, arrays = input_(4, 2), [np.ones((4, 2))]
        inputs, result = [x, i], node(name, x, i)
    else:
        u, arrays = input_(3), [np.ones(3), np.array(1)]
        inputs, result = [u, j, i], node(name, u, j, i, shape=(2, 4, 3))
    program = backends.build(Graph(tuple(inputs), (result,)), "native")
    good = [*arrays, np.array(-1)]
    for _ in range(2):
        with pytest.raises(IndexError):
            program([*arrays, np.array(bad)], {})
        np.testing.assert_array_equal(program(good, {})[0], interpreters.evaluate(program._graph, good)[0])


@pytest.mark.parametrize("shape", [(0,), (0, 2), (2, 0)])
def test_indices_into_empty_arrays(shape):
    x, i, size = input_(*shape), input_(dtype="i8"), Dim.new("B")
    u, k = input_(size, *shape[1:]), input_(size, dtype="i8")
    taken = backends.build(Graph((x, i), (node("gather", x, i),)), "native")
    added = backends.build(Graph((u, k), (node("scatter_add", u, k, shape=shape),)), "native")
    same([u, k], [node("scatter_add", u, k, shape=shape)], [np.ones((0, *shape[1:])), np.zeros(0, "i8")],
         {size.symbol: 0})
    for index in (0, 2, -1):
        given_ = [np.ones((1, *shape[1:])), np.array([index])]
        if -shape[0] <= index < shape[0]:
            assert taken([np.ones(shape), np.array(index)], {})[0].shape == shape[1:]
            assert added(given_, {size.symbol: 1})[0].shape == shape
            continue
        with pytest.raises(IndexError):
            taken([np.ones(shape), np.array(index)], {})
        with pytest.raises(IndexError):
            added(given_, {size.symbol: 1})


@given(st.integers(0, 2**31), st.sampled_from(["f4", "f8", "?", "i2", "f2"]))
def test_gather_by_single_indices(seed, dtype):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(2, 6, 4).tolist())
    x = input_(*shape, dtype=dtype)
    view = any_view(rng, x)
    i, j = input_(dtype="i4"), input_(dtype="u1")
    arrays = [random_array(rng, shape, "u1").astype(dtype), np.array(rng.integers(-1, 1), "i4"), np.array(0, "u1")]
    same([x, i, j], [node("gather", view, *k) for k in ((i,), (i, j), (i, j, i), (i, j, i, j))], arrays)
