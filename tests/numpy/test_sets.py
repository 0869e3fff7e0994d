"""Unique values, sets and counts, whose sizes the data determine: known results, and the loop over examples."""

import numpy as np
import pytest

import minigrad as mg

X = np.array([3.0, 1.0, 3.0, 2.0, 1.0, 3.0])
HOWS = [lambda f: f, lambda f: mg.compile(f, backend="numpy"), mg.compile]


def test_unique_values_their_places_and_counts():
    f = mg.compile(lambda x: np.unique(x, True, True, True))
    for have, want in zip(f(X), ([1, 2, 3], [1, 3, 0], [2, 0, 2, 1, 0, 2], [2, 1, 3]), strict=True):
        np.testing.assert_array_equal(have, want)
    nan = np.array([np.nan, 1.0, np.nan])
    np.testing.assert_array_equal(mg.compile(np.unique)(nan), [1, np.nan])
    np.testing.assert_array_equal(mg.compile(np.unique_values)(nan), [1, np.nan, np.nan])
    rows = mg.compile(lambda x: np.unique(x, axis=0, return_counts=True))(np.array([[1, 2], [0, 5], [1, 2], [0, 4]]))
    np.testing.assert_array_equal(rows[0], [[0, 4], [0, 5], [1, 2]])
    np.testing.assert_array_equal(rows[1], [1, 1, 2])


def test_gradients_flow_to_the_first_element_of_each_value():
    slope = mg.compile(mg.grad(lambda x: np.sum(np.unique(x) ** 2)))(X)
    np.testing.assert_array_equal(slope, [6, 2, 0, 4, 0, 0])


def test_results_are_those_of_numpy():
    all_ = mg.compile(lambda x: np.unique_all(x))(X)
    assert type(all_) is type(np.unique_all(X))
    np.testing.assert_array_equal(all_.counts, [2, 1, 3])


def test_counts_of_integers():
    count = mg.compile(np.bincount)
    for x in (np.array([3, 1, 1]), np.array([0, 5, 5, 2]), np.zeros(0, int), np.array([2])):
        np.testing.assert_array_equal(count(x), np.bincount(x), strict=True)
    slope = mg.grad(lambda w: np.sum(np.bincount(np.array([3, 1, 1]), w) ** 2))(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(slope, [2, 10, 10])
    with pytest.raises(IndexError, match="-1 is out of range"):
        count(np.array([1, -1]))
    with pytest.raises(mg.DtypeError, match="one axis of integers"):
        mg.trace(np.bincount)(X)


def test_counts_of_a_given_length():
    """One length for all data: the counts of classes and the degrees of nodes line up with other arrays."""
    labels, weights = np.array([[0, 1, 1], [3, 3, 2]]), np.arange(1.0, 5)
    score = mg.vmap(lambda y, w: np.sum(np.bincount(y, minlength=4) * w), in_axes=(0, None))
    for f in (score, mg.compile(score, backend="numpy"), mg.compile(score, backend="native")):
        np.testing.assert_array_equal(f(labels, weights), [1 + 2 * 2, 2 * 4 + 3])
    with pytest.raises(IndexError, match="3 is out of range for an axis of size 3"):
        mg.compile(lambda y: np.bincount(y, minlength=3))(labels[1])


def test_degrees_of_nodes():
    node, edge = mg.axis("node"), mg.axis("edge")

    @mg.example
    class Net:
        x: mg.f64[node]
        dst: mg.index(node)[edge]

    def degrees(g):
        n = g.x.shape[0]
        incoming = np.bincount(g.dst, minlength=n)
        received = np.bincount(g.dst, g.x[g.dst], minlength=n)
        return np.sum(incoming * g.x) + np.sum(received**2) + np.bincount(g.dst).shape[0]

    nets = [Net([], []), Net([1.0, 2.0, 4.0], [0, 2, 2, 2]), Net([3.0], []), Net([5.0, 7.0], [1])]
    want = [0, 1 + 3 * 4 + 1 + 12**2 + 3, 0, 7 + 7**2 + 2]
    assert [degrees(g) for g in nets] == want
    for how in (mg.vmap(degrees), *(mg.compile(mg.vmap(degrees), backend=b) for b in ("numpy", "native"))):
        np.testing.assert_array_equal(how(mg.batch(nets)), want)
        np.testing.assert_array_equal(how(mg.batch(nets[::-1])), want[::-1])


def test_trimmed_zeros():
    trim = mg.compile(np.trim_zeros)
    for x in ([0.0, 0.0, 1.0, 0.0, 2.0, 0.0], [0.0, 0.0], [1.0], []):
        np.testing.assert_array_equal(trim(np.array(x)), np.trim_zeros(np.array(x)))
    with pytest.raises(mg.ShapeError, match="letters f and b"):
        mg.trace(lambda x: np.trim_zeros(x, "x"))(X)


SIZES = (0, 4, 7, 1, 5, 0)
SETS = {
    "unique": lambda x: np.unique(x), "inverse": lambda x: np.unique(x, return_inverse=True)[1],
    "counts": lambda x: np.unique(x[:, 0], return_counts=True)[1], "rows": lambda x: np.unique(x, axis=0),
    "index": lambda x: np.unique(x, axis=0, return_index=True)[1],
    "union1d": lambda x: np.union1d(x[:, 0], x[:, 1]), "intersect1d": lambda x: np.intersect1d(x[:, 0], x[:, 1]),
    "common places": lambda x: np.intersect1d(x[:, 0], x[:, 1], return_indices=True)[2],
    "setxor1d": lambda x: np.setxor1d(x[:, 0], x[:, 1]), "setdiff1d": lambda x: np.setdiff1d(x[:, 0], x[:, 1]),
    "bincount": lambda x: np.bincount(np.abs(x[:, 0]).astype(int), x[:, 1]),
    "trim_zeros": lambda x: np.trim_zeros(x[:, 1]), "trimmed rows": lambda x: np.trim_zeros(x, "f", axis=0)}


@pytest.mark.parametrize("how", HOWS, ids=["eager", "numpy", "native"])
@pytest.mark.parametrize("name", SETS)
def test_sets_of_each_example_equal_the_loop(name, how):
    f = SETS[name]
    if name == "trimmed rows" and np.lib.NumpyVersion(np.__version__) < "2.2.0":
        pytest.skip("NumPy trims vectors alone")
    examples = [np.random.default_rng(n).integers(-2, 3, (n, 2)).astype(float) for n in SIZES]
    batch = mg.batch(examples, mg.f64[mg.axis("node"), 2])
    for have, x in zip(how(mg.vmap(f))(batch), examples, strict=True):
        np.testing.assert_array_equal(have, f(x))

    def loss(p, x):
        return np.sum(np.exp(p * f(x) + p))

    p, mean = np.float64(0.3), mg.mean_loss(loss, (None, 0))
    slopes = [mg.grad(loss)(p, x) for x in examples]
    np.testing.assert_allclose(slopes, [np.sum(np.exp(p * f(x) + p) * (f(x) + 1)) for x in examples])
    np.testing.assert_allclose(how(mg.grad(mean))(p, batch), np.mean(slopes))
    np.testing.assert_allclose(how(mg.vmap(mg.grad(loss), (None, 0)))(p, batch), slopes)
    np.testing.assert_allclose(how(mg.grad(mg.microbatch(mean, 2)))(p, batch), np.mean(slopes))
    bend = how(lambda b: mg.hvp(lambda p: mean(p, b), (p,), (np.float64(1.0),)))(batch)
    np.testing.assert_allclose(bend, np.mean([np.sum(np.exp(p * f(x) + p) * (f(x) + 1) ** 2) for x in examples]))
