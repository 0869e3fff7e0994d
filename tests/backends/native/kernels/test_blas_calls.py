"""Large matrices where NumPy's BLAS cannot be called: Python computes them, with the same results."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import minigrad as mg
from minigrad import blas
from minigrad.backends.native.kernels.blas_calls import unable
from minigrad.backends.native.runtime import jit
from minigrad.numpy import linalg

pytestmark = [pytest.mark.skipif(jit.available() is not None, reason=str(jit.available())),
              pytest.mark.skipif(blas.find()[0] is None or not blas.can_limit(), reason="NumPy has no OpenBLAS")]


def solved(a, b):
    return linalg.solve_triangular(np.linalg.cholesky(a), b, lower=True)


@pytest.mark.parametrize(("name", "answer"), [("find", (None, "none in this test")), ("can_limit", False)])
def test_python_computes_what_blas_cannot(name, answer, monkeypatch):
    x = np.random.default_rng(0).normal(size=(100, 100))
    a, b = x @ x.T + 100 * np.eye(100), x[:, :7]
    ours = mg.compile(solved, backend="native")
    want = ours(a, b)
    assert [unable(n) for n in ours.graph.nodes if n.prim.name in ("cholesky", "triangular_solve")] == [None, None]
    monkeypatch.setattr(blas, name, lambda: answer)
    other = mg.compile(lambda a, b: solved(a, b), backend="native")
    np.testing.assert_allclose(other(a, b), want, rtol=1e-11, atol=1e-13)
    assert "0 of 2 steps are native" in str(other.stages[-1])
    assert [unable(n) for n in other.graph.nodes if n.prim.name == "cholesky"] == ["cholesky of f64[100, 100]"]
