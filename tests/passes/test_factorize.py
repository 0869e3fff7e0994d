"""factorize: equal values without large products, and the programs that it leaves alone."""

import numpy as np
import opt_einsum
import optree
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import passes
from minigrad.passes.factorize import contraction_path

rng = np.random.default_rng(0)
B, T, N, M = 16, 3, 20, 30
W, V = rng.normal(size=(N, M)) / 4, rng.normal(size=(M, M)) / 6
X, XT, IDX = rng.normal(size=(B, N)), rng.normal(size=(B, T, N)), rng.integers(-50, 50, (B, 4))


def squares(gradients):
    return sum((g**2).sum(axis=tuple(range(1, g.ndim))) for g in optree.tree_leaves(gradients))


def each(loss):
    return mg.per_example_grad(loss, in_axes=(None, 0))


def dense(w, x):
    return np.tanh(x @ w).sum()


def siamese(w, x):
    return ((np.tanh(x[0] @ w) - np.tanh(x[1] @ w)) ** 2).sum()


def seed(w, x):  # s = g(f(x, w), f(x, w), x)
    f = np.tanh(x @ w), np.tanh(x @ w)
    return (f[0] * np.sin(f[1]) * x.mean()).sum()


def recurrent(ws, xs):
    h = np.zeros(M)
    for t in range(T):
        h = np.tanh(xs[t] @ ws[0] + h @ ws[1])
    return (h**2).sum()


def convolution(k, x):
    columns = np.stack([x[i:4 + i] for i in range(3)], axis=-1)
    return np.tanh(np.einsum("tci,cio->to", columns, k)).sum()


def attention(ws, x):
    q, k, v = (x @ w for w in ws)
    s = np.exp(q @ k.T / 10)
    return np.tanh(s / s.sum(axis=1, keepdims=True) @ v).sum()


def embedding(e, i):
    return (np.tanh(e[i]).sum(axis=0) ** 2).sum()


def dpsgd(w, x):
    g = each(dense)(w, x)
    factor = np.minimum(1, 0.5 / np.sqrt((g**2).sum(axis=(1, 2))))
    return (g * factor[:, None, None]).mean(axis=0)


def flat(w, x):
    g = mg.per_example_grad(lambda p, x: np.tanh(x @ p[0] + p[1]).sum(), in_axes=(None, 0))(w, x)
    return (np.concatenate([v.reshape(x.shape[0], -1) for v in g], axis=1) ** 2).sum(axis=1)


def kernel(w, x):
    j = each(dense)(w, x).reshape(x.shape[0], -1)
    return j @ j.T


def logits(p, x):
    return np.tanh(x @ p["W"]) @ p["V"]


def gauss_newton(p, x):
    """Return the diagonal of the generalised Gauss-Newton matrix of the cross-entropy."""
    j, z = (mg.vmap(f, (None, 0))(p, x) for f in (mg.jacobian(logits), logits))
    q = np.exp(z - z.max(axis=1, keepdims=True))
    q = q / q.sum(axis=1, keepdims=True)
    h = np.einsum("bc,cd->bcd", q, np.eye(5)) - np.einsum("bc,bd->bcd", q, q)
    return {k: np.einsum("bcij,bcd,bdij->ij", j[k], h, j[k]) for k in j}


# What is written down, its arguments, and how many large products are in it.
NAIVE = {
    "norms": (lambda w, x: squares(each(dense)(w, x)), (W, X)),
    "norms, weights shared over positions": (lambda w, x: squares(each(dense)(w, x)), (W, XT)),
    "norms, a weight used twice": (lambda w, x: squares(each(siamese)(w, x)), (W, XT)),
    "norms, the seed": (lambda w, x: squares(each(seed)(w, x)), (W, X)),
    "norms, unrolled recurrence": (lambda w, x: squares(each(recurrent)(w, x)), ((W, V), XT)),
    "norms, convolution": (lambda w, x: squares(each(convolution)(w, x)),
                           (rng.normal(size=(N, 3, M)), rng.normal(size=(B, 6, N)))),
    "norms, attention over three tokens": (
        lambda w, x: squares(each(attention)(w, x)), (tuple(rng.normal(size=(3, N, M))), XT)),
    "norms, embedding": (lambda w, i: squares(each(embedding)(w, i)), (rng.normal(size=(50, M)), IDX)),
    "norms, embedding of the last rows": (
        lambda w, i: squares(each(embedding)(w, i)),
        (rng.normal(size=(50, M)), np.array([[-1, 0, -1, 1], [49, -1, -2, 48], [-50, 0, 5, -50]]))),
    "the sum of two products, written as a difference": (
        lambda a, b: ((np.outer(a, b) - -2.0 * np.outer(np.sin(a), np.cos(b))) ** 2).sum(),
        (rng.normal(size=200), rng.normal(size=300))),
    "norms of one flat vector": (flat, ((W, np.ones(M)), X)),
    "clipped mean": (dpsgd, (W, X)),
    "second moments": (lambda w, x: (each(dense)(w, x) ** 2).sum(axis=0), (W, X)),
    "variance": (lambda w, x: (lambda g: (g**2).mean(axis=0) - g.mean(axis=0) ** 2)(each(dense)(w, x)), (W, X)),
    "inner products": (lambda w, x: (lambda g: np.einsum("bij,cij->bc", g, g))(each(dense)(w, x)), (W, X)),
    "tangent kernel": (kernel, (W, X)),
    "along the mean": (lambda w, x: (lambda g: (g * g.mean(axis=0)).sum(axis=(1, 2)))(each(dense)(w, x)), (W, X)),
    "diagonal Gauss-Newton": (gauss_newton, ({"W": W, "V": rng.normal(size=(M, 5))}, X)),
    "low rank": (lambda u, v: (((u @ v) ** 2).sum(), (u @ v) @ u[:, 0]),
                 (rng.normal(size=(90, 2)), rng.normal(size=(2, 90)))),
    "quadratic forms": (lambda m, z: mg.vmap(lambda z: np.sum(np.outer(z, z) * m))(z), (V, rng.normal(size=(99, M)))),
}


def what_runs(compiled):
    return next(s.before for s in compiled.stages if s.name == "fuse")


def largest(graph):
    return max(np.prod([n if isinstance(n, int) else B for n in node.shape]) for node in graph.nodes if node.inputs)


@pytest.mark.parametrize("name", NAIVE)
def test_naive_programs(name):
    f, args = NAIVE[name]
    fast, literal = mg.compile(f), mg.compile(f, without=("factorize", "split_sums"))
    for got, want in zip(optree.tree_leaves(fast(*args)), optree.tree_leaves(f(*args)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12 * np.abs(want).max())
    for got, want in zip(optree.tree_leaves(literal(*args)), optree.tree_leaves(f(*args)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12 * np.abs(want).max())
    (stage,) = [s for s in fast.stages if s.name == "factorize"]
    assert "never formed" in stage.note
    assert "avoided" in stage.note
    assert not any(s.name == "factorize" for s in literal.stages)
    assert largest(what_runs(fast)) < largest(what_runs(literal))


def test_scales_and_signs_hide_no_factor():
    """Beside the squares of the two vectors nothing has an axis: no vector is scaled."""
    x, y = rng.normal(size=50), rng.normal(size=90)
    for scale, f in ((4, lambda x, y: (np.outer(2 * x, y) ** 2).sum()), (1, lambda x, y: (np.outer(x, -y) ** 2).sum()),
                     (6, lambda x, y: (np.outer(x, 2 * y) * np.outer(3 * x, y)).sum())):
        fast = mg.compile(f)
        np.testing.assert_allclose(fast(x, y), scale * (x @ x) * (y @ y), rtol=1e-12)
        assert [n.prim.name for n in what_runs(fast).nodes if n.inputs and n.ndim] == ["square", "square"]


@pytest.mark.parametrize(("count", "multiplied_out"), [(10, True), (12, False)])
def test_squares_of_sums_are_multiplied_out_up_to_a_number_of_terms(count, multiplied_out):
    """Ten terms make 55 products of two, twelve make 78."""
    u, v = rng.normal(size=(count, 400)), rng.normal(size=(count, 500))
    fast = mg.compile(lambda u, v: (sum(np.outer(u[k], v[k]) for k in range(count)) ** 2).sum())
    np.testing.assert_allclose(fast(u, v), np.sum((u @ u.T) * (v @ v.T)), rtol=1e-9)
    assert (largest(what_runs(fast)) < 400 * 500) == multiplied_out


@pytest.mark.parametrize(("count", "multiplied_out"), [(60, True), (70, False)])
def test_a_sum_of_many_products_stays_a_sum(count, multiplied_out):
    def total(xs):  # in halves, for a form looks only so far back
        return xs[0] if len(xs) == 1 else total(xs[:len(xs) // 2]) + total(xs[len(xs) // 2:])

    u, v = rng.normal(size=(count, 400)), rng.normal(size=(count, 500))
    fast = mg.compile(lambda u, v: total([np.outer(u[k], v[k]) for k in range(count)]).sum())
    np.testing.assert_allclose(fast(u, v), u.sum(axis=1) @ v.sum(axis=1), rtol=1e-9)
    assert (largest(what_runs(fast)) < 400 * 500) == multiplied_out


def test_one_backward_pass_serves_norms_and_clipped_mean():
    fast = mg.compile(dpsgd)
    fast(W, X)
    gradient = mg.compile(mg.grad(mg.mean_loss(dense, (None, 0))))
    gradient(W, X)
    count = [what_runs(c).count("einsum") for c in (fast, gradient)]
    assert count[0] <= count[1] + 1


def test_one_program_factorizes_for_any_batch_size():
    f, _ = NAIVE["norms"]
    fast = mg.compile(f)
    for n in (16, 1, 7):
        np.testing.assert_allclose(fast(W, X[:n]), f(W, X[:n]), rtol=1e-9)
    assert len(fast.entries) == 1


def test_sums_inside_microbatches_and_scans_are_factorized():
    f = mg.microbatch(mg.vmap(lambda w, x: (mg.grad(dense)(w, x) ** 2).sum(), (None, 0)), 5)
    np.testing.assert_allclose(mg.compile(f)(W, X), NAIVE["norms"][0](W, X), rtol=1e-9)


def test_differences_in_the_program_are_not_multiplied_out():
    """The square of a small difference is not to become the difference of large squares."""

    def distances(a, b):
        return ((a[:, None] - b[None]) ** 2).sum(axis=-1)

    a = (1e6 + rng.normal(size=(200, 30))).astype(np.float32)
    fast = mg.compile(distances)
    np.testing.assert_allclose(fast(a, a + np.float32(0.5)), distances(a, a + np.float32(0.5)), rtol=1e-5)
    assert not any(s.name == "factorize" for s in fast.stages)


def test_float16_is_left_alone():
    """A product of sums may overflow where a sum of products does not."""
    f = mg.compile(lambda a, b: ((a[:, :, None] * b[:, None, :]) ** 2).sum(axis=(1, 2)))
    a, b = np.full((4, 300), 60, np.float16), np.full((4, 300), 0.01, np.float16)
    f(a, b)
    assert not any(s.name == "factorize" for s in f.stages)


def test_products_with_other_readers_are_used():
    fast = mg.compile(lambda w, x: (lambda g: (g, (g**2).sum(axis=(1, 2))))(each(dense)(w, x)))
    got, want = fast(W, X), (each(dense)(W, X), NAIVE["norms"][0](W, X))
    for g, h in zip(got, want, strict=True):
        np.testing.assert_allclose(g, h, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("positions", "inside", "gram"), [(2, 60, True), (60, 8, False)])
def test_weights_shared_over_positions_take_the_cheaper_form(positions, inside, gram):
    """Few positions: inner products of positions. Many: the gradient of each example, formed."""
    w, x = rng.normal(size=(inside, inside)), rng.normal(size=(4, positions, inside))
    fast = mg.compile(lambda w, x: squares(each(dense)(w, x)))
    np.testing.assert_allclose(fast(w, x), squares(each(dense)(w, x)), rtol=1e-9)
    shapes = [n.shape[1:] for n in what_runs(fast).nodes if n.prim.name == "einsum"]
    assert ((positions, positions) in shapes, (inside, inside) in shapes) == (gram, not gram)


def test_products_of_100_gigabytes_are_not_formed():
    w, x = rng.random((5000, 5000), np.float32), rng.random((1000, 5000), np.float32) / 5000
    fast = mg.compile(lambda w, x: squares(each(dense)(w, x)))
    slope = 1 - np.tanh(x[:3] @ w) ** 2
    np.testing.assert_allclose(fast(w, x)[:3], (slope**2).sum(1) * (x[:3] ** 2).sum(1), rtol=1e-3)
    assert "100 GB avoided" in next(s.note for s in fast.stages if s.name == "factorize")


def test_unknown_names_of_passes_are_refused():
    with pytest.raises(mg.MinigradError, match="no pass contarct"):
        mg.compile(dense, without=["contarct"])


@pytest.mark.parametrize(("old", "new"), passes.RENAMED.items())
def test_old_names_of_passes_lead_to_the_new_ones(old, new):
    assert set(new.split(", ")) <= {name for name, _ in passes.PASSES}
    with pytest.raises(mg.MinigradError, match=rf"no pass {old} \(now {new}\); there are dead_code, simplify"):
        mg.compile(dense, without=[old])


LETTERS = "abcd"
SIZES = {"a": 7, "b": 8, "c": 9, "d": 2}


@st.composite
def multilinear(draw):
    """A random program of products, sums, spreads and transposes of three arrays."""
    operands = [draw(st.permutations(LETTERS).map(lambda p, k=k: "".join(p[:k]))) for k in (2, 2, 1)]
    arrays = tuple(np.random.default_rng(draw(st.integers(0, 99))).normal(size=[SIZES[c] for c in s]) for s in operands)
    kinds = st.sampled_from(["mul", "add", "square", "scale", "swap", "neg"])
    steps = draw(st.lists(st.tuples(kinds, st.integers(0, 2), st.booleans()), min_size=1, max_size=4))
    drop = draw(st.sets(st.sampled_from(LETTERS), min_size=1))

    def spread(x, s):
        order = [c for c in LETTERS if c in s]
        x = x.transpose([s.index(c) for c in order])
        return np.broadcast_to(x.reshape([SIZES[c] if c in s else 1 for c in LETTERS]), [SIZES[c] for c in LETTERS])

    def program(*xs):
        y = spread(xs[0], operands[0])
        for kind, i, flag in steps:
            z = spread(xs[i], operands[i])
            if kind == "mul":
                y = y * z
            elif kind == "add":
                y = y + (z * 0.5 if flag else z)
            elif kind == "square":
                y = y**2
            elif kind == "scale":
                y = y * 1.5 if flag else y / 2
            elif kind == "swap":
                y = y.swapaxes(0, 1).swapaxes(0, 1)
            else:
                y = -y
        return y.sum(axis=tuple(LETTERS.index(c) for c in drop))

    return program, arrays


@given(multilinear())
def test_random_multilinear_programs(case):
    program, arrays = case
    want = program(*arrays)
    bound = program(*map(np.abs, arrays))  # the sum of the terms' absolute values, up to signs of the steps
    got = mg.compile(program)(*arrays)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-10 * (np.abs(bound).max() + np.abs(want).max() + 1))


@pytest.mark.parametrize(("subscripts", "shapes"), [
    ("ab->ba", [(2, 3)]), ("ab,bc->ac", [(2, 3), (3, 4)]), ("a,b->", [(2,), (3,)]),
    ("ab,bc,cd->ad", [(2, 9), (9, 3), (3, 4)])])
def test_orders_of_contractions_are_those_of_opt_einsum(subscripts, shapes):
    expected = opt_einsum.contract_path(subscripts, *shapes, shapes=True, optimize="optimal")[0]
    assert list(contraction_path(subscripts, shapes, "optimal")) == list(expected)
