"""Indexing, against NumPy: fixed lists of keys, and keys that Hypothesis draws."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg

from .conform import assert_same, call, check_call, check_gradient, check_vmap, run_traced

X = np.random.default_rng(0).normal(size=(4, 5, 3))
s_ = np.s_
COLUMN = np.array([[2], [0], [-1]])
ROW = np.array([0, 2])
MASK = np.array([True, False, True, True])
BASIC = [
    s_[0], s_[-1], s_[3, 4], s_[1, 2, 0], s_[:], s_[...], s_[1:], s_[:-1], s_[::2], s_[::-1], s_[::-2], s_[3:0:-1],
    s_[-1:-4:-1], s_[2:2], s_[3:1], s_[10:], s_[-10:2], s_[:, 1], s_[:, -1:], s_[..., 0], s_[..., None], s_[None],
    s_[None, 1:, ..., None, ::2], s_[1, ..., 2], s_[0, None, 1], s_[:, None, :, None], s_[..., ::-1, 1], s_[()],
    s_[:, 1:4:2, ::-1], s_[::3, ::-3, -1], s_[np.int64(2)], s_[np.array(1)], s_[np.intp(-1), 1:np.int64(3)],
    s_[4:0:-3], s_[0:0:-1], s_[:, :0], s_[1:2, 1:2, 1:2]]
ADVANCED = [
    s_[[0, 2]], s_[[[0, 1], [2, 3]]], s_[ROW], s_[COLUMN], s_[COLUMN, ROW], s_[ROW, :, ROW], s_[:, ROW, ROW],
    s_[:, COLUMN, ROW], s_[ROW, 1], s_[1, ROW], s_[1, :, ROW], s_[ROW, :, 1], s_[0, 1, ROW], s_[:, 0, ROW],
    s_[ROW, None, ROW], s_[None, ROW], s_[..., ROW], s_[ROW, ..., ROW], s_[1:, ROW], s_[::-1, ROW, ::2],
    s_[ROW, 1:, None], s_[None, ROW, None, 1], s_[[1]], s_[[]], s_[np.zeros(0, int)], s_[np.zeros((0, 2), int), 1],
    s_[MASK], s_[MASK, 1], s_[MASK, :, [0, 1, 2]], s_[:, np.array([True, False, True, False, False])],
    s_[X[:, :, 0] > 0],
    s_[X > 0], s_[..., np.array([True, False, True])], s_[MASK, ..., None], s_[ROW.astype("i4"), ROW.astype("u1")],
    s_[np.array(1), ROW], s_[ROW, np.array(1)], s_[1, ROW, ::-1], s_[ROW, 1, 2], s_[1, ROW, 2], s_[2, ..., ROW],
    s_[[True, False, True, True]], s_[ROW[:, None], ROW, ROW], s_[-1, [-1, 0], [1, -2]], s_[None, MASK], s_[MASK, None],
    s_[..., MASK[:3]]]


@pytest.mark.parametrize("key", [*BASIC, *ADVANCED], ids=str)
def test_index(key):
    check_call(lambda x: x[key], call(X))


@pytest.mark.parametrize("key", [
    s_[0], s_[...], s_[None], s_[..., None], s_[()], s_[::-1], s_[1:], s_[:0], s_[[0, 0]]], ids=str)
@pytest.mark.parametrize("shape", [(1,), (), (0,), (2, 0)])
def test_small_and_empty_arrays(key, shape):
    x = np.ones(shape)
    try:
        want = x[key]
    except IndexError:
        with pytest.raises(mg.ShapeError):
            run_traced(lambda x: [x[key]], x)
        return
    assert_same(run_traced(lambda x: [x[key]], x)[0], want)


TRACED = [
    (lambda x, i, j: x[i], ROW, ROW), (lambda x, i, j: x[i, j], COLUMN, ROW), (lambda x, i, j: x[:, i], ROW, ROW),
    (lambda x, i, j: x[i, :, j], ROW, ROW), (lambda x, i, j: x[..., i], np.array(1), ROW),
    (lambda x, i, j: x[i], np.array(-1), ROW), (lambda x, i, j: x[i, j], np.array(-1), np.array(2)),
    (lambda x, i, j: x[i, 1:, j], np.array(1), ROW), (lambda x, i, j: x[i][j], COLUMN, np.array(0)),
    (lambda x, i, j: x[i, None, j], ROW, np.array(0)), (lambda x, i, j: x[None, i], ROW, ROW),
    (lambda x, i, j: x[[i, j]], np.array(0), np.array(3)), (lambda x, i, j: x[i % 4, j * 0], ROW, ROW),
    (lambda x, i, j: np.take(x, i, axis=1) + np.take(x, j, 1), ROW, ROW),
    (lambda x, i, j: x[::-1, i, 0], ROW, ROW), (lambda x, i, j: x[np.argmax(x[:, 0, 0]), i], ROW, ROW),
    (lambda x, i, j: x[i.astype("u1"), j.astype("i4")], ROW, ROW), (lambda x, i, j: x[1, i, j], ROW, np.array(1)),
    (lambda x, i, j: x[i, 1, j], ROW, np.array(1)), (lambda x, i, j: x[2, ..., i], ROW, ROW)]


@pytest.mark.parametrize("case", TRACED, ids=range(len(TRACED)))
def test_traced_indices(case):
    """Their values are inputs, and under vmap they differ from example to example."""
    f, i, j = case
    check_call(f, call(X, i, j))


def test_constant_array_indexed_by_a_traced_index():
    table = np.arange(12.0).reshape(4, 3)
    out = run_traced(lambda i: [mg.numpy.take(table, i, axis=0)], ROW)
    assert_same(out[0], table[ROW])


@pytest.mark.parametrize(("key", "error", "match"), [
    (s_[4], mg.ShapeError, "index 4 is out of range for axis 0"),
    (s_[0, 0, 0, 0], mg.ShapeError, "4 indices into f64"),
    (s_[[0, 9]], mg.ShapeError, "out of range"),
    (s_[..., ...], mg.ShapeError, "one ellipsis"),
    (s_[1.0], mg.DtypeError, "cannot index"),
    (s_["a"], mg.DtypeError, "cannot index"),
    (s_[[0.5]], mg.DtypeError, "cannot index"),
    (s_[[0, 1], [0, 1, 2]], mg.ShapeError, "do not broadcast"),
    (s_[np.ones(3, bool)], mg.ShapeError, "mask"),
    (s_[:, np.ones((5, 4), bool)], mg.ShapeError, "mask"), (s_[True], mg.DtypeError, "cannot index"),
    (s_[::0], mg.ShapeError, "step")], ids=str)
def test_bad_indices(key, error, match):
    with pytest.raises(error, match=match) as info:
        mg.trace(lambda x: x[key])(X)
    assert "test_indexing.py" in str(info.value)
    assert mg.trace(lambda x: x[0])(X).check()


# -- whatever Hypothesis draws -----------------------------------------------------------------------------

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def compare(x, key):
    assert_same(run_traced(lambda x: [x[key]], x)[0], x[key])
    if x[key].size:
        check_vmap(lambda x: [x[key]], [x])
        check_gradient(lambda x: [x[key]], [x])


@given(st.data())
def test_basic_indices(data):
    shape = data.draw(SHAPES)
    key = data.draw(hnp.basic_indices(shape, allow_ellipsis=True, allow_newaxis=True, max_dims=6))
    compare(np.arange(float(np.prod(shape, dtype=int))).reshape(shape), key)


@given(st.data())
def test_integer_array_indices(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=4))
    key = data.draw(hnp.integer_array_indices(shape))
    x = np.arange(float(np.prod(shape))).reshape(shape)
    compare(x, key)
    have = mg.vmap(lambda x, *k: x[k], in_axes=(None, *[0] * len(key)))(x, *(np.stack([k, k[::-1]]) for k in key))
    assert_same(have, np.stack([x[key], x[tuple(k[::-1] for k in key)]]))


@given(st.data())
def test_mixed_indices(data):
    """Integers, slices, None, Ellipsis and index arrays of one shape, in any order."""
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4))
    index_shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=1, max_side=3))
    axes = data.draw(st.integers(0, len(shape)))
    key = []
    for n in shape[:axes]:
        key.append(data.draw(st.one_of(
            st.integers(-n, n - 1), st.slices(n), st.just(slice(None)),
            hnp.arrays(np.int64, index_shape, elements=st.integers(-n, n - 1)),
            hnp.arrays(bool, (n,)))))
        if data.draw(st.booleans()) and len(key) < 7:
            key.append(None)
    if data.draw(st.booleans()):
        key.append(Ellipsis)
    x = np.arange(float(np.prod(shape))).reshape(shape)
    try:
        x[tuple(key)]
    except IndexError:  # masks with other numbers of elements than the index arrays
        with pytest.raises(mg.MinigradError):
            run_traced(lambda x: [x[tuple(key)]], x)
        return
    compare(x, tuple(key))


# -- all short keys ----------------------------------------------------------------------------------------

CUBE = np.random.default_rng(1).normal(size=(2, 2, 2))
ITEMS = {"0": 0, ":": s_[:], "::-1": s_[::-1], "None": None, "...": ..., "i": np.array([1, 0]),
         "point": np.array(1), "column": np.array([[1], [0]]), "mask": np.array([True, False]),
         "plane": np.array([[True, False], [True, True]])}


def all_keys(length):
    for names in itertools.product(ITEMS, repeat=length):
        if names.count("...") < 2:
            yield tuple(ITEMS[name] for name in names)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_all_short_keys(length):
    for key in all_keys(length):
        try:
            want = CUBE[key]
        except IndexError:
            with pytest.raises(mg.MinigradError):
                run_traced(lambda x, key=key: [x[key]], CUBE)
            continue
        assert_same(run_traced(lambda x, key=key: [x[key]], CUBE)[0], want, str(key))


def test_an_ellipsis_of_no_axes_separates_traced_index_arrays():
    for key in (s_[:, 0, ..., 1], s_[:, 0, 1, ...], s_[..., 0, 1]):
        def read(x, i, j, key=key):
            return x[tuple((i, j)[k] if isinstance(k, int) else k for k in key)]

        check_call(read, call(CUBE, ROW[:1], np.array([1])))
