"""The rule for accumulators, on every operation that adds up, and on every backend: closed forms, and NumPy's sums."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.ops.accumulators import RUN, Chains, accumulator, crowded, scattered

half, single = np.float16, np.float32
WAYS = {"graph": lambda f: lambda *a: f(*a) if isinstance(a[-1], mg.Batch) else mg.vjp(f, *a)[0],
        "numpy": lambda f: mg.compile(f, backend="numpy"), "native": lambda f: mg.compile(f, backend="native")}


@pytest.fixture(params=WAYS)
def way(request):
    """Return how a function is evaluated: its graph by the primitives' rules, or a compiled program."""
    if request.param == "native":
        pytest.importorskip("llvmlite")
    return WAYS[request.param]


def test_dtypes():
    assert accumulator(np.dtype(half)) == single
    assert scattered(np.dtype(half)) == scattered(np.dtype(single)) == np.float64
    for dtype in (np.float64, np.int8, np.int64, np.uint32):
        assert accumulator(np.dtype(dtype)) == scattered(np.dtype(dtype)) == dtype
    assert not crowded(0, 0)
    assert crowded(10**6, 3)


@pytest.mark.parametrize("n", [0, 1, 2, RUN - 1, RUN, RUN + 1, RUN**2, RUN**2 + 3, RUN**3 + RUN + 1])
def test_chains(n):
    total = Chains(lambda a, b: a + b)
    for k in range(n):
        total.take(k)
    assert total.total() == (sum(range(n)) if n else None)


def test_no_chain_is_long():
    """Each term goes through at most RUN additions on each level."""
    total = Chains(lambda a, b: max(a, b) + 1)  # counts the additions behind a term
    for _ in range(RUN**3):
        total.take(0)
    assert total.total() <= 3 * RUN


@pytest.mark.parametrize(("f", "x", "wanted"), [
    (lambda x: np.mean(x), np.ones(70_000, half), 1),
    (lambda x: np.mean(x, axis=0), np.ones((70_000, 2), half), [1, 1]),
    (lambda x: np.mean(x, where=x > 0), np.ones(70_000, half), 1),
    (lambda x: np.sum(x, axis=0), np.full((5_000, 2), 3, half), [15_000, 15_000]),
    (lambda x: np.cumsum(x)[-1], np.full(5_000, 3, half), 15_000),
    (lambda x: np.var(x), np.tile(np.array([1, 3], half), 35_000), 1),
    (lambda x: np.std(x, ddof=1), np.tile(np.array([1, 3], half), 35_000), 1),
    (lambda x: np.nanvar(x), np.tile(np.array([1, 3], half), 35_000), 1),
    (lambda x: np.average(x), np.full(70_000, 3, half), 3),
    (lambda x: np.prod(x), np.full(200, 1.01, half), float(half(1.01)) ** 200),
    (lambda x: np.linalg.norm(x), np.full(4, 30_000, half), 60_000),
    (lambda x: np.einsum("i,i->", x[:3], x[3:]), np.array([300, 300, 1, 300, -300, 1], half), 1),
    (lambda x: mg.special.logsumexp(x), np.zeros(70_000, half), np.log(70_000)),
    (lambda x: mg.special.softmax(x)[:1], np.zeros(70_000, half), [1 / 70_000]),
    (lambda x: mg.segment_mean(x, np.zeros(5_000, int), 1), np.full(5_000, 3, half), [3]),
    (lambda x: mg.segment_mean(x, np.zeros(70_000, int), 1), np.ones(70_000, half), [1]),
    (lambda x: np.sum(x), np.full(10**6, 0.1, single), 1e5),
    (lambda x: mg.segment_sum(x, np.zeros(10**6, int), 1), np.full(10**6, 0.1, single), [1e5]),
    (lambda x: mg.segment_sum(x, np.arange(10**6) % 2, 2), np.full(10**6, 0.1, single), [5e4, 5e4]),
    (lambda x: mg.segment_mean(x, np.repeat([7, 0], 500_000), 8)[[0, 7]], np.full(10**6, 0.1, single), [0.1, 0.1]),
])
def test_long_sums(f, x, wanted, way):
    if x.dtype == half:
        found = way(f)(x)
        assert found.dtype == half
        np.testing.assert_allclose(np.float64(found), wanted, rtol=2e-3)
    else:
        np.testing.assert_allclose(way(f)(x), wanted, rtol=1e-6)


@pytest.mark.parametrize("dtype", [half, single])
@pytest.mark.parametrize("shape", [(3,), (3, 2)])
def test_adjoint_of_a_gather(dtype, shape, way):
    n = 20_000 if dtype == half else 10**6
    index = np.arange(n) % 3 == 1
    grad = way(mg.grad(lambda x: np.sum(x[index.astype(int)] * dtype(0.1))))(np.zeros(shape, dtype))
    wanted = np.array([np.sum(~index), np.sum(index), 0]) * float(dtype(0.1))
    np.testing.assert_allclose(np.float64(grad), np.broadcast_to(wanted.reshape(3, *[1] * (len(shape) - 1)), shape),
                               rtol=2e-3 if dtype == half else 1e-4 if len(shape) > 1 else 1e-6)


@pytest.mark.parametrize("chunk", [None, 100, 7_000])
def test_mean_loss_of_half_precision(chunk, way):
    loss = mg.mean_loss(lambda w, x: w * x, (None, 0))
    loss = loss if chunk is None else mg.microbatch(loss, chunk)
    ones = np.ones(70_000, half)
    value, grad = way(mg.value_and_grad(loss))(half(2), ones)
    assert (value.dtype, grad.dtype) == (half, half)
    np.testing.assert_allclose([value, grad], [2, 1], rtol=3e-3)


def test_gradient_of_a_mean_over_more_elements_than_float16_counts(way):
    grad = way(mg.grad(lambda x: np.mean(x)))(np.ones(70_000, half))
    np.testing.assert_allclose(np.float64(grad), 1 / 70_000, rtol=3e-3)


@pytest.mark.parametrize("f", [
    lambda x: np.sum(x), lambda x: np.sum(x, axis=0), lambda x: np.einsum("ij,ij->", x, x),
    lambda x: mg.segment_sum(x, np.zeros_like(x[:, 0], int), 1)])
def test_microbatch_of_many_chunks(f, way):
    x = np.full((20_000, 1), 0.1, single)
    if f(x).shape == (1,):
        f = lambda x, f=f: np.sum(f(x))  # noqa: E731
    np.testing.assert_allclose(way(mg.microbatch(f, 1))(x), np.float64(f(x.astype(float))), rtol=3e-6)


node = mg.axis("node")


@mg.example
class Halves:
    x: mg.f16[node]


@mg.example
class Singles:
    x: mg.f32[node]


@pytest.mark.parametrize("n", [5_000, 70_000])
def test_ragged_means_of_half_precision(n, way):
    batch = mg.batch([Halves(x=np.full(n, 3, half)), Halves(x=np.full(5, 2, half))])
    for f, wanted in ((np.mean, [3, 2]), (np.var, [0, 0]), (lambda x: np.sum(x / 8), [min(n * 3 / 8, np.inf), 1.25])):
        np.testing.assert_allclose(np.float64(way(mg.vmap(lambda e, f=f: f(e.x)))(batch)), wanted, rtol=2e-3)
    grad = way(mg.grad(mg.mean_loss(lambda w, e: np.mean(w * e.x), (None, 0))))(half(1), batch)
    np.testing.assert_allclose(grad, 2.5, rtol=3e-3)


def test_ragged_sums_of_single_precision(way):
    batch = mg.batch([Singles(x=np.full(n, 0.1, single)) for n in (10**6, 0, 3)])
    np.testing.assert_allclose(way(mg.vmap(lambda e: np.sum(e.x)))(batch), [1e5, 0, 0.3], rtol=1e-6)


@pytest.fixture
def threads():
    pytest.importorskip("llvmlite")
    before = mg.get_num_threads()
    yield
    mg.set_num_threads(before)


def test_long_sums_by_index_are_the_same_for_any_number_of_threads(threads):
    x = np.random.default_rng(0).normal(size=(200_000, 3)).astype(single)
    for index in (np.arange(200_000) % 5, np.repeat(np.arange(5), 40_000)):
        f = mg.compile(lambda x, index=index: (mg.segment_sum(x, index, 5), mg.segment_sum(x[:, 0], index, 5)))
        found = []
        for count in (1, 2, 3):
            mg.set_num_threads(count)
            found.append(f(x))
        for other in found[1:]:
            for a, b in zip(found[0], other, strict=True):
                np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(found[0][0], [x[index == k].sum(0, dtype=float) for k in range(5)], rtol=1e-4)
