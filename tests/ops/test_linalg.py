"""Linear algebra: products of factors, symmetry, degenerate spectra, and shared matrices under a batch."""


import numpy as np
import pytest

from minigrad import interpreters
from minigrad.errors import DtypeError, ShapeError
from minigrad.graph import PRIMITIVES as P
from minigrad.graph import Graph
from minigrad.ops.control import parts
from minigrad.ops.matrices import diagonal
from minigrad.symbolic import Dim
from tests import checks

RNG = np.random.default_rng(0)


def run(name, *arrays, **params):
    out = interpreters.evaluate(checks.program(P[name], arrays, params), arrays)
    return out[0] if len(out) == 1 else out


def spd(*shape):
    x = RNG.normal(size=shape)
    return x @ np.swapaxes(x, -1, -2) + np.eye(shape[-1])


@pytest.mark.parametrize("lead", [(), (2,), (0,), (2, 3)])
def test_factors_multiply_back(lead):
    a, s = RNG.normal(size=(*lead, 4, 3)), spd(*lead, 3, 3)
    c = run("cholesky", s)
    np.testing.assert_allclose(c @ np.swapaxes(c, -1, -2), s, atol=1e-12)
    q, r = run("qr", a)
    np.testing.assert_allclose(q @ r, a, atol=1e-12)
    u, d, vh = run("svd", a, size=3)
    np.testing.assert_allclose((u * d[..., None, :]) @ vh, a, atol=1e-12)
    w, v = run("eigh", s)
    np.testing.assert_allclose((v * w[..., None, :]) @ np.swapaxes(v, -1, -2), s, atol=1e-12)
    np.testing.assert_allclose(run("solve", s, run("inv", s)), np.linalg.inv(s) @ np.linalg.inv(s), atol=1e-10)
    sign, log = np.moveaxis(run("slogdet", -s), -1, 0)
    np.testing.assert_allclose(sign * np.exp(log), run("det", -s))


@pytest.mark.parametrize(("name", "numpys"), [("cholesky", np.linalg.cholesky), ("eigh", np.linalg.eigvalsh)])
def test_symmetric_functions_read_the_lower_triangle(name, numpys):
    a = spd(3, 3)
    other = np.tril(a) + np.triu(RNG.normal(size=(3, 3)), 1)
    have = [run(name, x) for x in (a, other)]
    first = have if name == "cholesky" else [h[0] for h in have]
    np.testing.assert_allclose(first[0], numpys(a), atol=1e-12)
    np.testing.assert_allclose(first[1], numpys(a), atol=1e-12)
    # The gradient is that of NumPy's function by central differences: zero above the diagonal.
    graph = checks.program(P[name], [other], {})
    back = checks.reverse(graph)
    seed = RNG.normal(size=numpys(a).shape)
    seeds = [seed] if name == "cholesky" else [seed, np.zeros((3, 3))]
    (g,) = interpreters.evaluate(back, [other, *seeds])
    h = 1e-6
    for i, j in np.ndindex(3, 3):
        step = np.zeros((3, 3))
        step[i, j] = h
        slope = np.sum(seed * (numpys(other + step) - numpys(other - step))) / (2 * h)
        np.testing.assert_allclose(g[i, j], slope, rtol=1e-6, atol=1e-7)
        assert j <= i or g[i, j] == 0
    checks.check_duality(graph, [other])


@pytest.mark.parametrize("lower", [True, False])
def test_triangular_solve_reads_one_triangle(lower):
    a, b = RNG.normal(size=(3, 3)) + 3 * np.eye(3), RNG.normal(size=(3, 2))
    triangle = np.tril(a) if lower else np.triu(a)
    np.testing.assert_allclose(run("triangular_solve", a, b, lower=lower), np.linalg.solve(triangle, b))
    back = checks.reverse(checks.program(P["triangular_solve"], [a, b], {"lower": lower}))
    ga, _ = interpreters.evaluate(back, [a, b, np.ones((3, 2))])
    assert not (np.triu(ga, 1) if lower else np.tril(ga, -1)).any()


def eigenvalues_of(x, f):
    """Return the gradient of sum(f(eigenvalues)), with what its second derivative is along `x` itself."""
    a = checks.placeholder(x.shape, x.dtype)
    w, _ = parts(P["eigh"](a))
    return Graph((a,), (P["sum"](f(w), axes=(0,)),))


def test_derivative_of_functions_of_equal_eigenvalues():
    x = np.diag([2.0, 2.0, 1.0])
    graph = eigenvalues_of(x, lambda w: w * w)
    (g,) = interpreters.evaluate(checks.reverse(graph), [x, np.ones(())])
    np.testing.assert_allclose(g, 2 * x, atol=1e-12)
    checks.check_duality(graph, [x])


def test_eigenvectors_of_equal_eigenvalues_have_nan_derivatives():
    x = np.diag([2.0, 2.0, 1.0])
    graph = checks.program(P["eigh"], [x], {})
    (dw, dv) = interpreters.evaluate(checks.push(graph), [x, np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0.0]])])
    assert np.isfinite(dw).all()
    assert np.isnan(dv).any()
    (g,) = interpreters.evaluate(checks.reverse(graph), [x, np.zeros(3), np.ones((3, 3))])
    assert np.isnan(g).any()
    # Another matrix of the same stack is not touched.
    stack = np.stack([x, np.diag([3.0, 2.0, 1.0])])
    (g,) = interpreters.evaluate(checks.reverse(checks.program(P["eigh"], [stack], {})),
                         [stack, np.zeros((2, 3)), np.ones((2, 3, 3))])
    assert np.isfinite(g[1]).all()


@pytest.mark.parametrize("x", [np.eye(3)[:, :2], np.diag([2.0, 0.0, 1.0])[:, :2], np.eye(2)])
def test_derivative_of_functions_of_equal_and_zero_singular_values(x):
    a = checks.placeholder(x.shape, x.dtype)
    _, s, _ = parts(P["svd"](a, size=a.shape[-1]))
    graph = Graph((a,), (P["sum"](s * s, axes=(0,)),))
    (g,) = interpreters.evaluate(checks.reverse(graph), [x, np.ones(())])
    np.testing.assert_allclose(g, 2 * x, atol=1e-12)


def test_log_determinant_and_a_quadratic_form_to_second_order():
    # The Gaussian log-likelihood: cholesky, its diagonal, a solve with one matrix and one vector per example.
    a, y = checks.placeholder((3, 3), "f8"), checks.placeholder((3, 1), "f8")
    c = P["cholesky"](a)
    z = P["triangular_solve"](c, y, lower=True)
    graph = Graph((a, y), (P["sum"](z * z, axes=(0, 1)) + P["sum"](P["log"](diagonal(c)), axes=(0,)) * 2.0,))
    arrays = [spd(3, 3), RNG.normal(size=(3, 1))]
    want = arrays[1].T @ np.linalg.inv(arrays[0]) @ arrays[1] + np.linalg.slogdet(arrays[0])[1]
    np.testing.assert_allclose(interpreters.evaluate(graph, arrays)[0], want[0, 0])
    checks.check_gradient(graph, arrays)
    checks.check_batch(graph, arrays, depth=2)
    back = checks.reverse(graph)
    checks.check_gradient(back, [*arrays, np.ones(())], 1e-5)
    checks.check_batch(back, [*arrays, np.ones(())])


@pytest.mark.parametrize("name", ["solve", "triangular_solve"])
def test_one_matrix_for_all_examples_is_factorised_once(name):
    a, b = spd(3, 3), RNG.normal(size=(3, 2))
    graph = checks.program(P[name], [a, b], {"lower": True} if name == "triangular_solve" else {})
    batch = checks.batched(graph, [False, True], Dim.new("B"))
    assert [n.inputs[0].shape for n in batch.nodes if n.prim.name == name] == [(3, 3)]


@pytest.mark.parametrize(("name", "shapes", "params"), [
    ("cholesky", [(2, 2)], {}), ("solve", [(2, 2), (2, 3)], {}), ("eigh", [(2, 2)], {}), ("qr", [(2, 2)], {}),
    ("svd", [(2, 2)], {"size": 2}), ("det", [(2, 2)], {})])
def test_symbolic_sizes(name, shapes, params):
    n = Dim.new("n")
    arrays = [spd(2, 2), RNG.normal(size=(2, 3))][:len(shapes)]
    xs = [checks.placeholder([n if k == 2 else k for k in s], "f8") for s in shapes]
    node = P[name](*xs, **dict.fromkeys(params, n))
    outs = parts(node) if hasattr(node.type, "parts") else [node]
    symbolic, fixed = Graph(tuple(xs), tuple(outs)).check(), checks.program(P[name], arrays, params)
    back = checks.reverse(fixed)
    seeds = checks.random_like(back.inputs[len(xs):])
    for h, w in zip(interpreters.evaluate(checks.reverse(symbolic), [*arrays, *seeds], {n.symbol: 2}),
                    interpreters.evaluate(back, [*arrays, *seeds]), strict=True):
        np.testing.assert_array_equal(h, w, strict=True)


@pytest.mark.parametrize(("name", "types", "error", "why"), [
    ("cholesky", [((2, 3), "f8")], ShapeError, "not square"), ("inv", [((3,), "f8")], ShapeError, "a matrix"),
    ("det", [((2, 2), "i8")], DtypeError, "astype"), ("inv", [((2, 2), "f2")], DtypeError, "float32"),
    ("qr", [((2, 3), "f8")], ShapeError, "more columns than rows"),
    ("solve", [((2, 2), "f8"), ((3, 1), "f8")], ShapeError, "right-hand side"),
    ("solve", [((2, 2), "f8"), ((2,), "f8")], ShapeError, "a matrix"),
    ("solve", [((2, 2), "f8"), ((2, 1), "f4")], DtypeError, "dtypes differ")])
def test_errors(name, types, error, why):
    with pytest.raises(error, match=f"{name}.*{why}"):
        P[name](*(checks.placeholder(s, d) for s, d in types))
