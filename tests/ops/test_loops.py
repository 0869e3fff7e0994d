"""`while` and `scan` against loops in Python: values, both derivatives, batches, and types."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ShapeError, Unsupported
from minigrad.graph import PRIMITIVES as P
from minigrad.graph import Graph
from minigrad.ops.subgraph import placeholders

RNG = np.random.default_rng(0)
W, H, X = RNG.normal(size=(2, 2)), RNG.normal(size=2), RNG.normal(size=(4, 2))


def recurrent(w, h, x, reverse=False):
    return mg.scan(lambda h, row: ((new := np.sin(w @ h + row)), np.sum(new * row)), h, x, reverse=reverse)


def unrolled(w, h, x, reverse=False):
    ys = [0.0] * len(x)
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        h = np.sin(w @ h + x[t])
        ys[t] = np.sum(h * x[t])
    return h, np.stack(ys)


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_is_the_unrolled_loop(reverse):
    for have, want in zip(recurrent(W, H, X, reverse), unrolled(W, H, X, reverse), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-14)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("argnums", [0, 1, 2])
def test_gradient_of_scan_is_that_of_the_unrolled_loop(argnums, reverse):
    def loss(run):
        def f(w, h, x):
            h, ys = run(w, h, x, reverse)
            return np.sum(h ** 2) + np.sum(ys)

        return mg.grad(f, argnums)(W, H, X)

    np.testing.assert_allclose(loss(recurrent), loss(unrolled), rtol=1e-12)


@pytest.mark.parametrize("in_axes", [(None, None, 0), (0, None, None), (None, 0, 0)])
def test_batch_of_scans(in_axes):
    args = [a if axis is None else np.stack([a, a * 0.5, -a]) for a, axis in zip((W, H, X), in_axes, strict=True)]
    have = mg.vmap(recurrent, in_axes)(*args)
    for k in range(3):
        one = [a if axis is None else a[k] for a, axis in zip(args, in_axes, strict=True)]
        for h, want in zip(have, unrolled(*one), strict=True):
            np.testing.assert_allclose(h[k], want, rtol=1e-13)


def test_scan_of_no_steps():
    h, ys = recurrent(W, H, X[:0])
    np.testing.assert_array_equal(h, H)
    assert ys.shape == (0,)


def steps(x):
    """Return the number of halvings until x is below 1, and the product of all values before."""
    return mg.while_loop(lambda s: s[0] >= 1, lambda s: (s[0] / 2, s[1] + 1, s[2] * s[0]), (x, 0, 1.0))[1:]


def test_each_example_of_a_batch_stops_on_its_own():
    x = np.array([0.5, 1.0, 8.0, 5.0])
    counts, products = mg.vmap(steps)(x)
    assert counts.tolist() == [0, 1, 4, 3]
    np.testing.assert_allclose(products, [1, 1, 64, 5 * 2.5 * 1.25])


def test_forward_mode_of_while_and_the_reason_against_reverse_mode():
    _, (_, moved) = mg.jvp(steps, (5.0,), (1.0,))
    np.testing.assert_allclose(moved, 3 * 5.0 ** 2 / 8)  # of x**3 / 8
    with pytest.raises(Unsupported, match=r"the number of steps is known only when the program runs"):
        mg.grad(lambda x: steps(x)[1])(5.0)


@pytest.mark.parametrize(("outputs", "match"), [
    (lambda c, x: (P["cast"](c, dtype=np.dtype("f4")), x), "the step must return the carry's types"),
    (lambda c, x: (P["expand"](c, shape=(2,), axes=(0,)), x), "the step must return the carry's types")])
def test_step_that_changes_the_type_of_its_carry(outputs, match):
    c, x = placeholders((), ())
    start, rows = placeholders((), (3,))
    with pytest.raises(ShapeError, match=match):
        P["scan"](start, rows, body=Graph((c, x), outputs(c, x)), counts=(0, 1), length=3, reverse=False)


def test_length_is_that_of_the_slices():
    c, x = placeholders((), ())
    start, rows = placeholders((), (3,))
    with pytest.raises(ShapeError, match="expected 4 steps along axis 0"):
        P["scan"](start, rows, body=Graph((c, x), (c, x)), counts=(0, 1), length=4, reverse=False)


READS_ITS_TURN = (lambda n, v: mg.while_loop(lambda s: s < 3, lambda s: s + 1 + (v[s] > 1e9), n),
                  np.array([0, 3, 2]), np.arange(3.0))
SHRINKS = (lambda x, v: mg.while_loop(lambda s: s > 0.5, lambda s: np.linalg.cholesky(np.eye(2) * s)[0, 0] * v[1], x),
           np.array([1.0, -1.0, 2.0]), np.array([0.0, 0.5, 0.0]))


@pytest.mark.parametrize(("f", "starts", "shared"), [READS_ITS_TURN, SHRINKS])
@pytest.mark.parametrize("backend", ["auto", "numpy"])
def test_a_body_that_may_raise_does_not_run_for_examples_that_have_ended(f, starts, shared, backend):
    """The index of a turn after the last, and the root of a negative number, are no errors of a loop that has ended."""
    want = np.array([mg.compile(f)(x, shared) for x in starts])
    batched = mg.vmap(f, in_axes=(0, None))
    for g in (batched, mg.compile(batched, backend=backend)):
        np.testing.assert_allclose(g(starts, shared), want, rtol=1e-14)
    own = np.stack([shared] * len(starts))
    np.testing.assert_allclose(mg.compile(mg.vmap(f), backend=backend)(starts, own), want, rtol=1e-14)
    twice = mg.vmap(batched, in_axes=(0, None))
    np.testing.assert_allclose(twice(np.stack([starts, starts[::-1]]), shared), [want, want[::-1]], rtol=1e-14)


def test_a_running_example_still_raises():
    f, starts, shared = READS_ITS_TURN
    with pytest.raises(IndexError, match="index 2 is out of range for an axis of size 2"):
        mg.vmap(f, in_axes=(0, None))(starts, shared[:2])


def test_tangents_of_a_body_that_may_raise():
    f, starts, shared = SHRINKS
    ones = np.ones(3)
    _, tangents = mg.jvp(lambda x: mg.vmap(f, in_axes=(0, None))(x, shared), (starts,), (ones,))
    np.testing.assert_allclose(tangents, [mg.jvp(lambda x: f(x, shared), (x,), (1.0,))[1] for x in starts], rtol=1e-14)


def shrinking(x):
    """Return 0 for a whole x; each turn runs a loop that never ends at an x of 0."""
    def body(x):
        return x - 1 + 0 * mg.while_loop(lambda y: y < 100, lambda y: y * (1 + x), 1.0)

    return mg.while_loop(lambda x: x > 0, body, x)


def shrinking_in_held_graphs(x):
    """As above; the inner loops lie in the graphs of other operations."""
    def body(x):
        def inner(y):
            return mg.while_loop(lambda y: y < 100, lambda y: y * (1 + x), y)

        total = mg.scan(lambda c, _: (inner(c) / 100, None), 1.0, length=2)[0] + mg.checkpoint(inner)(1.0)
        return x - 1 + 0 * (total + mg.cond(x > 0.5, inner, inner, 1.0))

    return mg.while_loop(lambda x: x > 0, body, x)


def checks_its_turn(x):
    """As above; the test of the inner loop reads the index 3 - x, which is out of range at an x of 0."""
    def body(x):
        return x - 1 + 0 * mg.while_loop(lambda y: mg.numpy.take(np.arange(3), 3 - x.astype(int)) + y < 2,
                                         lambda y: y + 1, 0)

    return mg.while_loop(lambda x: x > 0, body, x)


@pytest.mark.parametrize("f", [shrinking, shrinking_in_held_graphs, checks_its_turn])
def test_inner_loops_take_no_turn_for_examples_that_have_ended(f):
    xs = np.array([[3.0, 1.0], [0.0, -1.0]])
    want = [[0.0, 0.0], [0.0, -1.0]]
    np.testing.assert_array_equal(mg.vmap(f)(xs[0]), want[0])
    twice = mg.vmap(mg.vmap(f))
    for g in (twice, mg.compile(twice), mg.microbatch(twice, 1)):
        np.testing.assert_array_equal(g(xs), want)
    np.testing.assert_array_equal(mg.jvp(twice, (xs,), (np.ones((2, 2)),))[1], np.ones((2, 2)))


def test_inner_loops_that_end_for_every_state_stay_as_they_are():
    """Loops that count to a bound, and loops of no example's own; the second batch adds no test to the first."""
    def counted(x):
        return mg.while_loop(lambda x: x > 0, lambda x: x - 1 + 0 * mg.fori_loop(0, x, lambda i, y: y + i, 0), x)

    def shared(x, s):
        return mg.while_loop(lambda x: x > 0,
                             lambda x: x - 1 + 0 * mg.while_loop(lambda y: y < 9, lambda y: y * s, s), x)

    assert "logical_and" not in str(mg.trace(mg.vmap(counted))(mg.i64[2]))
    assert "logical_and" not in str(mg.trace(mg.vmap(shared, (0, None)))(mg.f64[2], 2.0))
    once, twice = (str(mg.trace(f)(x)) for f, x in ((mg.vmap(shrinking), mg.f64[2]),
                                                  (mg.vmap(mg.vmap(shrinking)), mg.f64[2, 2])))
    assert once.count("logical_and") == twice.count("logical_and") == 2
    assert "switch" not in twice


def test_a_mask_of_the_user_does_not_keep_a_body_from_raising():
    """The test and the masks are those of a batched loop, but the body reads an index for elements that have ended."""
    def f(start):
        return mg.while_loop(lambda s: np.any(s < 3),
                             lambda s: np.where(s < 3, s + 1 + mg.numpy.take(np.zeros(3, int), s), s), start)

    starts = np.array([[3, 3], [1, 1], [2, 2]])
    for g in (mg.vmap(f), mg.compile(mg.vmap(f)), mg.vmap(lambda s: mg.vmap(f)(s[None])[0])):
        np.testing.assert_array_equal(g(starts), np.full((3, 2), 3))


def roots(a, counts):
    """Return sums of turns, each times the root of `a`, which all counts share."""
    return mg.vmap(lambda n: mg.fori_loop(0, n, lambda i, c: c + np.linalg.cholesky(np.eye(2) * a)[0, 0] * (i + 1), 0.0)
                   )(counts)


def doublings(a, counts):
    """Return sums of turns, each times the first power of `a` from 10 on; there is none for an `a` of 1."""
    def power():
        return mg.while_loop(lambda y: y < 10, lambda y: y * a, 1.0)

    return mg.vmap(lambda n: mg.fori_loop(0, n, lambda i, c: c + power() * (i + 1), 0.0))(counts)


@pytest.mark.parametrize(("f", "starts", "want"), [
    (roots, [-1.0, 1.0, 4.0], [[0, 0], [1, 3], [0, 12]]), (doublings, [1.0, 2.0, 20.0], [[0, 0], [16, 48], [0, 120]])])
def test_values_that_an_inner_batch_shares_are_computed_for_running_examples(f, starts, want):
    a, counts = np.array(starts), np.array([[0, 0], [1, 2], [0, 3]])
    batched = mg.vmap(f)
    for g in (batched, mg.compile(batched), mg.microbatch(batched, 1), mg.compile(mg.microbatch(batched, 2))):
        np.testing.assert_array_equal(g(a, counts), want)
    thrice = mg.vmap(batched)(np.stack([a, a[::-1]]), np.stack([counts, counts[::-1]]))
    np.testing.assert_array_equal(thrice, [want, want[::-1]])
