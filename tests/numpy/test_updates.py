"""Updates by ``x.at[key]``, against NumPy's in-place updates, in a loop, and against finite differences."""

import numpy as np
import pytest

import minigrad as mg
import minigrad.numpy as mnp

from .conform import assert_same, call, check_call, run_traced
from .test_indexing import CUBE, all_keys

rng = np.random.default_rng(1)
X = rng.normal(size=(4, 3))
V = rng.normal(size=5)
T = rng.normal(size=(2, 3, 4))
MASK = rng.normal(size=(4, 3)) > 0

IN_PLACE = {"add": np.add.at, "subtract": np.subtract.at, "multiply": np.multiply.at, "divide": np.divide.at,
            "max": np.maximum.at, "min": np.minimum.at}
STATIC_KEYS = [
    (X, 1), (X, -1), (X, slice(1, 3)), (X, slice(None, None, -2)), (X, (slice(None), 2)), (X, (1, 2)), (X, ...),
    (X, (..., 0)), (X, (None, 1)), (X, [0, 2]), (X, [0, 2, 0, 0]), (X, ([0, 1, 0], [2, 2, 2])), (X, MASK),
    (X, (slice(1, None), [0, 0])), (X, np.array([[0, 1], [1, 3]])), (V, 2), (V, np.array([4, 4, 0])),
    (T, (slice(None), [0, 2], 1)), (T, (1, ..., slice(0, 4, 2))), (T, ([0, 1], slice(None), [3, 3])),
    (X, np.array([True, False, True, False])), (X, slice(2, 2)), (V, []), (X, ()), (X, (slice(None), None, [1, 1])),
]


def in_place(name, x, key, v):
    out = x.copy()
    if name == "set":
        out[key] = v
    else:
        IN_PLACE[name](out, key, v)
    return out


@pytest.mark.parametrize("name", ["set", *IN_PLACE])
@pytest.mark.parametrize("case", range(len(STATIC_KEYS)))
def test_static_keys(name, case):
    x, key = STATIC_KEYS[case]
    values = np.random.default_rng(case).uniform(0.5, 1.5, x[key].shape)
    scalar = np.array(0.7)
    for v in (values, scalar):
        (have,) = run_traced(lambda x, v: [getattr(x.at[key], name)(v)], x, v)
        assert_same(have, in_place(name, x, key, v))
        check_call(lambda x, v: getattr(mnp.at(x)[key], name)(v), call(x, v))


KEYS = [(X, (np.array([0, 2]),)), (X, (np.array([0, 2, 0]),)), (X, (np.array([1, 1, 3]), np.array([0, 0, -1]))),
        (T, (np.array([[0, 1], [1, 0]]),)), (V, (np.array(3),)), (V, (np.array([1, 1, 1, 4]),))]


@pytest.mark.parametrize("name", ["set", *IN_PLACE])
@pytest.mark.parametrize("case", range(len(KEYS)))
def test_traced_keys(name, case):
    x, key = KEYS[case]
    values = np.random.default_rng(case).uniform(0.5, 1.5, x[key].shape)
    check_call(lambda x, v, *key: getattr(mnp.at(x)[key], name)(v), call(x, values, *key))


@pytest.mark.parametrize("name", ["set", *IN_PLACE])
def test_traced_masks(name):
    check_call(lambda x, m, v: getattr(mnp.at(x)[m], name)(v), call(X, MASK, np.array(0.3)))
    check_call(lambda x, m, v: getattr(mnp.at(x)[m], name)(v), call(X, MASK[:, 0].copy(), rng.normal(size=3) + 2))


@pytest.mark.parametrize("name", ["set", *IN_PLACE])
def test_values_that_a_traced_mask_selects(name):
    values = rng.uniform(0.5, 1.5, X.shape)
    check_call(lambda x, m, v: getattr(mnp.at(x)[m], name)(v[m]), call(X, MASK, values))
    check_call(lambda x, m, v: getattr(mnp.at(x)[m], name)(v[m]), call(X, MASK[:, 0].copy(), values))


def test_a_traced_mask_sets_bools_and_integers():
    for dtype in (bool, np.int32):
        x, y = np.array([1, 0, 3, 0]).astype(dtype), np.array([0, 0, 2, 1]).astype(dtype)
        assert_same(run_traced(lambda x, y: [x.at[x == 0].set(y[x == 0])], x, y)[0], np.where(x == 0, y, x))


def test_apply_and_get():
    check_call(lambda x: mnp.at(x)[1:, [0, 2]].apply(np.exp), call(X))
    check_call(lambda x: mnp.at(x)[1:, [0, 2]].get(), call(X))


@pytest.mark.parametrize("dtype", ["i4", "u1", "f4", "?"])
def test_dtypes(dtype):
    x = np.array([1, 0, 1, 1]).astype(dtype)
    for name in ("set", "add", "multiply", "max", "min"):
        if dtype == "?" and name != "set":
            continue
        have = run_traced(lambda x, name=name: [getattr(x.at[[0, 0, 2]], name)(1)], x)
        assert_same(have[0], in_place(name, x, [0, 0, 2], 1), name)


def test_set_casts_as_assignment_does():
    x = np.arange(4)
    assert_same(run_traced(lambda x: [x.at[1].set(2.7)], x)[0], in_place("set", x, 1, 2.7))
    with pytest.raises(mg.DtypeError, match="Cast one of them"):
        run_traced(lambda x: [x.at[1].add(2.7)], x)
    with pytest.raises(mg.DtypeError, match="cast x to float"):
        run_traced(lambda x: [x.at[1].divide(2)], x)


def test_products_with_zeros_have_exact_derivatives_of_every_order():
    def f(v, i):
        return mnp.at(np.ones(2))[i].multiply(v).sum()

    v, i = np.array([0.0, 2.0, 0.0, 3.0]), np.array([0, 0, 1, 0])
    np.testing.assert_allclose(mg.grad(f)(v, i), [6.0, 0.0, 1.0, 0.0])
    want = np.zeros((4, 4))
    want[0, 1] = want[1, 0] = 3
    want[0, 3] = want[3, 0] = 2
    np.testing.assert_allclose(mg.hessian(f)(v, i), want)


def test_max_and_min_share_gradients_of_ties():
    g = mg.grad(lambda x, v: x.at[np.array([0, 0, 1])].max(v).sum(), (0, 1))(np.array([0.0, 1.0]),
                                                                             np.array([2.0, 2.0, 1.0]))
    np.testing.assert_array_equal(g[0], [0.0, 0.5])
    np.testing.assert_array_equal(g[1], [0.5, 0.5, 0.5])


def test_a_symbolic_batch():
    f = mg.compile(mg.vmap(lambda x, i, v: x.at[i].set(v).at[i].multiply(v).at[0].add(1.0)))
    for b in (1, 2, 5):
        x, i, v = rng.normal(size=(b, 4)), rng.integers(0, 4, (b, 3)), rng.normal(size=(b, 3))
        want = []
        for r, k, u in zip(x, i, v, strict=True):
            r = in_place("multiply", in_place("set", r, k, u), k, u)
            r[0] += 1
            want.append(r)
        np.testing.assert_allclose(f(x, i, v), want)


def test_values_that_do_not_fit_are_refused():
    def refused(match, f, *args, error=mg.ShapeError):
        with pytest.raises(error, match=match):
            mg.trace(f)(*args)

    refused("do not fit", lambda x: x.at[0].set(np.ones(2)), X)
    refused("out of range", lambda x: x.at[4].set(1.0), X)
    refused("indices into", lambda x: x.at[0, 0, 0].set(1.0), X)
    refused("depends on data", lambda x, m: x.at[m].set(np.ones(3)), V, V > 0)
    refused("the mask", lambda x, m: x.at[m].set(0.0), V, MASK)
    refused(r"x = x\.at\[i\]\.set", lambda x: x.__setitem__(0, 1.0), X, error=mg.TraceError)


def test_updates_outside_a_trace():
    out = mnp.at(V)[[1, 1]].add(1.0)
    np.testing.assert_array_equal(out, in_place("add", V, [1, 1], 1.0))
    assert out is not V
    assert "at[" in repr(mnp.at(V)[0])


@pytest.mark.parametrize("length", [1, 2, 3])
def test_all_short_keys(length):
    names = ["set", *IN_PLACE]
    for k, key in enumerate(all_keys(length)):
        try:
            values = np.random.default_rng(k).uniform(0.5, 1.5, CUBE[key].shape)
        except IndexError:
            continue
        for name in names if length < 3 else (names[k % 7], "set"):
            (have,) = run_traced(lambda x, v, key=key, name=name: [getattr(x.at[key], name)(v)], CUBE, values)
            assert_same(have, in_place(name, CUBE, key, values), f"{name} at {key}")


def test_ellipsis_before_a_whole_axis():
    for name in ("set", *IN_PLACE):
        key = (..., 0, slice(None))
        have = mg.compile(lambda x, name=name: getattr(x.at[..., 0, :], name)(0.5))(X)
        np.testing.assert_allclose(have, in_place(name, X, key, 0.5))


@pytest.mark.parametrize("name", ["set", *IN_PLACE])
@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_one_value_for_the_places_that_each_example_names(name, backend):
    def update(x, *keys):
        return getattr(mnp.at(x)[keys], name)(0.7)

    i, j = np.array([0, 2, -1]), np.array([[1, 1], [0, 2], [2, 2]])
    for x, keys in ((X, (i,)), (X, (j,)), (X, (i, i)), (X, (j, j)), (T, (i % 2, i)), (T, (j % 2,))):
        want = [in_place(name, x, key, 0.7) for key in zip(*keys, strict=True)]
        have = mg.compile(mg.vmap(lambda *keys, x=x: update(x, *keys)), backend=backend)(*keys)
        np.testing.assert_allclose(have, want, rtol=1e-14)
        spread = np.repeat(x[None], 3, axis=0)
        have = mg.compile(mg.vmap(update, (0, *(0 for _ in keys))), backend=backend)(spread, *keys)
        np.testing.assert_allclose(have, want, rtol=1e-14)


def test_put_along_axis_returns_a_new_array():
    i = np.array([[1], [0], [3]])
    x = np.arange(12.0).reshape(3, 4)
    want = x.copy()
    np.put_along_axis(want, i, 9.0, 1)
    have = run_traced(lambda x, i: [mnp.put_along_axis(x, i, 9.0, 1)], x, i)[0]
    assert_same(have, want)
