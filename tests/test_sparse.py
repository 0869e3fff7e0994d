"""Sparse matrices: products, derivatives, SciPy and back; in a batch they are block-diagonal."""

import numpy as np
import pytest

import minigrad as mg

node, edge = mg.axis("node"), mg.axis("edge")


def some(rng, n, m, e):
    return mg.Sparse(rng.normal(size=e), rng.integers(0, n, e), rng.integers(0, m, e), (n, m))


def dense(a):
    out = np.zeros(a.shape)
    np.add.at(out, (a.row, a.col), a.data)
    return out


def test_products():
    rng = np.random.default_rng(0)
    a, x, v = some(rng, 4, 3, 7), rng.normal(size=(3, 2)), rng.normal(size=3)
    np.testing.assert_allclose(a @ x, dense(a) @ x)
    np.testing.assert_allclose(a @ v, dense(a) @ v)
    np.testing.assert_allclose(a.T @ np.ones(4), dense(a).T @ np.ones(4))
    left = rng.normal(size=(2, 4))
    np.testing.assert_allclose(left @ a, left @ dense(a))
    np.testing.assert_allclose(a.toarray(), dense(a))


def test_derivatives_by_all_of_it():
    rng = np.random.default_rng(0)
    a, x = some(rng, 4, 3, 7), rng.normal(size=(3, 2))

    def loss(a, x):
        return np.sum(np.sin(a @ x))

    d = mg.grad(lambda data, x: loss(mg.Sparse(data, a.row, a.col, a.shape), x), argnums=(0, 1))(a.data, x)
    g = np.cos(dense(a) @ x)
    np.testing.assert_allclose(d[0], (g[a.row] * x[a.col]).sum(axis=1))
    np.testing.assert_allclose(d[1], dense(a).T @ g)
    np.testing.assert_allclose(mg.compile(loss)(a, x), loss(a, x))


def test_scipy_and_back():
    sparse = pytest.importorskip("scipy.sparse")
    matrix = sparse.random_array((5, 4), density=0.4, rng=np.random.default_rng(0))
    a = mg.Sparse.from_scipy(matrix.tocsr())
    np.testing.assert_allclose(a @ np.ones(4), matrix @ np.ones(4))
    np.testing.assert_array_equal(a.to_scipy().toarray(), matrix.toarray())


def test_a_batch_of_them_is_block_diagonal():
    scipy = pytest.importorskip("scipy.sparse")

    @mg.example
    class System:
        w: mg.f64[edge]
        row: mg.index(node)[edge]
        col: mg.index(node)[edge]
        x: mg.f64[node, 2]

    rng = np.random.default_rng(0)
    examples, matrices = [], []
    for n, e in ((3, 5), (0, 0), (1, 2), (4, 0)):
        a = some(rng, max(n, 1), max(n, 1), e)
        examples.append(System(a.data, a.row, a.col, rng.normal(size=(n, 2))))
        matrices.append(np.zeros((n, n)) if not e else dense(a))

    def product(g):
        n = g.x.shape[0]
        return mg.Sparse(g.w, g.row, g.col, (n, n)) @ g.x

    out = mg.compile(mg.vmap(product))(mg.batch(examples))
    whole = scipy.block_diag(matrices).toarray() @ np.concatenate([g.x for g in examples])
    np.testing.assert_allclose(out.values, whole)
    for have, g in zip(out.unbatch(), examples, strict=True):
        np.testing.assert_allclose(have, product(g))


@pytest.mark.parametrize(("make", "words"), [
    (lambda a: a @ np.ones(4), "inner sizes differ"),
    (lambda a: a @ np.ones((3, 2, 1)), "multiplies vectors and matrices"),
    (lambda a: mg.Sparse(a.data[:, None], a.row, a.col, (4, 3)), "vectors with an element per entry"),
    (lambda a: mg.Sparse(a.data, a.row * 1.0, a.col, (4, 3)), "row must be of integers"),
])
def test_words(make, words):
    with pytest.raises((mg.ShapeError, mg.DtypeError), match=words):
        make(some(np.random.default_rng(0), 4, 3, 7))
