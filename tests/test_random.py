"""Random numbers from keys: published vectors, distributions, and independence of the batch."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.ops.random import philox

KEY = mg.random.key(7)


@pytest.mark.parametrize(("counter", "key", "want"), [  # the known answers that come with Random123
    ((0,) * 4, (0,) * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), "d16cfe09 94fdcceb 5001e420 24126ea1"),
])
def test_philox_against_published_vectors(counter, key, want):
    words = [[np.array([w], np.uint64) for w in c] for c in (counter, key)]
    assert " ".join(f"{int(w[0]):08x}" for w in philox(np, *words)) == want


def test_bits_are_the_counter_in_order():
    many, few = mg.random.bits(KEY, (10, 10)), mg.random.bits(KEY, (7,))
    assert many.dtype == np.uint32
    np.testing.assert_array_equal(many.ravel()[:7], few)


def test_moments():
    n = 200_000
    u = mg.random.uniform(KEY, (n,), low=-1.0, high=3.0)
    assert abs(u.mean() - 1) < 0.02
    assert u.min() >= -1
    assert u.max() < 3
    z = mg.random.normal(KEY, (n,), np.float32)
    assert z.dtype == np.float32
    np.testing.assert_allclose([z.mean(), z.std(), (z**3).mean(), (z**4).mean()], [0, 1, 0, 3], atol=0.05)
    assert abs(mg.random.exponential(KEY, (n,)).mean() - 1) < 0.02
    assert abs(mg.random.bernoulli(KEY, 0.3, (n,)).mean() - 0.3) < 0.01
    counts = np.bincount(mg.random.categorical(KEY, np.log([0.2, 0.3, 0.5]), shape=(n,))) / n
    np.testing.assert_allclose(counts, [0.2, 0.3, 0.5], atol=0.01)
    counts = np.bincount(mg.random.randint(KEY, (n,), 0, 4)) / n
    np.testing.assert_allclose(counts, [0.25] * 4, atol=0.01)


def test_float32_never_reaches_one():
    assert mg.random.uniform(KEY, (1_000_000,), np.float32).max() < 1


def test_permutation_of_a_symbolic_size():
    def shuffled(x):
        return x[mg.random.permutation(KEY, x.shape[0])]

    step = mg.compile(mg.vmap(lambda w, x: w * shuffled(x), in_axes=(0, None)))
    whole = mg.compile(mg.grad(mg.batch_loss(lambda x: np.sum(shuffled(x) * x))), backend="numpy")
    for n in (4, 7):
        x = np.arange(1.0, n + 1)
        order = mg.random.permutation(KEY, n)
        np.testing.assert_array_equal(step(np.ones(2), x), [x[order]] * 2)
        np.testing.assert_allclose(whole(x), x[order] + x[np.argsort(order)])


def test_permutation():
    order = mg.random.permutation(KEY, 50)
    assert sorted(order.tolist()) == list(range(50))
    assert order.tolist() != list(range(50))
    rows = np.arange(100.0).reshape(50, 2)
    np.testing.assert_array_equal(mg.random.permutation(KEY, rows), rows[order])
    # Every place is as likely as any other.
    first = mg.vmap(lambda k: mg.random.permutation(k, np.arange(5)))(mg.random.split(KEY, 5000))[:, 0]
    np.testing.assert_allclose(np.bincount(first) / 5000, [0.2] * 5, atol=0.03)


def test_split_makes_keys_that_differ():
    keys = mg.random.split(KEY, 1000)
    assert keys.shape == (1000, 2)
    assert len({tuple(k) for k in keys.tolist()} | {tuple(KEY.tolist())}) == 1001


def dropped(w, key, x):
    return np.tanh(w @ (x * mg.random.bernoulli(key, 0.5, x.shape)))


def test_keys_per_example_do_not_depend_on_batching():
    rng = np.random.default_rng(0)
    w, X, keys = rng.normal(size=4), rng.normal(size=(11, 4)), mg.random.split(KEY, 11)
    loss = mg.mean_loss(dropped, (None, 0, 0))
    want = np.mean([dropped(w, k, x) for k, x in zip(keys, X, strict=True)])
    literal = mg.unroll(dropped, 11, (None, 0, 0))
    for f in (loss, mg.microbatch(loss, 3), mg.microbatch(loss, 11), mg.compile(loss), literal):
        np.testing.assert_allclose(f(w, keys, X), want, rtol=1e-13)
    np.testing.assert_allclose(mg.grad(mg.microbatch(loss, 4))(w, keys, X), mg.grad(loss)(w, keys, X), rtol=1e-12)


@pytest.mark.parametrize("bad", [-1, 2**64, 1.5, True, "seed"])
def test_bad_seed(bad):
    with pytest.raises(mg.ShapeError, match="seed"):
        mg.random.key(bad)


def test_bad_key():
    with pytest.raises(mg.DtypeError, match=r"test_random.py:\d+.*uint32\[2\]"):
        mg.random.normal(np.zeros(2))
    with pytest.raises(mg.DtypeError, match="vmap"):
        mg.random.normal(mg.random.split(KEY, 3))
    with pytest.raises(mg.ShapeError, match="empty range"):
        mg.random.randint(KEY, (3,), 5, 5)


def test_counts_and_seeds_of_another_kind():
    with pytest.raises(mg.ShapeError, match=r"split: the number of keys is one integer of at least 0, got \(2, 3\)"):
        mg.random.split(mg.random.key(0), (2, 3))
    with pytest.raises(mg.ShapeError, match=r"key of a traced value: .* Make keys before the program runs"):
        mg.grad(lambda s: np.sum(mg.random.normal(mg.random.key(s), (3,))))(1.0)


@pytest.mark.parametrize("draw", [lambda rng: mg.random.normal(rng, (3,)), mg.random.split,
                                  lambda rng: mg.random.permutation(rng, 3)], ids=["normal", "split", "permutation"])
def test_generators_of_numpy_are_no_keys(draw):
    for rng in np.random.default_rng(0), np.random.RandomState(0):
        words = rf"not a {type(rng).__name__} of NumPy. mg.random.key\(seed\) makes one"
        with pytest.raises(mg.DtypeError, match=words):
            draw(rng)


def test_names_of_jax_lead_to_names_here():
    for theirs, ours in ("PRNGKey", "mg.random.key"), ("fold_in", "mg.random.split"):
        with pytest.raises(AttributeError, match=f"module 'minigrad.random' has no attribute '{theirs}': write {ours}"):
            getattr(mg.random, theirs)
    assert not hasattr(mg.random, "nomal")
